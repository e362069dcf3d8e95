/* Philox4x32-10 and the streams drawn from it: sections 4 and 7.2. */
#include <stdlib.h>

#include "refmiracle.h"

/* Section 4.1. */
void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t words[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];

    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53 * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57 * c2;

        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

/* Section 4.2: word i of row r is word i mod 4 at counter (i div 4, r, 0, 0). */
void stream_words(uint32_t seed, uint32_t stream, uint32_t row, uint64_t first, size_t count,
                  uint32_t *words)
{
    const uint32_t key[2] = {seed, stream};
    uint32_t four[4];

    for (size_t i = 0; i < count; i++) {
        uint64_t number = first + i;

        if (i == 0 || number % 4 == 0) {
            const uint32_t counter[4] = {(uint32_t)(number / 4), row, 0, 0};

            philox4x32(counter, key, four);
        }
        words[i] = four[number % 4];
    }
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

/* Section 7.2.  The number stands below the word, which makes the order of equal words stable. */
void stream_permutation(uint32_t seed, uint32_t stream, uint32_t row, size_t count,
                        uint32_t *permutation)
{
    uint64_t *order = allocate(count, sizeof *order);

    stream_words(seed, stream, row, 0, count, permutation);
    for (size_t i = 0; i < count; i++)
        order[i] = (uint64_t)permutation[i] << 32 | i;
    qsort(order, count, sizeof *order, compare);
    for (size_t i = 0; i < count; i++)
        permutation[i] = (uint32_t)order[i];
}
