"""Layers of any network: kernels with stride, padding and groups, mean pooling, normalisation.

Forward against plain loops, which take complex numbers; backward against complex steps of them.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from oracles import as_stored, assert_close, by_engine, complex_gradient, same_bits, scaled_error

from refmiracle.engines import get_engine
from refmiracle.errors import InputError

NUMPY = get_engine("numpy")
NUMBA = get_engine("numba")

# (channels, height, width, batch), (kh, kw, outputs), stride, padding, groups.  The compiled
# products take outputs by five and inputs by four, so both fall on, below and between these.
SMALL_CONVS = [
    ((1, 5, 5, 1), (1, 1, 1), 1, 0, 1),
    ((3, 5, 7, 2), (2, 3, 7), 1, 0, 1),
    ((2, 4, 3, 3), (3, 1, 2), 1, 0, 1),
    ((1, 3, 4, 1), (3, 4, 5), 1, 0, 1),
    ((3, 5, 4, 2), (3, 3, 4), 1, 1, 1),
    ((2, 6, 5, 1), (3, 3, 3), 2, 0, 1),  # a column is left over
    ((2, 5, 6, 2), (1, 3, 2), 2, 1, 1),
    ((2, 4, 7, 1), (3, 1, 2), 3, 2, 1),
    ((1, 3, 2, 2), (5, 4, 2), 1, 2, 1),  # larger than the map, but for its zeros
    ((3, 5, 5, 2), (3, 3, 3), 1, 1, 3),
    ((2, 6, 4, 1), (2, 3, 6), 2, 1, 2),  # three outputs of one channel
    ((4, 4, 5, 2), (3, 2, 6), 2, 1, 2),
    ((4, 4, 4, 1), (1, 1, 8), 2, 0, 1),
    ((1, 2, 2, 1), (1, 1, 1), 3, 0, 1),  # places that no kernel reads
]
CONVS = [
    *SMALL_CONVS,
    ((4, 6, 9, 5), (1, 4, 10), 1, 0, 1),
    ((6, 11, 8, 33), (5, 2, 13), 1, 0, 1),
    ((7, 9, 8, 33), (3, 3, 11), 2, 1, 1),
    ((6, 8, 9, 17), (5, 4, 6), 1, 2, 6),
    ((6, 13, 7, 9), (10, 4, 12), 2, 2, 1),
    ((10, 7, 7, 65), (3, 3, 20), 3, 1, 5),
    ((12, 5, 6, 18), (3, 3, 15), 2, 1, 3),  # each group is worth tiles
]
# (channels, height, width, batch), height and width of a window.
POOLS = [
    ((2, 4, 6, 3), (2, 3)),
    ((3, 5, 7, 1), (2, 2)),
    ((1, 3, 4, 2), (3, 4)),
    ((2, 3, 3, 17), (1, 1)),
    ((4, 7, 5, 9), (3, 5)),
]
# (channels, height, width, batch), groups.
NORMS = [
    ((4, 3, 2, 2), 2),
    ((3, 2, 2, 1), 1),
    ((3, 2, 3, 3), 3),
    ((6, 2, 1, 2), 2),
    ((8, 5, 4, 33), 4),
]


def correlate(x, w, b, stride, padding, groups):
    """y[o, i, j] = b[o] + sum over u, v, a of w[u, v, a, o] x[c, s i + u - p, s j + v - p]."""
    (channels, height, width, batch), (kh, kw, fan, outputs) = x.shape, w.shape
    rows = (height + 2 * padding - kh) // stride + 1
    columns = (width + 2 * padding - kw) // stride + 1
    y = np.zeros((outputs, rows, columns, batch), np.result_type(x, w, b))
    for o, i, j in np.ndindex(y.shape[:3]):
        y[o, i, j] = b[o]
        group = o // (outputs // groups)
        for u, v, a in product(range(kh), range(kw), range(fan)):
            row, column = stride * i + u - padding, stride * j + v - padding
            if 0 <= row < height and 0 <= column < width:
                y[o, i, j] += w[u, v, a, o] * x[group * (channels // groups) + a, row, column]
    return y


def means(x, height, width):
    """The mean of each window, one after the other."""
    y = np.zeros((len(x), x.shape[1] // height, x.shape[2] // width, x.shape[3]), x.dtype)
    for c, i, j in np.ndindex(y.shape[:3]):
        for u, v in np.ndindex(height, width):
            y[c, i, j] += x[c, i * height + u, j * width + v] / (height * width)
    return y


def normalise(x, gain, bias, groups):
    """Channels and images one after the other."""
    size = len(x) // groups
    y = np.zeros(x.shape, np.result_type(x, gain, bias))
    for c, n in product(range(len(x)), range(x.shape[3])):
        own = x[c // size * size : (c // size + 1) * size, :, :, n].ravel()
        mean = sum(own) / own.size
        variance = sum((own - mean) ** 2) / own.size
        y[c, :, :, n] = (1 + gain[c]) * (x[c, :, :, n] - mean) / np.sqrt(variance + 1e-5) + bias[c]
    return y


def conv_case(rng, shape, kernel, stride, padding, groups):
    """Return x, w, b and dy."""
    channels, height, width, batch = shape
    kh, kw, outputs = kernel
    rows, columns = ((n + 2 * padding - k) // stride + 1 for n, k in ((height, kh), (width, kw)))
    shapes = shape, (kh, kw, channels // groups, outputs), (outputs,)
    return tuple(rng.normal(size=s) for s in (*shapes, (outputs, rows, columns, batch)))


def norm_case(rng, shape):
    """Return x, gain, bias and dy."""
    shapes = shape, shape[:1], shape[:1], shape
    return tuple(rng.normal(size=s) for s in shapes)


@pytest.mark.parametrize(("shape", "kernel", "stride", "padding", "groups"), CONVS)
def test_conv2d_by_slow_sums(engine, rng, shape, kernel, stride, padding, groups):
    x, w, b, dy = conv_case(rng, shape, kernel, stride, padding, groups)
    y = engine.conv2d(x, w, b, stride, padding, groups)
    assert y.dtype == engine.dtype
    assert y.shape == dy.shape
    want = correlate(x, w, b, stride, padding, groups)
    assert scaled_error(y, want) <= by_engine(engine, 1e-14, 2e-6)


@pytest.mark.parametrize(("shape", "kernel", "stride", "padding", "groups"), SMALL_CONVS)
def test_conv2d_backward_by_complex_steps(rng, shape, kernel, stride, padding, groups):
    x, w, b, dy = conv_case(rng, shape, kernel, stride, padding, groups)
    how = stride, padding, groups
    want = (
        complex_gradient(lambda z: (dy * correlate(z, w, b, *how)).sum(), x),
        complex_gradient(lambda z: (dy * correlate(x, z, b, *how)).sum(), w),
        complex_gradient(lambda z: (dy * correlate(x, w, z, *how)).sum(), b),
    )
    assert_close(NUMPY.conv2d_backward(x, w, dy, True, *how), want, 1e-12)


@pytest.mark.parametrize("need_dx", [True, False])
@pytest.mark.parametrize(("shape", "kernel", "stride", "padding", "groups"), CONVS)
def test_conv2d_backward_compiled(rng, shape, kernel, stride, padding, groups, need_dx):
    x, w, _, dy = conv_case(rng, shape, kernel, stride, padding, groups)
    want = NUMPY.conv2d_backward(x, w, dy, need_dx, stride, padding, groups)
    got = NUMBA.conv2d_backward(x, w, dy, need_dx, stride, padding, groups)
    assert_close(got, want, 2e-6)


@pytest.mark.parametrize("how", [(1, 0, 1), (2, 1, 2)])
def test_conv2d_backward_without_dx(engine, rng, how):
    x, w, _, dy = conv_case(rng, (4, 5, 7, 2), (2, 3, 6), *how)
    none, *got = engine.conv2d_backward(x, w, dy, False, *how)
    assert none is None
    _, *others = engine.conv2d_backward(x, w, dy, True, *how)
    assert_close(got, others, 0.0)


def test_the_defaults_are_no_other_computation(engine, rng):
    """Stride 1, no padding and one group are what they are where nobody says so, to the bit."""
    x, w, b, dy = conv_case(rng, (3, 6, 7, 5), (3, 2, 7), 1, 0, 1)
    assert same_bits(engine.conv2d(x, w, b, 1, 0, 1), engine.conv2d(x, w, b))
    for one, other in zip(
        engine.conv2d_backward(x, w, dy, True, 1, 0, 1),
        engine.conv2d_backward(x, w, dy),
        strict=True,
    ):
        assert same_bits(one, other)


def test_padding_is_a_map_with_zeros_around(engine, rng):
    x, w, b, dy = conv_case(rng, (2, 4, 5, 3), (3, 3, 4), 1, 2, 1)
    around = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    tolerance = by_engine(engine, 1e-14, 1e-6)
    assert_close([engine.conv2d(x, w, b, padding=2)], [engine.conv2d(around, w, b)], tolerance)
    dx, dw, db = engine.conv2d_backward(around, w, dy)
    want = dx[:, 2:-2, 2:-2], dw, db
    assert_close(engine.conv2d_backward(x, w, dy, padding=2), want, tolerance)


def test_groups_are_convolutions_of_their_own(engine, rng):
    x, w, b, dy = conv_case(rng, (6, 5, 5, 4), (3, 3, 9), 2, 1, 3)
    y = engine.conv2d(x, w, b, 2, 1, 3)
    whole = engine.conv2d_backward(x, w, dy, True, 2, 1, 3)
    tolerance = by_engine(engine, 1e-14, 1e-6)
    for g in range(3):
        i, o = np.s_[2 * g : 2 * g + 2], np.s_[3 * g : 3 * g + 3]
        assert_close([y[o]], [engine.conv2d(x[i], w[..., o], b[o], 2, 1)], tolerance)
        own = engine.conv2d_backward(x[i], w[..., o], dy[o], True, 2, 1)
        assert_close([whole[0][i], whole[1][..., o], whole[2][o]], own, tolerance)


def test_nan_reaches_what_reads_it_alone(engine, rng):
    for groups in (1, 4):
        x, w, b, dy = conv_case(rng, (4, 7, 7, 5), (3, 3, 4), 2, 1, groups)
        x[1, 3, 2, 4] = np.nan
        want = np.isnan(correlate(x, w, b, 2, 1, groups))
        assert want.any() and not want.all()
        assert np.array_equal(np.isnan(engine.conv2d(x, w, b, 2, 1, groups)), want)
        dx, dw, db = engine.conv2d_backward(x, w, dy, True, 2, 1, groups)
        assert not np.isnan(dx).any() and not np.isnan(db).any()
        assert np.isnan(dw).any() and not np.isnan(dw).all()
        dy[2, 1, 1, 3] = np.inf
        dx, _, db = engine.conv2d_backward(np.ones_like(x), w, dy, True, 2, 1, groups)
        assert np.isinf(dx[2, 1:4, 1:4, 3]).all()
        assert np.isinf(dx).sum() == 9 * (4 // groups)
        assert np.isinf(db).tolist() == [False, False, True, False]


@pytest.mark.parametrize(("shape", "window"), POOLS)
def test_mean_pool2d_by_a_slow_loop(engine, rng, shape, window):
    x = rng.normal(size=shape)
    y = engine.mean_pool2d(x, *window)
    assert y.dtype == engine.dtype
    assert scaled_error(y, means(x, *window)) <= by_engine(engine, 1e-15, 5e-7)


@pytest.mark.parametrize(("shape", "window"), POOLS)
def test_mean_pool2d_backward_by_complex_steps(engine, rng, shape, window):
    x = rng.normal(size=shape)
    dy = rng.normal(size=means(x, *window).shape)
    want = complex_gradient(lambda z: (dy * means(z, *window)).sum(), x)
    got = engine.mean_pool2d_backward(dy, *window, shape)
    assert got.dtype == engine.dtype
    assert scaled_error(got, want) <= by_engine(engine, 1e-12, 2e-7)


def test_the_mean_of_a_large_map(engine, rng):
    """Sums of thousands of numbers near 1 do not lose their digits one by one."""
    (x,) = as_stored(engine, 1.0 + rng.random((2, 90, 70, 3)))
    want = [[[[math.fsum(x[c, :, :, n].ravel()) / 6300 for n in range(3)]]] for c in range(2)]
    got = engine.mean_pool2d(x, 90, 70)
    assert scaled_error(got, want) <= by_engine(engine, 1e-14, 1e-6)


@pytest.mark.parametrize(("shape", "groups"), NORMS)
def test_group_norm_by_slow_sums(engine, rng, shape, groups):
    x, gain, bias, _ = norm_case(rng, shape)
    y = engine.group_norm(x, gain, bias, groups)
    assert y.dtype == engine.dtype
    assert scaled_error(y, normalise(x, gain, bias, groups)) <= by_engine(engine, 1e-14, 1e-6)


@pytest.mark.parametrize(("shape", "groups"), NORMS[:4])
def test_group_norm_backward_by_complex_steps(engine, rng, shape, groups):
    x, gain, bias, dy = as_stored(engine, *norm_case(rng, shape))
    want = (
        complex_gradient(lambda z: (dy * normalise(z, gain, bias, groups)).sum(), x),
        complex_gradient(lambda z: (dy * normalise(x, z, bias, groups)).sum(), gain),
        complex_gradient(lambda z: (dy * normalise(x, gain, z, groups)).sum(), bias),
    )
    tolerance = by_engine(engine, 1e-12, 2e-6)
    assert_close(engine.group_norm_backward(x, gain, groups, dy), want, tolerance)


def test_group_norm_backward_compiled(rng):
    x, gain, _, dy = norm_case(rng, (8, 7, 6, 65))
    for groups in (1, 2, 8):
        want = NUMPY.group_norm_backward(x, gain, groups, dy)
        assert_close(NUMBA.group_norm_backward(x, gain, groups, dy), want, 2e-6)


def test_group_norm_next_to_a_large_mean(engine, rng):
    """The mean is a thousand times the spread: differences of squares would lose all."""
    x, gain, bias, dy = norm_case(rng, (4, 4, 4, 3))
    (x,) = as_stored(engine, 1000.0 + x)
    want = normalise(x, gain, bias, 2)
    assert scaled_error(engine.group_norm(x, gain, bias, 2), want) <= by_engine(engine, 1e-12, 1e-6)
    want = NUMPY.group_norm_backward(x - 1000.0, gain, 2, dy)
    got = engine.group_norm_backward(x, gain, 2, dy)
    assert_close(got, want, by_engine(engine, 1e-12, 1e-6))


def test_group_norm_of_what_is_constant(engine):
    """The variance is 0: what is left is the bias, and gradients through 1 / sqrt(1e-5)."""
    x = np.repeat([3.0, -0.75], 12).reshape(2, 3, 4, 1)
    gain, bias = np.array([0.5, -2.0]), np.array([0.25, -4.0])
    y = engine.group_norm(x, gain, bias, 2)
    assert np.array_equal(y, np.broadcast_to(bias[:, None, None, None], y.shape))
    dy = np.zeros(x.shape)
    dy[0, 1, 2, 0] = 1.0
    dx, dgain, dbias = engine.group_norm_backward(x, gain, 2, dy)
    want = 1.5 * (dy - 1.0 / 12.0) / math.sqrt(1e-5)
    assert scaled_error(dx[0], want[0]) <= by_engine(engine, 1e-14, 5e-7)
    assert not dx[1].any() and not dgain.any()
    assert dbias.tolist() == [1.0, 0.0]


def test_nan_spoils_its_group_of_its_image(engine, rng):
    x, gain, bias, dy = norm_case(rng, (6, 3, 3, 4))
    x[2, 0, 1, 3] = np.nan
    y = engine.group_norm(x, gain, bias, 3)
    assert np.isnan(y[2:4, :, :, 3]).all()
    assert np.isnan(y).sum() == 18
    dx, dgain, dbias = engine.group_norm_backward(x, gain, 3, dy)
    assert np.array_equal(np.isnan(dx), np.isnan(y))
    assert np.isnan(dgain).tolist() == [False, False, True, True, False, False]
    assert not np.isnan(dbias).any()


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_no_images_are_no_gradient(engine, groups):
    x, w, dy = np.ones((4, 5, 5, 0)), np.ones((3, 3, 4 // groups, 8)), np.ones((8, 3, 3, 0))
    assert engine.conv2d(x, w, np.ones(8), 2, 1, groups).shape == dy.shape
    dx, dw, db = engine.conv2d_backward(x, w, dy, True, 2, 1, groups)
    assert dx.shape == x.shape
    assert dw.shape == w.shape and not dw.any() and not db.any()


def refused(name, engine, *values):
    """The one line that refuses a call."""
    with pytest.raises(InputError) as caught:
        getattr(engine, name)(*values)
    said = str(caught.value)
    assert said.startswith(f"{name}: ")
    assert "\n" not in said
    return said


def test_what_convolutions_refuse(engine, rng):
    x, w, b, dy = conv_case(rng, (4, 5, 6, 2), (3, 3, 6), 2, 1, 2)
    for how, words in (
        ((0, 1, 2), "stride 0 is out of range"),
        ((2, -1, 2), "padding -1 is out of range"),
        ((2, 1, 0), "groups 0 is out of range"),
        ((2**40, 1, 2), "stride 1099511627776 is out of range"),
        ((2, 1, 3), "groups 3 do not divide 4 channels"),
        ((2, 1, 4), "w of shape (3, 3, 2, 6); expected (3, 3, 1, units)"),
    ):
        assert words in refused("conv2d", engine, x, w, b, *how)
        assert words in refused("conv2d_backward", engine, x, w, dy, True, *how)
    five = np.ones((3, 3, 2, 5))
    assert "groups 2 do not divide 5 units" in refused("conv2d", engine, x, five, b[:5], 2, 1, 2)
    large = np.ones((8, 3, 2, 6))
    assert "w of shape (8, 3, 2, 6) is larger than what it is passed over, 7 by 8" in refused(
        "conv2d", engine, x, large, b, 2, 1, 2
    )
    assert "dy of shape (6, 3, 3, 2); expected (6, 5, 6, 2)" in refused(
        "conv2d_backward", engine, x, w, dy, True, 1, 1, 2
    )


def test_what_pools_refuse(engine):
    x = np.ones((2, 4, 5, 3))
    for window in ((5, 2), (2, 6), (0, 1), (1, -1)):
        refused("mean_pool2d", engine, x, *window)
    dy = engine.mean_pool2d(x, 2, 2)
    for wrong in ((2, 6, 5, 3), (2, 4, 6, 3), (1, 4, 5, 3), (2, 4, 5), (2, 4, 5, 2)):
        assert "shape" in refused("mean_pool2d_backward", engine, dy, 2, 2, wrong)
    assert "shape" in refused("mean_pool2d_backward", engine, dy, 3, 2, x.shape)


def test_what_normalisations_refuse(engine):
    x, one = np.ones((4, 2, 2, 3)), np.ones(4)
    for groups, words in ((3, "groups 3 do not divide 4 channels"), (0, "groups 0 is out of")):
        assert words in refused("group_norm", engine, x, one, one, groups)
        assert words in refused("group_norm_backward", engine, x, one, groups, x)
    assert "gain of shape (3,)" in refused("group_norm", engine, x, one[:3], one, 2)
