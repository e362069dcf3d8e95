/* Arrays as the protocol writes them: dtype, shape, little-endian bytes in base64.
 *
 * Bytes are taken apart and put together by shifts, so the order of the host does not matter.
 */
#include <string.h>

#include "protocol.h"

static const char *const dtype_names[DTYPES] = {
    "bool", "uint8", "uint16", "uint32", "int64", "float32", "float64",
};
static const size_t dtype_sizes[DTYPES] = {1, 1, 2, 4, 8, 4, 8};

static int is_real(Dtype dtype)
{
    return dtype == FLOAT32 || dtype == FLOAT64;
}

Array array_new(Dtype dtype, int rank, const size_t *shape)
{
    Array array = {0};
    size_t limit = (size_t)1 << 27;

    array.dtype = dtype;
    array.rank = rank;
    array.size = 1;
    for (int i = 0; i < rank; i++) {
        if (shape[i] != 0 && array.size > limit / shape[i])
            fail("an array of this shape is too large");
        array.shape[i] = shape[i];
        array.size *= shape[i];
    }
    if (is_real(dtype))
        array.reals = allocate(array.size, sizeof(double));
    else
        array.ints = allocate(array.size, sizeof(int64_t));
    return array;
}

Array array_scalar(int64_t value)
{
    Array array = array_new(INT64, 0, NULL);

    array.ints[0] = value;
    return array;
}

Array array_vector(Dtype dtype, size_t size)
{
    return array_new(dtype, 1, &size);
}

Array array_like(Dtype dtype, const Array *other)
{
    return array_new(dtype, other->rank, other->shape);
}

Array array_from_bytes(const uint8_t *data, size_t size)
{
    Array array = array_vector(UINT8, size);

    for (size_t i = 0; i < size; i++)
        array.ints[i] = data[i];
    return array;
}

/* --- bytes */

static void unpack_element(Array *array, size_t i, const uint8_t *bytes)
{
    uint64_t bits = 0;
    uint32_t low;
    float single;

    for (size_t k = dtype_sizes[array->dtype]; k-- > 0;)
        bits = bits << 8 | bytes[k];
    switch (array->dtype) {
    case FLOAT64:
        memcpy(&array->reals[i], &bits, sizeof bits);
        break;
    case FLOAT32:
        low = (uint32_t)bits;
        memcpy(&single, &low, sizeof low);
        array->reals[i] = single;
        break;
    case BOOL:
        array->ints[i] = bits != 0;
        break;
    default:
        memcpy(&array->ints[i], &bits, sizeof bits); /* two's complement, as C99 has int64_t */
    }
}

static void pack_element(const Array *array, size_t i, uint8_t *bytes)
{
    uint64_t bits;
    uint32_t low;
    float single;

    if (array->dtype == FLOAT32) {
        single = (float)array->reals[i];
        memcpy(&low, &single, sizeof low);
        bits = low;
    } else if (array->dtype == FLOAT64) {
        memcpy(&bits, &array->reals[i], sizeof bits);
    } else {
        bits = (uint64_t)array->ints[i];
    }
    for (size_t k = 0; k < dtype_sizes[array->dtype]; k++)
        bytes[k] = (uint8_t)(bits >> 8 * k);
}

/* --- JSON */

typedef struct {
    const char *dtype, *base64;
    size_t length, shape[LARGEST_RANK];
    int rank; /* -1 until there is a shape */
} Parts;

static void read_axis(Text *text, void *context)
{
    Parts *parts = context;

    if (parts->rank == LARGEST_RANK)
        fail("an array has at most %d axes", LARGEST_RANK);
    parts->shape[parts->rank++] = json_size(text);
}

static void read_part(Text *text, const char *key, void *context)
{
    Parts *parts = context;

    if (strcmp(key, "dtype") == 0) {
        parts->dtype = json_string(text, NULL);
    } else if (strcmp(key, "shape") == 0) {
        parts->rank = 0;
        json_list(text, read_axis, parts);
    } else if (strcmp(key, "base64") == 0) {
        parts->base64 = json_string(text, &parts->length);
    } else {
        json_skip(text);
    }
}

static Dtype find_dtype(const char *name)
{
    for (int i = 0; i < DTYPES; i++)
        if (strcmp(name, dtype_names[i]) == 0)
            return (Dtype)i;
    fail("unknown dtype %.20s", name);
}

/* The bytes must fill the shape exactly, which is checked before anything is as large as it.
 * An array without elements may have long axes for free; none may be so long as to keep a loop
 * over it busy.
 */
