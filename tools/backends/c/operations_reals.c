/* Operations on real arrays: numerics, posterior, layers. */
#include <math.h>

#include "protocol.h"

/* --- numerics: one element at a time */

static Array map(const Array *x, double (*function)(double))
{
    const double *from = as_reals(x);
    Array y = array_like(FLOAT64, x);

    for (size_t i = 0; i < x->size; i++)
        y.reals[i] = function(from[i]);
    return y;
}

static void run_normal_quantile(const Array *in, Array *out)
{
    out[0] = map(&in[0], normal_quantile);
}

static void run_log_s(const Array *in, Array *out)
{
    out[0] = map(&in[0], log_s);
}

static void run_ds_dx(const Array *in, Array *out)
{
    out[0] = map(&in[0], ds_dx);
}

static void run_gaussian_kl(const Array *in, Array *out)
{
    const double *delta = as_reals(&in[0]), *logarithm = as_reals(&in[1]);

    need_same_shape(&in[1], &in[0]);
    out[0] = array_like(FLOAT64, &in[0]);
    for (size_t i = 0; i < in[0].size; i++)
        out[0].reals[i] = gaussian_kl(delta[i], logarithm[i]);
}

/* --- posterior: block by block */

/* Fail unless the first `count` arrays are all of the shape (blocks, block_size). */
static void need_blocks(const Array *in, int count)
{
    need_rank(&in[0], 2);
    for (int i = 1; i < count; i++)
        need_same_shape(&in[i], &in[0]);
}

static double budget_of(const Array *array)
{
    double budget = as_real(array);

    if (!(budget >= 0.0 && budget < INFINITY))
        fail("a budget is finite and not negative");
    return budget;
}

static void run_mean_kl(const Array *in, Array *out)
{
    const double *tau = as_reals(&in[0]), *phi = as_reals(&in[1]), budget = budget_of(&in[2]);

    need_blocks(in, 2);
    out[0] = array_like(FLOAT64, &in[0]);
    out[1] = array_like(FLOAT64, &in[0]);
    for (size_t at = 0; at < in[0].size; at += in[0].shape[1])
        mean_kl(tau + at, phi + at, budget, in[0].shape[1], out[0].reals + at,
                out[1].reals + at);
}

/* Arguments tau, phi, rho, budget, eps. */
static void run_mean_kl_forward(const Array *in, Array *out)
{
    const double *tau = as_reals(&in[0]), *phi = as_reals(&in[1]), *rho = as_reals(&in[2]);
    const double budget = budget_of(&in[3]), *eps = as_reals(&in[4]);

    need_blocks(in, 3);
    need_same_shape(&in[4], &in[0]);
    out[0] = array_like(FLOAT64, &in[0]);
    for (size_t at = 0; at < in[0].size; at += in[0].shape[1])
        mean_kl_forward(tau + at, phi + at, rho + at, budget, eps + at, in[0].shape[1],
                        out[0].reals + at);
}

/* Arguments tau, phi, nu, rho, budget, eps: nu is added to what there is around 0. */
static void run_mean_kl_forward_around(const Array *in, Array *out)
{
    const Array around_0[] = {in[0], in[1], in[3], in[4], in[5]};
    const double *nu = as_reals(&in[2]);

    need_same_shape(&in[2], &in[0]);
    run_mean_kl_forward(around_0, out);
    for (size_t i = 0; i < in[0].size; i++)
        out[0].reals[i] += nu[i];
}

static void run_mean_kl_backward(const Array *in, Array *out)
{
    const double *tau = as_reals(&in[0]), *phi = as_reals(&in[1]), *rho = as_reals(&in[2]);
    const double budget = budget_of(&in[3]), *eps = as_reals(&in[4]), *g = as_reals(&in[5]);

    need_blocks(in, 3);
    need_same_shape(&in[4], &in[0]);
    need_same_shape(&in[5], &in[0]);
    for (int i = 0; i < 3; i++)
        out[i] = array_like(FLOAT64, &in[0]);
    for (size_t at = 0; at < in[0].size; at += in[0].shape[1])
        mean_kl_backward(tau + at, phi + at, rho + at, budget, eps + at, g + at, in[0].shape[1],
                         out[0].reals + at, out[1].reals + at, out[2].reals + at);
}

/* Arguments tau, phi, nu, rho, budget, eps, g: nu moves no gradient. */
static void run_mean_kl_backward_around(const Array *in, Array *out)
{
    const Array around_0[] = {in[0], in[1], in[3], in[4], in[5], in[6]};

    need_same_shape(&in[2], &in[0]);
    run_mean_kl_backward(around_0, out);
}

