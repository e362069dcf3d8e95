"""A second source for the golden cases with NaN, infinities or subnormal numbers.

Each formula stands here as plain sums of products, one after the other, of Python's or NumPy's
float64, which follow IEEE 754: what they make of a NaN is what the case must say.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import scipy.special

from refmiracle.conformance.operations import OPERATIONS
from refmiracle.conformance.vectors import all_cases, default_golden, load_golden

FILES = load_golden(default_golden())
SPECIAL = [
    c
    for c in all_cases(FILES)
    if [*map(int, c.since.split("."))] >= [1, 3]
    and c.outputs
    and {"not-finite", "denormal", "signed-zero"} & set(c.flags)
]


def correlate(x, w, b):
    """y[o, i, j, n] = b[o] + sum over u, v, c of w[u, v, c, o] x[c, i + u, j + v, n]."""
    kh, kw, channels, outputs = w.shape
    y = np.zeros((outputs, x.shape[1] - kh + 1, x.shape[2] - kw + 1, x.shape[3]))
    for o, i, j, n in np.ndindex(y.shape):
        terms = product(range(kh), range(kw), range(channels))
        y[o, i, j, n] = b[o] + sum(w[u, v, c, o] * x[c, i + u, j + v, n] for u, v, c in terms)
    return y


def correlate_backward(x, w, dy):
    kh, kw = w.shape[:2]
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for (o, i, j, n), u, v, c in product(np.ndindex(dy.shape), range(kh), range(kw), range(len(x))):
        dx[c, i + u, j + v, n] += w[u, v, c, o] * dy[o, i, j, n]
        dw[u, v, c, o] += x[c, i + u, j + v, n] * dy[o, i, j, n]
    return dx, dw, np.array([sum(plane.ravel().tolist()) for plane in dy])


def reads(x, w, y, stride, padding, groups):
    """Yield output, place in the kernel and input of each product that reads no zero around x."""
    (kh, kw, fan, outputs), (_, height, width, _) = w.shape, x.shape
    for (o, i, j, n), u, v, a in product(np.ndindex(y.shape), range(kh), range(kw), range(fan)):
        r, e = stride * i + u - padding, stride * j + v - padding
        if 0 <= r < height and 0 <= e < width:
            yield (o, i, j, n), (u, v, a, o), (o // (outputs // groups) * fan + a, r, e, n)


def conv2d_general(x, w, b, stride, padding, groups):
    rows, columns = (
        (n + 2 * padding - k) // stride + 1 for n, k in zip(x.shape[1:3], w.shape, strict=False)
    )
    y = np.zeros((w.shape[3], rows, columns, x.shape[3])) + b[:, None, None, None]
    for at, kernel, place in reads(x, w, y, stride, padding, groups):
        y[at] += w[kernel] * x[place]
    return y


def conv2d_general_backward(x, w, dy, stride, padding, groups):
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for at, kernel, place in reads(x, w, dy, stride, padding, groups):
        dx[place] += w[kernel] * dy[at]
        dw[kernel] += x[place] * dy[at]
    return dx, dw, np.array([sum(plane.ravel().tolist()) for plane in dy])


def mean_pool2d(x, height, width):
    y = np.zeros((len(x), x.shape[1] // height, x.shape[2] // width, x.shape[3]))
    for c, i, j, n in np.ndindex(y.shape):
        own = x[c, i * height : (i + 1) * height, j * width : (j + 1) * width, n]
        y[c, i, j, n] = sum(own.ravel().tolist()) / (height * width)
    return y


def mean_pool2d_backward(dy, height, width, shape):
    dx = np.zeros(shape)
    for c, i, j, n in np.ndindex(dy.shape):
        dx[c, i * height : (i + 1) * height, j * width : (j + 1) * width, n] = dy[c, i, j, n] / (
            height * width
        )
    return dx


def normalised(x, groups):
    """xhat and what it is divided by, each of the shape of x."""
    xhat, root, size = np.zeros(x.shape), np.zeros(x.shape), len(x) // groups
    for g, n in product(range(groups), range(x.shape[3])):
        own = np.s_[g * size : (g + 1) * size, :, :, n]
        values = x[own].ravel().tolist()
        mean = sum(values) / len(values)
        root[own] = np.sqrt(sum((v - mean) ** 2 for v in values) / len(values) + 1e-5)
        xhat[own] = (x[own] - mean) / root[own]
    return xhat, root


def each(values):
    return values[:, None, None, None]


def group_norm(x, gain, bias, groups):
    return each(1.0 + gain) * normalised(x, int(groups))[0] + each(bias)


def group_norm_backward(x, gain, groups, dy):
    """Equations (27b) and (27c) of docs/derivations.md."""
    (xhat, root), size = normalised(x, int(groups)), len(x) // int(groups)
    d, dx = each(1.0 + gain) * dy, np.zeros(x.shape)
    for g, n in product(range(int(groups)), range(x.shape[3])):
        own = np.s_[g * size : (g + 1) * size, :, :, n]
        dx[own] = d[own] - np.mean(d[own]) - xhat[own] * np.mean(d[own] * xhat[own])
    return dx / root, (dy * xhat).sum(axis=(1, 2, 3)), dy.sum(axis=(1, 2, 3))


def column(x):
    return x[:, None, None, :]


def dense(x, w, b):
    return correlate(column(x), w[None, None], b)[:, 0, 0]


def dense_backward(x, w, dy):
    dx, dw, db = correlate_backward(column(x), w[None, None], column(dy))
    return dx[:, 0, 0], dw[0, 0], db


def window(x, c, i, j, n):
    """The places of a window, row by row, and which of them has the first maximum or NaN."""
    places = [(c, 2 * i + u, 2 * j + v, n) for u, v in product((0, 1), repeat=2)]
    values = [float(x[p]) for p in places]
    best = next((v for v in values if math.isnan(v)), None)
    top = max(values) if best is None else best
    same = [v == top or (math.isnan(v) and math.isnan(top)) for v in values]
    return top, places[same.index(True)]


def maxpool2d(x):
    y = np.zeros((len(x), x.shape[1] // 2, x.shape[2] // 2, x.shape[3]))
    for place in np.ndindex(y.shape):
        y[place], _ = window(x, *place)
    return y


def maxpool2d_backward(x, dy):
    dx = np.zeros_like(x)
    for place in np.ndindex(dy.shape):
        dx[window(x, *place)[1]] = dy[place]
    return dx


def relu(x):
    return np.array([0.0 if v <= 0.0 else v for v in x.ravel().tolist()]).reshape(x.shape)


def relu_backward(x, dy):
    pairs = zip(x.ravel().tolist(), dy.ravel().tolist(), strict=True)
    return np.array([0.0 if v <= 0.0 else g for v, g in pairs]).reshape(x.shape)


def softmax_cross_entropy(logits, labels):
    top = np.where(np.isnan(logits).any(axis=0), np.nan, logits.max(axis=0))
    e = np.exp(logits - top)
    p, z = e / e.sum(axis=0), (logits - top)[labels, range(len(labels))]
    losses = np.log(e.sum(axis=0)) - z
    p[labels, range(len(labels))] -= 1.0
    return losses, p


def adam_step(theta, g, m, v, step, rate):
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    root = np.sqrt(v / (1 - 0.999**step))
    return theta - rate * (m / (1 - 0.9**step)) / (root + 1e-8), m, v


def log_s(x):
    s = -scipy.special.lambertw(-np.exp(-1.0 - x**2)).real
    return np.where(x == 0.0, 0.0, np.log(s))


def ds_dx(x):
    s = np.exp(log_s(x))
    return np.where(x == 0.0, -math.sqrt(2.0), -2.0 * x * s / np.where(s == 1.0, 1.0, 1.0 - s))


def gaussian_kl(delta, log_s):
    return 0.5 * (delta**2 + np.exp(log_s) - 1.0 - log_s)


def share_of(phi):
    e = np.exp(phi - phi.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def mean_kl(tau, phi, budget):
    r = np.sqrt(2.0 * budget * share_of(phi))
    x = r / np.cosh(tau)
    return r * np.tanh(tau), log_s(x)


def mean_kl_forward(tau, phi, rho, budget, eps):
    delta, log_variance = mean_kl(tau, phi, budget)
    return rho * (delta + np.exp(0.5 * log_variance) * eps)


def mean_kl_backward(tau, phi, rho, budget, eps, g):
    """Equations (17) to (22) of docs/derivations.md."""
    share = share_of(phi)
    r, h, t = np.sqrt(2.0 * budget * share), 1.0 / np.cosh(tau), np.tanh(tau)
    s = np.exp(log_s(r * h))
    q = -eps * np.sqrt(s) * r * h / (1.0 - s)
    terms = 0.5 * r * g * rho * (t + q * h)
    dphi = terms - share * terms.sum(axis=1, keepdims=True)
    w = mean_kl_forward(tau, phi, rho, budget, eps)
    return g * rho * (r * h**2 - q * r * h * t), dphi, g * w


def mean_var_forward(mu, log_sigma, eps):
    return mu + np.exp(log_sigma) * eps


def mean_var_backward(mu, log_sigma, rho, beta, eps, g):
    sigma, b = np.exp(log_sigma), beta[:, None]
    delta, s = mu / rho, (sigma / rho) ** 2
    return g + b * delta / rho, g * sigma * eps + b * (s - 1.0), b * (1.0 - s - delta**2)


def expand_hash(variables, places, signs):
    return signs * variables[places]


def expand_hash_backward(g, places, signs, count):
    out = np.zeros(int(count))
    for value, place, sign in zip(g, places, signs, strict=True):
        out[place] += sign * value
    return out


def log_weights(candidates, delta, log_s):
    z, d, ls = candidates[None], delta[:, None], log_s[:, None]
    return (0.5 * (z**2 - (z - d) ** 2 * np.exp(-ls) - ls)).sum(axis=2)


def normal_quantile(p):
    return np.where((p > 0.0) & (p < 1.0), scipy.special.ndtri(p), np.nan)


FORMULAS = {
    f.__name__: f
    for f in (
        maxpool2d,
        maxpool2d_backward,
        conv2d_general,
        conv2d_general_backward,
        mean_pool2d,
        mean_pool2d_backward,
        group_norm,
        group_norm_backward,
        relu,
        relu_backward,
        dense,
        dense_backward,
        softmax_cross_entropy,
        adam_step,
        log_s,
        ds_dx,
        gaussian_kl,
        mean_kl,
        mean_kl_forward,
        mean_kl_backward,
        mean_var_forward,
        mean_var_backward,
        expand_hash,
        expand_hash_backward,
        log_weights,
        normal_quantile,
    )
} | {"conv2d": correlate, "conv2d_backward": correlate_backward}


@pytest.mark.parametrize("case", SPECIAL, ids=lambda c: c.id)
def test_special_numbers_by_plain_formulas(case):
    operation = case.id.split("/")[1]
    if operation.startswith("loss_and_grads"):
        assert all(np.isnan(value) for value in case.outputs.values())
        return
    with np.errstate(all="ignore"):
        got = FORMULAS[operation](*case.inputs.values())
    got = got if isinstance(got, tuple) else (got,)
    # What is subnormal is a whole multiple of the smallest number, or is rounded to one; that of
    # float32 is computed in float64, where a sum may cancel to less.
    tiny = 1e-50 if "float32" in case.dtypes else 4 * 5e-324
    least = tiny if "denormal" in case.flags else 1e-12
    for value, want in zip(got, case.outputs.values(), strict=True):
        np.testing.assert_allclose(value, want, rtol=1e-9, atol=least)


def test_every_operation_with_floats_has_special_numbers():
    """Rows of bits have none, and files only finite scales; a trajectory is many steps.

    What lies around nu is what lies around 0, and a sum.
    """
    bare = {"codebook", "images", "decode_blocks", "train_steps", "encode_model", "predict"}
    with_floats = {
        c.id.split("/")[1]
        for c in all_cases(FILES)
        if any(a.dtype.kind == "f" for a in (*c.inputs.values(), *c.outputs.values()))
    }
    posed = {c.id.split("/")[1] for c in all_cases(FILES) if "not-finite" in c.flags}
    refused = {
        c.id.split("/")[1]
        for c in all_cases(FILES)
        if c.fault and any(word in c.fault for word in ("NaN", "not finite"))
    }
    stages = {o for o, known in OPERATIONS.items() if known.stage not in ("bits", "files")}
    bare |= {o for o in OPERATIONS if o.endswith("_around")}
    assert with_floats & stages - bare - posed - refused == {"partition_rows", "variable_samples"}
