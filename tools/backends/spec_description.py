"""Networks as lists of layers, and how a file describes them: docs/SPEC.md, section 3.

A decoder needs the shapes of the tensors alone.  What the layers compute stands in each backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

Shape = tuple[int, ...]
# An opcode and its numbers, or the opcode and both lists of a residual.
Layer = tuple[int, tuple[Any, ...]]
# (data, offset) -> (value, offset behind it)
ReadVarint = Callable[[bytes, int], tuple[int, int]]

CONV, DENSE, FLATTEN, MAXIMUM, MEAN, NORM, RELU, RESIDUAL = range(1, 9)
COUNTS = {CONV: 6, DENSE: 1, FLATTEN: 0, MAXIMUM: 0, MEAN: 2, NORM: 1, RELU: 0}
MOST_BYTES, MOST_LAYERS, DEEPEST, LARGEST_NUMBER = 4096, 256, 4, 65535
MOST_VALUES, MOST_WEIGHTS = 2**24, 2**22  # of an image, and in all


def require(condition: Any, message: str) -> None:
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(f"the network that the file describes: {message}")


class Network(NamedTuple):
    """What stands in a description, and the shapes of the tensors that follow from it."""

    image: Shape
    classes: int
    layers: tuple[Layer, ...]
    shapes: tuple[Shape, ...]


def fitted(image: Shape, classes: int, layers: tuple[Layer, ...]) -> Network:
    """Return a network whose layers fit each other: rules 4 to 7."""
    require(1 <= math.prod(image) <= MOST_VALUES, "images are out of range")
    require(classes >= 2, "there are fewer than 2 classes")
    tensors: list[Shape] = []
    end = place(layers, image, tensors)
    require(1 <= sum(map(math.prod, tensors)) <= MOST_WEIGHTS, "weights are out of range")
    require(end == (classes,), "it does not end with its classes")
    return Network(image, classes, layers, tuple(tensors))


def read_description(body: bytes, start: int, read_varint: ReadVarint) -> tuple[Network, int]:
    """Return a described network, and the offset behind it."""
    reader = Reader(body, start, read_varint)
    *image, classes = (reader.number() for _ in range(4))
    return fitted(tuple(image), classes, reader.layers(0)), reader.offset


class Reader:
    """Numbers and lists of layers, one after the other: rules 1 to 3."""

    def __init__(self, body: bytes, start: int, read_varint: ReadVarint) -> None:
        self.body, self.offset, self.read_varint = body, start, read_varint
        self.end, self.left = start + MOST_BYTES, MOST_LAYERS

    def number(self) -> int:
        """Return the next number."""
        value, self.offset = self.read_varint(self.body, self.offset)
        require(self.offset <= self.end, "it has more than 4,096 bytes")
        require(value <= LARGEST_NUMBER, "a number is above 65,535")
        return value

    def layers(self, depth: int) -> tuple[Layer, ...]:
        """Return a list of layers, within so many residuals."""
        count = self.number()
        self.left -= count
        require(self.left >= 0, "it has more than 256 layers")
        return tuple(self.layer(depth) for _ in range(count))

    def layer(self, depth: int) -> Layer:
        """Return the next layer."""
        opcode = self.number()
        if opcode == RESIDUAL:
            require(depth < DEEPEST, "residuals stand too deep")
            return opcode, (self.layers(depth + 1), self.layers(depth + 1))
        require(opcode in COUNTS, "an opcode is unknown")
        return opcode, tuple(self.number() for _ in range(COUNTS[opcode]))


def place(layers: Sequence[Layer], shape: Shape, tensors: list[Shape]) -> Shape:
    """Return what a list gives, and add the shapes of its tensors: rules 5 and 6."""
    for opcode, numbers in layers:
        if opcode == RESIDUAL:
            ends = [place(part, shape, tensors) for part in numbers]
            require(ends[0] == ends[1], "both lists of a residual must give the same shape")
            shape = ends[0]
        else:
            before, shape = shape, after(opcode, numbers, shape)
            tensors.extend(of_layer(opcode, numbers, before, shape))
        require(math.prod(shape) <= MOST_VALUES, "a layer gives too many values")
    return shape


def of_layer(opcode: int, numbers: Sequence[int], before: Shape, shape: Shape) -> Iterator[Shape]:
    """Yield the shapes of the tensors of a layer that takes and gives these."""
    if opcode == CONV:
        kh, kw, _, _, groups, outputs = numbers
        yield from ((kh, kw, before[0] // groups, outputs), (outputs,))
    elif opcode == DENSE:
        yield from (before + shape, shape)
    elif opcode == NORM:
        yield from (shape[:1], shape[:1])


def after(opcode: int, numbers: Sequence[int], shape: Shape) -> Shape:
    """Return what a layer gives."""
    if opcode in (RELU, FLATTEN):
        return shape if opcode == RELU else (math.prod(shape),)
    if opcode == DENSE:
        require(len(shape) == 1 and numbers[0] >= 1, "a dense layer does not fit")
        return (numbers[0],)
    require(len(shape) == 3, "a layer of maps is given a row")
    if opcode == CONV:
        return convolved(numbers, shape)
    if opcode == NORM:
        require(numbers[0] >= 1 and shape[0] % numbers[0] == 0, "a group norm does not fit")
        return shape
    return pooled((2, 2) if opcode == MAXIMUM else tuple(numbers), shape)


def pooled(window: Shape, shape: Shape) -> Shape:
    """Return what windows give; those of no size are the whole map."""
    channels, height, width = shape
    kh, kw = (height, width) if window == (0, 0) else window
    require(1 <= kh <= height and 1 <= kw <= width, "a window does not fit")
    return channels, height // kh, width // kw


def convolved(numbers: Sequence[int], shape: Shape) -> Shape:
    """Return what a convolution gives."""
    kh, kw, stride, padding, groups, outputs = numbers
    channels, height, width = shape
    require(min(kh, kw, stride, outputs) >= 1, "a convolution has a 0 in its numbers")
    require(padding < min(kh, kw), "a convolution has too much padding")
    require(groups in (1, channels) and outputs % groups == 0, "groups of a convolution do not fit")
    height, width = height + 2 * padding, width + 2 * padding
    free = height - kh, width - kw
    require(min(free) >= 0, "a kernel is larger than its map")
    require(channels * height * width <= MOST_VALUES, "a map has too many values with its zeros")
    return outputs, free[0] // stride + 1, free[1] // stride + 1


# The layers of networks 1 and 2: section 3.2.
POOL_RELU = (MAXIMUM, ()), (RELU, ())
LENET5 = fitted(
    (1, 28, 28),
    10,
    (
        *((CONV, (5, 5, 1, 0, 1, 20)), *POOL_RELU, (CONV, (5, 5, 1, 0, 1, 50)), *POOL_RELU),
        *((FLATTEN, ()), (DENSE, (500,)), (RELU, ()), (DENSE, (10,))),
    ),
)
HIDDEN = (DENSE, (300,)), (RELU, ()), (DENSE, (100,)), (RELU, ())
LENET_300_100 = fitted((1, 28, 28), 10, ((FLATTEN, ()), *HIDDEN, (DENSE, (10,))))
