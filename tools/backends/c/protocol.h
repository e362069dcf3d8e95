/* The JSON-lines protocol: one question a line, one answer a line. */
#ifndef PROTOCOL_H
#define PROTOCOL_H

#include <stdint.h>
#include <stdio.h>

#include "refmiracle.h"

/* --- json.c: just enough to read one line; every function fails on malformed text */

typedef struct {
    const char *at, *end;
} Text;

/* Take the character if it comes next, behind any white space. */
int json_take(Text *text, char character);
void json_expect(Text *text, char character);
/* Return a string without its escapes, in UTF-8, with a zero behind it. */
char *json_string(Text *text, size_t *length);
/* Return a nonnegative integer. */
size_t json_size(Text *text);
/* Read {...} or [...]; the callbacks read each value. */
void json_object(Text *text, void (*member)(Text *, const char *key, void *), void *context);
void json_list(Text *text, void (*element)(Text *, void *), void *context);
/* Pass over any value. */
void json_skip(Text *text);
/* Nothing but white space may follow. */
void json_end(Text *text);
/* Write a string; what is not printable ASCII becomes a question mark. */
void json_write_string(FILE *out, const char *string);

/* --- base64.c: RFC 4648, with padding */

uint8_t *base64_decode(const char *string, size_t length, size_t *size);
void base64_write(FILE *out, const uint8_t *data, size_t size);

/* --- array.c */

enum { LARGEST_RANK = 8 };
typedef enum { BOOL, UINT8, UINT16, UINT32, INT64, FLOAT32, FLOAT64, DTYPES } Dtype;

/* In C order; `ints` or `reals` holds the elements, whichever suits the dtype. */
typedef struct {
    const char *name;
    Dtype dtype;
    int rank;
    size_t shape[LARGEST_RANK];
    size_t size;
    int64_t *ints;
    double *reals;
} Array;

Array array_new(Dtype dtype, int rank, const size_t *shape);
Array array_scalar(int64_t value);
Array array_vector(Dtype dtype, size_t size);
Array array_like(Dtype dtype, const Array *other);
Array array_from_bytes(const uint8_t *data, size_t size);
Array array_read(Text *text);
void array_write(FILE *out, const Array *array);

/* What operations ask of their arguments; each fails where it is not so. */
const int64_t *as_ints(const Array *array, int64_t lowest, int64_t highest);
const double *as_reals(const Array *array);
uint32_t *as_words(const Array *array, uint32_t highest);
uint8_t *as_bytes(const Array *array);
int64_t as_int(const Array *array, int64_t lowest, int64_t highest);
uint32_t as_word(const Array *array);
double as_real(const Array *array);
void need_rank(const Array *array, int rank);
void need_size(const Array *array, size_t size);
void need_same_shape(const Array *array, const Array *other);

/* --- operations_bits.c, operations_reals.c */

enum { MOST_ARGUMENTS = 11 };

/* Names of inputs and outputs in their order, divided by blanks. */
typedef struct {
    const char *name, *inputs, *outputs;
    void (*run)(const Array *in, Array *out);
} Operation;

/* Both end with an entry without a name. */
extern const Operation operations_bits[], operations_reals[];

/* --- protocol.c */

/* Answer lines until the input ends; return the exit code. */
int serve(FILE *in, FILE *out);

#endif
