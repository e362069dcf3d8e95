/* The format and the mathematics: everything but the JSON protocol (protocol.h).
 *
 * Section numbers without a name are those of docs/SPEC.md; D marks docs/derivations.md.
 */
#ifndef REFMIRACLE_H
#define REFMIRACLE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define DOES_NOT_RETURN __attribute__((noreturn, format(printf, 1, 2)))
#else
#define DOES_NOT_RETURN
#endif

/* --- request.c: one piece of work at a time, which succeeds or fails as a whole */

/* Run work(argument).  Return 1, or 0 where it called fail(). */
int attempt(void (*work)(void *), void *argument);
/* Leave the work of attempt() with a message. */
void fail(const char *format, ...) DOES_NOT_RETURN;
/* Let messages from here on begin with this name of a file; NULL: with none. */
void blame(const char *name);
/* The message of the last fail(). */
const char *failure(void);
/* Zeroed memory that lives until release(); fails where there is none. */
void *allocate(size_t count, size_t size);
/* What was allocated last, cut off behind so many bytes; it may have moved. */
void *shrink(size_t size);
void release(void);

/* --- philox.c: section 4 */

enum { CODEBOOK = 3, SELECTION = 4, PERMUTATION = 5, SIGNS = 6, CANDIDATES = 9, PARTITION = 10 };

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t words[4]);
/* Words first, ..., first + count - 1 of a row; first + count <= 2^34. */
void stream_words(uint32_t seed, uint32_t stream, uint32_t row, uint64_t first, size_t count,
                  uint32_t *words);
/* Section 7.2: permutation[place] is what stands there. */
void stream_permutation(uint32_t seed, uint32_t stream, uint32_t row, size_t count,
                        uint32_t *permutation);

/* --- normal.c: sections 5 and 6 */

double word_to_uniform(uint32_t word);
double normal_quantile(double p);
/* The normal of a word in float32, as the codebook has it. */
float word_normal(uint32_t word);
/* The first normals of a row of the codebook. */
void codebook_row(uint32_t seed, uint32_t row, size_t dimension, float *z);

/* --- nodes.c: sections 4.3, 7.4 and 7.5 */

enum { MRC, ORC, PFR, SP_PFR, AS_STAR, GPRS_D = 12 }; /* the rest: variable_tree() */
static const int64_t largest_integer = ((int64_t)1 << 62) - 1;

/* Words of positions d to d + 3 of candidate n of bin j of a block, message n 2^bits + j; 4 divides d. */
void bin_words(uint32_t seed, uint32_t bits, uint32_t block, int64_t message, size_t d,
               uint32_t words[4]);
/* The normal at position d of so many in a block, from its word. */
float bin_normal(uint32_t bits, int64_t message, size_t dimension, size_t d, uint32_t word);
/* All of these up to `used`. */
void bin_row(uint32_t seed, uint32_t bits, uint32_t block, int64_t message, size_t dimension,
             size_t used, float *z);
/* The normal of a node of a row; codes 4 to 12. */
float node_normal(uint32_t code, uint32_t seed, uint32_t row, int64_t node);

/* --- integers.c: the range coder of section 2.7 */

enum { LARGEST_COUNT = 1 << 20 }; /* section 2.6 */

typedef struct {
    uint32_t theta, raw; /* 1 to 65535; low bits of each integer that come first, 0 to 24 */
} Law;

/* Integers that are read one by one, without memory for all: C - L, R, and how many bytes C has. */
typedef struct {
    const uint8_t *data;
    size_t size, taken;
    Law law;
    uint32_t ahead, width;
} Integers;

/* Return the largest of `count` integers; fail unless the data are the code word of so many. */
int64_t check_integers(const uint8_t *data, size_t size, Law law, size_t count);
Integers start_integers(const uint8_t *data, size_t size, Law law);
/* Fails where they are cut off, or one is 2^62 or more. */
int64_t next_integer(Integers *integers);
/* Return the code word of integers from 2^raw to 2^62 - 1, and put its size where told. */
uint8_t *write_integers(const int64_t *integers, size_t count, Law law, size_t *size);

/* --- container.c: section 2 */

enum { MOST_TENSORS = 512, LARGEST_BITS = 24, LARGEST_FILE = 4194304 };
enum { OUTPUTS = 0, INPUTS = 1 };
enum { NO_SIGNS = 0, UNIT = 1, WEIGHT = 2 };
enum { DESCRIBED = 0 }; /* the number of a network that a file describes */

