"""The posterior's part of a training step: draw a sample, and move by its gradient.

Compositions of the other functions, in place, which a fast engine fuses into single passes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines.numpy_engine.layers import adam_step
from refmiracle.engines.numpy_engine.normals import normals
from refmiracle.engines.numpy_engine.posterior import (
    mean_kl_backward,
    mean_kl_forward,
    mean_var_backward,
    mean_var_forward,
)
from refmiracle.numerics.philox import Stream

Array = NDArray[np.float64]
Moments = tuple[tuple[Array, Array], tuple[Array, Array]]


def mean_kl_sample(
    tau: Array,
    phi: Array,
    rho: Array,
    budget: float,
    seed: int,
    row: int,
    w: Array,
    eps: Array,
    nu: Array | None = None,
) -> None:
    """Fill eps with normals of a row of the stream NOISE, and w with the sample that they draw.

    Parameters
    ----------
    tau, phi, rho : ndarray, shape (blocks, block_size)
    budget : float
        C, nats in each block.
    seed, row : int
    w, eps : ndarray, shape (blocks, block_size)
        Filled.
    nu : ndarray, shape (blocks, block_size), optional
        What P lies around; 0 by default.
    """
    eps[:] = normals(seed, Stream.NOISE, [row], eps.size).reshape(eps.shape)
    w[:] = mean_kl_forward(tau, phi, rho, budget, eps, nu)


def mean_kl_step(
    tau: Array,
    phi: Array,
    rho: Array,
    tensor: NDArray[np.int64],
    budget: float,
    eps: Array,
    g: Array,
    moments: Moments,
    step: int,
    rates: tuple[float, float],
    dlog_rho: Array,
) -> None:
    """Take one step of Adam on tau and phi, in place, from g = dL/dw.

    Parameters
    ----------
    tau, phi, rho, eps, g : ndarray, shape (blocks, block_size)
        tau and phi are updated.
    tensor : ndarray of int64, shape (blocks, block_size)
        Number of the tensor that each place belongs to.
    budget : float
        C, nats in each block.
    moments : pairs of ndarray
        Adam's (m, v) of tau and of phi; updated.
    step : int
        1 for the first.
    rates : pair of float
        Adam's rates for tau and for phi.
    dlog_rho : ndarray, shape (tensors,)
        Filled with dL/dlog rho of each tensor.
    """
    dtau, dphi, by_place = mean_kl_backward(tau, phi, rho, budget, eps, g)
    _adam_in_place((tau, phi), (dtau, dphi), moments, step, rates)
    dlog_rho[:] = np.bincount(tensor.ravel(), by_place.ravel(), minlength=len(dlog_rho))


def _adam_in_place(
    parameters: tuple[Array, Array],
    gradients: tuple[Array, Array],
    moments: Moments,
    step: int,
    rates: tuple[float | Array, float],
) -> None:
    for theta, g, (m, v), rate in zip(parameters, gradients, moments, rates, strict=True):
        theta[:], m[:], v[:] = adam_step(theta, g, m, v, step, rate)


def mean_var_sample(mu: Array, log_sigma: Array, seed: int, row: int, w: Array, eps: Array) -> None:
    """Fill eps with normals of a row of the stream NOISE, and w with the sample that they draw.

    All arrays have shape (blocks, block_size).
    """
    eps[:] = normals(seed, Stream.NOISE, [row], eps.size).reshape(eps.shape)
    w[:] = mean_var_forward(mu, log_sigma, eps)


def mean_var_step(
    mu: Array,
    log_sigma: Array,
    rho: Array,
    tensor: NDArray[np.int64],
    used: NDArray[np.bool_],
    beta: Array,
    eps: Array,
    g: Array,
    moments: Moments,
    step: int,
    rates: tuple[float, float],
    dlog_rho: Array,
    nu: Array | None = None,
) -> None:
    """Take one step of Adam on mu and log sigma of the used places, in place, from g = dL/dw.

    The parameters are those of `mean_kl_step` and `mean_var_backward`; `used`, of shape
    (blocks, block_size), is False where a short last block has no variables.  The rate of mu is
    in units of rho, as P has them: a step moves the means of every tensor by the same part.
    """
    dmu, dlog_sigma, by_place = mean_var_backward(mu, log_sigma, rho, beta, eps, g, nu)
    in_units = rates[0] * rho, rates[1]
    _adam_in_place((mu, log_sigma), (dmu * used, dlog_sigma * used), moments, step, in_units)
    by_place = by_place * used
    dlog_rho[:] = np.bincount(tensor.ravel(), by_place.ravel(), minlength=len(dlog_rho))
