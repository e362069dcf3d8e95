"""The posterior's part of a training step: draw a sample, and move by its gradient.

Compositions of the other functions, in place, which a fast engine fuses into single passes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines.contract import Adam, MeanKLBlocks, MeanVarBlocks
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
Gradients = tuple[Array, Array, Array]


def mean_kl_sample(blocks: MeanKLBlocks, seed: int, row: int, w: Array, eps: Array) -> None:
    """Fill eps with normals of a row of the stream NOISE, and w with the sample that they draw.

    Parameters
    ----------
    blocks : MeanKLBlocks
    seed, row : int
    w, eps : ndarray, shape (blocks, block_size)
        Filled.
    """
    tau, phi, rho, _, budget, nu = blocks
    eps[:] = normals(seed, Stream.NOISE, [row], eps.size).reshape(eps.shape)
    w[:] = mean_kl_forward(tau, phi, rho, budget, eps, nu)


def mean_kl_step(
    blocks: MeanKLBlocks,
    eps: Array,
    g: Array,
    adam: Adam,
    dlog_rho: Array,
    mirrored: Array | None = None,
) -> None:
    """Take one step of Adam on tau and phi, in place, from g = dL/dw.

    Parameters
    ----------
    blocks : MeanKLBlocks
        tau and phi are updated.
    eps, g : ndarray, shape (blocks, block_size)
    adam : Adam
        Its moments are updated.
    dlog_rho : ndarray, shape (tensors,)
        Filled with dL/dlog rho of each tensor.
    mirrored : ndarray, shape (blocks, block_size), optional
        dL/dw at the sample that -eps draws; the step is then one from the mean of both losses.
    """
    tau, phi, rho, tensor_of_place, budget, _ = blocks

    def backward(eps: Array, g: Array) -> Gradients:
        return mean_kl_backward(tau, phi, rho, budget, eps, g)

    dtau, dphi, by_place = _of_one_or_both(backward, eps, g, mirrored)
    _adam_in_place((tau, phi), (dtau, dphi), adam, adam.rates)
    dlog_rho[:] = np.bincount(tensor_of_place.ravel(), by_place.ravel(), minlength=len(dlog_rho))


def _of_one_or_both(
    backward: Callable[[Array, Array], Gradients], eps: Array, g: Array, mirrored: Array | None
) -> Gradients:
    """Return the gradients from the sample of eps, or the mean of those and those of -eps."""
    (a, b, c) = backward(eps, g)
    if mirrored is None:
        return a, b, c
    (d, e, f) = backward(-eps, mirrored)
    return 0.5 * (a + d), 0.5 * (b + e), 0.5 * (c + f)


def _adam_in_place(
    parameters: tuple[Array, Array],
    gradients: tuple[Array, Array],
    adam: Adam,
    rates: tuple[float | Array, float],
) -> None:
    for theta, g, (m, v), rate in zip(parameters, gradients, adam.moments, rates, strict=True):
        theta[:], m[:], v[:] = adam_step(theta, g, m, v, adam.step, rate)


def mean_var_sample(blocks: MeanVarBlocks, seed: int, row: int, w: Array, eps: Array) -> None:
    """Fill eps with normals of a row of the stream NOISE, and w with the sample that they draw.

    The parameters are those of `mean_kl_sample`.
    """
    eps[:] = normals(seed, Stream.NOISE, [row], eps.size).reshape(eps.shape)
    w[:] = mean_var_forward(blocks.mu, blocks.log_sigma, eps)


def mean_var_step(
    blocks: MeanVarBlocks,
    eps: Array,
    g: Array,
    adam: Adam,
    dlog_rho: Array,
    mirrored: Array | None = None,
) -> None:
    """Take one step of Adam on mu and log sigma of the used places, in place, from g = dL/dw.

    The parameters are those of `mean_kl_step`.  The rate of mu is in units of rho, as P has them: a
    step moves the means of every tensor by the same part.
    """
    mu, log_sigma, rho, tensor_of_place, beta, used, nu = blocks

    def backward(eps: Array, g: Array) -> Gradients:
        return mean_var_backward(mu, log_sigma, rho, beta, eps, g, nu)

    dmu, dlog_sigma, by_place = _of_one_or_both(backward, eps, g, mirrored)
    in_units = adam.rates[0] * rho, adam.rates[1]
    _adam_in_place((mu, log_sigma), (dmu * used, dlog_sigma * used), adam, in_units)
    by_place = by_place * used
    dlog_rho[:] = np.bincount(tensor_of_place.ravel(), by_place.ravel(), minlength=len(dlog_rho))
