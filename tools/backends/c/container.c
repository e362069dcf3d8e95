/* The bytes of a .rmc file: section 2. */
#include <string.h>

#include "refmiracle.h"

static const uint8_t magic[3] = {'R', 'M', 'C'};
enum { VERSION = 1, FIXED = 8, CHECKSUM = 4, THETA = 2 };
enum { SMALLEST_SCALE = 0x0400, LARGEST_SCALE = 0x7BFF };

/* Section 2.4, a bit at a time. */
uint32_t crc32(const uint8_t *data, size_t size)
{
    uint32_t crc = 0xFFFFFFFFu;

    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
    }
    return crc ^ 0xFFFFFFFFu;
}

/* --- section 2.2 */

static uint8_t *put_varint(uint8_t *to, uint32_t value)
{
    for (; value > 127; value >>= 7)
        *to++ = (uint8_t)(value | 128);
    *to++ = (uint8_t)value;
    return to;
}

uint32_t take_varint(const uint8_t *body, size_t size, size_t *offset)
{
    uint64_t value = 0;

    for (int i = 0; i < 5; i++) {
        uint8_t byte;

        if (*offset == size)
            fail("the file ends within its header");
        byte = body[(*offset)++];
        value |= (uint64_t)(byte & 127) << 7 * i;
        if (byte < 128) {
            if (i > 0 && byte == 0)
                fail("an integer is not in its shortest form");
            if (value > UINT32_MAX)
                fail("an integer does not fit in 32 bits");
            return (uint32_t)value;
        }
    }
    fail("an integer is longer than five bytes");
}

/* --- section 2.3 */

size_t packed_size(uint32_t bits, size_t count)
{
    return (bits * count + 7) / 8;
}

void pack_indices(const int64_t *indices, uint32_t bits, size_t count, uint8_t *payload)
{
    size_t place = 0;

    for (size_t i = 0; i < count; i++)
        for (uint32_t bit = bits; bit-- > 0; place++)
            payload[place / 8] |= (uint8_t)((indices[i] >> bit & 1) << (7 - place % 8));
}

void unpack_indices(const uint8_t *payload, uint32_t bits, size_t count, int64_t *indices)
{
    size_t place = 0;

    for (size_t i = 0; i < count; i++) {
        indices[i] = 0;
        for (uint32_t bit = 0; bit < bits; bit++, place++)
            indices[i] = indices[i] << 1 | (payload[place / 8] >> (7 - place % 8) & 1);
    }
    for (; place % 8 != 0; place++)
        if (payload[place / 8] >> (7 - place % 8) & 1)
            fail("a padding bit behind the last index is set");
}

/* --- reading */

/* Rules 5 to 8 of section 2.5; puts the offset behind the description, if there is one. */
static void read_fixed(const uint8_t *data, size_t size, size_t *offset, Model *model)
{
    model->network =
        data[4] == DESCRIBED ? read_description(data, size, offset) : find_network(data[4]);
    model->code = data[5];
    model->grouping = data[6] & 15;
    model->signs = data[6] >> 4;
    model->bits = data[7];
    if (model->code > GPRS_D)
        fail("random code %d is unknown", data[5]);
    if (model->grouping > INPUTS || model->signs > WEIGHT)
        fail("layout flags %02x are unknown", data[6]);
    if (model->bits < 1 || model->bits > LARGEST_BITS)
        fail("%d bits per block are out of range", data[7]);
}

/* Rules 9 and 10. */
static void read_varints(const uint8_t *body, size_t size, size_t *offset, Model *model)
{
    model->block_size = take_varint(body, size, offset);
    model->seed = take_varint(body, size, offset);
    for (int t = 0; t < model->network->tensors; t++) {
        const Tensor *tensor = &model->network->tensor[t];

        model->factors[t] = take_varint(body, size, offset);
        if (model->factors[t] < 1 || model->factors[t] > tensor->weights)
            fail("the hash factor of %s is out of range", tensor->name);
    }
    check_layout(model);
}

static void check_scales(const Model *model)
{
    for (int t = 0; t < model->network->tensors; t++)
        if (model->rho[t] < SMALLEST_SCALE || model->rho[t] > LARGEST_SCALE)
            fail("the scale of %s is not a positive normal float16",
                 model->network->tensor[t].name);
}

