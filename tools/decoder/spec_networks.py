"""Networks that a file describes, in plain Python, written from docs/SPEC.md section 3 alone.

With `spec_decoder` this is a decoder of any file, and its forward pass: slow, and easy to hold
against the document.  It imports the standard library only.  Section numbers are those of SPEC.md.
"""

import itertools
import math

CONV, DENSE, FLATTEN, MAX_POOL, MEAN_POOL, NORM, RELU, RESIDUAL = range(1, 9)
NUMBERS = {CONV: 6, DENSE: 1, FLATTEN: 0, MAX_POOL: 0, MEAN_POOL: 2, NORM: 1, RELU: 0}
WORDS = {CONV: "conv", DENSE: "dense", NORM: "norm", RESIDUAL: "stage"}
MOST_VALUES, MOST_WEIGHTS = 2**24, 2**22


class InvalidNetworkError(ValueError):
    """The bytes are no valid description of a network."""


def require(condition, message):
    if not condition:
        raise InvalidNetworkError(message)


class Network:
    """Section 3.1: the numbers of a description, read and checked."""

    def __init__(self, data, start, read_varint):
        self.data, self.at, self.start, self.read_varint = data, start, start, read_varint
        self.count = 0
        *self.image, self.classes = (self.number() for _ in range(4))
        self.layers = self.list_of_layers(0)
        require(0 not in self.image and math.prod(self.image) <= MOST_VALUES, "images out of range")
        require(self.classes >= 2, "classes out of range")
        self.largest, self.with_zeros, self.tensors = 0, 0, []
        end = self.shape_of(self.layers, tuple(self.image), "")
        require(self.largest <= MOST_VALUES, "too many values")
        weights = sum(math.prod(shape) for _, shape in self.tensors)
        require(1 <= weights <= MOST_WEIGHTS, "weights out of range")
        require(self.with_zeros <= MOST_VALUES, "too many values")
        require(end == (self.classes,), "another end")

    def number(self):
        value, self.at = self.read_varint(self.data, self.at)
        require(self.at - self.start <= 4096, "more than 4096 bytes")
        require(value < 2**16, "a number is too large")
        return value

    def list_of_layers(self, depth):
        length = self.number()
        self.count += length
        require(self.count <= 256, "more than 256 layers")
        layers = []
        for _ in range(length):
            opcode = self.number()
            if opcode == RESIDUAL:
                require(depth < 4, "too deep")
                body = self.list_of_layers(depth + 1)
                layers.append((RESIDUAL, body, self.list_of_layers(depth + 1)))
            else:
                require(opcode in NUMBERS, "unknown opcode")
                layers.append((opcode, *(self.number() for _ in range(NUMBERS[opcode]))))
        return layers

    def shape_of(self, layers, shape, path):
        """Section 3.2: the shape behind a list; adds its tensors under their paths."""
        seen = dict.fromkeys(WORDS, 0)
        for layer in layers:
            opcode, *numbers = layer
            if opcode in WORDS:
                seen[opcode] += 1
                here = f"{path}{WORDS[opcode]}{seen[opcode]}."
            if opcode == RESIDUAL:
                body = self.shape_of(numbers[0], shape, here + "body.")
                require(body == self.shape_of(numbers[1], shape, here + "shortcut."), "no sum")
                shape = body
            else:
                before, shape = shape, output(opcode, numbers, shape)
                if opcode == CONV:
                    kh, kw, _, padding, groups, outputs = numbers
                    sides = before[1] + 2 * padding, before[2] + 2 * padding
                    self.with_zeros = max(self.with_zeros, before[0] * math.prod(sides))
                    kernel = (kh, kw, before[0] // groups, outputs)
                    self.tensors += [(here + "weight", kernel), (here + "bias", (outputs,))]
                elif opcode == DENSE:
                    matrix = (before[0], shape[0])
                    self.tensors += [(here + "weight", matrix), (here + "bias", shape)]
                elif opcode == NORM:
                    self.tensors += [(here + "gain", shape[:1]), (here + "bias", shape[:1])]
            self.largest = max(self.largest, math.prod(shape))
        return shape


def output(opcode, numbers, shape):
    """Section 3.2: the shape of what a layer gives."""
    if opcode == RELU:
        return shape
    if opcode == FLATTEN:
        return (math.prod(shape),)
    if opcode == DENSE:
        require(len(shape) == 1 and numbers[0] >= 1, "dense")
        return (numbers[0],)
    require(len(shape) == 3, "no maps")
    channels, height, width = shape
    if opcode == CONV:
        kh, kw, stride, padding, groups, outputs = numbers
        require(min(kh, kw, stride, outputs) >= 1 and padding < min(kh, kw), "convolution")
        require(groups in (1, channels) and outputs % groups == 0, "groups")
        rows, columns = height + 2 * padding - kh, width + 2 * padding - kw
        require(min(rows, columns) >= 0, "kernel")
        return outputs, rows // stride + 1, columns // stride + 1
    if opcode == NORM:
        require(numbers[0] >= 1 and channels % numbers[0] == 0, "norm")
        return shape
    kh, kw = (2, 2) if opcode == MAX_POOL else window(numbers, shape)
    require(1 <= kh <= height and 1 <= kw <= width, "window")
    return channels, height // kh, width // kw


def window(numbers, shape):
    return shape[1:] if tuple(numbers) == (0, 0) else numbers


def logits(network, weights, pixels):
    """Section 3.3: the logits of one image, pixels[channel][row][column] from 0 to 255."""
    x = [[[p / 255 - 0.5 for p in row] for row in plane] for plane in pixels]
    return forward(network.layers, iter(weights), x)


def forward(layers, weights, x):
    """Section 3.3: pass x through a list; `weights` yields flat tensors in order."""
    for opcode, *numbers in layers:
        if opcode == CONV:
            x = convolve(x, next(weights), next(weights), *numbers)
        elif opcode == DENSE:
            w, b = next(weights), next(weights)
            x = [b[o] + sum(v * w[a * len(b) + o] for a, v in enumerate(x)) for o in range(len(b))]
        elif opcode == FLATTEN:
            x = list(leaves(x))
        elif opcode in (MAX_POOL, MEAN_POOL):
            sides = (2, 2) if opcode == MAX_POOL else window(numbers, (0, len(x[0]), len(x[0][0])))
            x = [pool(m, *sides, max if opcode == MAX_POOL else mean) for m in x]
        elif opcode == NORM:
            x = normalise(x, next(weights), next(weights), *numbers)
        elif opcode == RELU:
            x = each(lambda v: max(v, 0.0), x)
        else:
            body = forward(numbers[0], weights, x)
            x = each(lambda a, b: a + b, body, forward(numbers[1], weights, x))
    return x


def each(function, *values):
    if isinstance(values[0], list):
        return [each(function, *parts) for parts in zip(*values, strict=True)]
    return function(*values)


def leaves(x):
    for part in x:
        yield from leaves(part) if isinstance(part, list) else [part]


def mean(values):
    return sum(values) / len(values)


def pool(m, kh, kw, function):
    rows, columns = range(0, len(m) - kh + 1, kh), range(0, len(m[0]) - kw + 1, kw)
    return [
        [function([m[i + u][j + v] for u in range(kh) for v in range(kw)]) for j in columns]
        for i in rows
    ]


def convolve(x, w, b, kh, kw, stride, padding, groups, outputs):
    channels, height, width = len(x), len(x[0]), len(x[0][0])
    fan = channels // groups
    rows = (height + 2 * padding - kh) // stride + 1
    columns = (width + 2 * padding - kw) // stride + 1
    y = [[[b[o]] * columns for _ in range(rows)] for o in range(outputs)]
    places = itertools.product(range(outputs), range(rows), range(columns), range(kh), range(kw))
    for o, i, j, u, v in places:
        row, column = stride * i + u - padding, stride * j + v - padding
        if 0 <= row < height and 0 <= column < width:
            first = o // (outputs // groups) * fan
            for c in range(fan):
                weight = w[((u * kw + v) * fan + c) * outputs + o]
                y[o][i][j] += weight * x[first + c][row][column]
    return y


def normalise(x, gain, bias, groups):
    y, size = [], len(x) // groups
    for first in range(0, len(x), size):
        values = list(leaves(x[first : first + size]))
        m = mean(values)
        variance = mean([(v - m) * (v - m) for v in values])
        scale = 1.0 / math.sqrt(variance + 1e-5) if math.isfinite(variance) else math.nan
        for c in range(first, first + size):
            y.append([[(1.0 + gain[c]) * (v - m) * scale + bias[c] for v in r] for r in x[c]])
    return y
