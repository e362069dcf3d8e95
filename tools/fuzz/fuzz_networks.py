"""Small random networks and changed descriptions, for tools/fuzz/fuzz_files.py."""

from __future__ import annotations

import random
from collections.abc import Sequence

from refmiracle.nn.contract import Layer, Shape
from refmiracle.nn.layers import Conv2d, Dense, Flatten, GroupNorm, MaxPool2d, MeanPool2d, Relu
from refmiracle.nn.limits import DESCRIBED
from refmiracle.nn.network import Network
from refmiracle.nn.tree import Residual
from refmiracle.numerics.varints import read_varint, write_varint

OPCODES = range(10)
EDGES = (0, 1, 2, 3, 4, 8, 127, 128, 255, 256, 257, 4095, 4096, 16384, 65535, 65536, 2**24)
LONGEST = 4200  # bytes: a little more than a description may have


def random_network(rng: random.Random) -> Network:
    """Return a network of any layers, which fit each other, with few weights."""
    image = rng.randint(1, 3), rng.randint(1, 7), rng.randint(1, 7)
    layers, shape = list[Layer](), image
    for _ in range(rng.randint(0, 6)):
        layers.append(_layer(rng, shape, 0))
        shape = layers[-1].output(shape)
    classes = rng.choice((2, 3, 5, 300)) if len(shape) == 1 and shape[0] < 8 else 2
    end: Sequence[Layer] = (Dense(classes),) if len(shape) == 1 else (Flatten(), Dense(classes))
    return Network("fuzzed", DESCRIBED, image, classes, (*layers, *end))


def _divisor(rng: random.Random, n: int) -> int:
    return rng.choice([d for d in range(1, n + 1) if n % d == 0])


def _layer(rng: random.Random, shape: Shape, depth: int) -> Layer:
    """Return a layer that takes a shape."""
    if depth < 4 and rng.random() < 0.25:
        return _residual(rng, shape, depth)
    if len(shape) == 1:
        return rng.choice((Relu(), Flatten(), Dense(rng.randint(1, 5))))
    channels, height, width = shape
    kh, kw = rng.randint(1, min(4, height)), rng.randint(1, min(4, width))
    padding = rng.randrange(min(kh, kw))
    choices = [
        _convolution(rng, channels, (kh, kw), rng.randint(1, 3), padding),
        _convolution(rng, channels, (kh, kw), 1, padding),
        MeanPool2d(rng.choice(((0, 0), (kh, kw)))),
        _same(rng, shape),
        Flatten(),
    ]
    return rng.choice(choices if min(height, width) < 2 else [*choices, MaxPool2d()])


def _convolution(
    rng: random.Random, channels: int, kernel: tuple[int, int], stride: int, padding: int
) -> Conv2d:
    groups = rng.choice((1, channels))
    return Conv2d(groups * rng.randint(1, 3), kernel, stride, padding, groups)


def _same(rng: random.Random, shape: Shape) -> Layer:
    """Return a layer that leaves the shape as it is."""
    if len(shape) == 1:
        return rng.choice((Relu(), Flatten(), Dense(shape[0])))
    groups = rng.choice((1, shape[0]))
    conv = Conv2d(shape[0], 3, padding=1, groups=groups)
    return rng.choice((Relu(), GroupNorm(_divisor(rng, shape[0])), conv))


def _residual(rng: random.Random, shape: Shape, depth: int) -> Residual:
    """Return a residual of its input, or one whose lists begin with a layer of their own."""
    body, shortcut = list[Layer](), list[Layer]()
    if rng.random() < 0.5:
        if len(shape) == 1:
            body, shortcut = [dense := Dense(rng.randint(1, 5))], [dense]
        else:
            outputs, stride = rng.randint(1, 4), rng.randint(1, 3)
            body = [Conv2d(outputs, 3, stride, padding=1)]
            shortcut = [Conv2d(outputs, 1, stride)]
    after = body[0].output(shape) if body else shape
    for part in (body, shortcut):
        for _ in range(rng.randint(0, 2)):
            deeper = depth < 3 and rng.random() < 0.2
            part.append(_residual_of_input(rng, after, depth + 1) if deeper else _same(rng, after))
    return Residual(tuple(body), tuple(shortcut))


def _residual_of_input(rng: random.Random, shape: Shape, depth: int) -> Residual:
    """Return a residual that leaves the shape as it is."""
    inner = (_residual_of_input(rng, shape, depth + 1),) if depth < 3 and rng.random() < 0.3 else ()
    return Residual((*inner, _same(rng, shape)), rng.choice(((), (_same(rng, shape),))))


def changed_description(rng: random.Random, data: bytes) -> bytes:
    """Return a description with some of its numbers changed, lost, put in or exchanged."""
    numbers, at = list[int](), 0
    try:
        while at < len(data):
            value, at = read_varint(data, at)
            numbers.append(value)
    except ValueError:
        return data  # it was changed before
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if numbers:
            _change(rng, numbers)
    parts = [write_varint(n) for n in numbers]
    if rng.random() < 0.05 and parts:
        parts[rng.randrange(len(parts))] = rng.choice((b"\x80\x00", b"\x81\x80\x00", b"\xff" * 6))
    return b"".join(parts)[:LONGEST]


def _change(rng: random.Random, numbers: list[int]) -> None:
    at, way = rng.randrange(len(numbers)), rng.randrange(8)
    if way < 3:
        near = numbers[at] + rng.choice((-1, 1))
        numbers[at] = max(0, rng.choice((near, rng.choice(EDGES), rng.choice(OPCODES))))
    elif way == 3:
        del numbers[at : at + rng.randint(1, 7)]
    elif way == 4:
        numbers[at:at] = rng.choice(([7], [3], [8, 0, 0], [8, 1, 7, 0], [6, 1], [5, 0, 0]))
    elif way == 5:
        other = rng.randrange(len(numbers))
        numbers[at], numbers[other] = numbers[other], numbers[at]
    elif way == 6:  # lists within lists, or a long list
        often = rng.choice((2, 3, 4, 5, 60, 300, 2100))
        numbers[at:at] = rng.choice(([8, 1], [8, 0, 1], [7])) * often
    elif len(numbers) > 4:  # one more or one less layer of the outermost list
        numbers[4] = max(0, numbers[4] + rng.choice((-1, 1)))
        numbers[5:5] = rng.choice(([], [7]))
