"""Layers of the first networks: sizes on both sides of the compiled tiles, NaN, views.

Values, gradients, ties and edges are golden vectors of the stage `layers`, in both engines;
convolutions are in test_general_layers.py.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracles import assert_close, by_engine, scaled_error

from refmiracle.engines import get_engine
from refmiracle.engines.numba_engine import elementary

NUMPY = get_engine("numpy")
NUMBA = get_engine("numba")

# (inputs, outputs, batch): outputs < batch and outputs >= batch are compiled apart.
DENSE = [
    *((1, 1, 1), (9, 7, 3), (9, 3, 7), (4, 5, 5), (6, 4, 1)),
    *((13, 11, 6), (13, 6, 11), (40, 21, 64), (30, 70, 32)),
]


def dense_case(rng, inputs, outputs, batch):
    """Return x, w, b and dy."""
    shapes = ((inputs, batch), (inputs, outputs), (outputs,), (outputs, batch))
    return tuple(rng.normal(size=shape) for shape in shapes)


@pytest.mark.parametrize("shape", [(1, 2, 2, 1), (3, 6, 4, 5), (2, 5, 7, 3), (1, 3, 2, 1)])
def test_maxpool2d_by_a_slow_loop(engine, rng, shape):
    """An odd last row or column is dropped; all values may be negative."""
    x = rng.permutation(math.prod(shape)).reshape(shape) - float(math.prod(shape))
    y, winner = engine.maxpool2d(x)
    assert y.shape == winner.shape == (shape[0], shape[1] // 2, shape[2] // 2, shape[3])
    for c, i, j, n in np.ndindex(y.shape):
        window = [x[c, 2 * i + u, 2 * j + v, n] for u in (0, 1) for v in (0, 1)]
        assert y[c, i, j, n] == max(window)
        assert winner[c, i, j, n] == window.index(max(window))


def test_maxpool2d_of_nan(engine):
    """Every pattern of NaN in a window: the first NaN is its maximum, and has its gradient."""
    nan = [[k >> j & 1 for j in range(4)] for k in range(1, 16)]
    for rest in ([3.0, 1.0, 2.0, 4.0], [np.inf] * 4, [-np.inf] * 4):
        x = np.where(nan, np.nan, rest).reshape(15, 2, 2, 1).repeat(3, axis=3)
        y, winner = engine.maxpool2d(x)
        assert np.isnan(y).all()
        assert winner[:, 0, 0].tolist() == [[row.index(1)] * 3 for row in nan]


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("x", [0.0, 1.0, 50.0, 300.0, 700.0, 707.99, 708.0, 708.9, 709.0, 1e9])
def test_elementary_exp(x, sign):
    x *= sign
    near = 0.0 if x <= -708.0 else np.inf if x >= 709.0 else math.exp(x)
    assert elementary.exp(x) == pytest.approx(near, rel=1e-12, abs=0)


def test_elementary_functions_hand_nan_on():
    for function in (elementary.exp, elementary.spent_of, elementary.excess_of):
        assert math.isnan(function(math.nan))
    assert math.isnan(elementary.minus_log_s(math.nan))
    assert all(math.isnan(value) for value in elementary.tanh_sech(math.nan))
    assert math.isnan(elementary.half_slope_ratio(math.nan, math.nan))
    assert elementary.tanh_sech(-math.inf) == (-1.0, 0.0)
    assert elementary.exp(-math.inf) == 0.0
    assert elementary.exp(math.inf) == math.inf


@pytest.mark.parametrize(("inputs", "outputs", "batch"), DENSE)
def test_dense_by_slow_sums(engine, rng, inputs, outputs, batch):
    x, w, b, dy = dense_case(rng, inputs, outputs, batch)
    want = [
        [b[o] + math.fsum(w[:, o] * x[:, n]) for n in range(dy.shape[1])] for o in range(len(b))
    ]
    assert scaled_error(engine.dense(x, w, b), want) <= by_engine(engine, 1e-14, 2e-6)


@pytest.mark.parametrize("need_dx", [True, False])
@pytest.mark.parametrize(("inputs", "outputs", "batch"), DENSE)
def test_dense_backward_compiled(rng, inputs, outputs, batch, need_dx):
    x, w, _, dy = dense_case(rng, inputs, outputs, batch)
    want = NUMPY.dense_backward(x, w, dy, need_dx)
    assert_close(NUMBA.dense_backward(x, w, dy, need_dx), want, 2e-6)


def test_layers_take_views(rng):
    """The compiled products read flat arrays; a transposed argument must be copied first."""
    x, w, b = (rng.normal(size=shape) for shape in ((3, 5, 5, 2), (2, 2, 3, 6), (6,)))
    assert np.array_equal(NUMBA.conv2d(*map(np.asfortranarray, (x, w, b))), NUMBA.conv2d(x, w, b))
    x, w, b, dy = dense_case(rng, 9, 7, 3)
    views = [np.asfortranarray(a) for a in (x, w, b, dy)]
    assert np.array_equal(NUMBA.dense(*views[:3]), NUMBA.dense(x, w, b))
    for a, c in zip(
        NUMBA.dense_backward(views[0], views[1], views[3], True),
        NUMBA.dense_backward(x, w, dy, True),
        strict=True,
    ):
        assert np.array_equal(a, c)


def test_adam_step_changes_no_argument(engine, rng):
    arguments = [np.abs(rng.normal(size=4)).astype(engine.dtype) for _ in range(4)]
    before = [a.copy() for a in arguments]
    engine.adam_step(*arguments, 1, 0.1)
    for a, b in zip(arguments, before, strict=True):
        assert np.array_equal(a, b)


def test_images(engine):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) * 11
    x = engine.images(pixels)
    assert x.shape == (1, 3, 4, 2)
    assert x.dtype == engine.dtype
    want = np.array(
        [[[int(pixels[n, i, j]) / 255 - 0.5 for n in (0, 1)] for j in range(4)] for i in range(3)]
    )
    assert np.max(np.abs(x[0] - want)) <= by_engine(engine, 1e-16, 1e-7)
    assert engine.images(np.array([[[0, 255]]], dtype=np.uint8)).ravel().tolist() == [-0.5, 0.5]
