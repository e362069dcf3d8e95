"""Layers of the network, each forward with its backward below it.

Activations are (channels, height, width, batch) or (features, batch); kernels (height, width,
in, out); g-arrays dy, dx, dw, db are gradients of the loss by what their name says.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ADAM_BETA1 = 0.9
ADAM_BETA2 = 0.999
ADAM_EPSILON = 1e-8


def images(pixels: NDArray[np.uint8]) -> Array:
    """Return pixel / 255 - 1/2 as activations (channels, height, width, batch).

    Parameters
    ----------
    pixels : ndarray of uint8, shape (batch, height, width) or (batch, channels, height, width)
        Without an axis of channels there is one.
    """
    x = pixels.transpose(1, 2, 3, 0) if pixels.ndim == 4 else pixels.transpose(1, 2, 0)[None]
    return x / 255.0 - 0.5


def conv2d(
    x: Array, w: Array, b: Array, stride: int = 1, padding: int = 0, groups: int = 1
) -> Array:
    """Return the cross-correlation of maps with kernels.

    y[o,i,j] = b[o] + sum_{u,v,a} w[u,v,a,o] x[f(o) + a, s i + u - p, s j + v - p]: equations (25)
    and (25a) of docs/derivations.md, with stride s, padding p, zeros outside, and f(o) the first
    input channel of o's group.

    Parameters
    ----------
    x : ndarray, shape (in, height, width, batch)
    w : ndarray, shape (kh, kw, in / groups, out)
    b : ndarray, shape (out,)
    stride, padding, groups : int
        `groups` divides in and out; of both, channels in a row form a group.

    Returns
    -------
    ndarray, shape (out, (height + 2 padding - kh) // stride + 1, ... width ..., batch)
    """
    kh, kw = w.shape[:2]
    x = _with_zeros_around(x, padding)
    rows, columns = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    y = np.zeros((w.shape[3], rows, columns, x.shape[3])) + b[:, None, None, None]
    for u, v in np.ndindex(kh, kw):
        read = x[:, u : u + stride * rows : stride, v : v + stride * columns : stride]
        for c, o in _groups_of(w, groups):
            y[o] += np.tensordot(w[u, v, :, o], read[c], axes=(0, 0))
    return y


def conv2d_backward(
    x: Array,
    w: Array,
    dy: Array,
    need_dx: bool = True,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> tuple[Array | None, Array, Array]:
    """Return dx, dw, db.  Each product of the forward sum, read for the other factor.

    Equations (26) and (26a) of docs/derivations.md, with stride s and padding p::

        dx[c,s i+u-p,s j+v-p] += sum_o w[u,v,c,o] dy[o,i,j]
        dw[u,v,c,o]            = sum_{i,j,n} x[c,s i+u-p,s j+v-p] dy[o,i,j]

    Without `need_dx`, dx is None.
    """
    _, height, width, _ = x.shape
    rows, columns = dy.shape[1:3]
    x = _with_zeros_around(x, padding)
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for u, v in np.ndindex(*w.shape[:2]):
        read = np.s_[:, u : u + stride * rows : stride, v : v + stride * columns : stride]
        for c, o in _groups_of(w, groups):
            dw[u, v, :, o] = np.tensordot(x[c][read], dy[o], axes=((1, 2, 3), (1, 2, 3)))
            if need_dx:
                dx[c][read] += np.tensordot(w[u, v, :, o], dy[o], axes=(1, 0))
    dx = dx[:, padding : padding + height, padding : padding + width]
    return (np.ascontiguousarray(dx) if need_dx else None), dw, dy.sum(axis=(1, 2, 3))


def _with_zeros_around(x: Array, padding: int) -> Array:
    """Return maps with so many rows and columns of zeros on each side."""
    sides = (padding, padding)
    return np.pad(x, ((0, 0), sides, sides, (0, 0))) if padding else x


def _groups_of(w: Array, groups: int) -> list[tuple[slice, slice]]:
    """Return the input and the output channels of each group."""
    _, _, fan, outputs = w.shape
    units = outputs // groups
    return [
        (slice(g * fan, (g + 1) * fan), slice(g * units, (g + 1) * units)) for g in range(groups)
    ]


def maxpool2d(x: Array) -> tuple[Array, NDArray[np.uint8]]:
    """Return the maximum of each 2x2 window and which of the four it was (0..3, row by row).

    Of equal maxima the first in that order wins.  NaN is above every number: the first of a
    window is its maximum.  An odd last row or column is dropped.
    """
    c, h, w, n = x.shape
    windows = x[:, : h // 2 * 2, : w // 2 * 2].reshape(c, h // 2, 2, w // 2, 2, n)
    windows = windows.transpose(0, 1, 3, 2, 4, 5).reshape(c, h // 2, w // 2, 4, n)
    return windows.max(axis=3), windows.argmax(axis=3).astype(np.uint8)


def maxpool2d_backward(dy: Array, winner: NDArray[np.uint8], shape: tuple[int, ...]) -> Array:
    """Return dx of `shape`: the gradient goes to the winner of each window, 0 to the others.

    It is handed on, not multiplied: what it is reaches the winner alone.
    """
    dx = np.zeros(shape)
    rows, columns = dy.shape[1:3]
    for k in range(4):
        u, v = divmod(k, 2)
        dx[:, u : 2 * rows : 2, v : 2 * columns : 2] = np.where(winner == k, dy, 0.0)
    return dx


def mean_pool2d(x: Array, height: int, width: int) -> Array:
    """Return the mean of each window of height x width, which lie side by side.

    Rows and columns that are left over are dropped.

    Parameters
    ----------
    x : ndarray, shape (channels, map height, map width, batch)
    height, width : int
        At most those of the map, which is then one window.

    Returns
    -------
    ndarray, shape (channels, map height // height, map width // width, batch)
    """
    c, h, w, n = x.shape
    rows, columns = h // height, w // width
    windows = x[:, : rows * height, : columns * width]
    return windows.reshape(c, rows, height, columns, width, n).mean(axis=(2, 4))


def mean_pool2d_backward(dy: Array, height: int, width: int, shape: tuple[int, ...]) -> Array:
    """Return dx of `shape`: each place of a window has an equal share of its gradient.

    Equation (26b) of docs/derivations.md; what is left over has 0.
    """
    dx = np.zeros(shape)
    share = dy / (height * width)
    spread = share.repeat(height, axis=1).repeat(width, axis=2)
    dx[:, : spread.shape[1], : spread.shape[2]] = spread
    return dx


def relu(x: Array) -> Array:
    """Return max(x, 0), NaN for NaN; the sign of a zero is free."""
    return np.maximum(x, 0.0)


def relu_backward(y: Array, dy: Array) -> Array:
    """Return dx = dy where the output y was positive, else 0 (the subgradient 0 at x = 0).

    Where y is NaN there is no slope, and dx is NaN.  Where it is 0, so is dx, whatever dy is: a
    choice, not a product.
    """
    return np.where(y > 0.0, dy, np.where(np.isnan(y), np.nan, 0.0))


def dense(x: Array, w: Array, b: Array) -> Array:
    """Return W^T x + b: x (in, batch), w (in, out), b (out,) -> (out, batch)."""
    return w.T @ x + b[:, None]


def dense_backward(
    x: Array, w: Array, dy: Array, need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """Return dx = W dy, dw = x dy^T, db = sum over the batch of dy.

    Equation (27) of docs/derivations.md; without `need_dx`, dx is None.
    """
    return (w @ dy if need_dx else None), x @ dy.T, dy.sum(axis=1)


def softmax_cross_entropy(logits: Array, labels: NDArray[np.integer]) -> tuple[Array, Array]:
    """Return the loss of each sample in nats and its gradient by the logits.

    Equations (28) and (28a) of docs/derivations.md, with the largest logit m::

        loss = log(1 + sum_(k != m) exp(z_k - z_m)) + z_m - z_label
        dloss/dz = softmax(z), and at the label softmax(z)_label - 1 = -sum of the others

    A network that is sure has both near 0: log of a sum near 1, and p - 1, would lose them.

    Parameters
    ----------
    logits : ndarray, shape (classes, batch)
    labels : ndarray of int, shape (batch,)
        Values in [0, classes).

    Returns
    -------
    losses : ndarray, shape (batch,)
    dlogits : ndarray, shape (classes, batch)
    """
    batch, top = np.arange(len(labels)), logits.argmax(axis=0)
    z = logits - logits[top, batch]
    e = np.exp(z)
    dlogits = e / e.sum(axis=0)
    dlogits[labels, batch] = 0.0
    dlogits[labels, batch] = -dlogits.sum(axis=0)
    e[top, batch] = 0.0
    return np.log1p(e.sum(axis=0)) - z[labels, batch], dlogits


def adam_step(
    theta: Array, g: Array, m: Array, v: Array, step: int, rate: float | Array
) -> tuple[Array, Array, Array]:
    """Return theta, m and v after step number `step` (1, 2, ...) of Adam (Kingma and Ba 2015).

    Equations (29) and (30) of docs/derivations.md::

        m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
        theta = theta - rate (m / (1 - b1^step)) / (sqrt(v / (1 - b2^step)) + 1e-8)

    The rate may differ from theta to theta.  At the first steps 1 - b2^step is small, and by a
    power would have the power's rounding.
    """
    m = ADAM_BETA1 * m + (1.0 - ADAM_BETA1) * g
    v = ADAM_BETA2 * v + (1.0 - ADAM_BETA2) * g**2
    m_hat = m / -math.expm1(step * math.log(ADAM_BETA1))
    v_hat = v / -math.expm1(step * math.log(ADAM_BETA2))
    return theta - rate * m_hat / (np.sqrt(v_hat) + ADAM_EPSILON), m, v
