/* The forward pass of any network in float32, its weights read out of the variables: section 3.2.
 *
 * Each weight is looked up once for an image: a layer goes through its outputs, and for each through all
 * that it takes.  Convolutions and dense layers go from one room to another one; all other layers change
 * what they are given where it is.
 */
#include <math.h>

#include "device.h"

/* The values of one image between two layers; a vector is so many channels of one value each. */
typedef struct {
    int room;
    size_t channels, height, width;
} Map;

typedef struct {
    Device *device;
    const Layer *next;
    int tensor, booking; /* the next tensor; whether nothing but rooms is wanted */
    int holders[ROOMS]; /* whoever still needs what stands there: of a residual's input there are two */
} Pass;

static size_t values(Map map)
{
    return map.channels * map.height * map.width;
}

static float *at(const Pass *pass, Map map)
{
    return pass->device->room[map.room];
}

/* --- rooms */

static Map new_map(Pass *pass, size_t channels, size_t height, size_t width)
{
    Map map = {0, channels, height, width};

    if (values(map) > MOST_VALUES)
        fail("a map has %lu values; there is room for %lu", (unsigned long)values(map),
             (unsigned long)MOST_VALUES);
    while (map.room < ROOMS && pass->holders[map.room] != 0)
        map.room++;
    if (map.room == ROOMS)
        fail("its layers take more than %d rooms", ROOMS);
    pass->holders[map.room] = 1;
    return map;
}

static void leave(Pass *pass, Map map)
{
    pass->holders[map.room]--;
}

/* Return the same values where nobody else needs them. */
static Map own(Pass *pass, Map map)
{
    Map copy = map;

    if (pass->holders[map.room] == 1)
        return map;
    copy = new_map(pass, map.channels, map.height, map.width);
    for (size_t i = 0; i < values(map) && !pass->booking; i++)
        at(pass, copy)[i] = at(pass, map)[i];
    leave(pass, map);
    return copy;
}

/* --- weights */

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

/* The only weight of an output unit: a bias, or a gain. */
static float single(const Device *device, int tensor, uint32_t output)
{
    Unit unit = unit_of(device, tensor, output);

    return weight(&unit, 0);
}

/* --- layers; each lets go of the map that it is given */

/* The places of an output's row or column that read inside the map with a term: from *first up to *end. */
static void inside(size_t out, size_t size, size_t stride, int64_t shift, size_t *first, size_t *end)
{
    *first = shift < 0 ? ((size_t)-shift + stride - 1) / stride : 0;
    *end = (int64_t)size > shift ? (size_t)((int64_t)size - shift - 1) / stride + 1 : 0;
    if (*end > out)
        *end = out;
}

/* Add one term, a weight times what it reads, to an output's plane. */
static void add_term(float w, const float *x, Map from, size_t stride, int64_t down, int64_t right,
                     float *plane, size_t height, size_t width)
{
    size_t top, bottom, left, end;

    inside(height, from.height, stride, down, &top, &bottom);
    inside(width, from.width, stride, right, &left, &end);
    for (size_t i = top; i < bottom; i++) {
        const float *row = x + (size_t)((int64_t)(i * stride) + down) * from.width;

        for (size_t j = left; j < end; j++)
            plane[i * width + j] += w * row[(size_t)((int64_t)(j * stride) + right)];
    }
}

static void convolve_plane(const Pass *pass, const uint32_t *numbers, Map x, uint32_t output,
                           float *plane, size_t height, size_t width)
{
    uint32_t kw = numbers[1], fan = (uint32_t)x.channels / numbers[4];
    uint32_t group = output / (numbers[5] / numbers[4]), inputs = numbers[0] * kw * fan;
    int64_t padding = numbers[3];
    Unit unit = unit_of(pass->device, pass->tensor, output);
    float bias = single(pass->device, pass->tensor + 1, output);

    for (size_t i = 0; i < height * width; i++)
        plane[i] = bias;
    for (uint32_t tap = 0; tap < inputs; tap++) {
        uint32_t c = group * fan + tap % fan, v = tap / fan % kw, u = tap / fan / kw;

        add_term(weight(&unit, tap), at(pass, x) + c * x.height * x.width, x, numbers[2],
                 (int64_t)u - padding, (int64_t)v - padding, plane, height, width);
    }
}

