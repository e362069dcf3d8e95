/* The forward passes of networks 1 and 2 in plain loops: section 3.2.  The batch is the last axis, so that the
 * innermost loops run over neighbours.
 */
#include <math.h>
#include <string.h>

#include "refmiracle.h"

enum { IMAGE = 28 * 28, CLASSES = 10, HIDDEN = 500, AT_ONCE = 32, LENET5 = 1 };

size_t elements(Extent e)
{
    return e.channels * e.height * e.width * e.batch;
}

/* y += a x */
static void add_scaled(double a, const double *x, size_t size, double *y)
{
    for (size_t i = 0; i < size; i++)
        y[i] += a * x[i];
}

static void fill(double value, size_t size, double *y)
{
    for (size_t i = 0; i < size; i++)
        y[i] = value;
}

/* Row i of output o: columns and batch together are one run, as stride is 1. */
static void convolve_row(const double *x, Extent e, const double *w, size_t kh, size_t kw,
                         size_t outputs, size_t i, double *y)
{
    size_t run = (e.width - kw + 1) * e.batch;

    for (size_t u = 0; u < kh; u++)
        for (size_t v = 0; v < kw; v++)
            for (size_t c = 0; c < e.channels; c++) {
                const double *row = x + ((c * e.height + i + u) * e.width + v) * e.batch;

                add_scaled(w[((u * kw + v) * e.channels + c) * outputs], row, run, y);
            }
}

void conv2d(const double *x, Extent e, const double *w, const double *b, size_t kh, size_t kw,
            size_t outputs, double *y)
{
    size_t rows = e.height - kh + 1, run = (e.width - kw + 1) * e.batch;

    for (size_t o = 0; o < outputs; o++)
        for (size_t i = 0; i < rows; i++, y += run) {
            fill(b[o], run, y);
            convolve_row(x, e, w + o, kh, kw, outputs, i, y);
        }
}

/* Windows that do not overlap; an odd last row or column is in none. */
void maxpool2d(const double *x, Extent e, double *y)
{
    size_t rows = e.height / 2, columns = e.width / 2;

    for (size_t c = 0; c < e.channels; c++)
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < columns; j++)
                for (size_t n = 0; n < e.batch; n++) {
                    const double *at =
                        x + ((c * e.height + 2 * i) * e.width + 2 * j) * e.batch + n;
                    double largest = at[0];

                    for (size_t k = 1; k < 4; k++) {
                        double other = at[(k / 2 * e.width + k % 2) * e.batch];

                        if (other > largest || isnan(other))
                            largest = other;
                    }
                    *y++ = largest;
                }
}

double relu(double x)
{
    return x < 0.0 ? 0.0 : x;
}

void dense(const double *x, const double *w, const double *b, size_t inputs, size_t outputs,
           size_t batch, double *y)
{
    for (size_t o = 0; o < outputs; o++, y += batch) {
        fill(b[o], batch, y);
        for (size_t a = 0; a < inputs; a++)
            add_scaled(w[a * outputs + o], x + a * batch, batch, y);
    }
}

double image_value(uint8_t pixel)
{
    return pixel / 255.0 - 0.5;
}

static void relu_all(double *x, size_t size)
{
    for (size_t i = 0; i < size; i++)
        x[i] = relu(x[i]);
}

/* Activations for the activations of a batch. */
typedef struct {
    double image[IMAGE * AT_ONCE], conv[20 * 24 * 24 * AT_ONCE], pool[20 * 12 * 12 * AT_ONCE];
    double hidden[HIDDEN * AT_ONCE], second[HIDDEN * AT_ONCE], logits[CLASSES * AT_ONCE];
} Activations;

/* One batch from room->image to room->logits; w points to the tensors in order. */
static void forward_lenet5(Activations *room, double *const w[], size_t batch)
{
    Extent image = {1, 28, 28, batch}, conv1 = {20, 24, 24, batch};
    Extent pool1 = {20, 12, 12, batch}, conv2 = {50, 8, 8, batch}, pool2 = {50, 4, 4, batch};

    conv2d(room->image, image, w[0], w[1], 5, 5, 20, room->conv);
    maxpool2d(room->conv, conv1, room->pool);
    relu_all(room->pool, elements(pool1));
    conv2d(room->pool, pool1, w[2], w[3], 5, 5, 50, room->conv);
    maxpool2d(room->conv, conv2, room->pool);
    relu_all(room->pool, elements(pool2));
    /* Feature 16 c + 4 i + j is where it stands already. */
    dense(room->pool, w[4], w[5], elements(pool2) / batch, HIDDEN, batch, room->hidden);
    relu_all(room->hidden, HIDDEN * batch);
    dense(room->hidden, w[6], w[7], HIDDEN, CLASSES, batch, room->logits);
}

static void forward_300_100(Activations *room, double *const w[], size_t batch)
{
    dense(room->image, w[0], w[1], IMAGE, 300, batch, room->hidden);
    relu_all(room->hidden, 300 * batch);
    dense(room->hidden, w[2], w[3], 300, 100, batch, room->second);
    relu_all(room->second, 100 * batch);
    dense(room->second, w[4], w[5], 100, CLASSES, batch, room->logits);
}

size_t largest_logit(const double *logits, size_t stride, size_t classes)
{
    size_t best = 0;

    for (size_t k = 0; k < classes; k++) {
        if (!isfinite(logits[k * stride]))
            fail("a logit is not finite, so an image has no class");
        if (logits[k * stride] > logits[best * stride])
            best = k;
    }
    return best;
}

void predict(const Network *network, const float *weights, const uint8_t *pixels, size_t images,
             double *logits)
{
    double *wide, *w[MOST_TENSORS];
    Activations *room;

    if (network->number == DESCRIBED) {
        predict_described(network, weights, pixels, images, logits);
        return;
    }
    wide = allocate(network->weights, sizeof *wide);
    room = allocate(1, sizeof *room);
    for (size_t i = 0; i < network->weights; i++)
        wide[i] = weights[i];
    for (int t = 0; t < network->tensors; t++)
        w[t] = t == 0 ? wide : w[t - 1] + network->tensor[t - 1].weights;
    for (size_t first = 0; first < images; first += AT_ONCE) {
        size_t batch = images - first < AT_ONCE ? images - first : AT_ONCE;

        for (size_t n = 0; n < batch; n++)
            for (size_t i = 0; i < IMAGE; i++)
                room->image[i * batch + n] = image_value(pixels[(first + n) * IMAGE + i]);
        if (network->number == LENET5)
            forward_lenet5(room, w, batch);
        else
            forward_300_100(room, w, batch);
        for (size_t k = 0; k < CLASSES; k++)
            memcpy(logits + k * images + first, room->logits + k * batch, batch * sizeof *logits);
    }
}