typedef struct {
    const char *name;
    uint32_t weights, outputs;
} Tensor;

/* Kinds of layers, by their opcodes: section 3.1. */
enum { CONV = 1, DENSE, FLATTEN, MAXIMUM, MEAN, NORM, RELU, RESIDUAL, KINDS };
enum { MOST_NESTED = 4 };

/* The layers of the body and of the shortcut stand behind their residual, which has how many they are. */
typedef struct {
    uint32_t opcode, numbers[6];
} Layer;

typedef struct {
    uint32_t number;
    int tensors;
    size_t weights;
    const Tensor *tensor;
    size_t image[3], classes; /* channels, height, width */
    /* The layers of the outermost list, the most values that one of all layers takes or gives, and how
     * deep residuals stand. */
    uint32_t layers;
    const Layer *layer;
    size_t largest;
    int depth;
} Network;

/* How the blocks of a model or an update are coded. */
typedef struct {
    uint32_t code, bits, block_size, seed;
    uint32_t theta; /* 0 in code 0 */
    size_t variables; /* of all tensors that are coded */
    /* The messages as they stand in the file, theta not among them. */
    const uint8_t *payload;
    size_t size;
} Coding;

typedef struct {
    const Network *network;
    uint32_t grouping, signs, sign_seed;
    uint32_t factors[MOST_TENSORS];
    uint16_t rho[MOST_TENSORS]; /* patterns of float16 */
    Coding coding;
    uint32_t checksum; /* names the file */
} Model;

enum { CHECKSUM = 4, VERSION = 1, FIRST_UPDATE = 0x20 }; /* versions of updates: plus the code */

uint32_t crc32(const uint8_t *data, size_t size);
/* Section 2.2: read the varint at *offset and put the offset behind it. */
uint32_t take_varint(const uint8_t *body, size_t size, size_t *offset);
/* Rules 1 to 4 of section 2.5 for versions from `lowest` to `highest`; return the size of the body. */
size_t check_envelope(const uint8_t *data, size_t size, int lowest, int highest);
/* Four bytes as a number: a file ends with its checksum. */
uint32_t word_at(const uint8_t *bytes);
void check_bits(uint32_t bits);
/* The model points into the data.  Memory is allocated for the network of one that describes its own. */
Model read_container(const uint8_t *data, size_t size);
/* Return the file, of code 0, and put its size where told. */
uint8_t *write_container(const Model *model, const int64_t *indices, size_t *size);

/* --- messages.c: sections 2.3 and 2.7.  A message is a row of the codebook, n 2^bits + j, or a node. */

size_t packed_size(uint32_t bits, size_t count);
/* The payload has packed_size() bytes, zeros at first. */
void pack_indices(const int64_t *indices, uint32_t bits, size_t count, uint8_t *payload);
void unpack_indices(const uint8_t *payload, uint32_t bits, size_t count, int64_t *indices);

typedef struct {
    const Coding *coding;
    size_t bit; /* of the payload, in code 0 */
    Integers integers; /* in the others */
} Messages;

size_t blocks(const Coding *coding);
size_t message_count(const Coding *coding);
/* Rule 11 of section 2.5: fail unless as many bytes stand behind the header as it calls for. */
void check_length(const Coding *coding, size_t size);
/* Rules 13 to 15: take these bytes as theta and messages, or fail. */
void take_payload(Coding *coding, const uint8_t *bytes, size_t size);
Messages start_messages(const Coding *coding);
int64_t next_message(Messages *messages);

/* --- description.c: section 3.1 */

/* Return the network whose description begins at *offset, and put the offset behind it. */
const Network *read_description(const uint8_t *body, size_t size, size_t *offset);

/* --- layout.c: sections 3, 7 and 8 */

/* Fail unless there is a network of that number that needs no description. */
const Network *find_network(uint32_t number);
/* Variables of a tensor or of all. */
size_t tensor_variables(const Model *model, int tensor);
size_t variables(const Model *model);
void check_block_size(const Coding *coding);
/* Fail unless grouping, signs, factors and block size are ones that a file may have; count variables. */
void check_layout(Model *model);
/* The variable, within its tensor, of weight i of that. */
uint32_t variable_of_weight(const Model *model, int tensor, uint32_t i);
/* Whether the weight i of a tensor is the negative of its variable. */
int is_negated(const Model *model, int tensor, uint32_t i);
/* place and sign of each weight of the network */
void place_weights(const Model *model, uint32_t *places, int8_t *signs);
float float16(uint16_t pattern);
/* All weights, tensors in order, from the variables. */
void spread_variables(const Model *model, const float *variables, float *weights);

