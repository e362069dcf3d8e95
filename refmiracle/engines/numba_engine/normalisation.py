"""Mean pooling and group normalisation in float32, compiled.

Means and variances are taken in float64: next to a large mean, float32 would lose the spread.
"""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.numba_engine.compiling import compiled
from refmiracle.engines.numba_engine.elementary import COMPILE

EPSILON = 1e-5


@compiled(**COMPILE)
def mean_pool2d(x, height, width):
    """See `numpy_engine.layers.mean_pool2d`; row by row, so that long sums keep their digits."""
    channels, rows, columns = x.shape[0], x.shape[1] // height, x.shape[2] // width
    y = np.zeros((channels, rows, columns, x.shape[3]), x.dtype)
    row, places = np.empty(x.shape[3], x.dtype), x.dtype.type(height * width)
    for c in range(channels):
        for i in range(rows):
            for j in range(columns):
                sums = y[c, i, j]
                for u in range(i * height, (i + 1) * height):
                    row[:] = 0
                    for v in range(j * width, (j + 1) * width):
                        read = x[c, u, v]
                        for n in range(len(row)):
                            row[n] += read[n]
                    for n in range(len(row)):
                        sums[n] += row[n]
                for n in range(len(row)):
                    sums[n] /= places
    return y


@compiled(**COMPILE)
def mean_pool2d_backward(dy, height, width, tall, wide):
    """See `numpy_engine.layers.mean_pool2d_backward`."""
    channels, rows, columns, batch = dy.shape
    dx = np.zeros((channels, tall, wide, batch), dy.dtype)
    places = dy.dtype.type(height * width)
    for c in range(channels):
        for i in range(rows * height):
            for j in range(columns * width):
                own, share = dx[c, i, j], dy[c, i // height, j // width]
                for n in range(batch):
                    own[n] = share[n] / places
    return dx


@compiled(**COMPILE)
def _moments(parts, mean, factor):
    """Fill the mean and 1 / sqrt(var + 1e-5) of each group of each image, (groups, batch)."""
    groups, count, batch = parts.shape
    for g in range(groups):
        m, f = mean[g], factor[g]
        for k in range(count):
            for n in range(batch):
                m[n] += parts[g, k, n]
        for n in range(batch):
            m[n] /= count
        for k in range(count):
            for n in range(batch):
                centred = parts[g, k, n] - m[n]
                f[n] += centred * centred
        for n in range(batch):
            f[n] = 1.0 / math.sqrt(f[n] / count + EPSILON)


@compiled(**COMPILE)
def group_norm(x, gain, bias, groups):
    """See `numpy_engine.normalisation.group_norm`."""
    channels, height, width, batch = x.shape
    count = channels // groups * height * width
    mean, factor = np.zeros((groups, batch)), np.zeros((groups, batch))
    _moments(x.reshape(groups, count, batch), mean, factor)
    y = np.empty(x.shape, x.dtype)
    places, out = x.reshape(channels, height * width, batch), y.reshape(-1, height * width, batch)
    for c in range(channels):
        m, f = mean[c // (channels // groups)], factor[c // (channels // groups)]
        a, b = 1.0 + gain[c], float(bias[c])
        for k in range(height * width):
            for n in range(batch):
                out[c, k, n] = a * ((places[c, k, n] - m[n]) * f[n]) + b
    return y


@compiled(**COMPILE)
def _gather(x, dy, m, f, mean, along):
    """Add to `mean` and `along` the sums of dy and dy xhat of each image; return those of all."""
    by_bias, by_gain = 0.0, 0.0
    for k in range(x.shape[0]):
        for n in range(x.shape[1]):
            g = float(dy[k, n])
            product = g * ((x[k, n] - m[n]) * f[n])
            mean[n] += g
            along[n] += product
            by_bias += g
            by_gain += product
    return by_bias, by_gain


@compiled(**COMPILE)
def group_norm_backward(x, gain, groups, dy):
    """See `numpy_engine.normalisation.group_norm_backward`."""
    channels, height, width, batch = x.shape
    size, places = channels // groups, height * width
    mean, factor = np.zeros((groups, batch)), np.zeros((groups, batch))
    _moments(x.reshape(groups, size * places, batch), mean, factor)
    dx, dgain, dbias = np.empty(x.shape, x.dtype), np.empty_like(gain), np.empty_like(gain)
    flat, flat_dy = x.reshape(channels, places, batch), dy.reshape(channels, places, batch)
    out = dx.reshape(channels, places, batch)
    sums, products = np.empty(batch), np.empty(batch)
    for g in range(groups):
        m, f = mean[g], factor[g]
        of_d, of_product = np.zeros(batch), np.zeros(batch)
        for c in range(g * size, (g + 1) * size):
            sums[:] = 0
            products[:] = 0
            dbias[c], dgain[c] = _gather(flat[c], flat_dy[c], m, f, sums, products)
            a = (1.0 + gain[c]) / (size * places)
            for n in range(batch):
                of_d[n] += a * sums[n]
                of_product[n] += a * products[n]
        for c in range(g * size, (g + 1) * size):
            a = 1.0 + gain[c]
            for k in range(places):
                for n in range(batch):
                    xhat = (flat[c, k, n] - m[n]) * f[n]
                    d = a * flat_dy[c, k, n]
                    out[c, k, n] = (d - of_d[n] - xhat * of_product[n]) * f[n]
    return dx, dgain, dbias
