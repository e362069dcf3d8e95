/* The forward passes of networks 1 and 2 in float32, their weights read out of the variables: section 3.2.
 *
 * Each weight is looked up once for an image: a layer goes through its outputs, and for each through all
 * that it takes.
 */
#include "device.h"

enum { LENET5 = 1, SIDE = 28, KERNEL = 5 };

/* The weights of one tensor as an output unit sees them. */
typedef struct {
    const Model *model;
    const float *values;
    int tensor;
    uint32_t output, outputs;
    int negated; /* where signs are those of units */
} Unit;

static Unit unit_of(const Device *device, int tensor, uint32_t output)
{
    const Model *model = &device->model;
    Unit unit = {model, device->variables, tensor, output, model->network->tensor[tensor].outputs, 0};

    for (int t = 0; t < tensor; t++)
        unit.values += tensor_variables(model, t);
    unit.negated = model->signs == UNIT && is_negated(model, tensor, output);
    return unit;
}

/* The weight from input `input` of the unit. */
static float weight(const Unit *unit, uint32_t input)
{
    uint32_t i = input * unit->outputs + unit->output;
    float value = unit->values[variable_of_weight(unit->model, unit->tensor, i)];
    int negated =
        unit->model->signs == WEIGHT ? is_negated(unit->model, unit->tensor, i) : unit->negated;

    return negated ? -value : value;
}

static float bias(const Device *device, int tensor, uint32_t output)
{
    Unit unit = unit_of(device, tensor + 1, output);

    return weight(&unit, 0);
}

static float at_least_zero(float x)
{
    return x < 0.0f ? 0.0f : x;
}

static void dense_layer(const Device *device, int tensor, const float *x, uint32_t inputs, float *y)
{
    uint32_t outputs = device->model.network->tensor[tensor].outputs;

    for (uint32_t o = 0; o < outputs; o++) {
        Unit unit = unit_of(device, tensor, o);

        y[o] = bias(device, tensor, o);
        for (uint32_t a = 0; a < inputs; a++)
            y[o] += weight(&unit, a) * x[a];
    }
}

static void relu_layer(float *x, size_t size)
{
    for (size_t i = 0; i < size; i++)
        x[i] = at_least_zero(x[i]);
}

/* One plane of the convolution: side - 4 squared sums. */
static void convolve(const Unit *unit, const float *x, uint32_t channels, uint32_t side, float first,
                     float *plane)
{
    uint32_t out = side - KERNEL + 1;

    for (uint32_t i = 0; i < out * out; i++)
        plane[i] = first;
    for (uint32_t tap = 0; tap < KERNEL * KERNEL * channels; tap++) {
        uint32_t c = tap % channels, v = tap / channels % KERNEL, u = tap / channels / KERNEL;
        const float *from = x + (c * side + u) * side + v;
        float w = weight(unit, tap);

        for (uint32_t i = 0; i < out; i++)
            for (uint32_t j = 0; j < out; j++)
                plane[i * out + j] += w * from[i * side + j];
    }
}

/* A convolution, the largest of each 2 x 2 of its values, and ReLU. */
static void convolution_layer(Device *device, int tensor, const float *x, uint32_t channels,
                              uint32_t side, float *y)
{
    uint32_t outputs = device->model.network->tensor[tensor].outputs, out = side - KERNEL + 1;

    for (uint32_t o = 0; o < outputs; o++) {
        Unit unit = unit_of(device, tensor, o);

        convolve(&unit, x, channels, side, bias(device, tensor, o), device->plane);
        for (uint32_t i = 0; i < out; i += 2)
            for (uint32_t j = 0; j < out; j += 2) {
                const float *at = device->plane + i * out + j;
                float above = at[0] > at[1] ? at[0] : at[1];
                float below = at[out] > at[out + 1] ? at[out] : at[out + 1];

                *y++ = at_least_zero(above > below ? above : below);
            }
    }
}

static void forward(Device *device, float *logits)
{
    float *wide = device->wide, *narrow = device->narrow; /* the image stands in `narrow` */

    if (device->model.network->number == LENET5) {
        convolution_layer(device, 0, narrow, 1, SIDE, wide);
        convolution_layer(device, 2, wide, 20, 12, narrow);
        dense_layer(device, 4, narrow, 800, wide);
        relu_layer(wide, 500);
        dense_layer(device, 6, wide, 500, logits);
        return;
    }
    dense_layer(device, 0, narrow, SIDE * SIDE, wide);
    relu_layer(wide, 300);
    dense_layer(device, 2, wide, 300, narrow);
    relu_layer(narrow, 100);
    dense_layer(device, 4, narrow, 100, logits);
}

int device_classify(Device *device, const uint8_t *pixels)
{
    float logits[MOST_CLASSES];
    int best = 0;

    for (uint32_t i = 0; i < SIDE * SIDE; i++)
        device->narrow[i] = (float)pixels[i] / 255.0f - 0.5f;
    forward(device, logits);
    for (int k = 1; k < MOST_CLASSES; k++)
        if (logits[k] > logits[best])
            best = k;
    return best;
}