/* --- variables.c: sections 7.2 to 8.  Nothing is allocated, whatever the network. */

/* Where the order of variables is found.  One key is enough; the fewer there are the longer it takes:
 * the words of the permutation are drawn anew for each roomful of places.
 */
typedef struct {
    uint64_t *keys;
    size_t size;
} Room;

/* Put the variables of a model where told, tensors in order. */
void decode_variables(const Model *model, float *variables, Room room);

/* --- update.c: section 13 */

/* It points into the data of its file. */
typedef struct {
    uint32_t base; /* checksum of the file that it is relative to */
    const uint8_t *levels; /* one for each tensor */
    Coding coding;
    uint32_t checksum;
} Update;

/* The file that the reader has, and what messages call it. */
typedef struct {
    uint32_t checksum;
    const char *name;
} Base;

/* `root` is the model at the root of the chain.  Fails unless the data are an intact update of the
 * base; nothing is allocated.
 */
Update read_update(const Model *root, Base base, const uint8_t *data, size_t size);
/* float32: sections 8.3 and 13 */
float update_scale(const Model *root, const Update *update, int tensor);
/* Add what the update says to the variables of its base, in place.  It cannot fail. */
void apply_update(const Model *root, const Update *update, float *variables, Room room);

/* --- chain.c: files of the reader's; memory is allocated for the network's weights */

typedef struct {
    const char *name; /* for messages; NULL: they need none */
    const uint8_t *data;
    size_t size;
} File;

typedef struct {
    Model root;
    size_t updates;
    const Update *update;
} Chain;

/* Read a model and its updates, each one of the file before; fails with the name of the file that is to
 * blame.
 */
Chain read_chain(const File *files, size_t count);
/* All weights as the last file leaves them, tensors in order. */
float *decode_chain(const Chain *chain);

/* --- sha256.c: FIPS 180-4 */

void sha256(const uint8_t *data, size_t size, uint8_t digest[32]);
/* Write float32 values as little-endian bytes. */
void float32_bytes(const float *values, size_t count, uint8_t *bytes);

/* --- posterior.c: D1 to D5.  Arrays of a block have `size` elements. */

double log_s(double x);
double ds_dx(double x);
double gaussian_kl(double delta, double log_s);
void mean_kl(const double *tau, const double *phi, double budget, size_t size, double *delta,
             double *log_s);
void mean_kl_forward(const double *tau, const double *phi, const double *rho, double budget,
                     const double *eps, size_t size, double *w);
void mean_kl_backward(const double *tau, const double *phi, const double *rho, double budget,
                      const double *eps, const double *g, size_t size, double *dtau,
                      double *dphi, double *dlog_rho);

/* --- coding.c: D8 */

/* log q(z)/p(z); narrowness is 1/s - 1 of each place. */
double log_weight(const double *z, const double *delta, const double *log_s,
                  const double *narrowness, size_t size);
/* Draw an index for each of `count` blocks, whose numbers in the file are `rows`. */
void select_indices(uint32_t seed, uint32_t bits, const uint32_t *rows, size_t count,
                    const double *delta, const double *log_s, size_t size, int64_t *indices);

/* --- network.c: section 3; activations are (channels, height, width, batch) */

typedef struct {
    size_t channels, height, width, batch;
} Extent;

size_t elements(Extent e);
/* y has (outputs, height - kh + 1, width - kw + 1, batch). */
void conv2d(const double *x, Extent e, const double *w, const double *b, size_t kh, size_t kw,
            size_t outputs, double *y);
void maxpool2d(const double *x, Extent e, double *y);
double relu(double x);
void dense(const double *x, const double *w, const double *b, size_t inputs, size_t outputs,
           size_t batch, double *y);
double image_value(uint8_t pixel);
/* The first of the largest of `classes` logits that lie `stride` apart. */
size_t largest_logit(const double *logits, size_t stride, size_t classes);
/* logits (classes, images) of images (images, channels, height, width) */
void predict(const Network *network, const float *weights, const uint8_t *pixels, size_t images,
             double *logits);

/* --- layers.c: the same of a described network */

void predict_described(const Network *network, const float *weights, const uint8_t *pixels,
                       size_t images, double *logits);

#endif