static uint32_t stored_checksum(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Rule 11; `size` is what follows the varints. */
static void check_length(const Model *model, size_t size)
{
    size_t scales = 2 * (size_t)model->network->tensors;
    size_t packed = packed_size(model->bits, blocks(model));

    if (model->code == MRC ? size != scales + packed : size < scales + THETA + 1)
        fail("the file is shorter or longer than its header says");
}

/* Rule 13 of code 0. */
static int64_t *read_indices(const Model *model, const uint8_t *payload)
{
    size_t count = blocks(model);
    int64_t *indices = allocate(count, sizeof *indices);

    unpack_indices(payload, model->bits, count, indices);
    return indices;
}

/* Rules 13 to 15 of the other codes: section 2.7. */
static int64_t *read_messages(const Model *model, const uint8_t *payload, size_t size)
{
    Law law = {model->theta, model->code == SP_PFR ? model->bits : 0};
    size_t count = model->code >= AS_STAR ? variables(model) : blocks(model);
    int64_t *messages, largest = largest_integer;

    if (law.theta == 0)
        fail("theta is zero");
    if (count > LARGEST_COUNT)
        fail("the file calls for more than 2^20 integers");
    messages = allocate(count, sizeof *messages);
    read_integers(payload, size, law, count, messages);
    if (model->code == ORC)
        largest = (int64_t)1 << model->bits;
    else if (model->code == PFR)
        largest = (int64_t)1 << 32;
    else if (model->code == SP_PFR)
        largest = ((int64_t)1 << (32 + model->bits)) - 1;
    for (size_t i = 0; i < count; i++) {
        if (messages[i] > largest)
            fail("integer %lu names no candidate", (unsigned long)i);
        if (model->code == ORC || model->code == PFR)
            messages[i]--; /* a row of the codebook */
    }
    return messages;
}

/* The checks stand in the order of section 2.5. */
Model read_container(const uint8_t *data, size_t size)
{
    Model model = {0};
    size_t offset = FIXED, body;

    if (size < sizeof magic || memcmp(data, magic, sizeof magic) != 0)
        fail("it does not begin with the magic RMC");
    if (size < FIXED + CHECKSUM)
        fail("it is too short for a header and a checksum");
    if (data[3] != VERSION)
        fail("format version %d is unknown", data[3]);
    body = size - CHECKSUM;
    if (crc32(data, body) != stored_checksum(data + body))
        fail("the checksum does not fit: the file is damaged");
    read_fixed(data, body, &offset, &model);
    read_varints(data, body, &offset, &model);
    check_length(&model, body - offset);
    for (int t = 0; t < model.network->tensors; t++, offset += 2)
        model.rho[t] = (uint16_t)(data[offset] | data[offset + 1] << 8);
    check_scales(&model);
    if (model.code == MRC) {
        model.messages = read_indices(&model, data + offset);
        return model;
    }
    model.theta = data[offset] | (uint32_t)data[offset + 1] << 8;
    offset += THETA;
    model.messages = read_messages(&model, data + offset, body - offset);
    return model;
}

/* --- writing */

static void check_fields(const Model *model)
{
    if (model->bits < 1 || model->bits > LARGEST_BITS)
        fail("%lu bits per block are out of range", (unsigned long)model->bits);
    check_layout(model);
    check_scales(model);
    for (size_t b = 0; b < blocks(model); b++)
        if (model->messages[b] < 0 || model->messages[b] >> model->bits != 0)
            fail("the index of block %lu is out of range", (unsigned long)b);
}

uint8_t *write_container(const Model *model, size_t *size)
{
    size_t packed;
    uint8_t *data, *to;
    uint32_t crc;

    check_fields(model);
    packed = packed_size(model->bits, blocks(model));
    data = allocate(FIXED + 5 * (2 + MOST_TENSORS) + 2 * MOST_TENSORS + packed + CHECKSUM, 1);
    to = data + FIXED;
    memcpy(data, magic, sizeof magic);
    data[3] = VERSION;
    data[4] = (uint8_t)model->network->number;
    data[5] = MRC;
    data[6] = (uint8_t)(model->grouping | model->signs << 4);
    data[7] = (uint8_t)model->bits;
    to = put_varint(to, model->block_size);
    to = put_varint(to, model->seed);
    for (int t = 0; t < model->network->tensors; t++)
        to = put_varint(to, model->factors[t]);
    for (int t = 0; t < model->network->tensors; t++) {
        *to++ = (uint8_t)model->rho[t];
        *to++ = (uint8_t)(model->rho[t] >> 8);
    }
    pack_indices(model->messages, model->bits, blocks(model), to);
    to += packed;
    crc = crc32(data, (size_t)(to - data));
    for (int i = 0; i < CHECKSUM; i++)
        *to++ = (uint8_t)(crc >> 8 * i);
    *size = (size_t)(to - data);
    return data;
}
