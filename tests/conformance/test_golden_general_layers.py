"""A second source for the layers of any network: plain loops, complex steps, exact fractions."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import mpmath
import numpy as np
from conformance.test_golden_layers import assert_close, assert_gradients, cases_of


def convolve(x, w, b, stride, padding, groups):
    """The sum over what each output reads; takes complex numbers."""
    (_, height, width, batch), (kh, kw, fan, outputs) = x.shape, w.shape
    rows, columns = ((n + 2 * padding - k) // stride + 1 for n, k in ((height, kh), (width, kw)))
    y = np.zeros((outputs, rows, columns, batch), np.result_type(x, w, b, float))
    for o, i, j in np.ndindex(y.shape[:3]):
        y[o, i, j] = b[o]
        first = o // (outputs // groups) * fan
        for u, v in product(range(kh), range(kw)):
            r, e = stride * i + u - padding, stride * j + v - padding
            if 0 <= r < height and 0 <= e < width:
                y[o, i, j] += w[u, v, :, o] @ x[first : first + fan, r, e]
    return y


def normalise(x, gain, bias, groups):
    """Each group of each image; takes complex numbers."""
    parts = x.reshape(groups, -1, x.shape[3])
    centred = parts - parts.sum(axis=1, keepdims=True) / parts.shape[1]
    variance = (centred * centred).sum(axis=1, keepdims=True) / parts.shape[1]
    xhat = (centred * (variance + 1e-5) ** -0.5).reshape(x.shape)
    return (1 + gain)[:, None, None, None] * xhat + bias[:, None, None, None]


def numbers(*values):
    return (int(v) for v in values)


@cases_of("conv2d_general")
def test_conv2d_general(case):
    x, w, b, *how = case.inputs.values()
    assert_close(case.outputs["y"], convolve(x, w, b, *numbers(*how)), 1e-15)


@cases_of("conv2d_general_backward")
def test_conv2d_general_backward(case):
    x, w, dy, *how = case.inputs.values()
    how, b = tuple(numbers(*how)), np.zeros(w.shape[3])
    assert_gradients(
        lambda x, w, b: np.sum(convolve(x, w, b, *how) * dy), (x, w, b), case.outputs.values()
    )


def means(x, height, width):
    y = np.zeros((len(x), x.shape[1] // height, x.shape[2] // width, x.shape[3]), x.dtype)
    for i, j in np.ndindex(y.shape[1:3]):
        window = x[:, i * height : (i + 1) * height, j * width : (j + 1) * width]
        y[:, i, j] = window.reshape(len(x), -1, x.shape[3]).sum(axis=1) / (height * width)
    return y


@cases_of("mean_pool2d")
def test_mean_pool2d(case):
    x, *window = case.inputs.values()
    assert_close(case.outputs["y"], means(x, *numbers(*window)), 1e-15)


@cases_of("mean_pool2d_backward")
def test_mean_pool2d_backward(case):
    dy, height, width, shape = case.inputs.values()
    x, (height, width) = np.zeros(shape), numbers(height, width)
    gradients = case.outputs.values()
    assert_gradients(lambda x: np.sum(means(x, height, width) * dy), (x,), gradients)


@cases_of("group_norm")
def test_group_norm_by_fractions(case):
    """Mean and variance without any rounding, the root to 50 digits."""
    x, gain, bias, groups = case.inputs.values()
    size, want = len(x) // int(groups), np.empty(x.shape)
    with mpmath.workdps(50):
        for g, n in product(range(int(groups)), range(x.shape[3])):
            own = np.s_[g * size : (g + 1) * size, :, :, n]
            values = [Fraction(v) for v in x[own].ravel().tolist()]
            mean = sum(values) / len(values)
            variance = sum((v - mean) ** 2 for v in values) / len(values) + Fraction(1, 10**5)
            root = mpmath.sqrt(mpmath.mpf(variance.numerator) / variance.denominator)
            xhat = [float((v - mean).numerator / ((v - mean).denominator * root)) for v in values]
            want[own] = np.reshape(xhat, x[own].shape)
    want = (1 + gain)[:, None, None, None] * want + bias[:, None, None, None]
    assert_close(case.outputs["y"], want, 1e-14)


@cases_of("group_norm_backward")
def test_group_norm_backward(case):
    """By steps from the mean of each group, which changes no gradient."""
    x, gain, groups, dy = case.inputs.values()
    parts = x.reshape(int(groups), -1, x.shape[3])
    x = (parts - np.round(parts.mean(axis=1, keepdims=True))).reshape(x.shape)
    at = x, gain, np.zeros(len(gain))
    assert_gradients(
        lambda x, gain, bias: np.sum(normalise(x, gain, bias, int(groups)) * dy),
        at,
        case.outputs.values(),
        relative=1e-12,
    )
