"""The layers: forward against scipy or plain loops, backward against central differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracles import as_stored, by_engine, numerical_gradient, relative_error, scaled_error
from scipy import signal, special

from refmiracle.engines import get_engine
from refmiracle.engines.numba_engine import elementary

NUMPY = get_engine("numpy")
NUMBA = get_engine("numba")

# (channels, height, width, batch), (kh, kw, outputs).  The compiled products take outputs by five
# and inputs by four, so both fall on, below and between these; kernels are not square.
SMALL_CONVS = [
    ((1, 5, 5, 1), (1, 1, 1)),
    ((3, 5, 7, 2), (2, 3, 7)),
    ((2, 4, 3, 3), (3, 1, 2)),
    ((1, 3, 4, 1), (3, 4, 5)),
]
CONVS = [*SMALL_CONVS, ((4, 6, 9, 5), (1, 4, 10)), ((6, 11, 8, 33), (5, 2, 13))]
SMALL_DENSE = [(1, 1, 1), (9, 7, 3), (9, 3, 7), (4, 5, 5), (6, 4, 1)]
# (inputs, outputs, batch): outputs < batch and outputs >= batch are compiled apart.
DENSE = [*SMALL_DENSE, (13, 11, 6), (13, 6, 11), (40, 21, 64), (30, 70, 32)]


def conv_case(rng, x_shape, kernel):
    """Return x, w, b and dy."""
    channels, height, width, batch = x_shape
    kh, kw, outputs = kernel
    dy_shape = (outputs, height - kh + 1, width - kw + 1, batch)
    shapes = (x_shape, (kh, kw, channels, outputs), (outputs,), dy_shape)
    return tuple(rng.normal(size=shape) for shape in shapes)


def dense_case(rng, inputs, outputs, batch):
    """Return x, w, b and dy."""
    shapes = ((inputs, batch), (inputs, outputs), (outputs,), (outputs, batch))
    return tuple(rng.normal(size=shape) for shape in shapes)


def assert_close(got, want, tolerance):
    """Arrays one by one, each relative to its largest value; None only where None is due."""
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        if b is not None:
            assert scaled_error(a, b) <= tolerance


@pytest.mark.parametrize(("x_shape", "kernel"), CONVS)
def test_conv2d_is_a_correlation(engine, rng, x_shape, kernel):
    x, w, b, dy = conv_case(rng, x_shape, kernel)
    want = np.zeros(dy.shape) + b[:, None, None, None]
    for o, c, n in np.ndindex(dy.shape[0], x.shape[0], x.shape[3]):
        want[o, :, :, n] += signal.correlate(x[c, :, :, n], w[:, :, c, o], "valid", "direct")
    y = engine.conv2d(x, w, b)
    assert y.dtype == engine.dtype
    assert scaled_error(y, want) <= by_engine(engine, 1e-14, 2e-6)


@pytest.mark.parametrize(("x_shape", "kernel"), SMALL_CONVS)
def test_conv2d_backward(rng, x_shape, kernel):
    x, w, b, dy = conv_case(rng, x_shape, kernel)
    want = (
        numerical_gradient(lambda v: (dy * NUMPY.conv2d(v, w, b)).sum(), x),
        numerical_gradient(lambda v: (dy * NUMPY.conv2d(x, v, b)).sum(), w),
        numerical_gradient(lambda v: (dy * NUMPY.conv2d(x, w, v)).sum(), b),
    )
    assert_close(NUMPY.conv2d_backward(x, w, dy, True), want, 1e-8)


@pytest.mark.parametrize("need_dx", [True, False])
@pytest.mark.parametrize(("x_shape", "kernel"), CONVS)
def test_conv2d_backward_compiled(rng, x_shape, kernel, need_dx):
    x, w, _, dy = conv_case(rng, x_shape, kernel)
    want = NUMPY.conv2d_backward(x, w, dy, need_dx)
    assert_close(NUMBA.conv2d_backward(x, w, dy, need_dx), want, 2e-6)


def test_conv2d_backward_without_dx(engine, rng):
    x, w, _, dy = conv_case(rng, (3, 5, 7, 2), (2, 3, 7))
    dx, dw, db = engine.conv2d_backward(x, w, dy, False)
    assert dx is None
    _, *others = engine.conv2d_backward(x, w, dy, True)
    assert_close((dw, db), others, 0.0)


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


@pytest.mark.parametrize("shape", [(1, 2, 2, 1), (3, 6, 4, 2), (2, 5, 7, 3), (1, 3, 2, 1)])
def test_maxpool2d_backward(engine, rng, shape):
    """Values lie 1 apart, so that no step of the differences changes a winner."""
    x = rng.permutation(math.prod(shape)).reshape(shape).astype(np.float64)
    y, winner = engine.maxpool2d(x)
    (dy,) = as_stored(engine, rng.normal(size=y.shape))
    want = numerical_gradient(lambda v: (dy * NUMPY.maxpool2d(v)[0]).sum(), x, step=1e-3)
    got = engine.maxpool2d_backward(dy, winner, x.shape)
    assert got.dtype == engine.dtype
    assert scaled_error(got, want) <= 1e-9


def test_maxpool2d_ties_go_to_the_first(engine):
    """Windows (2 2 2 2), (1 3 3 3), (1 1 2 2) and (1 1 1 2), row by row."""
    windows = np.array([[2, 2, 2, 2], [1, 3, 3, 3], [1, 1, 2, 2], [1, 1, 1, 2]], dtype=np.float64)
    x = windows.reshape(4, 2, 2, 1)
    y, winner = engine.maxpool2d(x)
    assert y.ravel().tolist() == [2, 3, 2, 2]
    assert winner.ravel().tolist() == [0, 1, 2, 3]
    dx = engine.maxpool2d_backward(np.full(y.shape, 7.0), winner, x.shape)
    assert dx.reshape(4, 4).tolist() == [[7.0 * (k == i) for k in range(4)] for i in range(4)]


def test_maxpool2d_of_nan(engine):
    """Every pattern of NaN in a window: the first NaN is its maximum, and has its gradient."""
    nan = [[k >> j & 1 for j in range(4)] for k in range(1, 16)]
    for rest in ([3.0, 1.0, 2.0, 4.0], [np.inf] * 4, [-np.inf] * 4):
        x = np.where(nan, np.nan, rest).reshape(15, 2, 2, 1).repeat(3, axis=3)
        y, winner = engine.maxpool2d(x)
        assert np.isnan(y).all()
        assert winner[:, 0, 0].tolist() == [[row.index(1)] * 3 for row in nan]


def test_maxpool2d_of_infinities_and_zeros(engine):
    windows = [[-np.inf] * 4, [1, np.inf, np.inf, 2], [-0.0, 0.0, -0.0, 0.0], [-1, -np.inf, -1, -2]]
    y, winner = engine.maxpool2d(np.array(windows).reshape(4, 2, 2, 1))
    assert y.ravel().tolist() == [-np.inf, np.inf, 0.0, -1.0]
    assert winner.ravel().tolist() == [0, 1, 0, 0]


def test_relu_of_nan(engine):
    """There is no slope where the output is NaN; where it is 0, dx is, whatever dy is."""
    y = engine.relu(np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40]))
    assert np.array_equal(
        y, as_stored(engine, [np.nan, np.inf, 0.0, 0.0, 1e-40])[0], equal_nan=True
    )
    dx = engine.relu_backward(y, np.array([1.0, np.nan, np.nan, np.inf, 2.0]))
    assert np.array_equal(dx, [np.nan, np.nan, 0.0, 0.0, 2.0], equal_nan=True)


@pytest.mark.parametrize("x", [0.0, -0.0, -700.0, -707.99, -708.0, -1e9, 1.0, 708.9, 709.0, 1e9])
def test_elementary_exp(x):
    near = 0.0 if x <= -708.0 else np.inf if x >= 709.0 else math.exp(x)
    assert elementary.exp(x) == pytest.approx(near, rel=1e-12)


def test_elementary_functions_hand_nan_on():
    for function in (elementary.exp, elementary.spent_of, elementary.excess_of):
        assert math.isnan(function(math.nan))
    assert math.isnan(elementary.minus_log_s(math.nan))
    assert all(math.isnan(value) for value in elementary.tanh_sech(math.nan))
    assert math.isnan(elementary.half_slope_ratio(math.nan, math.nan))
    assert elementary.tanh_sech(-math.inf) == (-1.0, 0.0)
    assert elementary.exp(-math.inf) == 0.0
    assert elementary.exp(math.inf) == math.inf


def test_relu(engine, rng):
    x = np.concatenate([rng.normal(size=20), [0.0, -0.0]])
    dy = np.arange(1.0, 23.0)
    y = engine.relu(x)
    assert y.dtype == engine.dtype
    assert np.array_equal(y, as_stored(engine, np.where(x > 0, x, 0))[0])
    # The subgradient at 0 is 0.
    assert np.array_equal(engine.relu_backward(y, dy), np.where(x > 0, dy, 0))


@pytest.mark.parametrize(("inputs", "outputs", "batch"), DENSE)
def test_dense_by_slow_sums(engine, rng, inputs, outputs, batch):
    x, w, b, dy = dense_case(rng, inputs, outputs, batch)
    want = [
        [b[o] + math.fsum(w[:, o] * x[:, n]) for n in range(dy.shape[1])] for o in range(len(b))
    ]
    assert scaled_error(engine.dense(x, w, b), want) <= by_engine(engine, 1e-14, 2e-6)


@pytest.mark.parametrize(("inputs", "outputs", "batch"), SMALL_DENSE)
def test_dense_backward(rng, inputs, outputs, batch):
    x, w, b, dy = dense_case(rng, inputs, outputs, batch)
    want = (
        numerical_gradient(lambda v: (dy * NUMPY.dense(v, w, b)).sum(), x),
        numerical_gradient(lambda v: (dy * NUMPY.dense(x, v, b)).sum(), w),
        numerical_gradient(lambda v: (dy * NUMPY.dense(x, w, v)).sum(), b),
    )
    assert_close(NUMPY.dense_backward(x, w, dy, True), want, 1e-8)


@pytest.mark.parametrize("need_dx", [True, False])
@pytest.mark.parametrize(("inputs", "outputs", "batch"), DENSE)
def test_dense_backward_compiled(rng, inputs, outputs, batch, need_dx):
    x, w, _, dy = dense_case(rng, inputs, outputs, batch)
    want = NUMPY.dense_backward(x, w, dy, need_dx)
    assert_close(NUMBA.dense_backward(x, w, dy, need_dx), want, 2e-6)


def test_layers_take_views(rng):
    """The compiled products read flat arrays; a transposed argument must be copied first."""
    x, w, b, dy = conv_case(rng, (3, 5, 5, 2), (2, 2, 6))
    views = [np.asfortranarray(a) for a in (x, w, b, dy)]
    assert np.array_equal(NUMBA.conv2d(*views[:3]), NUMBA.conv2d(x, w, b))
    x, w, b, dy = dense_case(rng, 9, 7, 3)
    views = [np.asfortranarray(a) for a in (x, w, b, dy)]
    assert np.array_equal(NUMBA.dense(*views[:3]), NUMBA.dense(x, w, b))
    for a, c in zip(
        NUMBA.dense_backward(views[0], views[1], views[3], True),
        NUMBA.dense_backward(x, w, dy, True),
        strict=True,
    ):
        assert np.array_equal(a, c)


def test_softmax_cross_entropy(engine, rng):
    (logits,) = as_stored(engine, 3.0 * rng.normal(size=(7, 5)))
    labels = np.array([0, 6, 3, 3, 1])
    losses, _ = engine.softmax_cross_entropy(logits, labels)
    want = special.logsumexp(logits, axis=0) - logits[labels, range(5)]
    assert losses.dtype == engine.dtype
    assert scaled_error(losses, want) <= by_engine(engine, 1e-14, 1e-6)


def test_softmax_cross_entropy_gradient(engine, rng):
    (logits,) = as_stored(engine, 3.0 * rng.normal(size=(7, 5)))
    labels = np.array([0, 6, 3, 3, 1])
    want = numerical_gradient(lambda z: NUMPY.softmax_cross_entropy(z, labels)[0].sum(), logits)
    _, dlogits = engine.softmax_cross_entropy(logits, labels)
    assert scaled_error(dlogits, want) <= by_engine(engine, 1e-9, 1e-6)


def test_softmax_cross_entropy_of_huge_logits(engine):
    """exp(1000) overflows; the loss is 1000 for the wrong label and 0 for the right one."""
    logits = np.array([[1000.0, 1000.0], [0.0, 0.0], [-1000.0, -1000.0]])
    losses, dlogits = engine.softmax_cross_entropy(logits, np.array([1, 0]))
    assert losses.tolist() == [1000.0, 0.0]
    assert dlogits.T.tolist() == [[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]


def adam(theta, gradients, rate):
    """Adam of one number in plain Python (Kingma and Ba 2015, algorithm 1)."""
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        theta -= rate * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return theta, m, v


def test_adam_step(engine, rng):
    """Five steps, also with gradients so small that the epsilon matters, and zero."""
    gradients = rng.normal(size=(5, 2, 3)) * [1.0, 1e-8, 0.0]
    start = rng.normal(size=(2, 3))
    theta, m, v = as_stored(engine, start, np.zeros_like(start), np.zeros_like(start))
    want = [adam(t, g, 1e-2) for t, g in zip(theta.ravel(), gradients.reshape(5, 6).T, strict=True)]
    for step, g in enumerate(gradients, start=1):
        theta, m, v = engine.adam_step(theta, g, m, v, step, 1e-2)
    # 1 - 0.999 in float32 is 1.3e-5 off, which v shows and theta hardly.
    for got, expected, single in zip(
        (theta, m, v), np.array(want).T, (1e-6, 1e-6, 2e-5), strict=True
    ):
        assert got.shape == start.shape
        assert relative_error(got.ravel(), expected) <= by_engine(engine, 1e-13, single)


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