/* D5: w = mu + sigma eps. */
static void run_mean_var_forward(const Array *in, Array *out)
{
    const double *mu = as_reals(&in[0]), *log_sigma = as_reals(&in[1]), *eps = as_reals(&in[2]);

    need_blocks(in, 3);
    out[0] = array_like(FLOAT64, &in[0]);
    for (size_t i = 0; i < in[0].size; i++)
        out[0].reals[i] = mu[i] + exp(log_sigma[i]) * eps[i];
}

/* D(23), P around nu; arguments mu, log_sigma, nu, rho, beta (of each block), eps, g. */
static void run_mean_var_backward_around(const Array *in, Array *out)
{
    const double *mu = as_reals(&in[0]), *log_sigma = as_reals(&in[1]), *nu = as_reals(&in[2]);
    const double *rho = as_reals(&in[3]), *beta = as_reals(&in[4]), *eps = as_reals(&in[5]);
    const double *g = as_reals(&in[6]);

    need_blocks(in, 4);
    need_same_shape(&in[5], &in[0]);
    need_same_shape(&in[6], &in[0]);
    need_rank(&in[4], 1);
    need_size(&in[4], in[0].shape[0]);
    for (int i = 0; i < 3; i++)
        out[i] = array_like(FLOAT64, &in[0]);
    for (size_t i = 0; i < in[0].size; i++) {
        double b = beta[i / in[0].shape[1]];
        double sigma = exp(log_sigma[i]), delta = (mu[i] - nu[i]) / rho[i];
        double s = sigma / rho[i] * (sigma / rho[i]);

        out[0].reals[i] = g[i] + b * delta / rho[i];
        out[1].reals[i] = g[i] * sigma * eps[i] + b * (s - 1.0);
        out[2].reals[i] = b * (1.0 - s - delta * delta);
    }
}

/* The same around 0; arguments mu, log_sigma, rho, beta, eps, g. */
static void run_mean_var_backward(const Array *in, Array *out)
{
    Array around[] = {in[0], in[1], array_like(FLOAT64, &in[0]), in[2], in[3], in[4], in[5]};

    for (size_t i = 0; i < in[0].size; i++)
        around[2].reals[i] = 0.0;
    run_mean_var_backward_around(around, out);
}

/* D(31); arguments variables, places, signs. */
static void run_expand_hash(const Array *in, Array *out)
{
    const double *values = as_reals(&in[0]), *signs = as_reals(&in[2]);
    const int64_t *places = as_ints(&in[1], 0, (int64_t)in[0].size - 1);

    need_same_shape(&in[2], &in[1]);
    out[0] = array_like(FLOAT64, &in[1]);
    for (size_t i = 0; i < in[1].size; i++)
        out[0].reals[i] = signs[i] * values[places[i]];
}

/* D(32); arguments g, places, signs, count. */
static void run_expand_hash_backward(const Array *in, Array *out)
{
    const double *g = as_reals(&in[0]), *signs = as_reals(&in[2]);
    int64_t count = as_int(&in[3], 0, (int64_t)1 << 27);
    const int64_t *places = as_ints(&in[1], 0, count - 1);

    need_same_shape(&in[1], &in[0]);
    need_same_shape(&in[2], &in[0]);
    out[0] = array_vector(FLOAT64, (size_t)count);
    for (size_t i = 0; i < in[0].size; i++)
        out[0].reals[places[i]] += signs[i] * g[i];
}

/* --- layers, forward */

static Extent extent_of(const Array *x)
{
    Extent e = {x->shape[0], x->shape[1], x->shape[2], x->shape[3]};

    need_rank(x, 4);
    return e;
}

static void run_images(const Array *in, Array *out)
{
    const uint8_t *pixels = as_bytes(&in[0]);
    size_t batch = in[0].shape[0], size = in[0].shape[1] * in[0].shape[2];
    size_t shape[4] = {1, in[0].shape[1], in[0].shape[2], batch};

    need_rank(&in[0], 3);
    out[0] = array_new(FLOAT64, 4, shape);
    for (size_t n = 0; n < batch; n++)
        for (size_t i = 0; i < size; i++)
            out[0].reals[i * batch + n] = image_value(pixels[n * size + i]);
}

