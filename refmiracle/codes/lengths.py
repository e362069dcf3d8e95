"""What integers cost: the laws that code them, and what theory says of relative entropy codes.

All lengths are in bits.  An integer n >= 1 has the exponent e = floor(log2 n).

*Zipf's law* P(n) = n^-lambda / zeta(lambda) is what papers code with; with
lambda = 1 + 1 / (KL + 1.531), where 1.531 = 1 + 1 / (ln 2 exp 1), its length stays within
KL + log2(KL + 1) + 4 bits (Li and El Gamal, arXiv 1701.02827).  *The log-geometric law*
P(n) = (1 - theta) theta^e 2^-e (docs/CODES.md section 5) is Zipf's made constant between powers of
two; it is what files hold.
For integers that do follow Zipf's law at the papers' lambda, the log-geometric law at its best
theta takes at most 0.0536 bits more than Zipf's at its best lambda, for any KL from 0.1 to 40 bits
(tests/codes/test_lengths.py, test_what_the_log_geometric_law_costs_above_zipf); for integers of
another law it may take less.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.errors import InputError

Array = NDArray[np.float64]

LARGEST_EXPONENT = 61
# E[log2 n] - KL is at most this for the Poisson functional representation (Li and El Gamal).
POISSON_EXCESS = math.log2(math.e) / math.e + 1.0


def exponents(n: ArrayLike) -> NDArray[np.int64]:
    """Return e = floor(log2 n) of integers.

    Raises
    ------
    InputError
        If one is below 1.
    """
    n = np.asarray(n, dtype=np.int64)
    if np.any(n < 1):
        raise InputError("an integer below 1 has no code; expected 1 or more")
    # frexp of a float64 is exact below 2^53; above, rounding may carry n into the next power.
    high = n >> 32
    upper = np.frexp(high.astype(np.float64))[1] + 31
    lower = np.frexp((n & 0xFFFFFFFF).astype(np.float64))[1] - 1
    return np.where(high > 0, upper, lower).astype(np.int64)


def log_geometric_bits(n: ArrayLike, theta: float) -> Array:
    """Return -log2 P(n) = e (1 - log2 theta) - log2(1 - theta) of integers, in bits.

    Parameters
    ----------
    n : array_like of int
        At least 1.
    theta : float
        0 < theta < 1.
    """
    e = exponents(n).astype(np.float64)
    return e * (1.0 - math.log2(theta)) - log2_above_one(-theta)


def best_theta(n: ArrayLike) -> float:
    """Return the theta that makes integers shortest: m / (1 + m), m the mean of e.

    Where all n are 1 it is 0, which the law itself excludes: there is no shortest length, only
    ever shorter ones.
    """
    mean = float(np.mean(exponents(n)))
    return mean / (1.0 + mean)


def log_geometric_mean_bits(mean_exponent: float) -> float:
    """Return the mean length at the best theta: m + log2(m + 1) + m log2(1 + 1/m), in bits."""
    m = mean_exponent
    if m == 0.0:
        return 0.0
    # 1/m may overflow below 1, and m + 1 be m above.
    ratio = log2_above_one(1.0 / m) if m > 1.0 else log2_above_one(m) - math.log2(m)
    return m + log2_above_one(m) + m * ratio


def log2_above_one(x: float) -> float:
    """Return log2(1 + x), also of an x that 1 + x would swallow."""
    return math.log1p(x) / math.log(2.0)


def theta_of_kl(kl_bits: float) -> float:
    """Return the theta for integers of which only the mean KL is known, in bits.

    It takes KL + 1/8 for m, the mean of e; no integer needs to have been seen.  Measured, m is 0.2
    at a KL of 0.1 bits, near the KL at 1, and about one below it from 6 on with codes whose samples
    are exact (two to three with `orc` and `dad-star`: docs/study/codes), so this theta costs up to
    0.2 bits more than the best one, or 0.35 with `dad-star` and `sp-pfr`
    (tests/codes/test_codes.py, test_lengths_by_the_known_kl).  The bound of E[log2 n] that
    `zipf_lambda` rests on is 1.5 bits above the KL, and would cost up to 0.75 bits.
    """
    m = kl_bits + 0.125
    return m / (1.0 + m)


def zipf_lambda(kl_bits: float) -> float:
    """Return the papers' lambda = 1 + 1 / (KL + 1 + 1 / (ln 2 exp 1)), KL in bits."""
    return 1.0 + 1.0 / (kl_bits + POISSON_EXCESS)


def zipf_bits(n: ArrayLike, exponent: float) -> Array:
    """Return -log2(n^-lambda / zeta(lambda)) of integers, in bits.

    Parameters
    ----------
    n : array_like of int
        At least 1.
    exponent : float
        lambda > 1.
    """
    from scipy.special import zeta  # noqa: PLC0415 (loaded where it is used)

    n = np.asarray(n, dtype=np.float64)
    return exponent * np.log2(n) + math.log2(zeta(exponent))