static void check_bytes(const Parts *parts, size_t item, size_t size)
{
    size_t expected = item;

    for (int i = 0; i < parts->rank; i++) {
        if (parts->shape[i] > (size_t)1 << 27 || (size == 0 && parts->shape[i] > 1 << 16)
            || (parts->shape[i] != 0 && expected > SIZE_MAX / parts->shape[i]))
            fail("the shape is too large for its %lu bytes", (unsigned long)size);
        expected *= parts->shape[i];
    }
    if (expected != size)
        fail("the shape takes %lu bytes, not %lu", (unsigned long)expected, (unsigned long)size);
}

Array array_read(Text *text)
{
    Parts parts = {NULL, NULL, 0, {0}, -1};
    Array array;
    Dtype dtype;
    uint8_t *bytes;
    size_t size;

    json_object(text, read_part, &parts);
    if (parts.dtype == NULL || parts.base64 == NULL || parts.rank < 0)
        fail("an array has dtype, shape and base64");
    dtype = find_dtype(parts.dtype);
    bytes = base64_decode(parts.base64, parts.length, &size);
    check_bytes(&parts, dtype_sizes[dtype], size);
    array = array_new(dtype, parts.rank, parts.shape);
    for (size_t i = 0; i < array.size; i++)
        unpack_element(&array, i, bytes + i * dtype_sizes[dtype]);
    return array;
}

void array_write(FILE *out, const Array *array)
{
    size_t item = dtype_sizes[array->dtype];
    uint8_t bytes[3072]; /* whole groups of base64, and whole elements */
    size_t used = 0;

    fprintf(out, "{\"dtype\": \"%s\", \"shape\": [", dtype_names[array->dtype]);
    for (int i = 0; i < array->rank; i++)
        fprintf(out, i == 0 ? "%lu" : ", %lu", (unsigned long)array->shape[i]);
    fputs("], \"base64\": \"", out);
    for (size_t i = 0; i < array->size; i++) {
        pack_element(array, i, bytes + used);
        used += item;
        if (used == sizeof bytes) {
            base64_write(out, bytes, used);
            used = 0;
        }
    }
    base64_write(out, bytes, used);
    fputs("\"}", out);
}

/* --- arguments */

const int64_t *as_ints(const Array *array, int64_t lowest, int64_t highest)
{
    if (array->ints == NULL)
        fail("%s takes integers, not %s", array->name, dtype_names[array->dtype]);
    for (size_t i = 0; i < array->size; i++)
        if (array->ints[i] < lowest || array->ints[i] > highest)
            fail("%s: %lld is out of range; expected %lld to %lld", array->name,
                 (long long)array->ints[i], (long long)lowest, (long long)highest);
    return array->ints;
}

const double *as_reals(const Array *array)
{
    double *reals = array->reals;

    if (reals == NULL) {
        reals = allocate(array->size, sizeof *reals);
        for (size_t i = 0; i < array->size; i++)
            reals[i] = (double)array->ints[i];
    }
    return reals;
}

uint32_t *as_words(const Array *array, uint32_t highest)
{
    const int64_t *ints = as_ints(array, 0, highest);
    uint32_t *words = allocate(array->size, sizeof *words);

    for (size_t i = 0; i < array->size; i++)
        words[i] = (uint32_t)ints[i];
    return words;
}

uint8_t *as_bytes(const Array *array)
{
    const int64_t *ints = as_ints(array, 0, 255);
    uint8_t *bytes = allocate(array->size, 1);

    for (size_t i = 0; i < array->size; i++)
        bytes[i] = (uint8_t)ints[i];
    return bytes;
}

int64_t as_int(const Array *array, int64_t lowest, int64_t highest)
{
    need_size(array, 1);
    return as_ints(array, lowest, highest)[0];
}

uint32_t as_word(const Array *array)
{
    return (uint32_t)as_int(array, 0, UINT32_MAX);
}

double as_real(const Array *array)
{
    need_size(array, 1);
    return as_reals(array)[0];
}

void need_rank(const Array *array, int rank)
{
    if (array->rank != rank)
        fail("%s has %d axes; expected %d", array->name, array->rank, rank);
}

void need_size(const Array *array, size_t size)
{
    if (array->size != size)
        fail("%s has %lu elements; expected %lu", array->name, (unsigned long)array->size,
             (unsigned long)size);
}

void need_same_shape(const Array *array, const Array *other)
{
    need_rank(array, other->rank);
    for (int i = 0; i < array->rank; i++)
        if (array->shape[i] != other->shape[i])
            fail("%s and %s differ in shape", array->name, other->name);
}
