/* What stands behind a header: one integer for each block, or for each variable: sections 2.3 and 2.7.
 *
 * They are read one by one where they stand, so that no memory is needed for all.
 */
#include "refmiracle.h"

enum { THETA = 2 };

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

static int64_t read_bits(const uint8_t *payload, uint32_t bits, size_t first)
{
    int64_t index = 0;

    for (size_t place = first; place < first + bits; place++)
        index = index << 1 | (payload[place / 8] >> (7 - place % 8) & 1);
    return index;
}

static void check_padding(const uint8_t *payload, size_t place)
{
    for (; place % 8 != 0; place++)
        if (payload[place / 8] >> (7 - place % 8) & 1)
            fail("a padding bit behind the last index is set");
}

void unpack_indices(const uint8_t *payload, uint32_t bits, size_t count, int64_t *indices)
{
    for (size_t i = 0; i < count; i++)
        indices[i] = read_bits(payload, bits, i * bits);
    check_padding(payload, count * bits);
}

/* Section 7.3. */
size_t blocks(const Coding *coding)
{
    return (coding->variables + coding->block_size - 1) / coding->block_size;
}

size_t message_count(const Coding *coding)
{
    return coding->code >= AS_STAR ? coding->variables : blocks(coding);
}

void check_length(const Coding *coding, size_t size)
{
    size_t packed = packed_size(coding->bits, blocks(coding));

    if (coding->code == MRC ? size != packed : size < THETA + 1)
        fail("the file is shorter or longer than its header says");
}

static Law law_of(const Coding *coding)
{
    Law law = {coding->theta, coding->code == SP_PFR ? coding->bits : 0};

    return law;
}

/* The largest integer that names a candidate. */
static int64_t largest_message(const Coding *coding)
{
    switch (coding->code) {
    case ORC:
        return (int64_t)1 << coding->bits;
    case PFR:
        return (int64_t)1 << 32;
    case SP_PFR:
        return ((int64_t)1 << (32 + coding->bits)) - 1;
    default:
        return largest_integer;
    }
}

void take_payload(Coding *coding, const uint8_t *bytes, size_t size)
{
    size_t count = message_count(coding);

    coding->payload = bytes;
    coding->size = size;
    if (coding->code == MRC) {
        check_padding(bytes, coding->bits * count);
        return;
    }
    coding->theta = bytes[0] | (uint32_t)bytes[1] << 8;
    coding->payload += THETA;
    coding->size -= THETA;
    if (coding->theta == 0)
        fail("theta is zero");
    if (check_integers(coding->payload, coding->size, law_of(coding), count)
        > largest_message(coding))
        fail("an integer names no candidate");
}

Messages start_messages(const Coding *coding)
{
    Messages messages = {coding, 0, {0}};

    if (coding->code != MRC)
        messages.integers = start_integers(coding->payload, coding->size, law_of(coding));
    return messages;
}

int64_t next_message(Messages *messages)
{
    const Coding *coding = messages->coding;

    if (coding->code == MRC) {
        messages->bit += coding->bits;
        return read_bits(coding->payload, coding->bits, messages->bit - coding->bits);
    }
    /* Of the codes 1 and 2 it is a row of the codebook. */
    return next_integer(&messages->integers) - (coding->code == ORC || coding->code == PFR);
}
