/* Networks that a file describes: section 3.1.  First the numbers are read, then the shapes checked.
 *
 * No number decides how much memory is taken: there is room for the most layers and tensors there are.
 */
#include "refmiracle.h"

enum { MOST_LAYERS = 256, LARGEST_BYTES = 4096, LARGEST_NUMBER = 65535 };
static const uint64_t most_values = (uint64_t)1 << 24, most_weights = (uint64_t)1 << 22;
static const int numbers_of[KINDS] = {0, 6, 1, 0, 0, 2, 1, 0, 0};

typedef struct {
    const uint8_t *body;
    size_t size, start, offset;
    uint32_t counted;  /* layers of all lists so far */
    int layers, depth; /* those of them that were read; of their residuals the deepest */
    Layer layer[MOST_LAYERS];
} Reader;

/* One or three axes; (channels, height, width) has three. */
typedef struct {
    int axes;
    uint64_t side[3];
} Shape;

typedef struct {
    const Layer *next;
    Tensor *tensor;
    int tensors;
    uint64_t weights, largest; /* values of an image behind any layer */
} Checker;

/* --- rules 1 to 3 */

static uint32_t take_number(Reader *reader)
{
    uint32_t value = take_varint(reader->body, reader->size, &reader->offset);

    if (reader->offset - reader->start > LARGEST_BYTES)
        fail("the network's description has more than %d bytes", LARGEST_BYTES);
    if (value > LARGEST_NUMBER)
        fail("a number of the network's description is above %d", LARGEST_NUMBER);
    return value;
}

/* Return the length of the list. */
static uint32_t take_list(Reader *reader, int depth)
{
    uint32_t count = take_number(reader);

    reader->counted += count;
    if (reader->counted > MOST_LAYERS)
        fail("the network has more than %d layers", MOST_LAYERS);
    for (uint32_t i = 0; i < count; i++) {
        Layer *layer = &reader->layer[reader->layers++];

        layer->opcode = take_number(reader);
        if (layer->opcode < CONV || layer->opcode > RESIDUAL)
            fail("opcode %lu of a layer is unknown", (unsigned long)layer->opcode);
        for (int k = 0; k < numbers_of[layer->opcode]; k++)
            layer->numbers[k] = take_number(reader);
        if (layer->opcode != RESIDUAL)
            continue;
        if (depth == MOST_NESTED)
            fail("residuals stand more than %d deep", MOST_NESTED);
        if (depth == reader->depth)
            reader->depth++;
        layer->numbers[0] = take_list(reader, depth + 1);
        layer->numbers[1] = take_list(reader, depth + 1);
    }
    return count;
}

/* --- rules 4 to 7; what is larger than there may be ends the work at once, so no product overflows */

static void need(int right, const char *layer)
{
    if (!right)
        fail("%s of the network does not fit what it is given", layer);
}

static uint64_t values(const Shape *shape)
{
    return shape->side[0] * shape->side[1] * shape->side[2];
}

static void check_values(const Shape *shape)
{
    if (values(shape) > most_values)
        fail("an image has more than 2^24 values within the network");
}

static void set_vector(Shape *shape, uint64_t size)
{
    shape->axes = 1;
    shape->side[0] = size;
    shape->side[1] = shape->side[2] = 1;
}

static void add_tensor(Checker *checker, const char *name, uint64_t weights, uint64_t outputs)
{
    Tensor *tensor = &checker->tensor[checker->tensors++];

    if (weights > most_weights - checker->weights)
        fail("the network has more than 2^22 weights");
    checker->weights += weights;
    tensor->name = name;
    tensor->weights = (uint32_t)weights;
    tensor->outputs = (uint32_t)outputs;
}

static void convolve_shape(Checker *checker, const uint32_t *numbers, Shape *shape)
{
    const uint64_t kh = numbers[0], kw = numbers[1], stride = numbers[2], padding = numbers[3];
    const uint64_t groups = numbers[4], outputs = numbers[5], channels = shape->side[0];
    const uint64_t height = shape->side[1] + 2 * padding, width = shape->side[2] + 2 * padding;

    need(shape->axes == 3 && kh >= 1 && kw >= 1 && stride >= 1 && outputs >= 1, "a convolution");
    need(padding < kh && padding < kw, "the padding of a convolution");
    need((groups == 1 || groups == channels) && outputs % groups == 0, "the groups of a convolution");
    need(height >= kh && width >= kw, "the kernel of a convolution");
    need(channels * height * width <= most_values, "a map with the zeros of a convolution");
    add_tensor(checker, "a kernel", kh * kw * (channels / groups) * outputs, outputs);
    add_tensor(checker, "a bias of a convolution", outputs, outputs);
    shape->side[0] = outputs;
    shape->side[1] = (height - kh) / stride + 1;
    shape->side[2] = (width - kw) / stride + 1;
}

