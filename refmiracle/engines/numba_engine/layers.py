"""Layers of the network in float32: the contract of `numpy_engine.layers`, compiled.

The derivations stand beside the reference.  The products are those of `convolution` and `matrix`,
on slices of samples: arrays are brought to slices and back here.  Whole networks do without that
(`plan`).
"""

from __future__ import annotations

import numpy as np

from refmiracle.engines.numba_engine import convolution, matrix, normalisation, strided
from refmiracle.engines.numba_engine.compiling import compiled
from refmiracle.engines.numba_engine.elementary import COMPILE
from refmiracle.engines.numba_engine.slices import aligned, from_slices, slices_of, to_slices
from refmiracle.engines.numba_engine.tiles import DOTS, TILE, TILE_FLOATS, groups_of
from refmiracle.engines.numba_engine.vector import LANES


def single(a):
    """Return a contiguous float32 array."""
    return np.ascontiguousarray(a, dtype=np.float32)


def conv2d(x, w, b, stride=1, padding=0, groups=1):
    """See `numpy_engine.layers.conv2d`; float32."""
    x, w = single(x), single(w)
    if (stride, padding, groups) != (1, 0, 1):
        y = strided.conv2d(x, w, stride, padding, groups)
        return y + single(b)[:, None, None, None]
    kh, kw, channels, units = w.shape
    _, height, width, batch = x.shape
    rows, columns = height - kh + 1, width - kw + 1
    slices = slices_of(batch)
    table = aligned(groups_of(units) * TILE * channels * kh * kw)
    convolution.pack_forward(w.reshape(-1), (kh, kw), channels, units, table)
    y = aligned(slices * units * rows * columns * LANES)
    convolution.convolve(
        table, to_slices(x), x.shape[:3], (kh, kw), units, slices, aligned(TILE_FLOATS), y
    )
    return from_slices(y, (units, rows, columns, batch)) + single(b)[:, None, None, None]


def conv2d_backward(x, w, dy, need_dx=True, stride=1, padding=0, groups=1):
    """See `numpy_engine.layers.conv2d_backward`; float32."""
    x, w, dy = single(x), single(w), single(dy)
    if (stride, padding, groups) != (1, 0, 1):
        dx, dw = strided.conv2d_backward(x, w, dy, need_dx, stride, padding, groups)
        return dx, dw, dy.sum(axis=(1, 2, 3))
    kh, kw, channels, units = w.shape
    kernel, shape, slices = (kh, kw), x.shape[:3], slices_of(x.shape[-1])
    tile, planes = aligned(TILE_FLOATS), to_slices(dy, spare=1)
    dx = None
    if need_dx:
        table = aligned(groups_of(channels) * TILE * units * kh * kw)
        convolution.pack_backward(w.reshape(-1), kernel, channels, units, table)
        dx = aligned(slices * channels * shape[1] * shape[2] * LANES)
        convolution.input_gradient(table, planes, shape, kernel, units, slices, tile, dx)
        dx = from_slices(dx, x.shape)
    dw, flat = np.zeros_like(w), to_slices(x)
    plane = planes.size // max(1, slices * units)
    for to in range(0, units, DOTS):
        convolution.weight_gradient(
            flat,
            0,
            planes,
            to * plane,
            units * plane,
            shape,
            kernel,
            units,
            to,
            slices,
            tile,
            dw.reshape(-1),
        )
    return dx, dw, dy.sum(axis=(1, 2, 3))


@compiled(**COMPILE)
def _above(a, b):
    """Tell whether a > b, NaN being above every number and not above NaN."""
    return a > b or (np.isnan(a) and not np.isnan(b))


@compiled(**COMPILE)
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
                    k, t = (np.uint8(1), x1[n]) if _above(x1[n], t) else (k, t)
                    k, t = (np.uint8(2), x2[n]) if _above(x2[n], t) else (k, t)
                    k, t = (np.uint8(3), x3[n]) if _above(x3[n], t) else (k, t)
                    top[n], which[n] = t, k
    return y, winner


