"""The posterior variance that spends what the mean leaves of the budget: s(x).

For a budget of kappa nats and a mean at distance d = ((mu - nu) / rho)^2 <= 2 kappa, the ratio
s = sigma^2 / rho^2 <= 1 solves s - log s = 1 + x^2 with x^2 = 2 kappa - d, which is
s(x) = -W0(-exp(-1 - x^2)): Corless et al. 1996; equation (9) of docs/derivations.md.  As a
function of x it is smooth also at the branch point x = 0, where as a function of kappa its slope
is infinite.

The unknown is y = -log s, not s: exp(-y) - 1 + y = x^2, because s underflows where y does not.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

SQRT2 = math.sqrt(2.0)
SERIES_LIMIT = 0.5
SERIES_TERMS = 17
NEWTON_STEPS = 6


def exp_excess(y: ArrayLike) -> NDArray[np.float64]:
    """Return exp(-y) - 1 + y to full relative accuracy for every y >= -0.5.

    Below 0.5 in magnitude by its series y^2/2 - y^3/6 + ..., because the terms cancel there.
    """
    y = np.asarray(y, dtype=np.float64)
    small = np.where(np.abs(y) < SERIES_LIMIT, y, 0.0)
    series = np.zeros_like(small)
    for k in range(SERIES_TERMS, 1, -1):
        series = series * -small + 1.0 / math.factorial(k)
    return np.where(np.abs(y) < SERIES_LIMIT, small * small * series, np.expm1(-y) + y)


def log_s(x: ArrayLike) -> NDArray[np.float64]:
    """Return log s(x), the solution of s - log s = 1 + x^2 with s <= 1.

    Equations (13) to (16) of docs/derivations.md.

    Newton's method on the convex exp_excess(y) = x^2, from y = sqrt(2) x + x^2, which is never
    below the root; so it descends to it without overshoot.

    Parameters
    ----------
    x : array_like of float64
        x = sqrt(2 kappa - d) >= 0.

    Returns
    -------
    ndarray of float64, same shape
        log s <= 0, accurate to a few ulp, also where s underflows.
    """
    x = np.asarray(x, dtype=np.float64)
    y = SQRT2 * x + x * x
    for _ in range(NEWTON_STEPS):
        slope = np.where(y > 0.0, -np.expm1(-y), 1.0)
        y = y - (exp_excess(y) - x * x) / slope
    # Where x^2 might underflow, the first terms of the series are all that float64 can hold.
    return -np.where(x < 1e-8, SQRT2 * x + x * x / 3.0, y)


def half_slope_ratio(x: ArrayLike, log_s: ArrayLike) -> NDArray[np.float64]:
    """Return x / (1 - s), which tends to 1 / sqrt(2) as x -> 0; ds/dx = -2 s times this."""
    x = np.asarray(x, dtype=np.float64)
    spent = -np.expm1(np.asarray(log_s, dtype=np.float64))
    # Below the normal numbers x and 1 - s have no digits left to divide; the limit has all.
    known = spent > 1e-300
    return np.where(known, x / np.where(known, spent, 1.0), 1.0 / SQRT2)


def ds_dx(x: ArrayLike) -> NDArray[np.float64]:
    """Return the slope of s(x): -2 x s / (1 - s), which tends to -sqrt(2) as x -> 0.

    Equation (14) of docs/derivations.md.
    """
    y = log_s(x)
    return -2.0 * np.exp(y) * half_slope_ratio(x, y)
