/* Operations on bits, files and the codebook: arguments checked, results as arrays. */
#include <math.h>

#include "protocol.h"

enum { SAMPLE_STRIDE = 997 };
static const int64_t most_words = (int64_t)1 << 24;

static Array array_of_words(Dtype dtype, const uint32_t *words, size_t size)
{
    Array array = array_vector(dtype, size);

    for (size_t i = 0; i < size; i++)
        array.ints[i] = words[i];
    return array;
}

/* Arguments block_size, seed, factors, grouping, signs. */
static Model layout_of(const Network *network, const Array *in)
{
    Model model = {0};
    const int64_t *factors = as_ints(&in[2], 1, UINT32_MAX);

    model.network = network;
    model.coding.block_size = as_word(&in[0]);
    model.coding.seed = model.sign_seed = as_word(&in[1]);
    need_size(&in[2], (size_t)network->tensors);
    for (int t = 0; t < network->tensors; t++)
        model.factors[t] = (uint32_t)factors[t];
    model.grouping = as_word(&in[3]);
    model.signs = as_word(&in[4]);
    check_layout(&model);
    return model;
}

static void take_scales(const Array *rho, Model *model)
{
    const int64_t *patterns = as_ints(rho, 0, UINT16_MAX);

    need_size(rho, (size_t)model->network->tensors);
    for (int t = 0; t < model->network->tensors; t++)
        model->rho[t] = (uint16_t)patterns[t];
}

static void run_philox4x32(const Array *in, Array *out)
{
    const uint32_t *counters = as_words(&in[0], UINT32_MAX);
    const uint32_t *key = as_words(&in[1], UINT32_MAX);

    need_size(&in[1], 2);
    if (in[0].rank == 0 || in[0].shape[in[0].rank - 1] != 4)
        fail("counter has four words along its last axis");
    out[0] = array_like(UINT32, &in[0]);
    for (size_t i = 0; i < in[0].size; i += 4) {
        uint32_t words[4];

        philox4x32(counters + i, key, words);
        for (size_t k = 0; k < 4; k++)
            out[0].ints[i + k] = words[k];
    }
}

static void run_stream_words(const Array *in, Array *out)
{
    uint32_t seed = as_word(&in[0]), stream = as_word(&in[1]), row = as_word(&in[2]);
    int64_t first = as_int(&in[3], 0, (int64_t)1 << 34);
    size_t count = (size_t)as_int(&in[4], 0, most_words);
    uint32_t *words = allocate(count, sizeof *words);

    /* Word i is of the counter i div 4, which has 32 bits. */
    if (first + (int64_t)count > (int64_t)1 << 34)
        fail("a row has 2^34 words");
    stream_words(seed, stream, row, (uint64_t)first, count, words);
    out[0] = array_of_words(UINT32, words, count);
}

static void run_stream_permutation(const Array *in, Array *out)
{
    uint32_t seed = as_word(&in[0]), stream = as_word(&in[1]), row = as_word(&in[2]);
    size_t count = (size_t)as_int(&in[3], 0, most_words);
    uint32_t *permutation = allocate(count, sizeof *permutation);

    stream_permutation(seed, stream, row, count, permutation);
    out[0] = array_of_words(INT64, permutation, count);
}

static void run_pack_indices(const Array *in, Array *out)
{
    uint32_t bits = (uint32_t)as_int(&in[1], 1, LARGEST_BITS);
    const int64_t *indices = as_ints(&in[0], 0, ((int64_t)1 << bits) - 1);
    size_t size = packed_size(bits, in[0].size);
    uint8_t *payload = allocate(size, 1);

    need_rank(&in[0], 1);
    pack_indices(indices, bits, in[0].size, payload);
    out[0] = array_from_bytes(payload, size);
}

static void run_unpack_indices(const Array *in, Array *out)
{
    uint32_t bits = (uint32_t)as_int(&in[1], 1, LARGEST_BITS);
    size_t count = (size_t)as_int(&in[2], 0, most_words);

    need_size(&in[0], packed_size(bits, count));
    out[0] = array_vector(INT64, count);
    unpack_indices(as_bytes(&in[0]), bits, count, out[0].ints);
}

static Law law_of(const Array *theta, const Array *raw)
{
    Law law = {(uint32_t)as_int(theta, 1, 65535), (uint32_t)as_int(raw, 0, LARGEST_BITS)};

    return law;
}

