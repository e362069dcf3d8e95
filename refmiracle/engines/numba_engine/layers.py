"""Layers of the network in float32: the contract of `numpy_engine.layers`, compiled.

The derivations stand beside the reference; here is only how the sums are ordered.  The inner
products live in `products`, in this package.
"""

from __future__ import annotations

import numba
import numpy as np

from refmiracle.engines.numba_engine.products import COMPILE, add_dots, add_products

ADAM_BETA1, ADAM_REST1 = np.float32(0.9), np.float32(0.1)
# 1 - float32(0.999) would be 1.3e-5 off 0.001.
ADAM_BETA2, ADAM_REST2 = np.float32(0.999), np.float32(0.001)
ADAM_EPSILON = np.float32(1e-8)


def single(a):
    """Return a contiguous float32 array."""
    return np.ascontiguousarray(a, dtype=np.float32)


@numba.njit(**COMPILE)
def window_offsets(channels, height, width, batch, row, kernel_height, kernel_width):
    """Offsets of the input rows that make output row `row`, in the order (kh, kw, in)."""
    offsets = np.empty(kernel_height * kernel_width * channels, np.int64)
    k = 0
    for u in range(kernel_height):
        for v in range(kernel_width):
            for c in range(channels):
                offsets[k] = ((c * height + row + u) * width + v) * batch
                k += 1
    return offsets


@numba.njit(**COMPILE)
def _conv2d(x, w, b):
    channels, height, width, batch = x.shape
    kh, kw, _, out = w.shape
    rows, columns = height - kh + 1, width - kw + 1
    y = np.empty((out, rows, columns, batch), x.dtype)
    for o in range(out):
        y[o] = b[o]
    length = columns * batch
    for i in range(rows):
        xo = window_offsets(channels, height, width, batch, i, kh, kw)
        yo = (np.arange(out) * rows + i) * length
        add_products(y.reshape(-1), yo, x.reshape(-1), xo, w.reshape(-1, out), length)
    return y


@numba.njit(**COMPILE)
def _conv2d_backward_weights(x, dy, kh, kw):
    channels, height, width, batch = x.shape
    out, rows, columns, _ = dy.shape
    length = columns * batch
    dw = np.zeros((kh, kw, channels, out), x.dtype)
    db = np.zeros(out, x.dtype)
    for i in range(rows):
        xo = window_offsets(channels, height, width, batch, i, kh, kw)
        yo = (np.arange(out) * rows + i) * length
        add_dots(x.reshape(-1), xo, dy.reshape(-1), yo, dw.reshape(-1, out), length)
    for o in range(out):
        db[o] = dy[o].sum()
    return dw, db


@numba.njit(**COMPILE)
def _conv2d_backward_input(w, dy, height, width):
    out, rows, columns, batch = dy.shape
    kh, kw, channels, _ = w.shape
    dx = np.zeros((channels, height, width, batch), dy.dtype)
    length = columns * batch
    for i in range(rows):
        yo = (np.arange(out) * rows + i) * length
        for u in range(kh):
            for v in range(kw):
                xo = ((np.arange(channels) * height + i + u) * width + v) * batch
                add_products(dx.reshape(-1), xo, dy.reshape(-1), yo, w[u, v].T, length)
    return dx


def conv2d(x, w, b):
    """See `numpy_engine.layers.conv2d`; float32."""
    return _conv2d(single(x), single(w), single(b))


def conv2d_backward(x, w, dy, need_dx=True):
    """See `numpy_engine.layers.conv2d_backward`; float32."""
    x, w, dy = single(x), single(w), single(dy)
    dw, db = _conv2d_backward_weights(x, dy, w.shape[0], w.shape[1])
    dx = _conv2d_backward_input(w, dy, x.shape[1], x.shape[2]) if need_dx else None
    return dx, dw, db


