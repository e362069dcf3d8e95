"""Gaussian targets and coding distributions as they come, and as the codes take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refmiracle.codes.given import check_shape
from refmiracle.engines.contract import Array
from refmiracle.errors import InputError


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Normals with diagonal covariance.

    Attributes
    ----------
    mean, sigma : ndarray, shape (targets, dimensions) or (targets,)
        (targets,) stands for one dimension.

    Examples
    --------
    >>> import numpy as np
    >>> from refmiracle import codes
    >>> Q = codes.Gaussian(np.array([0.5, 1.0]), np.array([0.1, 0.2]))
    >>> P = codes.Gaussian(np.zeros(2), np.ones(2))
    >>> codes.decode(codes.encode(Q, P, seed=1), P, seed=1).shape
    (2,)
    """

    mean: Array
    sigma: Array


def together(target: Gaussian, coding: Gaussian) -> tuple[Array, Array, Array, Array]:
    """Return means and deviations of targets and of their coding distributions, in one shape.

    Raises
    ------
    InputError
        If shapes do not go together, or a number is not finite or a deviation not positive.
    """
    arrays = (target.mean, target.sigma, coding.mean, coding.sigma)
    try:
        mean, sigma, centre, scale = np.broadcast_arrays(*(np.asarray(a, float) for a in arrays))
    except ValueError:
        shapes = ", ".join(str(np.shape(a)) for a in arrays)
        raise InputError(f"means and deviations of shapes {shapes} do not go together") from None
    check_shape(mean.shape)
    if not mean.size:
        raise InputError(f"targets of shape {mean.shape}: there is nothing to send")
    if not all(np.all(np.isfinite(a)) for a in (mean, sigma, centre, scale)):
        raise InputError("a target's mean or variance is not finite, or one of P is not")
    if not (np.all(sigma > 0) and np.all(scale > 0)):
        raise InputError("a standard deviation is not positive")
    return mean, sigma, centre, scale


def whitened(target: Gaussian, coding: Gaussian) -> tuple[Array, Array, tuple[int, ...]]:
    """Return targets as their coding distributions see them.

    Returns
    -------
    delta, log_s : ndarray of float64, shape (targets, dimensions)
        Means in standard deviations of P, and log variance ratios in nats.
    shape : tuple of int
        Of the targets as they came.

    Raises
    ------
    InputError
        If shapes do not go together, or a number is not finite, also in units of P, or a deviation
        not positive.
    """
    mean, sigma, centre, scale = together(target, coding)
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        delta, log_s = (mean - centre) / scale, 2.0 * np.log(sigma / scale)
    if not (np.all(np.isfinite(delta)) and np.all(np.isfinite(log_s))):
        raise InputError("a target's mean or variance is not finite in standard deviations of P")
    if mean.ndim == 1:
        return delta[:, None], log_s[:, None], mean.shape
    return delta, log_s, mean.shape
