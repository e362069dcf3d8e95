/* Minimal random coding: D8. */
#include <math.h>

#include "refmiracle.h"

/* D(34a): no difference of like terms where Q is next to P; at z = delta nothing of 1/s counts, even
 * where it overflows.
 */
double log_weight(const double *z, const double *delta, const double *logarithm,
                  const double *narrowness, size_t size)
{
    double sum = 0.0;

    for (size_t i = 0; i < size; i++) {
        double y = z[i] - delta[i];
        double rise = y == 0.0 ? 0.0 : y * (delta[i] - 0.5 * y * narrowness[i]);

        sum += 0.5 * delta[i] * delta[i] + rise - 0.5 * logarithm[i];
    }
    return sum;
}

/* D(35): the largest of log w_k + g_k, the lowest index of equals; g_k = -log(-log u_k), with
 * u_k from word k of the row of the stream SELECTION that bears the block's number.
 */
void select_indices(uint32_t seed, uint32_t bits, const uint32_t *rows, size_t count,
                    const double *delta, const double *logarithm, size_t size, int64_t *indices)
{
    double *narrowness = allocate(count * size, sizeof *narrowness);
    double *best = allocate(count, sizeof *best);
    uint32_t(*words)[4] = allocate(count, sizeof *words);
    float *row = allocate(size, sizeof *row);
    double *z = allocate(size, sizeof *z);

    for (size_t i = 0; i < count * size; i++)
        narrowness[i] = expm1(-logarithm[i]);
    for (uint32_t k = 0; k < (uint32_t)1 << bits; k++) {
        codebook_row(seed, k, size, row);
        for (size_t i = 0; i < size; i++)
            z[i] = row[i];
        for (size_t b = 0; b < count; b++) {
            size_t at = b * size;
            double score;

            if (k % 4 == 0)
                stream_words(seed, SELECTION, rows[b], k, 4, words[b]);
            score = log_weight(z, delta + at, logarithm + at, narrowness + at, size)
                    - log(-log(word_to_uniform(words[b][k % 4])));
            if (k == 0 || score > best[b]) {
                best[b] = score;
                indices[b] = k;
            }
        }
    }
}
