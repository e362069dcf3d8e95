/* The posterior of a block, forward and backward: D1 to D4. */
#include <math.h>

#include "refmiracle.h"

enum { NEWTON_STEPS = 9, SERIES_END = 20 };
static const double sqrt2 = 1.4142135623730951;
/* Below this, the first two terms of a series are all that float64 can hold. */
#define SMALL 1e-8

/* exp(-y) - 1 + y without cancellation near 0: y^2/2! - y^3/3! + ... (D3.2, D3.4). */
static double exp_excess(double y)
{
    double sum = 0.0;

    if (fabs(y) >= 1.0)
        return expm1(-y) + y;
    /* 1/2! - y/3! + y^2/4! - ..., from within: 1/2 (1 - y/3 (1 - y/4 (1 - ...))) */
    for (int k = SERIES_END; k > 2; k--)
        sum = -y / k * (1.0 + sum);
    return 0.5 * y * y * (1.0 + sum);
}

/* D(15), D(16): Newton's method for y = -log s, from above. */
double log_s(double x)
{
    double y = sqrt2 * x + x * x;

    if (x < 0.0)
        return NAN;
    if (x < SMALL)
        return -(sqrt2 * x + x * x / 3.0);
    if (y == INFINITY)
        return -y;
    for (int i = 0; i < NEWTON_STEPS; i++)
        y -= (exp_excess(y) - x * x) / -expm1(-y);
    return -y;
}

/* D(14): h = x / (1 - s), by D(13) where x may be too small to be divided. */
static double half_slope_ratio(double x, double log_s)
{
    return x < SMALL ? 1.0 / (sqrt2 - 2.0 / 3.0 * x) : x / -expm1(log_s);
}

double ds_dx(double x)
{
    double l = log_s(x);

    return -2.0 * exp(l) * half_slope_ratio(x, l);
}

/* D(3). */
double gaussian_kl(double delta, double log_s)
{
    return 0.5 * (delta * delta + exp_excess(-log_s));
}

static double sech(double tau)
{
    double e = exp(-fabs(tau));

    return 2.0 * e / (1.0 + e * e);
}

/* D(4); phi = -inf takes no share. */
static void softmax(const double *phi, size_t size, double *share)
{
    double largest = -INFINITY, sum = 0.0;

    for (size_t i = 0; i < size; i++)
        if (phi[i] > largest)
            largest = phi[i];
    for (size_t i = 0; i < size; i++)
        sum += share[i] = exp(phi[i] - largest);
    for (size_t i = 0; i < size; i++)
        share[i] /= sum;
}

/* D(4) to D(7). */
void mean_kl(const double *tau, const double *phi, double budget, size_t size, double *delta,
             double *logarithm)
{
    double *share = allocate(size, sizeof *share);

    softmax(phi, size, share);
    for (size_t i = 0; i < size; i++) {
        double r = sqrt(2.0 * budget) * sqrt(share[i]);

        delta[i] = r * tanh(tau[i]);
        logarithm[i] = log_s(r * sech(tau[i]));
    }
}

/* D(8), nu = 0. */
void mean_kl_forward(const double *tau, const double *phi, const double *rho, double budget,
                     const double *eps, size_t size, double *w)
{
    double *logarithm = allocate(size, sizeof *logarithm);

    mean_kl(tau, phi, budget, size, w, logarithm);
    for (size_t i = 0; i < size; i++)
        w[i] = rho[i] * (w[i] + exp(0.5 * logarithm[i]) * eps[i]);
}

/* Put the sum of the other elements in place of each, without taking any sum apart again. */
static void sum_others(const double *x, size_t size, double *others)
{
    double before = 0.0, after = 0.0;

    for (size_t i = 0; i < size; i++) {
        others[i] = before;
        before += x[i];
    }
    for (size_t i = size; i-- > 0;) {
        others[i] += after;
        after += x[i];
    }
}

/* D(21) with h = r G / 2, as h_j sum_{i != j} p_i - p_j sum_{i != j} h_i: the term h_j p_j, which
 * stands in both parts of D(21), would swallow the rest where one weight takes nearly all.
 */
static void through_softmax(const double *share, const double *h, size_t size, double *dphi)
{
    double *shares = allocate(size, sizeof *shares), *sums = allocate(size, sizeof *sums);

    sum_others(share, size, shares);
    sum_others(h, size, sums);
    for (size_t i = 0; i < size; i++)
        dphi[i] = h[i] * shares[i] - share[i] * sums[i];
}

/* D(17) to D(22). */
void mean_kl_backward(const double *tau, const double *phi, const double *rho, double budget,
                      const double *eps, const double *g, size_t size, double *dtau,
                      double *dphi, double *dlog_rho)
{
    double *share = allocate(size, sizeof *share), *h = allocate(size, sizeof *h);

    softmax(phi, size, share);
    for (size_t i = 0; i < size; i++) {
        double r = sqrt(2.0 * budget) * sqrt(share[i]), t = tanh(tau[i]), c = sech(tau[i]);
        double x = r * c, l = log_s(x), root_s = exp(0.5 * l);
        double q = -eps[i] * root_s * half_slope_ratio(x, l);

        dtau[i] = g[i] * rho[i] * (r * c * c - q * x * t);
        h[i] = 0.5 * r * g[i] * rho[i] * (t + q * c);
        dlog_rho[i] = g[i] * rho[i] * (r * t + root_s * eps[i]);
    }
    through_softmax(share, h, size, dphi);
}