static void run_read_integers(const Array *in, Array *out)
{
    Law law = law_of(&in[2], &in[3]);
    const uint8_t *bytes = as_bytes(&in[0]);
    Integers integers;
    size_t count = (size_t)as_int(&in[1], 0, LARGEST_COUNT);

    need_rank(&in[0], 1);
    out[0] = array_vector(INT64, count);
    check_integers(bytes, in[0].size, law, count);
    integers = start_integers(bytes, in[0].size, law);
    for (size_t i = 0; i < count; i++)
        out[0].ints[i] = next_integer(&integers);
}

static void run_write_integers(const Array *in, Array *out)
{
    Law law = law_of(&in[1], &in[2]);
    uint8_t *payload;
    size_t size;

    need_rank(&in[0], 1);
    payload = write_integers(as_ints(&in[0], 1, largest_integer), in[0].size, law, &size);
    out[0] = array_from_bytes(payload, size);
}

static Array array_of_messages(const Coding *coding)
{
    Array array = array_vector(INT64, message_count(coding));
    Messages messages = start_messages(coding);

    for (size_t i = 0; i < array.size; i++)
        array.ints[i] = next_message(&messages);
    return array;
}

static void run_read_container(const Array *in, Array *out)
{
    Model model = read_container(as_bytes(&in[0]), in[0].size);
    const size_t tensors = (size_t)model.network->tensors;
    const uint32_t scalars[6] = {
        model.network->number, model.grouping,          model.signs,
        model.coding.bits,     model.coding.block_size, model.coding.seed,
    };

    if (model.coding.code != MRC)
        fail("the results have no place for the number of a random code");
    for (int i = 0; i < 6; i++)
        out[i] = array_scalar(scalars[i]);
    out[6] = array_of_words(INT64, model.factors, tensors);
    out[7] = array_vector(UINT16, tensors);
    for (size_t t = 0; t < tensors; t++)
        out[7].ints[t] = model.rho[t];
    out[8] = array_of_messages(&model.coding);
}

static void run_describe_file(const Array *in, Array *out)
{
    Model model = read_container(as_bytes(&in[0]), in[0].size);
    const size_t tensors = (size_t)model.network->tensors;
    const uint32_t scalars[8] = {
        model.network->number, model.grouping,     model.signs,             model.coding.code,
        model.coding.bits,     model.coding.theta, model.coding.block_size, model.coding.seed,
    };

    for (int i = 0; i < 8; i++)
        out[i] = array_scalar(scalars[i]);
    out[8] = array_of_words(INT64, model.factors, tensors);
    out[9] = array_vector(UINT16, tensors);
    for (size_t t = 0; t < tensors; t++)
        out[9].ints[t] = model.rho[t];
    out[10] = array_of_messages(&model.coding);
}

static void run_write_container(const Array *in, Array *out)
{
    const Array layout[5] = {in[4], in[5], in[6], in[1], in[2]};
    Model model = layout_of(find_network(as_word(&in[0])), layout);
    uint8_t *data;
    size_t size;

    model.coding.bits = as_word(&in[3]);
    take_scales(&in[7], &model);
    need_size(&in[8], blocks(&model.coding));
    data = write_container(&model, as_ints(&in[8], 0, UINT32_MAX), &size);
    out[0] = array_from_bytes(data, size);
}

static void run_block_layout(const Array *in, Array *out)
{
    Model model = layout_of(find_network(1), in);
    size_t count = model.network->weights;
    const int64_t *weights = as_ints(&in[5], 0, (int64_t)count - 1);
    uint32_t *places = allocate(count, sizeof *places);
    int8_t *signs = allocate(count, sizeof *signs);

    place_weights(&model, places, signs);
    out[0] = array_like(INT64, &in[5]);
    out[1] = array_like(INT64, &in[5]);
    for (size_t i = 0; i < in[5].size; i++) {
        out[0].ints[i] = places[weights[i]];
        out[1].ints[i] = signs[weights[i]];
    }
}

static void run_codebook(const Array *in, Array *out)
{
    uint32_t seed = as_word(&in[0]);
    const uint32_t *indices = as_words(&in[1], UINT32_MAX);
    size_t shape[2] = {in[1].size, (size_t)as_int(&in[2], 0, most_words)};
    float *row = allocate(shape[1], sizeof *row);

    need_rank(&in[1], 1);
    out[0] = array_new(FLOAT32, 2, shape);
    for (size_t r = 0; r < shape[0]; r++) {
        codebook_row(seed, indices[r], shape[1], row);
        for (size_t i = 0; i < shape[1]; i++)
            out[0].reals[r * shape[1] + i] = row[i];
    }
}

