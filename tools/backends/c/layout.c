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
static const Layer lenet5_layers[] = {
    {CONV, {5, 5, 1, 0, 1, 20}}, {MAXIMUM, {0}}, {RELU, {0}},
    {CONV, {5, 5, 1, 0, 1, 50}}, {MAXIMUM, {0}}, {RELU, {0}},
    {FLATTEN, {0}}, {DENSE, {500}}, {RELU, {0}}, {DENSE, {10}},
};
static const Layer lenet_300_100_layers[] = {
    {FLATTEN, {0}}, {DENSE, {300}}, {RELU, {0}}, {DENSE, {100}}, {RELU, {0}}, {DENSE, {10}},
};
static const Network networks[] = {
    {1, 8, 431080, lenet5, {1, 28, 28}, 10, 10, lenet5_layers, 20 * 24 * 24, 0},
    {2, 6, 266610, lenet_300_100, {1, 28, 28}, 10, 6, lenet_300_100_layers, 28 * 28, 0},
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

void check_block_size(const Coding *coding)
{
    if (coding->block_size < 1 || coding->block_size > coding->variables)
        fail("block size %lu is out of range", (unsigned long)coding->block_size);
}

void check_layout(Model *model)
{
    if (model->grouping > INPUTS || model->signs > WEIGHT)
        fail("grouping or signs are unknown");
    for (int t = 0; t < model->network->tensors; t++)
        if (model->factors[t] < 1 || model->factors[t] > model->network->tensor[t].weights)
            fail("the hash factor of %s is out of range", model->network->tensor[t].name);
    model->coding.variables = variables(model);
    check_block_size(&model->coding);
}

/* Section 8.1. */
uint32_t variable_of_weight(const Model *model, int tensor, uint32_t i)
{
    uint32_t outputs = model->network->tensor[tensor].outputs;
    uint32_t inputs = model->network->tensor[tensor].weights / outputs;

    return (model->grouping == OUTPUTS ? i : i % outputs * inputs + i / outputs)
         / model->factors[tensor];
}

/* Section 8.2. */
int is_negated(const Model *model, int tensor, uint32_t i)
{
    uint32_t word;

    if (model->factors[tensor] == 1 || model->signs == NO_SIGNS)
        return 0;
    if (model->signs == UNIT)
        i %= model->network->tensor[tensor].outputs;
    stream_words(model->sign_seed, SIGNS, (uint32_t)tensor, i, 1, &word);
    return word >> 31;
}

/* Sections 7.2 and 8.1. */
void place_weights(const Model *model, uint32_t *places, int8_t *signs)
{
    size_t count = model->coding.variables, first = 0;
    uint32_t *permutation = allocate(count, sizeof *permutation);
    uint32_t *place = allocate(count, sizeof *place); /* of each variable */

    stream_permutation(model->coding.seed, PERMUTATION, 0, count, permutation);
    for (size_t p = 0; p < count; p++)
        place[permutation[p]] = (uint32_t)p;
    for (int t = 0; t < model->network->tensors; t++) {
        for (uint32_t i = 0; i < model->network->tensor[t].weights; i++) {
            *places++ = place[first + variable_of_weight(model, t, i)];
            *signs++ = is_negated(model, t, i) ? -1 : 1;
        }
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

void spread_variables(const Model *model, const float *variables, float *weights)
{
    for (int t = 0; t < model->network->tensors; t++) {
        for (uint32_t i = 0; i < model->network->tensor[t].weights; i++) {
            float variable = variables[variable_of_weight(model, t, i)];

            *weights++ = is_negated(model, t, i) ? -variable : variable;
        }
        variables += tensor_variables(model, t);
    }
}
