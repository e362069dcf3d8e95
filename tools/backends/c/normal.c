/* From a word to a standard normal, bit for bit: sections 5 and 6.
 *
 * Only + - * / and sqrt are used, each of which IEEE 754 rounds correctly, and frexp, which is
 * exact; so no result here depends on the quality of a mathematical library.  Compile without
 * contraction (-ffp-contract=off) and without -ffast-math.
 */
#include <float.h>
#include <math.h>

#include "refmiracle.h"

#if DBL_MANT_DIG != 53 || FLT_MANT_DIG != 24
#error "section 6.1: double must be float64, and float be float32 (a compiler for small devices may need an option)"
#endif
#if FLT_EVAL_METHOD != 0
#error "section 6.1: arithmetic must be in float64 itself (on 32-bit x86: -msse2 -mfpmath=sse)"
#endif

enum { TERMS = 8, SERIES_TERMS = 11 };

/* AS 241, PPND16 (section 6.3), highest power first. */
static const double A[TERMS] = {
    2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
    4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
    1.3314166789178437745e2, 3.3871328727963666080e0,
};
static const double B[TERMS] = {
    5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
    2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
    4.2313330701600911252e1, 1.0,
};
static const double C[TERMS] = {
    7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
    1.27045825245236838258e0,  3.64784832476320460504e0,  5.76949722146069140550e0,
    4.63033784615654529590e0,  1.42343711074968357734e0,
};
static const double D[TERMS] = {
    1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
    1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
    2.05319162663775882187e0,  1.0,
};
static const double E[TERMS] = {
    2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
    2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
    5.46378491116411436990e0,  6.65790464350110377720e0,
};
static const double F[TERMS] = {
    2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
    7.86869131145613259100e-4,  1.48753612908506148525e-2, 1.36929880922735805310e-1,
    5.99832206555887937690e-1,  1.0,
};
static const double SERIES[SERIES_TERMS] = {
    1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11,
    1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3,  1.0,
};

/* Section 6.1. */
static double poly(const double *c, int terms, double x)
{
    double v = c[0];

    for (int k = 1; k < terms; k++)
        v = v * x + c[k];
    return v;
}

/* Section 6.2. */
static double portable_log(double p)
{
    int e;
    double m = frexp(p, &e), f;

    if (m < 0.7071067811865476) {
        m = m + m;
        e = e - 1;
    }
    f = (m - 1.0) / (m + 1.0);
    return (2.0 * f) * poly(SERIES, SERIES_TERMS, f * f) + (double)e * 0.6931471805599453;
}

/* Section 6.3; NaN where p is not between 0 and 1. */
double normal_quantile(double p)
{
    double q = p - 0.5, r, z;

    if (!(p > 0.0 && p < 1.0))
        return NAN;
    if (fabs(q) <= 0.425) {
        r = 0.180625 - q * q;
        return q * (poly(A, TERMS, r) / poly(B, TERMS, r));
    }
    r = sqrt(-portable_log(q < 0.0 ? p : 1.0 - p));
    if (r <= 5.0)
        z = poly(C, TERMS, r - 1.6) / poly(D, TERMS, r - 1.6);
    else
        z = poly(E, TERMS, r - 5.0) / poly(F, TERMS, r - 5.0);
    return q < 0.0 ? -z : z;
}

/* Section 5: the midpoint of one of 2^32 cells. */
double word_to_uniform(uint32_t word)
{
    return ((double)word + 0.5) * (1.0 / 4294967296.0);
}

float word_normal(uint32_t word)
{
    return (float)normal_quantile(word_to_uniform(word));
}

/* Section 7.3. */
void codebook_row(uint32_t seed, uint32_t row, size_t dimension, float *z)
{
    uint32_t four[4];

    for (size_t i = 0; i < dimension; i++) {
        if (i % 4 == 0)
            stream_words(seed, CODEBOOK, row, i, 4, four);
        z[i] = word_normal(four[i % 4]);
    }
}