static void run_decode_blocks(const Array *in, Array *out)
{
    const int64_t *rho = as_ints(&in[3], 0, UINT16_MAX);
    Array rows;

    run_codebook(in, out);
    rows = out[0];
    rows.name = "the codebook's rows";
    need_same_shape(&in[3], &rows);
    for (size_t i = 0; i < out[0].size; i++) {
        float product = float16((uint16_t)rho[i]) * (float)out[0].reals[i];

        out[0].reals[i] = product;
    }
}

/* An argmax over NaN would be an index all the same. */
static void need_finite(const Array *a)
{
    const double *values = as_reals(a);

    for (size_t i = 0; i < a->size; i++)
        if (!isfinite(values[i]))
            fail("a target is not finite");
}

static void run_select_indices(const Array *in, Array *out)
{
    uint32_t bits = (uint32_t)as_int(&in[1], 1, LARGEST_BITS);
    const uint32_t *rows = as_words(&in[2], UINT32_MAX);
    const double *delta = as_reals(&in[3]), *log_s = as_reals(&in[4]);

    need_rank(&in[2], 1);
    need_rank(&in[3], 2);
    need_same_shape(&in[4], &in[3]);
    need_size(&in[2], in[3].shape[0]);
    need_finite(&in[3]);
    need_finite(&in[4]);
    out[0] = array_vector(INT64, in[2].size);
    select_indices(as_word(&in[0]), bits, rows, in[2].size, delta, log_s, in[3].shape[1],
                   out[0].ints);
}

static void run_partition_rows(const Array *in, Array *out)
{
    uint32_t seed = as_word(&in[0]), bits = (uint32_t)as_int(&in[1], 0, LARGEST_BITS);
    const uint32_t *numbers = as_words(&in[2], UINT32_MAX);
    const int64_t *messages =
        as_ints(&in[3], (int64_t)1 << bits, ((int64_t)1 << (32 + bits)) - 1);
    size_t shape[2] = {in[2].size, (size_t)as_int(&in[4], 1, most_words)};
    float *row = allocate(shape[1], sizeof *row);

    need_rank(&in[2], 1);
    need_same_shape(&in[3], &in[2]);
    out[0] = array_new(FLOAT32, 2, shape);
    for (size_t r = 0; r < shape[0]; r++) {
        bin_row(seed, bits, numbers[r], messages[r], shape[1], shape[1], row);
        for (size_t i = 0; i < shape[1]; i++)
            out[0].reals[r * shape[1] + i] = row[i];
    }
}

static void run_variable_samples(const Array *in, Array *out)
{
    uint32_t code = (uint32_t)as_int(&in[0], AS_STAR, GPRS_D), seed = as_word(&in[1]);
    const uint32_t *rows = as_words(&in[2], UINT32_MAX);
    const int64_t *messages = as_ints(&in[3], 1, largest_integer);

    need_rank(&in[2], 1);
    need_same_shape(&in[3], &in[2]);
    out[0] = array_like(FLOAT32, &in[2]);
    for (size_t i = 0; i < in[2].size; i++)
        out[0].reals[i] = node_normal(code, seed, rows[i], messages[i]);
}

static void run_encode_model(const Array *in, Array *out)
{
    Model model = layout_of(find_network(1), in);
    size_t count = blocks(&model.coding), size;
    int64_t *indices = allocate(count, sizeof *indices);
    const double *delta = as_reals(&in[7]), *log_s = as_reals(&in[8]);
    uint32_t *rows = allocate(count, sizeof *rows);
    uint8_t *data;

    model.coding.bits = (uint32_t)as_int(&in[5], 1, LARGEST_BITS);
    take_scales(&in[6], &model);
    need_rank(&in[7], 2);
    need_same_shape(&in[8], &in[7]);
    if (in[7].shape[0] != count || in[7].shape[1] != model.coding.block_size)
        fail("delta does not fit the blocks of the layout");
    need_finite(&in[7]);
    need_finite(&in[8]);
    for (size_t b = 0; b < count; b++)
        rows[b] = (uint32_t)b;
    select_indices(model.coding.seed, model.coding.bits, rows, count, delta, log_s,
                   model.coding.block_size, indices);
    data = write_container(&model, indices, &size);
    out[0] = array_from_bytes(data, size);
}

/* The SHA-256 of all weights, and every 997th of them. */
static void put_weights(const float *weights, size_t count, Array *out)
{
    uint8_t *bytes = allocate(count, 4), digest[32];

    float32_bytes(weights, count, bytes);
    sha256(bytes, count * 4, digest);
    out[0] = array_from_bytes(digest, sizeof digest);
    out[1] = array_vector(FLOAT32, (count + SAMPLE_STRIDE - 1) / SAMPLE_STRIDE);
    for (size_t i = 0; i < out[1].size; i++)
        out[1].reals[i] = weights[i * SAMPLE_STRIDE];
}

