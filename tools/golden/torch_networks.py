"""Networks of any layers in float64 PyTorch, to be differentiated by its autograd.

A description is put together by hand and read by tools/decoder; what its layers compute is written
here once more, from docs/SPEC.md, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from golden.descriptions import (
    FLATTEN,
    MAXIMUM,
    MEAN_OF_MAP,
    RELU,
    conv,
    dense,
    mean,
    norm,
    read,
    residual,
)
from golden.descriptions import network as describe
from golden.general_layers import normalise
from golden.torch_inputs import Draw
from golden.torch_layout import Layout
from golden.torch_lenet5 import Forward, Kinks
from numpy.typing import NDArray
from torch.nn import functional

CONV, DENSE, FLAT, MAX, MEAN, NORM, OF_ZERO, RESIDUAL = range(1, 9)


# --- the forward pass


def maximum(x: torch.Tensor, kinks: Kinks) -> torch.Tensor:
    """Return the maximum of each 2x2 window."""
    windows = functional.unfold(x.reshape(-1, 1, *x.shape[2:]), 2, stride=2)
    best = windows.topk(2, dim=1).values
    kinks.see(best[:, 0] - best[:, 1], x)
    return functional.max_pool2d(x, 2)


def through(
    layers: Sequence[Any], weights: Iterator[torch.Tensor], x: torch.Tensor, kinks: Kinks
) -> torch.Tensor:
    """Pass x (images, channels, height, width) through a list that spec_networks has read."""
    for opcode, *numbers in layers:
        if opcode == CONV:
            _, _, stride, padding, groups, _ = numbers
            w, b = next(weights), next(weights)
            x = functional.conv2d(x, w.permute(3, 2, 0, 1), b, stride, padding, groups=groups)
        elif opcode == DENSE:
            w, b = next(weights), next(weights)
            x = functional.linear(x, w.T, b)
        elif opcode == FLAT:
            x = x.flatten(1)
        elif opcode == MAX:
            x = maximum(x, kinks)
        elif opcode == MEAN:
            x = functional.avg_pool2d(x, tuple(numbers) if any(numbers) else x.shape[2:])
        elif opcode == NORM:
            x = normalise(x, next(weights), next(weights), *numbers)
        elif opcode == OF_ZERO:
            kinks.see(x.abs(), x)
            x = torch.relu(x)
        else:
            body = through(numbers[0], weights, x, kinks)
            x = body + through(numbers[1], weights, x, kinks)
    return x


def forward_of(description: bytes) -> Forward:
    """Return the forward pass of a described network, (images, classes)."""
    layers = read(description).layers

    def forward(
        weights: list[torch.Tensor], pixels: NDArray[np.uint8], kinks: Kinks
    ) -> torch.Tensor:
        x = torch.tensor(pixels, dtype=torch.float64) / 255.0 - 0.5
        return through(layers, iter(weights), x, kinks)

    return forward


# --- networks

# Every kind of layer: a residual of its input, one within another, and one with a shortcut.
EVERY_LAYER = describe(
    (3, 9, 8), 4,
    conv(3, 3, 1, 1, 1, 4), norm(2), RELU, MAXIMUM,
    residual((conv(3, 3, 1, 1, 1, 4), norm(4), RELU, conv(3, 3, 1, 1, 1, 4)), ()), RELU,
    residual(
        (conv(3, 3, 2, 1, 1, 6), RELU, residual((conv(2, 3, 1, 1, 6, 6), conv(2, 1, 1, 0, 1, 6)),
                                                (conv(1, 1, 1, 0, 1, 6), norm(3)))),
        (conv(1, 1, 2, 0, 1, 6), mean(1, 1)),
    ), RELU,
    mean(1, 2), MEAN_OF_MAP, FLATTEN, dense(5), RELU, dense(4),
)  # fmt: skip
OF_ITS_INPUT = describe((2, 2, 2), 2, residual((conv(1, 1, 1, 0, 1, 2), RELU), ()), FLATTEN,
                        dense(2))  # fmt: skip
OF_A_SHORTCUT = describe(
    (1, 4, 3), 3, conv(1, 1, 1, 0, 1, 2), RELU,
    residual((conv(3, 3, 2, 1, 1, 3),), (conv(1, 1, 2, 0, 1, 3),)), RELU, FLATTEN, dense(3),
)  # fmt: skip
OF_FEATURES = describe(
    (1, 2, 3), 3, FLATTEN, dense(4), RELU, residual((dense(4), RELU, dense(4)), ()),
    residual((), (dense(4),)), RELU, dense(3),
)  # fmt: skip
NESTED = describe(
    (2, 4, 4), 2, conv(1, 1, 1, 0, 1, 2),
    residual((residual((residual((residual((norm(1),), (conv(1, 1, 1, 0, 2, 2),)), RELU), ()),),
                       (norm(2),)),), (conv(3, 3, 1, 1, 1, 2),)),
    MAXIMUM, FLATTEN, dense(2),
)  # fmt: skip
CLASSES_300 = describe((1, 1, 2), 300, FLATTEN, residual((dense(2),), ()), dense(300))
# The same numbers in another order: which list is the body shows in the order of the tensors.
ONE_SIDE = conv(1, 1, 1, 0, 1, 2), RELU
OTHER_SIDE = RELU, conv(1, 1, 1, 0, 1, 2)
LEFT, RIGHT = (
    describe((2, 3, 3), 3, residual(*lists), FLATTEN, dense(3))
    for lists in ((ONE_SIDE, OTHER_SIDE), (OTHER_SIDE, ONE_SIDE))
)


def scales_of(description: bytes) -> NDArray[np.float64]:
    """Return a power of two for each tensor, that keeps activations near 1."""
    scales = []
    for _, shape in read(description).tensors:
        fan_in = math.prod(shape[:-1])
        scales.append(2.0 ** -round(math.log2(fan_in) / 2.0) if len(shape) > 1 else 0.25)
    return np.array(scales)


def layout_of(
    description: bytes, size: int, seed: int, how: tuple[int, int], factors: Sequence[int] = ()
) -> Layout:
    """Return the layout of a described network; no hashing where there are no factors."""
    shapes = tuple(tuple(shape) for _, shape in read(description).tensors)
    factors = tuple(factors) or (1,) * len(shapes)
    for shape, factor in zip(shapes, factors, strict=True):
        if not 1 <= factor <= math.prod(shape):
            raise ValueError(f"factor {factor} of a tensor of shape {shape}")
    return Layout(size, seed, factors, *how, shapes)


def pictures(draw: Draw, description: bytes, batch: int) -> NDArray[np.uint8]:
    """Return random images of a described network's input."""
    return draw.integers(batch, *read(description).image, below=256).astype(np.uint8)