@numba.njit(**COMPILE)
def _maxpool2d(x):
    channels, height, width, batch = x.shape
    y = np.empty((channels, height // 2, width // 2, batch), x.dtype)
    winner = np.empty(y.shape, np.uint8)
    for c in range(channels):
        for i in range(height // 2):
            for j in range(width // 2):
                x0, x1 = x[c, 2 * i, 2 * j], x[c, 2 * i, 2 * j + 1]
                x2, x3 = x[c, 2 * i + 1, 2 * j], x[c, 2 * i + 1, 2 * j + 1]
                top, which = y[c, i, j], winner[c, i, j]
                for n in range(batch):
                    t, k = x0[n], np.uint8(0)
                    k = np.uint8(1) if x1[n] > t else k
                    t = max(x1[n], t)
                    k = np.uint8(2) if x2[n] > t else k
                    t = max(x2[n], t)
                    k = np.uint8(3) if x3[n] > t else k
                    top[n], which[n] = max(x3[n], t), k
    return y, winner


@numba.njit(**COMPILE)
def _maxpool2d_backward(dy, winner, height, width):
    channels, rows, columns, batch = dy.shape
    dx = np.zeros((channels, height, width, batch), dy.dtype)
    zero = dy.dtype.type(0)
    for c in range(channels):
        for i in range(rows):
            for j in range(columns):
                x0, x1 = dx[c, 2 * i, 2 * j], dx[c, 2 * i, 2 * j + 1]
                x2, x3 = dx[c, 2 * i + 1, 2 * j], dx[c, 2 * i + 1, 2 * j + 1]
                g, which = dy[c, i, j], winner[c, i, j]
                for n in range(batch):
                    x0[n] = g[n] if which[n] == 0 else zero
                    x1[n] = g[n] if which[n] == 1 else zero
                    x2[n] = g[n] if which[n] == 2 else zero
                    x3[n] = g[n] if which[n] == 3 else zero
    return dx


def maxpool2d(x):
    """See `numpy_engine.layers.maxpool2d`; float32."""
    return _maxpool2d(single(x))


def maxpool2d_backward(dy, winner, shape):
    """See `numpy_engine.layers.maxpool2d_backward`; float32."""
    return _maxpool2d_backward(single(dy), winner, shape[1], shape[2])


# The three products of a dense layer run along the outputs or along the batch, whichever is the
# longer row for the vector units.


@numba.njit(**COMPILE)
def _dense(x, w, b):
    inputs, batch = x.shape
    out = w.shape[1]
    if out < batch:
        y = np.empty((out, batch), x.dtype)
        for o in range(out):
            y[o] = b[o]
        yo, xo = np.arange(out) * batch, np.arange(inputs) * batch
        add_products(y.reshape(-1), yo, x.reshape(-1), xo, w, batch)
        return y
    columns = np.empty((batch, out), x.dtype)
    for n in range(batch):
        columns[n] = b
    co, wo = np.arange(batch) * out, np.arange(inputs) * out
    add_products(columns.reshape(-1), co, w.reshape(-1), wo, x, out)
    return np.ascontiguousarray(columns.T)


@numba.njit(**COMPILE)
def _dense_backward_weights(x, dy):
    inputs, batch = x.shape
    out = dy.shape[0]
    dw = np.zeros((inputs, out), x.dtype)
    db = np.empty(out, x.dtype)
    for o in range(out):
        db[o] = dy[o].sum()
    if out < batch:
        xo, yo = np.arange(inputs) * batch, np.arange(out) * batch
        add_dots(x.reshape(-1), xo, dy.reshape(-1), yo, dw, batch)
    else:
        columns = np.ascontiguousarray(dy.T)
        wo, co = np.arange(inputs) * out, np.arange(batch) * out
        add_products(dw.reshape(-1), wo, columns.reshape(-1), co, x.T, out)
    return dw, db


@numba.njit(**COMPILE)
def _dense_backward_input(w, dy):
    out, batch = dy.shape
    inputs = w.shape[0]
    dx = np.zeros((inputs, batch), dy.dtype)
    if out < batch:
        xo, yo = np.arange(inputs) * batch, np.arange(out) * batch
        add_products(dx.reshape(-1), xo, dy.reshape(-1), yo, w.T, batch)
    else:
        columns = np.ascontiguousarray(dy.T)
        wo, co = np.arange(inputs) * out, np.arange(batch) * out
        add_dots(w.reshape(-1), wo, columns.reshape(-1), co, dx, out)
    return dx


def dense(x, w, b):
    """See `numpy_engine.layers.dense`; float32."""
    return _dense(single(x), single(w), single(b))


def dense_backward(x, w, dy, need_dx=True):
    """See `numpy_engine.layers.dense_backward`; float32."""
    x, w, dy = single(x), single(w), single(dy)
    dw, db = _dense_backward_weights(x, dy)
    return (_dense_backward_input(w, dy) if need_dx else None), dw, db


def images(pixels):
    """See `numpy_engine.layers.images`; float32."""
    x = np.ascontiguousarray(pixels.transpose(1, 2, 0), dtype=np.float32)[None]
    x *= np.float32(1.0 / 255.0)
    x -= np.float32(0.5)
    return x


def relu(x):
    """See `numpy_engine.layers.relu`; float32."""
    return np.maximum(single(x), np.float32(0))


def relu_backward(y, dy):
    """See `numpy_engine.layers.relu_backward`; float32."""
    return single(dy) * (y > 0)


def softmax_cross_entropy(logits, labels):
    """See `numpy_engine.layers.softmax_cross_entropy`; float32."""
    z = single(logits)
    z = z - z.max(axis=0)
    log_total = np.log(np.exp(z).sum(axis=0))
    batch = np.arange(len(labels))
    dlogits = np.exp(z - log_total)
    dlogits[labels, batch] -= np.float32(1)
    return log_total - z[labels, batch], dlogits


@numba.njit(**COMPILE)
def _adam(theta, g, m, v, rate, correction1, correction2):
    for i in range(theta.size):
        m[i] = ADAM_BETA1 * m[i] + ADAM_REST1 * g[i]
        v[i] = ADAM_BETA2 * v[i] + ADAM_REST2 * g[i] * g[i]
        theta[i] -= rate * (m[i] * correction1) / (np.sqrt(v[i] * correction2) + ADAM_EPSILON)


def adam_step(theta, g, m, v, step, rate):
    """See `numpy_engine.layers.adam_step`; float32."""
    theta, m, v = (np.array(a, dtype=np.float32, order="C") for a in (theta, m, v))
    corrections = (np.float32(1 / (1 - b**step)) for b in (0.9, 0.999))
    _adam(
        theta.reshape(-1),
        single(g).reshape(-1),
        m.reshape(-1),
        v.reshape(-1),
        np.float32(rate),
        *corrections,
    )
    return theta, m, v