static void run_decode_model(const Array *in, Array *out)
{
    File file = {NULL, as_bytes(&in[0]), in[0].size};
    Chain chain = read_chain(&file, 1);

    put_weights(decode_chain(&chain), chain.root.network->weights, out);
}

static void run_decode_chain(const Array *in, Array *out)
{
    const uint8_t *data = as_bytes(&in[0]);
    const int64_t *sizes = as_ints(&in[1], 0, LARGEST_FILE);
    size_t count = in[1].size, rest = in[0].size;
    File *files = allocate(count, sizeof *files);
    Chain chain;

    need_rank(&in[0], 1);
    need_rank(&in[1], 1);
    for (size_t i = 0; i < count; i++) {
        char *name = allocate(24, 1);

        sprintf(name, "file %lu", (unsigned long)i);
        files[i] = (File){name, data + (in[0].size - rest), (size_t)sizes[i]};
        if (files[i].size > rest)
            fail("the files are longer than the data");
        rest -= files[i].size;
    }
    if (count == 0 || rest != 0)
        fail("the files do not make up the data");
    chain = read_chain(files, count);
    put_weights(decode_chain(&chain), chain.root.network->weights, out);
}

/* Images of a described network have an axis of channels. */
static void need_images(const Array *images, const Network *network)
{
    int channels = network->number == DESCRIBED;

    need_rank(images, 3 + channels);
    for (int k = 1 - channels; k < 3; k++)
        if (images->shape[k + channels] != network->image[k])
            fail("images have the shape (images, %lu, %lu, %lu)", (unsigned long)network->image[0],
                 (unsigned long)network->image[1], (unsigned long)network->image[2]);
    if (images->shape[0] == 0)
        fail("there are no images to classify");
}

static void run_predict(const Array *in, Array *out)
{
    File file = {NULL, as_bytes(&in[0]), in[0].size};
    Chain chain = read_chain(&file, 1);
    const Network *network = chain.root.network;
    const uint8_t *pixels = as_bytes(&in[1]);
    size_t images, shape[2] = {network->classes, 0};

    need_images(&in[1], network);
    images = shape[1] = in[1].shape[0];
    out[0] = array_new(FLOAT64, 2, shape);
    out[1] = array_vector(INT64, images);
    predict(network, decode_chain(&chain), pixels, images, out[0].reals);
    for (size_t n = 0; n < images; n++)
        out[1].ints[n] = (int64_t)largest_logit(out[0].reals + n, images, network->classes);
}

#define HEADER "network grouping signs bits block_size seed factors rho indices"
#define FIELDS "network grouping signs code bits theta block_size seed factors rho messages"
#define LAYOUT "block_size seed factors grouping signs"

const Operation operations_bits[] = {
    {"philox4x32", "counter key", "words", run_philox4x32},
    {"stream_words", "seed stream row first count", "words", run_stream_words},
    {"stream_permutation", "seed stream row count", "permutation", run_stream_permutation},
    {"pack_indices", "indices bits", "payload", run_pack_indices},
    {"unpack_indices", "payload bits count", "indices", run_unpack_indices},
    {"read_integers", "payload count theta raw", "integers", run_read_integers},
    {"write_integers", "integers theta raw", "payload", run_write_integers},
    {"read_container", "data", HEADER, run_read_container},
    {"write_container", HEADER, "data", run_write_container},
    {"describe_file", "data", FIELDS, run_describe_file},
    {"block_layout", LAYOUT " weights", "places weight_signs", run_block_layout},
    {"codebook", "seed indices dimension", "rows", run_codebook},
    {"decode_blocks", "seed indices dimension rho", "w", run_decode_blocks},
    {"select_indices", "seed bits blocks delta log_s", "indices", run_select_indices},
    {"partition_rows", "seed bits blocks messages dimension", "rows", run_partition_rows},
    {"variable_samples", "code seed rows messages", "samples", run_variable_samples},
    {"encode_model", LAYOUT " bits rho delta log_s", "data", run_encode_model},
    {"decode_model", "data", "sha256 sample", run_decode_model},
    {"decode_chain", "data sizes", "sha256 sample", run_decode_chain},
    {"predict", "data images", "logits classes", run_predict},
    {NULL, NULL, NULL, NULL},
};