static void run_conv2d(const Array *in, Array *out)
{
    const double *x = as_reals(&in[0]), *w = as_reals(&in[1]), *b = as_reals(&in[2]);
    Extent e = extent_of(&in[0]);
    const size_t *kernel = in[1].shape; /* height, width, in, out */
    size_t shape[4];

    need_rank(&in[1], 4);
    need_rank(&in[2], 1);
    need_size(&in[2], kernel[3]);
    if (kernel[2] != e.channels || kernel[0] < 1 || kernel[1] < 1 || kernel[0] > e.height
        || kernel[1] > e.width)
        fail("the kernel does not fit the image");
    shape[0] = kernel[3];
    shape[1] = e.height - kernel[0] + 1;
    shape[2] = e.width - kernel[1] + 1;
    shape[3] = e.batch;
    out[0] = array_new(FLOAT64, 4, shape);
    conv2d(x, e, w, b, kernel[0], kernel[1], kernel[3], out[0].reals);
}

static void run_maxpool2d(const Array *in, Array *out)
{
    const double *x = as_reals(&in[0]);
    Extent e = extent_of(&in[0]);
    size_t shape[4] = {e.channels, e.height / 2, e.width / 2, e.batch};

    out[0] = array_new(FLOAT64, 4, shape);
    if (out[0].size > 0)
        maxpool2d(x, e, out[0].reals);
}

static void run_relu(const Array *in, Array *out)
{
    out[0] = map(&in[0], relu);
}

static void run_dense(const Array *in, Array *out)
{
    const double *x = as_reals(&in[0]), *w = as_reals(&in[1]), *b = as_reals(&in[2]);
    size_t inputs = in[1].shape[0], shape[2] = {in[1].shape[1], in[0].shape[1]};

    need_rank(&in[0], 2);
    need_rank(&in[1], 2);
    need_rank(&in[2], 1);
    need_size(&in[2], shape[0]);
    if (in[0].shape[0] != inputs)
        fail("x has %lu features; w takes %lu", (unsigned long)in[0].shape[0],
             (unsigned long)inputs);
    out[0] = array_new(FLOAT64, 2, shape);
    dense(x, w, b, inputs, shape[0], shape[1], out[0].reals);
}

/* --- coding */

static void run_log_weights(const Array *in, Array *out)
{
    const double *z = as_reals(&in[0]), *delta = as_reals(&in[1]), *logarithm = as_reals(&in[2]);
    double *narrowness = allocate(in[2].size, sizeof *narrowness);
    size_t shape[2] = {in[1].shape[0], in[0].shape[0]}, size = in[0].shape[1];

    need_rank(&in[0], 2);
    need_blocks(in + 1, 2);
    if (in[1].shape[1] != size)
        fail("candidates and blocks differ in size");
    for (size_t i = 0; i < in[2].size; i++)
        narrowness[i] = expm1(-logarithm[i]);
    out[0] = array_new(FLOAT64, 2, shape);
    for (size_t i = 0; i < out[0].size; i++) {
        size_t block = i / shape[1] * size, candidate = i % shape[1] * size;

        out[0].reals[i] = log_weight(z + candidate, delta + block, logarithm + block,
                                     narrowness + block, size);
    }
}

#define POSTERIOR "tau phi rho budget eps"
#define AROUND "tau phi nu rho budget eps"

const Operation operations_reals[] = {
    {"normal_quantile", "p", "z", run_normal_quantile},
    {"log_s", "x", "log_s", run_log_s},
    {"ds_dx", "x", "slope", run_ds_dx},
    {"gaussian_kl", "delta log_s", "kl", run_gaussian_kl},
    {"mean_kl", "tau phi budget", "delta log_s", run_mean_kl},
    {"mean_kl_forward", POSTERIOR, "w", run_mean_kl_forward},
    {"mean_kl_backward", POSTERIOR " g", "dtau dphi dlog_rho", run_mean_kl_backward},
    {"mean_var_forward", "mu log_sigma eps", "w", run_mean_var_forward},
    {"mean_var_backward", "mu log_sigma rho beta eps g", "dmu dlog_sigma dlog_rho",
     run_mean_var_backward},
    {"mean_kl_forward_around", AROUND, "w", run_mean_kl_forward_around},
    {"mean_kl_backward_around", AROUND " g", "dtau dphi dlog_rho", run_mean_kl_backward_around},
    {"mean_var_backward_around", "mu log_sigma nu rho beta eps g", "dmu dlog_sigma dlog_rho",
     run_mean_var_backward_around},
    {"expand_hash", "variables places signs", "w", run_expand_hash},
    {"expand_hash_backward", "g places signs count", "dvariables", run_expand_hash_backward},
    {"log_weights", "candidates delta log_s", "log_w", run_log_weights},
    {"images", "pixels", "x", run_images},
    {"conv2d", "x w b", "y", run_conv2d},
    {"maxpool2d", "x", "y", run_maxpool2d},
    {"relu", "x", "y", run_relu},
    {"dense", "x w b", "y", run_dense},
    {NULL, NULL, NULL, NULL},
};
