"""One-dimensional targets in mpmath: the density ratio, its level sets, R_B(L) and sigma(h).

docs/CODES.md section 4.  Q = N(delta, s), P = N(0, 1), s <= 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import mpmath
from golden import gaussians
from golden.sources import spec_decoder
from mpmath import mpf

VARIABLE_REACH, CODEBOOK_REACH = mpf("8.25"), mpf("6.338")
# The digits that quadrature works to, and those of its integrand.
QUADRATURE_DIGITS, INTEGRAND_DIGITS = 20, 45
QUADRATURE_ERROR = mpf(10) ** -12
# Where the mass that remains is a smaller part of what it is the difference of, float64 is lost.
LARGEST_CANCELLATION = mpf(10) ** -8

Number = Any


def normal_mass(low: Number, high: Number) -> Number:
    """Return P(low < Z < high) of a standard normal, without cancellation in the tails."""
    if high < 0:
        low, high = -high, -low
    root = mpmath.sqrt(2)
    if low > 0:
        return (mpmath.erfc(low / root) - mpmath.erfc(high / root)) / 2
    return 1 - (mpmath.erfc(-low / root) + mpmath.erfc(high / root)) / 2


@cache
def quantile(u: float) -> Number:
    """Return the normal quantile to the working precision: Newton from 15 digits."""
    if u in (0.0, 1.0):
        return mpf("-inf") if u == 0.0 else mpf("inf")
    z = mpf(spec_decoder.quantile(u))
    for _ in range(2):
        # The tail that is small, so that no digits cancel.
        excess = normal_mass(-mpmath.inf, z) - mpf(u)
        z -= excess / mpmath.npdf(z)
    return z


class Target:
    """A target, its arguments taken as exact."""

    def __init__(self, delta: float, log_s: float) -> None:
        self.delta, self.log_s = mpf(delta), mpf(log_s)
        self.s = mpmath.exp(self.log_s)
        self.sigma_z = mpmath.sqrt(self.s)
        self.flat = delta == 0.0 and log_s == 0.0
        self.pieces: dict[Number, Number] = {}

    def kl(self) -> Number:
        """Return KL[Q || P] in nats."""
        return gaussians.kl(self.delta, self.log_s)

    def log_r(self, z: Number) -> Number:
        """Return log dQ/dP in nats."""
        z = mpf(z)
        return (z**2 - (z - self.delta) ** 2 / self.s - self.log_s) / 2

    def mode(self, reach: Number = VARIABLE_REACH) -> Number:
        """Return the mode of r within the reach of P's samples."""
        if self.log_s == 0:
            return mpmath.sign(self.delta) * reach
        return min(max(self.delta / (1 - self.s), -reach), reach)

    def log_sup(self, low: Number, high: Number, reach: Number = VARIABLE_REACH) -> Number:
        """Return the supremum of log r over an interval of z, within the reach."""
        low, high = max(low, -reach), min(high, reach)
        return self.log_r(min(max(self.mode(reach), low), high))

    def log_peak(self) -> Number:
        """Return the supremum of log r over all z; infinite for s = 1."""
        if self.log_s == 0:
            return mpf(0) if self.flat else mpf("inf")
        return self.log_r(self.delta / (1 - self.s))

    def level_set(self, level: Number) -> tuple[Number, Number]:
        """Return the ends of {z : r(z) > level}; equal ones where it is empty."""
        if level <= 0 or (self.flat and level < 1):
            return mpf("-inf"), mpf("inf")
        if self.log_s == 0:
            if self.flat:
                return mpf(0), mpf(0)
            edge = mpmath.log(level) / self.delta + self.delta / 2
            return (edge, mpf("inf")) if self.delta > 0 else (mpf("-inf"), edge)
        mode, above = self.delta / (1 - self.s), self.log_peak() - mpmath.log(level)
        half = mpmath.sqrt(2 * max(above, mpf(0)) * self.s / (1 - self.s))
        return mode - half, mode + half

    def masses_above(self, level: Number, a: float, b: float) -> tuple[Number, Number]:
        """Return Q(S(L) in B) and L P(S(L) in B) for the region B = (a, b) of u."""
        low, high = self.level_set(level)
        low, high = max(low, quantile(a)), min(high, quantile(b))
        if low >= high:
            return mpf(0), mpf(0)
        q = normal_mass((low - self.delta) / self.sigma_z, (high - self.delta) / self.sigma_z)
        return q, level * normal_mass(low, high)

    def remaining(self, level: Number, a: float = 0.0, b: float = 1.0) -> Number:
        """Return R_B(L) for the region B = (a, b) of u."""
        q, p = self.masses_above(level, a, b)
        return q - p

    def resolved(self, level: Number, a: float, b: float) -> Number:
        """Return R_B(L) where float64 can tell it from rounding.

        Raises
        ------
        ValueError
            If it is too small a part of the masses that it is the difference of.
        """
        q, p = self.masses_above(level, a, b)
        if q and q - p < LARGEST_CANCELLATION * q:
            raise ValueError(f"the mass above the level {float(level)} cancels")
        return q - p

    def knots(self) -> Iterator[Number]:
        """Yield levels between which 1 / R(L) is smooth, without end."""
        peak, knot = mpmath.exp(self.log_peak()), mpf(1) / 4
        while knot < peak / 2:
            yield knot
            knot *= 2
        for k in range(1, 200):
            yield peak * (1 - mpf(2) ** -k)

    def reciprocal_integral(self, low: Number, high: Number) -> Number:
        """Return the integral of dL / R(L) over an interval of levels."""

        def integrand(level: Number) -> Number:
            with mpmath.workdps(INTEGRAND_DIGITS):
                return 1 / self.remaining(level)

        with mpmath.workdps(QUADRATURE_DIGITS):
            value, error = mpmath.quad(integrand, [low, high], error=True)
        if error > QUADRATURE_ERROR * value:
            raise ValueError(f"quadrature up to {float(high)} is right to {float(error)} only")
        return value

    def sigma(self, h: Number) -> Number:
        """Return the integral of dL / R(L) from 0 to h, to some 12 digits."""
        total, low = mpf(0), mpf(0)
        for knot in self.knots():
            if knot >= h:
                break
            if knot not in self.pieces:
                self.pieces[knot] = self.reciprocal_integral(low, knot)
            total, low = total + self.pieces[knot], knot
        return total + self.reciprocal_integral(low, h)