/* NaN if either is. */
static float larger(float a, float b)
{
    return a > b || isnan(a) ? a : b;
}

/* The largest of each 2 x 2 values of a plane; `to` may be the plane itself. */
static void pool_plane(const float *plane, size_t height, size_t width, float *to)
{
    for (size_t i = 0; i + 1 < height; i += 2)
        for (size_t j = 0; j + 1 < width; j += 2) {
            const float *corner = plane + i * width + j;

            *to++ = larger(larger(corner[0], corner[1]), larger(corner[width], corner[width + 1]));
        }
}

/* A convolution, and the maximum pool behind it if there is one. */
static Map convolve(Pass *pass, const uint32_t *numbers, Map x, int pooled)
{
    size_t height = (x.height + 2 * (size_t)numbers[3] - numbers[0]) / numbers[2] + 1;
    size_t width = (x.width + 2 * (size_t)numbers[3] - numbers[1]) / numbers[2] + 1;
    Map y = pooled ? new_map(pass, numbers[5], height / 2, width / 2)
                   : new_map(pass, numbers[5], height, width);

    if (pooled && height * width > PLANE)
        fail("a map has %lu values before its pool; there is room for %lu",
             (unsigned long)(height * width), (unsigned long)PLANE);
    for (uint32_t o = 0; o < numbers[5] && !pass->booking; o++) {
        float *to = at(pass, y) + o * y.height * y.width;
        float *plane = pooled ? pass->device->plane : to;

        convolve_plane(pass, numbers, x, o, plane, height, width);
        if (pooled)
            pool_plane(plane, height, width, to);
    }
    pass->tensor += 2;
    leave(pass, x);
    return y;
}

static Map connect(Pass *pass, uint32_t outputs, Map x)
{
    Map y = new_map(pass, outputs, 1, 1);

    for (uint32_t o = 0; o < outputs && !pass->booking; o++) {
        Unit unit = unit_of(pass->device, pass->tensor, o);
        float sum = single(pass->device, pass->tensor + 1, o);

        for (uint32_t a = 0; a < x.channels; a++)
            sum += weight(&unit, a) * at(pass, x)[a];
        at(pass, y)[o] = sum;
    }
    pass->tensor += 2;
    leave(pass, x);
    return y;
}

static Map pool(Pass *pass, Map x)
{
    Map y = {x.room, x.channels, x.height / 2, x.width / 2};

    for (size_t c = 0; c < x.channels && !pass->booking; c++)
        pool_plane(at(pass, x) + c * x.height * x.width, x.height, x.width,
                   at(pass, y) + c * y.height * y.width);
    return y;
}

static Map mean_windows(Pass *pass, size_t kh, size_t kw, Map x)
{
    Map y = {x.room, x.channels, x.height / kh, x.width / kw};
    float *to = at(pass, y);

    for (size_t c = 0; c < x.channels && !pass->booking; c++)
        for (size_t i = 0; i < y.height; i++)
            for (size_t j = 0; j < y.width; j++) {
                float sum = 0.0f;

                for (size_t u = 0; u < kh; u++)
                    for (size_t v = 0; v < kw; v++)
                        sum += at(pass, x)[(c * x.height + i * kh + u) * x.width + j * kw + v];
                *to++ = sum / (float)(kh * kw);
            }
    return y;
}

/* The values of one group, of so many channels from `first` on. */
static void normalise_group(const Pass *pass, uint32_t first, size_t channels, size_t places, float *x)
{
    size_t count = channels * places;
    float mean = 0.0f, variance = 0.0f;

    for (size_t i = 0; i < count; i++)
        mean += x[i] / (float)count;
    for (size_t i = 0; i < count; i++)
        variance += (x[i] - mean) * (x[i] - mean) / (float)count;
    if (!isfinite(variance)) /* or all but the bias would be gone, without a word */
        variance = NAN;
    for (size_t c = 0; c < channels; c++, x += places) {
        uint32_t channel = first + (uint32_t)c;
        float gain = 1.0f + single(pass->device, pass->tensor, channel);
        float bias = single(pass->device, pass->tensor + 1, channel);

        for (size_t i = 0; i < places; i++)
            x[i] = gain * (x[i] - mean) / sqrtf(variance + 1e-5f) + bias;
    }
}