@compiled(**COMPILE)
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


def mean_pool2d(x, height, width):
    """See `numpy_engine.layers.mean_pool2d`; float32."""
    return normalisation.mean_pool2d(single(x), height, width)


def mean_pool2d_backward(dy, height, width, shape):
    """See `numpy_engine.layers.mean_pool2d_backward`; float32."""
    return normalisation.mean_pool2d_backward(single(dy), height, width, shape[1], shape[2])


def group_norm(x, gain, bias, groups):
    """See `numpy_engine.normalisation.group_norm`; float32."""
    return normalisation.group_norm(single(x), single(gain), single(bias), groups)


def group_norm_backward(x, gain, groups, dy):
    """See `numpy_engine.normalisation.group_norm_backward`; float32."""
    return normalisation.group_norm_backward(single(x), single(gain), groups, single(dy))


def dense(x, w, b):
    """See `numpy_engine.layers.dense`; float32."""
    x, w = single(x), single(w)
    (inputs, units), batch = w.shape, x.shape[-1]
    slices = slices_of(batch)
    table, y = aligned(groups_of(units) * TILE * inputs), aligned(slices * units * LANES)
    matrix.pack_forward(w.reshape(-1), inputs, units, table)
    matrix.multiply_slices(table, to_slices(x), inputs, units, slices, aligned(TILE_FLOATS), y)
    return from_slices(y, (units, batch)) + single(b)[:, None]


def dense_backward(x, w, dy, need_dx=True):
    """See `numpy_engine.layers.dense_backward`; float32."""
    x, w, dy = single(x), single(w), single(dy)
    (inputs, units), slices = w.shape, slices_of(x.shape[-1])
    tile, columns = aligned(TILE_FLOATS), to_slices(dy)
    dw, dx = np.empty_like(w), None
    matrix.multiply_samples(
        to_slices(x),
        columns,
        inputs,
        units,
        slices,
        aligned(groups_of(inputs) * TILE * LANES * slices),
        aligned(matrix.strip_of(units) * LANES * slices),
        tile,
        dw.reshape(-1),
    )
    if need_dx:
        table, dx = aligned(groups_of(inputs) * TILE * units), aligned(slices * inputs * LANES)
        matrix.pack_backward(w.reshape(-1), inputs, units, table)
        matrix.multiply_slices(table, columns, units, inputs, slices, tile, dx)
        dx = from_slices(dx, x.shape)
    return dx, dw, dy.sum(axis=1)


def images(pixels):
    """See `numpy_engine.layers.images`; float32."""
    x = pixels.transpose(1, 2, 3, 0) if pixels.ndim == 4 else pixels.transpose(1, 2, 0)[None]
    x = np.ascontiguousarray(x, dtype=np.float32)
    x *= np.float32(1.0 / 255.0)
    x -= np.float32(0.5)
    return x


def relu(x):
    """See `numpy_engine.layers.relu`; float32."""
    return np.maximum(single(x), np.float32(0))


def relu_backward(y, dy):
    """See `numpy_engine.layers.relu_backward`; float32."""
    zero, nan = np.float32(0), np.float32(np.nan)
    return np.where(y > 0, single(dy), np.where(np.isnan(y), nan, zero))


def softmax_cross_entropy(logits, labels):
    """See `numpy_engine.layers.softmax_cross_entropy`; float32."""
    z = single(logits)
    batch, top = np.arange(len(labels)), z.argmax(axis=0)
    z = z - z[top, batch]
    e = np.exp(z)
    dlogits = e / e.sum(axis=0)
    dlogits[labels, batch] = 0
    dlogits[labels, batch] = -dlogits.sum(axis=0)
    e[top, batch] = 0
    return np.log1p(e.sum(axis=0)) - z[labels, batch], dlogits
