"""One-dimensional targets whose density ratio r = dQ/dP has one mode, and the masses of codes.

All that the codes of variables ask of a target (docs/CODES.md, section 4): its log ratio, where
the mode is, the supremum of r over a region, and the mass of Q that is left above a level L.
Regions are intervals (a, b) of u = P(x), the distribution function of the coding distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.numerics.arrays import read_only
from refmiracle.numerics.limits import VARIABLE_REACH
from refmiracle.numerics.normal import normal_quantile

Array = NDArray[np.float64]
# Elementwise, of float64 numbers and arrays.
Function = Callable[[Any], Any]

HALVINGS = 60
# Below this part of its terms, Q(S) - L P(S) has lost too many digits.
FEW_DIGITS = 1e-3
# No mass of P to speak of lies beyond (1e-21), so an integral may stop there.
NORMAL_SUPPORT = 9.5
NODES, WEIGHTS = (read_only(a) for a in np.polynomial.legendre.leggauss(40))


@dataclass(frozen=True)
class Unimodal:
    """A target Q over a coding distribution P, given as functions that take arrays too.

    Attributes
    ----------
    log_ratio : x -> log r(x)
        log dQ/dP in nats; does not fall before the mode, does not rise behind it.
    mode : float
        Where r is largest.
    p_pdf, p_cdf, p_quantile : x -> density, x -> u, u -> x
        P.  The sample of uniform u is p_quantile(u).
    q_cdf : x -> Q(-inf, x)
    p_sf, q_sf : x -> P(x, inf) and Q(x, inf), optional
        To full relative accuracy; without them 1 - cdf, whose digits cancel far to the right.
    level_set : log L -> (lowest x, highest x), optional
        The ends of S(L) = {x : r(x) > L} in closed form, equal where S(L) is empty; without it
        they are found by bisection.
    support : (lowest x, highest x)
        Outside P has no mass to speak of.
    """

    log_ratio: Function
    mode: float
    p_pdf: Function
    p_cdf: Function
    p_quantile: Function
    q_cdf: Function
    p_sf: Function | None = None
    q_sf: Function | None = None
    level_set: Callable[[Array], tuple[Array, Array]] | None = None
    support: tuple[float, float] = (-math.inf, math.inf)


@lru_cache(maxsize=16)
def gaussian_target(delta: float, log_s: float) -> Unimodal:
    """Return the target Q = N(delta, s) over P = N(0, 1), with x = z - delta.

    x is counted from the mean of Q so that a tiny s loses no digits of where S(L) ends.  With
    h = (1/s - 1) / 2 >= 0,

        log r = (delta^2 - log s) / 2 + delta x - h x^2,   mode of z: delta / (1 - s)

    and S(L) lies between the roots of h x^2 - delta x - k = 0, k = log r(0) - log L, in the form
    far / h and -k / far that neither cancels nor fails for h = 0 (docs/CODES.md, section 4).

    Parameters
    ----------
    delta, log_s : float
        Whitened mean, and log variance ratio in nats, at most 0.
    """
    from scipy.special import ndtr  # noqa: PLC0415 (scipy is not loaded with the engine)

    # abs: s = 1 would give a zero with a sign, and the wrong infinity below.
    h, log_r0, sigma = abs(0.5 * math.expm1(-log_s)), 0.5 * (delta**2 - log_s), math.exp(log_s / 2)
    mode = 0.5 * delta / h if h > 0.0 else math.copysign(math.inf, delta) if delta else 0.0
    mode = min(max(mode, -VARIABLE_REACH - delta), VARIABLE_REACH - delta)

    def level_set(log_level: Array) -> tuple[Array, Array]:
        k = log_r0 - log_level
        square = delta**2 + 4.0 * h * k
        far = 0.5 * (delta + np.copysign(np.sqrt(np.maximum(square, 0.0)), delta))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            one, two = far / h, -k / far
        empty = (square < 0.0) | ((square == 0.0) & (k <= 0.0))
        # Without a slope or a curvature r is the same everywhere.
        flat = (far == 0.0) & (k > 0.0)
        lo, hi = np.minimum(one, two), np.maximum(one, two)
        return (
            np.where(empty, mode, np.where(flat, -np.inf, lo)),
            np.where(empty, mode, np.where(flat, np.inf, hi)),
        )

    return Unimodal(
        log_ratio=lambda x: log_r0 + x * (delta - h * x),
        mode=mode,
        p_pdf=lambda x: np.exp(-0.5 * (x + delta) ** 2) / math.sqrt(2.0 * math.pi),
        p_cdf=lambda x: ndtr(x + delta),
        p_sf=lambda x: ndtr(-x - delta),
        p_quantile=lambda u: normal_quantile(u) - delta,
        q_cdf=lambda x: ndtr(x / sigma),
        q_sf=lambda x: ndtr(-x / sigma),
        level_set=level_set,
        support=(-NORMAL_SUPPORT - delta, NORMAL_SUPPORT - delta),
    )


def ends(target: Unimodal, a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Return the x between which regions (a, b) of u lie; u = 0 and 1 are infinitely far."""
    u = np.stack(np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64)))
    with np.errstate(all="ignore"):
        x = target.p_quantile(u)
    x = np.where(u > 0.0, np.where(u < 1.0, x, np.inf), -np.inf)
    return x[0], x[1]


