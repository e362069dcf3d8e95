"""Gaussian posteriors over blocks of weights, forward and backward, derived by hand.

Everything is whitened by the coding distribution P = N(nu, rho^2): delta = (mu - nu) / rho and
s = sigma^2 / rho^2, so that the divergence and the random code see neither nu nor rho.  Without
nu, P lies around 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refmiracle.numerics import variance

Array = NDArray[np.float64]


def gaussian_kl(delta: Array, log_s: Array) -> Array:
    """Return KL[N(mu, sigma^2) || N(nu, rho^2)] in nats, for each weight.

    KL = (delta^2 + s - 1 - log s) / 2, where s - 1 - log s is summed as a series near s = 1, so
    that a budget of 1e-12 nats is still right to 12 digits.  Equation (3) of docs/derivations.md.

    Parameters
    ----------
    delta : ndarray of float64
        (mu - nu) / rho.
    log_s : ndarray of float64, same shape
        log(sigma^2 / rho^2).
    """
    return 0.5 * (delta**2 + variance.exp_excess(-log_s))


def softmax(phi: Array) -> Array:
    """Return exp(phi) normalised over each row."""
    e = np.exp(phi - phi.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def others(x: Array) -> Array:
    """Return for each element the sum of the others in its row, in which it never was.

    What is before it and what is behind it, each summed up: equation (21b) of docs/derivations.md.
    """
    none = np.zeros((len(x), 1))
    before = np.cumsum(np.hstack([none, x[:, :-1]]), axis=1)
    behind = np.cumsum(np.hstack([none, x[:, :0:-1]]), axis=1)[:, ::-1]
    return before + behind


def sech(tau: Array) -> Array:
    """Return 1 / cosh(tau) without overflow."""
    e = np.exp(-np.abs(tau))
    return 2.0 * e / (1.0 + e**2)


def mean_kl(tau: Array, phi: Array, budget: float) -> tuple[Array, Array]:
    """Return the whitened posterior (delta, log s) whose blocks spend exactly `budget` nats.

    With kappa = C softmax(phi) and r = sqrt(2 kappa)::

        delta = r tanh(tau);  s = s(r sech(tau))

    The mean uses r^2 tanh^2(tau) of the 2 kappa that a weight may spend, and the variance the
    rest, r^2 sech^2(tau) = x^2.  arXiv 2307.07816 parameterizes by mean and KL; that the split
    is a softmax and a tanh is our construction: equations (4) to (7) of docs/derivations.md.

    Parameters
    ----------
    tau, phi : ndarray of float64, shape (blocks, block_size)
    budget : float
        C, nats in each block.

    Returns
    -------
    delta, log_s : ndarray of float64, shape (blocks, block_size)
    """
    r = np.sqrt(2.0 * budget) * np.sqrt(softmax(phi))  # each by itself: kappa may underflow
    return r * np.tanh(tau), variance.log_s(r * sech(tau))


def mean_kl_forward(
    tau: Array, phi: Array, rho: Array, budget: float, eps: Array, nu: Array | None = None
) -> Array:
    """Return the sample w = mu + sigma eps = nu + rho (delta + sqrt(s) eps).

    Equation (8) of docs/derivations.md.

    Parameters
    ----------
    tau, phi, rho, eps : ndarray of float64, shape (blocks, block_size)
    budget : float
        C, nats in each block.
    nu : ndarray of float64, shape (blocks, block_size), optional
        What P lies around; 0 by default.
    """
    delta, log_s = mean_kl(tau, phi, budget)
    change = rho * (delta + np.exp(0.5 * log_s) * eps)
    return change if nu is None else nu + change


def mean_kl_backward(
    tau: Array, phi: Array, rho: Array, budget: float, eps: Array, g: Array
) -> tuple[Array, Array, Array]:
    """Return dL/dtau, dL/dphi and dL/dlog rho (for each weight) from g = dL/dw.

    With w = rho (r tanh tau + sqrt(s(x)) eps), x = r sech tau and ds/dx = -2 x s / (1 - s)::

        q           := eps / (2 sqrt s) ds/dx = -eps sqrt(s) x / (1 - s)
        dL/dtau      = g rho (r sech^2 tau - q x tanh tau)             as dx/dtau = -x tanh tau
        G := dL/dr   = g rho (tanh tau + q sech tau)
        dL/dphi_j    = (r_j/2) G_j sum_(i != j) p_i                    as dr_i/dphi_j
                       - p_j sum_(i != j) (r_i/2) G_i       = (r_i/2) (1[i=j] - p_j), p = kappa / C
        dL/dlog rho  = g (w - nu)                                      whatever nu is

    The sums leave out j: its own term, in both parts, would swallow the rest where p_j is near 1.
    Equations (17) to (20), (21a) and (22) of docs/derivations.md.  All arrays have shape
    (blocks, block_size); `budget` is C, in nats.
    """
    share = softmax(phi)
    r = np.sqrt(2.0 * budget) * np.sqrt(share)
    t, h = np.tanh(tau), sech(tau)
    x = r * h
    log_s = variance.log_s(x)
    root_s = np.exp(0.5 * log_s)
    q = -eps * root_s * variance.half_slope_ratio(x, log_s)
    dtau = g * rho * (r * h**2 - q * x * t)
    half_rg = 0.5 * r * g * rho * (t + q * h)
    dphi = half_rg * others(share) - share * others(half_rg)
    dlog_rho = g * rho * (r * t + root_s * eps)
    return dtau, dphi, dlog_rho


def mean_var_forward(mu: Array, log_sigma: Array, eps: Array) -> Array:
    """Return w = mu + sigma eps, all of shape (blocks, block_size)."""
    return mu + np.exp(log_sigma) * eps


def mean_var_backward(
    mu: Array,
    log_sigma: Array,
    rho: Array,
    beta: Array,
    eps: Array,
    g: Array,
    nu: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Return the gradients of loss + sum_b beta_b KL_b by mu, log sigma and log rho.

    With delta = (mu - nu) / rho and s = sigma^2 / rho^2, KL = (delta^2 + s - 1 - log s) / 2::

        d/dmu        = g + beta delta / rho
        d/dlog sigma = g sigma eps + beta (s - 1)
        d/dlog rho   = beta (1 - s - delta^2)           the sample does not depend on rho

    Equation (23) of docs/derivations.md.

    Parameters
    ----------
    mu, log_sigma, rho, eps, g : ndarray of float64, shape (blocks, block_size)
    beta : ndarray of float64, shape (blocks,)
        The penalty of each block, per nat.
    nu : ndarray of float64, shape (blocks, block_size), optional
        What P lies around; 0 by default.
    """
    sigma = np.exp(log_sigma)
    delta, s = (mu if nu is None else mu - nu) / rho, (sigma / rho) ** 2
    b = beta[:, None]
    return g + b * delta / rho, g * sigma * eps + b * (s - 1.0), b * (1.0 - s - delta**2)


def expand_hash(variables: Array, places: NDArray[np.int64], signs: Array) -> Array:
    """Return weight i = sign_i variable[place_i] (hashing trick, Chen et al. 2015).

    Equation (31) of docs/derivations.md.

    Parameters
    ----------
    variables : ndarray of float64
        The coded variables, any shape; read as flat.
    places : ndarray of int, shape (weights,)
        Where in `variables` each weight stands.
    signs : ndarray, shape (weights,)
        +1 or -1.
    """
    return signs * variables.ravel()[places]


def expand_hash_backward(g: Array, places: NDArray[np.int64], signs: Array, count: int) -> Array:
    """Return dL/dvariable_p = sum over the weights i at place p of sign_i g_i; shape (count,).

    Equation (32) of docs/derivations.md.
    """
    return np.bincount(places, weights=signs * g, minlength=count).astype(np.float64)
