"""Gradients of every kind of layer, and of whole trees, by the complex step.

f(x + i h) = f(x) + i h f'(x) + O(h^2): the imaginary part over h is the derivative without a
difference, so without its rounding (Squire and Trapp 1998).  Maxima go by the real part.
"""

from __future__ import annotations

import numpy as np
import pytest
from nn.trees import BLOCK, DEPTHWISE, NORMED, TREE

from refmiracle.engines import get_engine
from refmiracle.engines.numpy_engine import functions
from refmiracle.nn.gradients import loss_and_grads
from refmiracle.nn.layers import Conv2d, Dense, Flatten, GroupNorm, MaxPool2d, MeanPool2d, Relu
from refmiracle.nn.tree import Residual, forward_through, place

NUMPY, NUMBA = get_engine("numpy"), get_engine("numba")
STEP = 1e-30
TOLERANCE = 1e-10
BATCH = 3

LAYERS = {
    "conv": (Conv2d(5, 3), (2, 6, 5)),
    "conv-of-another-height": (Conv2d(3, (1, 4)), (2, 3, 7)),
    "conv-stride": (Conv2d(4, 3, stride=2), (2, 8, 7)),
    "conv-padding": (Conv2d(4, (3, 5), padding=2), (2, 4, 5)),
    "conv-depthwise": (Conv2d(6, 3, stride=2, padding=1, groups=3), (3, 7, 6)),
    "dense": (Dense(4), (9,)),
    "flatten": (Flatten(), (2, 3, 4)),
    "maxpool": (MaxPool2d(), (2, 5, 6)),
    "meanpool": (MeanPool2d((2, 3)), (2, 5, 7)),
    "meanpool-whole": (MeanPool2d(), (3, 4, 5)),
    "norm": (GroupNorm(2), (6, 3, 4)),
    "norm-of-all": (GroupNorm(1), (4, 2, 3)),
    "norm-of-each": (GroupNorm(4), (4, 2, 3)),
    "relu": (Relu(), (2, 3, 4)),
    "residual": (Residual((Conv2d(2, 3, padding=1), Relu())), (2, 5, 4)),
    "residual-of-nothing": (Residual(()), (2, 5, 4)),
    "residual-shortcut": (BLOCK, (4, 6, 7)),
    "residual-within": (Residual((BLOCK, Relu()), (BLOCK,)), (6, 5, 4)),
}


def drawn(rng, layer, shape):
    """Random weights and input of a layer, by name; the input's is x."""
    arrays = {t.name: rng.normal(size=t.shape) / t.fan_in**0.25 for t in layer.tensors(shape)}
    return {**arrays, "x": rng.normal(size=(*shape, BATCH))}


def slope(function, arrays, name, direction):
    """Return the derivative of a function of arrays along a direction in one of them."""
    moved = {n: a.astype(np.complex128) for n, a in arrays.items()}
    moved[name] += 1j * STEP * direction
    return function(moved).imag / STEP


def assert_gradients(rng, function, arrays, grads):
    """The slope along random directions in one array at a time is that of its gradient."""
    assert set(grads) == set(arrays)
    for name, g in grads.items():
        assert g.shape == arrays[name].shape
        for _ in range(3):
            direction = rng.normal(size=g.shape)
            error = abs(slope(function, arrays, name, direction) - (g * direction).sum())
            scale = np.linalg.norm(g) * np.linalg.norm(direction)
            assert error <= TOLERANCE * scale, name


@pytest.mark.parametrize("name", LAYERS)
def test_layers(rng, name):
    layer, shape = LAYERS[name]
    arrays = drawn(rng, layer, shape)
    y, kept = layer.forward(NUMPY, arrays, arrays["x"])
    assert y.shape == (*layer.output(shape), BATCH)
    r = rng.normal(size=y.shape)

    def function(moved):
        return (r * layer.forward(functions, moved, moved["x"])[0]).sum()

    dx, grads = layer.backward(NUMPY, arrays, kept, r, need_dx=True)
    assert_gradients(rng, function, arrays, {**grads, "x": dx})
    nothing, same = layer.backward(NUMPY, arrays, kept, r, need_dx=False)
    assert all(np.array_equal(same[n], g) for n, g in grads.items())
    if isinstance(layer, Conv2d | Dense | Residual):
        assert nothing is None


@pytest.mark.parametrize("name", LAYERS)
def test_engines_agree_on_layers(rng, name):
    layer, shape = LAYERS[name]
    arrays = drawn(rng, layer, shape)
    single = {n: a.astype(np.float32) for n, a in arrays.items()}
    y, kept = layer.forward(NUMPY, arrays, arrays["x"])
    y32, kept32 = layer.forward(NUMBA, single, single["x"])
    assert y32.dtype == np.float32
    np.testing.assert_allclose(y32, y, rtol=1e-4, atol=1e-5 * np.abs(y).max())
    r = rng.normal(size=y.shape)
    dx, grads = layer.backward(NUMPY, arrays, kept, r, need_dx=True)
    dx32, grads32 = layer.backward(NUMBA, single, kept32, r.astype(np.float32), need_dx=True)
    for n, g in {**grads, "x": dx}.items():
        found = {**grads32, "x": dx32}[n]
        np.testing.assert_allclose(found, g, rtol=1e-3, atol=1e-5 * np.abs(g).max(), err_msg=n)


@pytest.mark.parametrize("network", [TREE, NORMED, DEPTHWISE], ids=lambda n: n.name)
def test_whole_networks(rng, network):
    """The mean cross-entropy by every tensor, through residuals within residuals."""
    weights = {t.name: rng.normal(size=t.shape) / t.fan_in**0.5 for t in network.tensors()}
    pixels = rng.integers(0, 256, (BATCH, *network.input), dtype=np.uint8)
    labels = rng.integers(0, network.classes, BATCH)
    loss, grads = loss_and_grads(network, NUMPY, weights, pixels, labels)

    def function(moved):
        x = NUMPY.images(pixels)
        placed, _ = place(network.layers, network.input)
        z = forward_through(placed, functions, moved, x)[0]
        return (np.log(np.exp(z).sum(axis=0)) - z[labels, np.arange(BATCH)]).mean()

    assert abs(function(weights) / loss - 1) < 1e-13
    assert_gradients(rng, function, weights, grads)
