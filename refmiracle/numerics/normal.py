"""The normal quantile, the same bits on every machine.

Wichura's algorithm AS 241, PPND16 (Applied Statistics 37, 1988, 477-484), about 16 digits.  It
needs one logarithm, and libraries differ in the last bit of theirs; so the logarithm is written
out too.  Everything below is float64 + - * / and sqrt, each correctly rounded by IEEE 754, in
the order in which it is written, with no fused multiply-add: docs/SPEC.md states it for every
language.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Coefficients = tuple[float, ...]
Rational = tuple[Coefficients, Coefficients]

# Highest power first, as Horner's rule eats them.
CENTRAL: Rational = (
    (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
)
MIDDLE: Rational = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.76949722146069140550e0,
        4.63033784615654529590e0,
        1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940e0,
        2.05319162663775882187e0,
        1.0,
    ),
)
FAR: Rational = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        2.96560571828504891230e-1,
        1.78482653991729133580e0,
        5.46378491116411436990e0,
        6.65790464350110377720e0,
    ),
    (
        2.04426310338993978564e-15,
        1.42151175831644588870e-7,
        1.84631831751005468180e-5,
        7.86869131145613259100e-4,
        1.48753612908506148525e-2,
        1.36929880922735805310e-1,
        5.99832206555887937690e-1,
        1.0,
    ),
)
LN2 = 0.6931471805599453
SQRT_HALF = 0.7071067811865476
# 1/21, 1/19, ..., 1/3, 1: log(m) = 2 f sum_k f^(2k) / (2k + 1) with f = (m - 1) / (m + 1).
ATANH_SERIES: Coefficients = tuple(1.0 / k for k in range(21, 0, -2))


def horner(coefficients: Coefficients, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate a polynomial, highest power first: ((c0 x + c1) x + c2) x + ..."""
    value = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        value = value * x + c
    return value


def ratio(rational: Rational, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate numerator(x) / denominator(x)."""
    return horner(rational[0], x) / horner(rational[1], x)


def portable_log(p: ArrayLike) -> NDArray[np.float64]:
    """Natural logarithm of positive float64 by + - * / alone (not correctly rounded, but fixed).

    p = m 2^e with sqrt(1/2) <= m < sqrt(2); log p = 2 atanh((m - 1) / (m + 1)) + e ln 2.
    """
    m, e = np.frexp(np.asarray(p, dtype=np.float64))
    low = m < SQRT_HALF
    m = np.where(low, m + m, m)
    e = np.where(low, e - 1, e).astype(np.float64)
    f = (m - 1.0) / (m + 1.0)
    return 2.0 * f * horner(ATANH_SERIES, f * f) + e * LN2


def normal_quantile(p: ArrayLike) -> NDArray[np.float64]:
    """Return z with Phi(z) = p, bit for bit the same everywhere (AS 241, PPND16).

    Parameters
    ----------
    p : array_like of float64
        0 < p < 1; other values give NaN.

    Returns
    -------
    ndarray of float64, same shape
    """
    p = np.asarray(p, dtype=np.float64)
    p = np.where((p > 0.0) & (p < 1.0), p, np.nan)
    q = p - 0.5
    z = np.asarray(q * ratio(CENTRAL, 0.180625 - q * q))
    far = np.abs(q) > 0.425
    z[far] = _tail(p[far])
    return z


def _tail(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quantiles of probabilities within 0.075 of 0 or 1."""
    low = p < 0.5
    r = np.sqrt(-portable_log(np.where(low, p, 1.0 - p)))
    z = ratio(MIDDLE, r - 1.6)
    further = r > 5.0
    z[further] = ratio(FAR, r[further] - 5.0)
    return np.where(low, -z, z)
