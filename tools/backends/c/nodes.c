/* Which normals the messages of the codes 3 to 12 name, bit for bit: sections 4.3, 7.4 and 7.5.
 *
 * As in normal.c, each + - * / is rounded on its own: compile without contraction.
 */
#include "refmiracle.h"

typedef enum { SPLIT_ON_SAMPLE, DYADIC, NO_TREE } Tree;

static double at_most_largest(double u)
{
    const double largest = 1.0 - 1.0 / 9007199254740992.0; /* 1 - 2^-53 */

    return u < largest ? u : largest;
}

/* --- section 7.4 */

/* The bits of positions before d; they sum to `bits` at d = dimension. */
static uint32_t bits_before(size_t d, uint32_t bits, size_t dimension)
{
    return (uint32_t)((uint64_t)d * bits / dimension);
}

static uint32_t bin_of(uint32_t bits, int64_t message)
{
    return (uint32_t)(message & (((int64_t)1 << bits) - 1));
}

void bin_words(uint32_t seed, uint32_t bits, uint32_t block, int64_t message, size_t d,
               uint32_t words[4])
{
    const uint32_t key[2] = {seed, PARTITION};
    const uint32_t counter[4] = {(uint32_t)(message >> bits), block, bin_of(bits, message),
                                 (uint32_t)(d / 4)};

    philox4x32(counter, key, words);
}

float bin_normal(uint32_t bits, int64_t message, size_t dimension, size_t d, uint32_t word)
{
    uint32_t end = bits_before(d + 1, bits, dimension);
    uint32_t size = (uint32_t)1 << (end - bits_before(d, bits, dimension));
    uint32_t own = bin_of(bits, message) >> (bits - end) & (size - 1);

    return (float)normal_quantile(at_most_largest((own + word_to_uniform(word)) / size));
}

void bin_row(uint32_t seed, uint32_t bits, uint32_t block, int64_t message, size_t dimension,
             size_t used, float *z)
{
    uint32_t words[4];

    for (size_t d = 0; d < used; d++) {
        if (d % 4 == 0)
            bin_words(seed, bits, block, message, d, words);
        z[d] = bin_normal(bits, message, dimension, d, words[d % 4]);
    }
}

/* --- section 7.5 */

static Tree variable_tree(uint32_t code)
{
    switch (code) {
    case 4:
    case 8:
    case 11:
        return SPLIT_ON_SAMPLE;
    case 7:
    case 10:
        return NO_TREE;
    default:
        return DYADIC;
    }
}

/* The u of a node, in its region (a, b). */
static double place_sample(uint32_t seed, uint32_t row, uint64_t node, double a, double b)
{
    const uint32_t key[2] = {seed, CANDIDATES};
    const uint32_t counter[4] = {(uint32_t)node, row, (uint32_t)(node >> 32), 0};
    uint32_t words[4];
    double u;

    philox4x32(counter, key, words);
    u = ((double)((uint64_t)words[0] << 20 | words[1] >> 12) + 0.5) / 4503599627370496.0;
    return at_most_largest(a + (b - a) * u);
}

/* The bits of a node's number below its leading one are the way from the root. */
float node_normal(uint32_t code, uint32_t seed, uint32_t row, int64_t number)
{
    uint64_t node = (uint64_t)number;
    Tree tree = variable_tree(code);
    double a = 0.0, b = 1.0;
    int depth = 0;

    while (tree != NO_TREE && node >> (depth + 1) != 0)
        depth++;
    for (; depth > 0; depth--) {
        double c = tree == DYADIC ? (a + b) / 2.0
                                  : place_sample(seed, row, node >> depth, a, b);

        if (node >> (depth - 1) & 1)
            a = c;
        else
            b = c;
    }
    return (float)normal_quantile(place_sample(seed, row, node, a, b));
}