static void dense_shape(Checker *checker, const uint32_t *numbers, Shape *shape)
{
    uint64_t outputs = numbers[0];

    need(shape->axes == 1 && outputs >= 1, "a dense layer");
    add_tensor(checker, "a matrix", shape->side[0] * outputs, outputs);
    add_tensor(checker, "a bias of a dense layer", outputs, outputs);
    set_vector(shape, outputs);
}

static void pool_shape(uint64_t kh, uint64_t kw, Shape *shape)
{
    need(shape->axes == 3, "a pool");
    need(kh >= 1 && kw >= 1 && kh <= shape->side[1] && kw <= shape->side[2], "a window");
    shape->side[1] /= kh;
    shape->side[2] /= kw;
}

static void norm_shape(Checker *checker, const uint32_t *numbers, const Shape *shape)
{
    uint64_t channels = shape->side[0];

    need(shape->axes == 3 && numbers[0] >= 1 && channels % numbers[0] == 0, "a group norm");
    add_tensor(checker, "a gain", channels, channels);
    add_tensor(checker, "a bias of a group norm", channels, channels);
}

static void list_shape(Checker *checker, uint32_t count, Shape *shape);

static void residual_shape(Checker *checker, const uint32_t *numbers, Shape *shape)
{
    Shape shortcut = *shape;

    list_shape(checker, numbers[0], shape);
    list_shape(checker, numbers[1], &shortcut);
    need(shape->axes == shortcut.axes, "a residual");
    for (int i = 0; i < 3; i++)
        need(shape->side[i] == shortcut.side[i], "a residual");
}

/* Put the shape that the next layers give in the place of the one that they take. */
static void list_shape(Checker *checker, uint32_t count, Shape *shape)
{
    for (; count > 0; count--) {
        const Layer *layer = checker->next++;
        const uint32_t *numbers = layer->numbers;
        int whole = numbers[0] == 0 && numbers[1] == 0; /* of a mean: the whole map */

        if (layer->opcode == CONV)
            convolve_shape(checker, numbers, shape);
        else if (layer->opcode == DENSE)
            dense_shape(checker, numbers, shape);
        else if (layer->opcode == FLATTEN)
            set_vector(shape, values(shape));
        else if (layer->opcode == MAXIMUM)
            pool_shape(2, 2, shape);
        else if (layer->opcode == MEAN)
            pool_shape(whole ? shape->side[1] : numbers[0], whole ? shape->side[2] : numbers[1], shape);
        else if (layer->opcode == NORM)
            norm_shape(checker, numbers, shape);
        else if (layer->opcode == RESIDUAL)
            residual_shape(checker, numbers, shape);
        check_values(shape);
        if (values(shape) > checker->largest)
            checker->largest = values(shape);
    }
}

const Network *read_description(const uint8_t *body, size_t size, size_t *offset)
{
    Reader *reader = allocate(1, sizeof *reader);
    Checker checker = {reader->layer, allocate(MOST_TENSORS, sizeof(Tensor)), 0, 0, 0};
    Network *network = allocate(1, sizeof *network);
    Shape shape = {3, {0, 0, 0}};
    uint32_t classes, count;

    reader->body = body;
    reader->size = size;
    reader->start = reader->offset = *offset;
    for (int i = 0; i < 3; i++)
        shape.side[i] = take_number(reader);
    classes = take_number(reader);
    count = take_list(reader, 0);
    *offset = reader->offset;
    if (values(&shape) == 0)
        fail("the network takes images without a pixel");
    check_values(&shape);
    checker.largest = values(&shape);
    for (int i = 0; i < 3; i++)
        network->image[i] = (size_t)shape.side[i];
    if (classes < 2)
        fail("the network has fewer than 2 classes");
    list_shape(&checker, count, &shape);
    if (checker.tensors == 0)
        fail("the network has no weights");
    if (shape.axes != 1 || shape.side[0] != classes)
        fail("the network does not end with its %lu classes", (unsigned long)classes);
    network->number = DESCRIBED;
    network->tensors = checker.tensors;
    network->weights = (size_t)checker.weights;
    network->tensor = checker.tensor;
    network->classes = classes;
    network->layers = count;
    network->layer = reader->layer;
    network->largest = (size_t)checker.largest;
    network->depth = reader->depth;
    return network;
}