def log_sup(target: Unimodal, a: ArrayLike, b: ArrayLike) -> Array:
    """Return log of the suprema of r over regions, in nats: at the mode, or the nearer end."""
    x_a, x_b = ends(target, a, b)
    return np.asarray(target.log_ratio(np.minimum(np.maximum(target.mode, x_a), x_b)))


def level_set(target: Unimodal, log_level: ArrayLike) -> tuple[Array, Array]:
    """Return the ends (lowest x, highest x) of S(L) = {x : r(x) > L}; equal where it is empty.

    Parameters
    ----------
    target : Unimodal
    log_level : array_like of float
        log L in nats; -inf for L = 0, where S(L) is everything.
    """
    log_level = np.asarray(log_level, dtype=np.float64)
    known = np.where(log_level > -np.inf, log_level, 0.0)
    lo, hi = (target.level_set or (lambda level: _bisected(target, level)))(known)
    return np.where(log_level > -np.inf, lo, -np.inf), np.where(log_level > -np.inf, hi, np.inf)


def _bisected(target: Unimodal, log_level: Array) -> tuple[Array, Array]:
    """Find the ends of S(L) by bisection in u, on both sides of the mode."""
    sides = []
    for end in (0.0, 1.0):
        inside = np.full(log_level.shape, float(target.p_cdf(target.mode)))
        outside = np.full(log_level.shape, end)
        for _ in range(HALVINGS):
            middle = 0.5 * (inside + outside)
            above = target.log_ratio(target.p_quantile(middle)) > log_level
            inside, outside = np.where(above, middle, inside), np.where(above, outside, middle)
        sides.append(target.p_quantile(inside))
    return sides[0], sides[1]


def residual(
    target: Unimodal, log_level: ArrayLike, a: ArrayLike = 0.0, b: ArrayLike = 1.0
) -> Array:
    """Return R_B(L), the mass that is left above a level: integral over B of max(r - L, 0) dP.

    R_B(L) = Q(S(L) in B) - L P(S(L) in B), and where that is a small difference of large terms
    integral over S(L) in B of r (1 - exp(log L - log r)) dP by quadrature (docs/CODES.md,
    section 4).

    Parameters
    ----------
    target : Unimodal
    log_level : array_like of float
        log L in nats; -inf for L = 0.
    a, b : array_like of float
        Ends of the regions B in u; broadcast with log_level.

    Returns
    -------
    ndarray of float64
        R >= 0, not negative and not all cancelled; 0 where r <= L in all of B.
    """
    lo, hi = level_set(target, log_level)
    x_a, x_b = ends(target, a, b)
    lo, hi = np.maximum(lo, x_a), np.minimum(hi, x_b)
    log_level, lo, hi = np.broadcast_arrays(log_level, lo, np.maximum(lo, hi))
    level = np.exp(log_level)
    q, q_term = _mass(target.q_cdf, target.q_sf, lo, hi)
    p, p_term = _mass(target.p_cdf, target.p_sf, lo, hi)
    rest = np.where(hi > lo, q - level * p, 0.0)
    lost = (hi > lo) & (rest <= FEW_DIGITS * (q_term + level * p_term))
    if lost.any():
        rest[lost] = _integral(target, log_level[lost], lo[lost], hi[lost])
    return rest


def _mass(cdf: Function, sf: Function | None, lo: Array, hi: Array) -> tuple[Array, Array]:
    """Return the mass of (lo, hi), and the larger term of the difference that gave it."""
    below, above = cdf(lo), cdf(hi)
    if sf is None:
        return above - below, above
    right, beyond = sf(lo), sf(hi)
    return np.where(above <= right, above - below, right - beyond), np.minimum(above, right)


def _integral(target: Unimodal, log_level: Array, lo: Array, hi: Array) -> Array:
    """Integrate max(r - L, 0) dP over (lo, hi) by Gauss and Legendre's rule, split at the mode.

    All three arrays have shape (n,).  r - L = r (1 - exp(log L - log r)) does not cancel.
    """
    lo, hi = np.maximum(lo, target.support[0]), np.minimum(hi, target.support[1])
    total = np.zeros(log_level.shape)
    middle = np.minimum(np.maximum(target.mode, lo), np.maximum(lo, hi))
    for start, stop in ((lo, middle), (middle, np.maximum(hi, middle))):
        half = 0.5 * (stop - start)
        x = (start + half)[:, None] + half[:, None] * NODES
        log_r = target.log_ratio(x)
        excess = -np.exp(log_r) * np.expm1(np.minimum(log_level[:, None] - log_r, 0.0))
        total += half * ((excess * target.p_pdf(x)) @ WEIGHTS)
    return total
