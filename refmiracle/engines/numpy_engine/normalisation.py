"""Group normalisation, forward with its backward below it.

Activations are (channels, height, width, batch); dy, dx, dgain, dbias are gradients of the loss.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GROUP_EPSILON = 1e-5


def group_norm(x: Array, gain: Array, bias: Array, groups: int) -> Array:
    """Return (1 + gain) (x - mean) / sqrt(var + 1e-5) + bias (Wu and He 2018).

    Equation (27a) of docs/derivations.md.  Mean and variance are those of one image, over all
    places of the channels of a group; the variance is the mean of the squares of x - mean, since
    the difference of two means of squares would cancel.

    Parameters
    ----------
    x : ndarray, shape (channels, height, width, batch)
    gain, bias : ndarray, shape (channels,)
        Both 0 for plain normalised inputs.
    groups : int
        Divides the channels, of which those in a row form a group.

    Returns
    -------
    ndarray, shape of x
    """
    normal, _ = _normalised(x, groups)
    return _each(1.0 + gain) * normal + _each(bias)


def group_norm_backward(
    x: Array, gain: Array, groups: int, dy: Array
) -> tuple[Array, Array, Array]:
    """Return dx, dgain, dbias.

    Equations (27b) and (27c) of docs/derivations.md, with d = dy (1 + gain) and the normalised
    input xhat::

        dx    = (d - mean(d) - xhat mean(d xhat)) / sqrt(var + 1e-5)
        dgain = sum over places and images of dy xhat;  dbias = the same of dy
    """
    normal, deviation = _normalised(x, groups)
    d, xhat = _parts(_each(1.0 + gain) * dy, groups), _parts(normal, groups)
    mean = d.mean(axis=1, keepdims=True)
    along = (d * xhat).mean(axis=1, keepdims=True)
    dx = ((d - mean - xhat * along) / deviation).reshape(x.shape)
    return dx, (dy * normal).sum(axis=(1, 2, 3)), dy.sum(axis=(1, 2, 3))


def _normalised(x: Array, groups: int) -> tuple[Array, Array]:
    """Return (x - mean) / sqrt(var + 1e-5), and its divisor, shape (groups, 1, batch)."""
    parts = _parts(x, groups)
    centred = parts - parts.mean(axis=1, keepdims=True)
    with np.errstate(over="ignore"):
        deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + GROUP_EPSILON)
    deviation[np.isinf(deviation)] = np.nan  # by inf the bias alone would be left
    return (centred / deviation).reshape(x.shape), deviation


def _parts(x: Array, groups: int) -> Array:
    """Return maps as (groups, all values of a group, batch)."""
    channels, height, width, batch = x.shape
    return x.reshape(groups, channels // groups * height * width, batch)


def _each(values: Array) -> Array:
    """Return values of the channels so that they go with maps."""
    return values[:, None, None, None]
