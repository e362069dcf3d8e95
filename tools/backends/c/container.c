/* The bytes of a .rmc file: section 2. */
#include <string.h>

#include "refmiracle.h"

static const uint8_t magic[3] = {'R', 'M', 'C'};
enum { FIXED = 8 };
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

/* --- reading */

void check_bits(uint32_t bits)
{
    if (bits < 1 || bits > LARGEST_BITS)
        fail("%lu bits per block are out of range", (unsigned long)bits);
}

uint32_t word_at(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void refuse_version(const uint8_t *data, int lowest)
{
    if (lowest == VERSION && data[3] >= FIRST_UPDATE && data[3] <= FIRST_UPDATE + GPRS_D)
        fail("it is an update of the file with the checksum %08lx, which must come before it",
             (unsigned long)word_at(data + 4));
    if (lowest == FIRST_UPDATE && data[3] == VERSION)
        fail("it is a model, no update: a model comes first");
    fail("format version %d is unknown", data[3]);
}

size_t check_envelope(const uint8_t *data, size_t size, int lowest, int highest)
{
    size_t body = size - CHECKSUM;

    if (size < sizeof magic || memcmp(data, magic, sizeof magic) != 0)
        fail("it does not begin with the magic RMC");
    if (size < FIXED + CHECKSUM)
        fail("it is too short for a header and a checksum");
    if (data[3] < lowest || data[3] > highest)
        refuse_version(data, lowest);
    if (crc32(data, body) != word_at(data + body))
        fail("the checksum does not fit: the file is damaged");
    return body;
}

/* Rules 5 to 8 of section 2.5; puts the offset behind the description, if there is one. */
static void read_fixed(const uint8_t *data, size_t size, size_t *offset, Model *model)
{
    model->network =
        data[4] == DESCRIBED ? read_description(data, size, offset) : find_network(data[4]);
    model->coding.code = data[5];
    model->grouping = data[6] & 15;
    model->signs = data[6] >> 4;
    model->coding.bits = data[7];
    if (data[5] > GPRS_D)
        fail("random code %d is unknown", data[5]);
    if (model->grouping > INPUTS || model->signs > WEIGHT)
        fail("layout flags %02x are unknown", data[6]);
    check_bits(data[7]);
}

/* Rules 9 and 10. */
static void read_varints(const uint8_t *body, size_t size, size_t *offset, Model *model)
{
    model->coding.block_size = take_varint(body, size, offset);
    model->coding.seed = model->sign_seed = take_varint(body, size, offset);
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

/* The checks stand in the order of section 2.5. */
Model read_container(const uint8_t *data, size_t size)
{
    Model model = {0};
    size_t offset = FIXED, body = check_envelope(data, size, VERSION, VERSION);
    size_t scales;

    read_fixed(data, body, &offset, &model);
    read_varints(data, body, &offset, &model);
    scales = 2 * (size_t)model.network->tensors;
    check_length(&model.coding, body > offset + scales ? body - offset - scales : 0);
    for (int t = 0; t < model.network->tensors; t++, offset += 2)
        model.rho[t] = (uint16_t)(data[offset] | data[offset + 1] << 8);
    check_scales(&model);
    take_payload(&model.coding, data + offset, body - offset);
    model.checksum = word_at(data + body);
    return model;
}

/* --- writing */

static void check_fields(Model *model, const int64_t *indices)
{
    uint32_t bits = model->coding.bits;

    check_bits(bits);
    check_layout(model);
    check_scales(model);
    for (size_t b = 0; b < blocks(&model->coding); b++)
        if (indices[b] < 0 || indices[b] >> bits != 0)
            fail("the index of block %lu is out of range", (unsigned long)b);
}

uint8_t *write_container(const Model *given, const int64_t *indices, size_t *size)
{
    Model model = *given;
    const Coding *coding = &model.coding;
    size_t packed;
    uint8_t *data, *to;
    uint32_t crc;

    check_fields(&model, indices);
    packed = packed_size(coding->bits, blocks(coding));
    data = allocate(FIXED + 5 * (2 + MOST_TENSORS) + 2 * MOST_TENSORS + packed + CHECKSUM, 1);
    to = data + FIXED;
    memcpy(data, magic, sizeof magic);
    data[3] = VERSION;
    data[4] = (uint8_t)model.network->number;
    data[5] = MRC;
    data[6] = (uint8_t)(model.grouping | model.signs << 4);
    data[7] = (uint8_t)coding->bits;
    to = put_varint(to, coding->block_size);
    to = put_varint(to, coding->seed);
    for (int t = 0; t < model.network->tensors; t++)
        to = put_varint(to, model.factors[t]);
    for (int t = 0; t < model.network->tensors; t++) {
        *to++ = (uint8_t)model.rho[t];
        *to++ = (uint8_t)(model.rho[t] >> 8);
    }
    pack_indices(indices, coding->bits, blocks(coding), to);
    to += packed;
    crc = crc32(data, (size_t)(to - data));
    for (int i = 0; i < CHECKSUM; i++)
        *to++ = (uint8_t)(crc >> 8 * i);
    *size = (size_t)(to - data);
    return data;
}
