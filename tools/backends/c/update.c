/* A file relative to another one: section 13. */
#include <math.h>

#include "refmiracle.h"

enum { BASE = 4, BITS = 8, SAME = 128, STEPS = 4 };

/* 2^(j/4), correctly rounded to float64: 2^(j/4) = 1 + m / 2^52. */
static const uint64_t fractions[STEPS] = {0, 0x306fe0a31b715u, 0x6a09e667f3bcdu, 0xae89f995ad3adu};

/* Put how many variables the tensors have that are coded. */
static void count_variables(const Model *root, Update *update)
{
    for (int t = 0; t < root->network->tensors; t++)
        if (update->levels[t] != 0)
            update->coding.variables += tensor_variables(root, t);
    if (update->coding.variables == 0)
        fail("all of its levels are 0, so it changes nothing");
}

static void check_base(uint32_t wanted, Base base)
{
    if (wanted != base.checksum)
        fail("it is an update of the file with the checksum %08lx; %s has %08lx",
             (unsigned long)wanted, base.name, (unsigned long)base.checksum);
}

Update read_update(const Model *root, Base base, const uint8_t *data, size_t size)
{
    Update update = {0};
    Coding *coding = &update.coding;
    size_t body = check_envelope(data, size, FIRST_UPDATE, FIRST_UPDATE + GPRS_D);
    size_t offset = BITS + 1, tensors = (size_t)root->network->tensors;

    update.base = word_at(data + BASE);
    check_base(update.base, base);
    if (body == BITS)
        fail("the file ends within its header");
    coding->code = data[3] - FIRST_UPDATE;
    coding->bits = data[BITS];
    check_bits(coding->bits);
    coding->block_size = take_varint(data, body, &offset);
    coding->seed = take_varint(data, body, &offset);
    if (body - offset < tensors)
        fail("the file ends within its header");
    update.levels = data + offset;
    offset += tensors;
    count_variables(root, &update);
    check_block_size(coding);
    check_length(coding, body - offset);
    take_payload(coding, data + offset, body - offset);
    update.checksum = word_at(data + body);
    return update;
}

/* The scale of the root times 2^((level - 128) / 4), rounded to float64 and then to float32. */
float update_scale(const Model *root, const Update *update, int tensor)
{
    int level = update->levels[tensor], quarters = level % STEPS; /* 128 is a multiple of 4 */
    double rooted = 1.0 + (double)fractions[quarters] / 4503599627370496.0;

    return (float)ldexp(float16(root->rho[tensor]) * rooted, level / STEPS - SAME / STEPS);
}
