/* The network's tensors, and where each weight finds its variable: sections 3, 7 and 8. */
#include <math.h>

#include "refmiracle.h"

static const Tensor lenet5[] = {
    {"conv1.weight", 500, 20},      {"conv1.bias", 20, 20},    {"conv2.weight", 25000, 50},
    {"conv2.bias", 50, 50},         {"dense1.weight", 400000, 500}, {"dense1.bias", 500, 500},
    {"dense2.weight", 5000, 10},    {"dense2.bias", 10, 10},
};
static const Tensor lenet_300_100[] = {
    {"dense1.weight", 235200, 300}, {"dense1.bias", 300, 300}, {"dense2.weight", 30000, 100},
    {"dense2.bias", 100, 100},      {"dense3.weight", 1000, 10}, {"dense3.bias", 10, 10},
};
static const Network networks[] = {
    {1, 8, 431080, lenet5, {1, 28, 28}, 10, 0, NULL, 0, 0},
    {2, 6, 266610, lenet_300_100, {1, 28, 28}, 10, 0, NULL, 0, 0},
};

const Network *find_network(uint32_t number)
{
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++)
        if (networks[i].number == number)
            return &networks[i];
    fail("network %lu is unknown", (unsigned long)number);
}

/* Section 7.1: rounded up, tensor by tensor. */
size_t tensor_variables(const Model *model, int tensor)
{
    uint32_t weights = model->network->tensor[tensor].weights, factor = model->factors[tensor];

    return weights / factor + (weights % factor != 0);
}

size_t variables(const Model *model)
{
    size_t sum = 0;

    for (int t = 0; t < model->network->tensors; t++)
        sum += tensor_variables(model, t);
    return sum;
}

/* Section 7.3. */
size_t blocks(const Model *model)
{
    return (variables(model) + model->block_size - 1) / model->block_size;
}

void check_layout(const Model *model)
{
    if (model->grouping > INPUTS || model->signs > WEIGHT)
        fail("grouping or signs are unknown");
    for (int t = 0; t < model->network->tensors; t++)
        if (model->factors[t] < 1 || model->factors[t] > model->network->tensor[t].weights)
            fail("the hash factor of %s is out of range", model->network->tensor[t].name);
    if (model->block_size < 1 || model->block_size > variables(model))
        fail("block size %lu is out of range", (unsigned long)model->block_size);
}

/* Section 8.2: the signs of one tensor's weights. */
static void draw_signs(const Model *model, int tensor, int8_t *signs)
{
    uint32_t weights = model->network->tensor[tensor].weights;
    uint32_t period = model->signs == UNIT ? model->network->tensor[tensor].outputs : weights;
    uint32_t *words;

    for (uint32_t i = 0; i < weights; i++)
        signs[i] = 1;
    if (model->factors[tensor] == 1 || model->signs == NO_SIGNS)
        return;
    words = allocate(period, sizeof *words);
    stream_words(model->seed, SIGNS, (uint32_t)tensor, 0, period, words);
    for (uint32_t i = 0; i < weights; i++)
        if (words[i % period] >> 31)
            signs[i] = -1;
}

/* Sections 7.2 and 8.1. */
void place_weights(const Model *model, uint32_t *places, int8_t *signs)
{
    size_t count = variables(model), first = 0;
    uint32_t *permutation = allocate(count, sizeof *permutation);
    uint32_t *place = allocate(count, sizeof *place); /* of each variable */

    stream_permutation(model->seed, PERMUTATION, 0, count, permutation);
    for (size_t p = 0; p < count; p++)
        place[permutation[p]] = (uint32_t)p;
    for (int t = 0; t < model->network->tensors; t++) {
        const Tensor *tensor = &model->network->tensor[t];
        uint32_t weights = tensor->weights, outputs = tensor->outputs;
        uint32_t inputs = weights / outputs;

        for (uint32_t i = 0; i < weights; i++) {
            uint32_t n = model->grouping == OUTPUTS ? i : i % outputs * inputs + i / outputs;

            *places++ = place[first + n / model->factors[t]];
        }
        draw_signs(model, t, signs);
        signs += weights;
        first += tensor_variables(model, t);
    }
}

/* The value of a float16, which float32 holds exactly. */
float float16(uint16_t pattern)
{
    int exponent = pattern >> 10 & 31, fraction = pattern & 1023;
    double value;

    if (exponent == 31)
        value = fraction == 0 ? INFINITY : NAN;
    else if (exponent == 0)
        value = ldexp(fraction, -24);
    else
        value = ldexp(1024 + fraction, exponent - 25);
    return (float)(pattern >> 15 ? -value : value);
}

/* Sections 7.3 to 7.5: the normals of all places. */
static float *draw_normals(const Model *model)
{
    size_t count = variables(model), size = model->block_size;
    float *normals = allocate(count, sizeof *normals);

    if (model->code >= AS_STAR) {
        for (size_t i = 0; i < count; i++)
            normals[i] = node_normal(model->code, model->seed, (uint32_t)i, model->messages[i]);
        return normals;
    }
    for (size_t first = 0, b = 0; first < count; first += size, b++) {
        size_t used = count - first < size ? count - first : size;

        if (model->code == SP_PFR)
            bin_row(model->seed, model->bits, (uint32_t)b, model->messages[b], size, used,
                    normals + first);
        else
            codebook_row(model->seed, (uint32_t)model->messages[b], used, normals + first);
    }
    return normals;
}

/* Section 8.3: one float32 product each. */
float *decode_model(const Model *model)
{
    size_t count = model->network->weights, i = 0;
    uint32_t *places = allocate(count, sizeof *places);
    int8_t *signs = allocate(count, sizeof *signs);
    float *normals = draw_normals(model);
    float *weights = allocate(count, sizeof *weights);

    place_weights(model, places, signs);
    for (int t = 0; t < model->network->tensors; t++) {
        float rho = float16(model->rho[t]);
        size_t end = i + model->network->tensor[t].weights;

        for (; i < end; i++) {
            float variable = rho * normals[places[i]];

            weights[i] = signs[i] < 0 ? -variable : variable;
        }
    }
    return weights;
}
