"""Gaussian targets, whose density ratio r = dQ/dP has one mode, and the masses of codes, compiled.

Follows docs/CODES.md section 4.  Only the encoder computes this, so it need not be bit-exact, but
must keep its digits where differences would lose them: in tails, in narrow intervals, and next to
the mode.

A target is a tuple of floats (`gaussian_target`).  Places are z, or y = z - delta: next to a narrow
target's centre z would round to few digits of y.
"""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.numba_engine.compiling import EXACT, compiled
from refmiracle.numerics.limits import VARIABLE_REACH

# Gauss-Legendre with 8 nodes on (-1, 1); each is used with both signs.
NODES_8 = (0.18343464249564978, 0.525532409916329, 0.7966664774136267, 0.9602898564975362)
WEIGHTS_8 = (0.36268378337836166, 0.3137066458778869, 0.22238103445337443, 0.10122853629037706)

SQRT_HALF, DENSITY = math.sqrt(0.5), 1.0 / math.sqrt(2.0 * math.pi)
NARROW = 0.5  # below, an interval's mass is the integral of the density
SMALL_EXCESS = 0.5  # below, r - L is integrated; above, its two terms do not cancel
PANEL = 1.0  # width over which 8 nodes integrate the density, also in the tails
FARTHEST = 14.0  # beyond, neither P nor Q has mass that could count


@compiled(**EXACT)
def gaussian_target(delta, log_s):
    """Return (delta, e, constant, sigma, mode, log_peak) of Q = N(delta, s).

    e = 1/s - 1; constant = log r(delta); the mode of r and log r there are those within
    VARIABLE_REACH of 0.
    """
    e = abs(math.expm1(-log_s))  # never -0
    constant = 0.5 * (delta * delta - log_s)
    mode = delta
    if delta != 0.0:
        mode = min(max(delta + delta / e, -VARIABLE_REACH), VARIABLE_REACH)
    y = mode - delta
    peak = constant + y * (delta - 0.5 * e * y)
    return delta, e, constant, math.exp(0.5 * log_s), mode, peak


@compiled(**EXACT)
def log_ratio(target, z):
    """Return log r(z) in nats, as constant + delta y - e y^2 / 2: exact where Q = P."""
    y = z - target[0]
    return target[2] + y * (target[0] - 0.5 * target[1] * y)


@compiled(**EXACT)
def log_sup(target, lo, hi):
    """Return the supremum of log r over (lo, hi)."""
    mode = target[4]
    if lo < mode < hi:
        return target[5]
    return log_ratio(target, lo if mode <= lo else hi)


@compiled(**EXACT)
def superlevel(target, log_level):
    """Return (left, right, near): S(L) as an interval of y, and the end that is next to 0.

    The ends are the roots of -e y^2 / 2 + delta y + c, c = constant - log L.  The near one is
    -2 c / q and the other q / e, |q| = |delta| + sqrt(delta^2 + 2 e c): neither cancels, and the
    latter goes to infinity where e = 0.  (0, 0) where r is nowhere above L.
    """
    delta, e = target[0], target[1]
    c = target[2] - log_level
    square = delta * delta + 2.0 * e * c
    q = abs(delta) + math.sqrt(max(square, 0.0))
    if square < 0.0 or q == 0.0:
        return (-np.inf, np.inf, 0.0) if e == 0.0 and delta == 0.0 and c > 0.0 else (0.0, 0.0, 0.0)
    near, far = -2.0 * c / q, q / e
    return (near, far, near) if delta >= 0.0 else (-far, -near, -near)


@compiled(**EXACT)
def _above(x):
    """Return the mass of N(0, 1) above x."""
    return 0.5 * math.erfc(x * SQRT_HALF) if x < 38.0 else 0.0


@compiled(**EXACT)
def normal_mass(centre, lo, hi):
    """Return the mass of N(0, 1) in (centre + lo, centre + hi)."""
    half = 0.5 * (hi - lo)
    if half < 0.5 * NARROW:
        middle, total = centre + 0.5 * (lo + hi), 0.0
        for k in range(4):
            one, two = middle - half * NODES_8[k], middle + half * NODES_8[k]
            total += WEIGHTS_8[k] * (math.exp(-0.5 * one * one) + math.exp(-0.5 * two * two))
        return max(half, 0.0) * total * DENSITY
    lo, hi = centre + lo, centre + hi
    if lo > 0.0:
        return _above(lo) - _above(hi)
    if hi < 0.0:
        return _above(-hi) - _above(-lo)
    return 1.0 - _above(-lo) - _above(hi)


@compiled(**EXACT)
def _excess(target, near, y):
    """Return log r(y) - log L, whose root `near` is, without a difference of logarithms."""
    return max((y - near) * (target[0] - 0.5 * target[1] * (y + near)), 0.0)


@compiled(**EXACT)
def _small_residual(target, near, level, lo, hi):
    """Integrate r - L = L expm1(log r - log L) over (lo, hi), a part of S(L)."""
    delta = target[0]
    lo, hi = max(lo, -FARTHEST - delta), min(hi, FARTHEST - delta)
    if not lo < hi:
        return 0.0
    panels, total = math.ceil((hi - lo) / PANEL), 0.0
    half = 0.5 * (hi - lo) / panels
    for panel in range(panels):
        middle = lo + (2.0 * panel + 1.0) * half
        for k in range(4):
            for y in (middle - half * NODES_8[k], middle + half * NODES_8[k]):
                z = delta + y
                value = math.expm1(_excess(target, near, y)) * math.exp(-0.5 * z * z)
                total += WEIGHTS_8[k] * value
    return level * (half * total * DENSITY)


@compiled(**EXACT)
def residual_within(target, near, level, lo, hi):
    """Return the integral of r - L over (lo, hi), an interval of y in S(L) with the end `near`."""
    if not lo < hi:
        return 0.0
    top = _excess(target, near, min(max(target[4] - target[0], lo), hi))
    if top < SMALL_EXCESS:
        return _small_residual(target, near, level, lo, hi)
    own = normal_mass(0.0, lo / target[3], hi / target[3])
    return own - level * normal_mass(target[0], lo, hi)


@compiled(**EXACT)
def residual(target, level, lo, hi):
    """Return R_B(L) for the region (lo, hi) of z."""
    delta, sigma = target[0], target[3]
    lo, hi = lo - delta, hi - delta
    if level == 0.0:
        return normal_mass(0.0, lo / sigma, hi / sigma)
    left, right, near = superlevel(target, math.log(level))
    return residual_within(target, near, level, max(lo, left), min(hi, right))