static void normalise(Pass *pass, uint32_t groups, Map x)
{
    size_t channels = x.channels / groups, places = x.height * x.width;

    for (uint32_t first = 0; first < x.channels && !pass->booking; first += (uint32_t)channels)
        normalise_group(pass, first, channels, places, at(pass, x) + first * places);
    pass->tensor += 2;
}

/* --- lists of layers */

static Map pass_list(Pass *pass, uint32_t count, Map x);

static Map add_both(Pass *pass, const uint32_t *numbers, Map x)
{
    Map body, shortcut;

    pass->holders[x.room]++;
    body = pass_list(pass, numbers[0], x);
    shortcut = pass_list(pass, numbers[1], x);
    if (pass->holders[body.room] > 1) { /* the sum goes where the shortcut is */
        Map other = body;

        body = own(pass, shortcut);
        shortcut = other;
    }
    for (size_t i = 0; i < values(body) && !pass->booking; i++)
        at(pass, body)[i] += at(pass, shortcut)[i];
    leave(pass, shortcut);
    return body;
}

/* A layer that changes a map of its own. */
static Map change(Pass *pass, const Layer *layer, Map x)
{
    const uint32_t *numbers = layer->numbers;
    int whole = numbers[0] == 0; /* of a mean: the whole map */

    switch (layer->opcode) {
    case MAXIMUM:
        return pool(pass, x);
    case MEAN:
        return mean_windows(pass, whole ? x.height : numbers[0], whole ? x.width : numbers[1], x);
    case NORM:
        normalise(pass, numbers[0], x);
        return x;
    default:
        for (size_t i = 0; i < values(x) && !pass->booking; i++)
            at(pass, x)[i] = at(pass, x)[i] < 0.0f ? 0.0f : at(pass, x)[i];
        return x;
    }
}

static Map pass_list(Pass *pass, uint32_t count, Map x)
{
    for (; count > 0; count--) {
        const Layer *layer = pass->next++;
        int pooled = count > 1 && layer->opcode == CONV && pass->next->opcode == MAXIMUM;

        if (layer->opcode == CONV)
            x = convolve(pass, layer->numbers, x, pooled);
        else if (layer->opcode == DENSE)
            x = connect(pass, layer->numbers[0], x);
        else if (layer->opcode == RESIDUAL)
            x = add_both(pass, layer->numbers, x);
        else if (layer->opcode == FLATTEN)
            x = (Map){x.room, values(x), 1, 1};
        else
            x = change(pass, layer, own(pass, x));
        if (pooled) {
            pass->next++;
            count--;
        }
    }
    return x;
}

size_t device_image(const Device *device)
{
    const Network *network = device->model.network;

    return network == NULL ? 0 : network->image[0] * network->image[1] * network->image[2];
}

static Map image_map(Pass *pass)
{
    const size_t *image = pass->device->model.network->image;

    return new_map(pass, image[0], image[1], image[2]);
}

void device_book_rooms(Device *device)
{
    const Network *network = device->model.network;
    Pass pass = {device, network->layer, 0, 1, {0}};

    pass_list(&pass, network->layers, image_map(&pass));
}

int device_classify(Device *device, const uint8_t *pixels)
{
    const Network *network = device->model.network;
    Pass pass = {device, NULL, 0, 0, {0}};
    const float *logits;
    int best = 0;
    Map x;

    if (network == NULL)
        return -1;
    pass.next = network->layer;
    x = image_map(&pass);
    for (size_t i = 0; i < values(x); i++)
        at(&pass, x)[i] = (float)pixels[i] / 255.0f - 0.5f;
    logits = at(&pass, pass_list(&pass, network->layers, x));
    for (int k = 0; k < (int)network->classes; k++) {
        if (!isfinite(logits[k]))
            return -1;
        if (logits[k] > logits[best])
            best = k;
    }
    return best;
}
