/* The forward pass of any network that a file describes, in plain loops: section 3.2.
 *
 * One image at a time.  A list has two rooms, each for as many values as the largest layer gives; the
 * lists of a residual have their own, so that its input is still there for the second of them.
 */
#include <math.h>
#include <string.h>

#include "refmiracle.h"

enum { LISTS = MOST_NESTED + 1 };

typedef struct {
    const Layer *next;
    const double *weights; /* of the next tensor; tensors stand one behind the other */
    double *x[LISTS], *y[LISTS];
} Pass;

static const double *take(Pass *pass, size_t count)
{
    const double *tensor = pass->weights;

    pass->weights += count;
    return tensor;
}

/* The sum of what output o reads around (top, left); the map is 0 outside. */
static double correlate(const double *x, Extent e, const uint32_t *numbers, const double *w, size_t o,
                        int64_t top, int64_t left)
{
    size_t kh = numbers[0], kw = numbers[1], outputs = numbers[5], fan = e.channels / numbers[4];
    const double *group = x + o / (outputs / numbers[4]) * fan * e.height * e.width;
    double sum = 0.0;

    for (size_t u = 0; u < kh; u++)
        for (size_t v = 0; v < kw; v++) {
            int64_t row = top + (int64_t)u, column = left + (int64_t)v;

            if (row < 0 || column < 0 || row >= (int64_t)e.height || column >= (int64_t)e.width)
                continue;
            for (size_t c = 0; c < fan; c++)
                sum += w[((u * kw + v) * fan + c) * outputs + o]
                       * group[(c * e.height + (size_t)row) * e.width + (size_t)column];
        }
    return sum;
}

static Extent convolve(Pass *pass, const uint32_t *numbers, const double *x, Extent e, double *y)
{
    size_t kh = numbers[0], kw = numbers[1], stride = numbers[2], padding = numbers[3];
    size_t outputs = numbers[5];
    const double *w = take(pass, kh * kw * (e.channels / numbers[4]) * outputs);
    const double *b = take(pass, outputs);
    Extent after = {outputs, (e.height + 2 * padding - kh) / stride + 1,
                    (e.width + 2 * padding - kw) / stride + 1, 1};

    for (size_t o = 0; o < outputs; o++)
        for (size_t i = 0; i < after.height; i++)
            for (size_t j = 0; j < after.width; j++)
                *y++ = b[o]
                       + correlate(x, e, numbers, w, o, (int64_t)(stride * i) - (int64_t)padding,
                                   (int64_t)(stride * j) - (int64_t)padding);
    return after;
}

static Extent mean_windows(size_t kh, size_t kw, const double *x, Extent e, double *y)
{
    Extent after = {e.channels, e.height / kh, e.width / kw, 1};

    for (size_t c = 0; c < e.channels; c++)
        for (size_t i = 0; i < after.height; i++)
            for (size_t j = 0; j < after.width; j++) {
                double sum = 0.0;

                for (size_t u = 0; u < kh; u++)
                    for (size_t v = 0; v < kw; v++)
                        sum += x[(c * e.height + i * kh + u) * e.width + j * kw + v];
                *y++ = sum / (double)(kh * kw);
            }
    return after;
}

static void normalise(Pass *pass, size_t groups, const double *x, Extent e, double *y)
{
    const double *gain = take(pass, e.channels), *bias = take(pass, e.channels);
    size_t places = e.height * e.width, count = e.channels / groups * places;

    for (size_t first = 0; first < e.channels * places; first += count) {
        double mean = 0.0, variance = 0.0, scale;

        for (size_t i = 0; i < count; i++)
            mean += x[first + i] / (double)count;
        for (size_t i = 0; i < count; i++)
            variance += (x[first + i] - mean) * (x[first + i] - mean) / (double)count;
        /* By an infinite deviation the bias alone would be left, without a word. */
        scale = isfinite(variance) ? 1.0 / sqrt(variance + 1e-5) : NAN;
        for (size_t i = first; i < first + count; i++)
            y[i] = (1.0 + gain[i / places]) * (x[i] - mean) * scale + bias[i / places];
    }
}

static Extent connect(Pass *pass, size_t outputs, const double *x, Extent e, double *y)
{
    const double *w = take(pass, e.channels * outputs), *b = take(pass, outputs);
    Extent after = {outputs, 1, 1, 1};

    dense(x, w, b, e.channels, outputs, 1, y);
    return after;
}

static Extent pass_list(Pass *pass, uint32_t count, int depth, Extent e);

/* The body's output waits in y while the shortcut takes the same input. */
static Extent add_both(Pass *pass, const uint32_t *numbers, int depth, Extent e)
{
    size_t size = elements(e);
    Extent after = e;

    for (int side = 0; side < 2; side++) {
        memcpy(pass->x[depth + 1], pass->x[depth], size * sizeof(double));
        after = pass_list(pass, numbers[side], depth + 1, e);
        for (size_t i = 0; i < elements(after); i++)
            pass->y[depth][i] = (side ? pass->y[depth][i] : 0.0) + pass->x[depth + 1][i];
    }
    return after;
}

static Extent pass_layer(Pass *pass, const Layer *layer, int depth, Extent e)
{
    const uint32_t *numbers = layer->numbers;
    double *x = pass->x[depth], *y = pass->y[depth];
    Extent column = {elements(e), 1, 1, 1}, half = {e.channels, e.height / 2, e.width / 2, 1};
    int whole = numbers[0] == 0; /* of a mean: the whole map */

    switch (layer->opcode) {
    case CONV:
        return convolve(pass, numbers, x, e, y);
    case DENSE:
        return connect(pass, numbers[0], x, e, y);
    case MAXIMUM:
        maxpool2d(x, e, y);
        return half;
    case MEAN:
        return mean_windows(whole ? e.height : numbers[0], whole ? e.width : numbers[1], x, e, y);
    case NORM:
        normalise(pass, numbers[0], x, e, y);
        return e;
    case RESIDUAL:
        return add_both(pass, numbers, depth, e);
    default:
        for (size_t i = 0; i < elements(e); i++)
            y[i] = layer->opcode == RELU ? relu(x[i]) : x[i];
        return layer->opcode == RELU ? e : column;
    }
}

/* Pass x of this depth through a list, and leave there what it gives. */
static Extent pass_list(Pass *pass, uint32_t count, int depth, Extent e)
{
    for (; count > 0; count--) {
        double *x = pass->x[depth];

        e = pass_layer(pass, pass->next++, depth, e);
        pass->x[depth] = pass->y[depth];
        pass->y[depth] = x;
    }
    return e;
}

void predict_described(const Network *network, const float *weights, const uint8_t *pixels,
                       size_t images, double *logits)
{
    Pass pass = {NULL, NULL, {NULL}, {NULL}};
    Extent e = {network->image[0], network->image[1], network->image[2], 1};
    double *wide = allocate(network->weights, sizeof *wide);
    size_t size = elements(e);

    for (size_t i = 0; i < network->weights; i++)
        wide[i] = weights[i];
    for (int depth = 0; depth <= network->depth; depth++) {
        pass.x[depth] = allocate(network->largest, sizeof(double));
        pass.y[depth] = allocate(network->largest, sizeof(double));
    }
    for (size_t n = 0; n < images; n++) {
        pass.next = network->layer;
        pass.weights = wide;
        for (size_t i = 0; i < size; i++)
            pass.x[0][i] = image_value(pixels[n * size + i]);
        pass_list(&pass, network->layers, 0, e);
        for (size_t k = 0; k < network->classes; k++)
            logits[k * images + n] = pass.x[0][k];
    }
}
