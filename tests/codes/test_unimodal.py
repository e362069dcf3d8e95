"""Targets of the codes of variables: level sets, suprema, and the mass that remains above a level.

The oracle of masses is mpmath at 40 digits.
"""

from __future__ import annotations

import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf
from oracles import run_python
from scipy import integrate, special, stats

from refmiracle.engines.numpy_engine.sigma import sigma, tabulate_sigma
from refmiracle.engines.numpy_engine.unimodal import (
    Unimodal,
    ends,
    gaussian_target,
    level_set,
    log_sup,
    residual,
)
from refmiracle.numerics.limits import VARIABLE_REACH

# delta and log s: ordinary ones, narrow, as wide as P, nearly so, far out on both sides.
TARGETS = [
    (1.0, math.log(0.25)),
    (-2.0, math.log(0.5)),
    (0.0, math.log(1e-12)),
    (0.3, math.log(1e-24)),
    (1e-3, 0.0),
    (0.05, 0.0),
    (-3.0, 0.0),
    (3.0, -1e-4),
    (-7.0, math.log(0.04)),
    (7.0, math.log(0.04)),
]


def triangle(mode=0.3):
    """A triangular density over a uniform one, given as functions; not a Gaussian, no closed S."""
    return Unimodal(
        log_ratio=lambda x: np.log(2.0 * np.minimum(x / mode, (1.0 - x) / (1.0 - mode))),
        mode=mode,
        p_pdf=np.ones_like,
        p_cdf=lambda x: np.clip(x, 0.0, 1.0),
        p_quantile=lambda u: u,
        q_cdf=lambda x: np.where(x < mode, x**2 / mode, 1.0 - (1.0 - x) ** 2 / (1.0 - mode)),
        support=(0.0, 1.0),
    )


def mp_mass(lo, hi):
    """Normal mass of (lo, hi) to full relative accuracy."""
    if lo > 0:
        lo, hi = -hi, -lo
    return (mpmath.erfc(-hi / mpmath.sqrt(2)) - mpmath.erfc(-lo / mpmath.sqrt(2))) / 2


def mp_residual(delta, log_s, log_level, a=-mpmath.inf, b=mpmath.inf):
    """R_B(L) of N(delta, s) by its closed form, for the region between x = z - delta = a and b."""
    delta, log_s, y = mpf(delta), mpf(log_s), mpf(log_level)
    h, k = (mpmath.exp(-log_s) - 1) / 2, (delta**2 - log_s) / 2 - y
    if h == 0:
        lo, hi = (-k / delta, mpmath.inf) if delta > 0 else (-mpmath.inf, -k / delta)
    elif delta**2 + 4 * h * k <= 0:
        return mpf(0)
    else:
        root = mpmath.sqrt(delta**2 + 4 * h * k)
        lo, hi = (delta - root) / (2 * h), (delta + root) / (2 * h)
    lo, hi = max(lo, a), min(hi, b)
    if lo >= hi:
        return mpf(0)
    q = mp_mass(lo / mpmath.exp(log_s / 2), hi / mpmath.exp(log_s / 2))
    return q - mpmath.exp(y) * mp_mass(lo + delta, hi + delta)


def levels_of(delta, log_s, quantiles):
    """log r at quantiles of Q: the levels that matter."""
    x = stats.norm.ppf(quantiles) * math.exp(log_s / 2)
    return gaussian_target(delta, log_s).log_ratio(x)


@pytest.mark.parametrize(("delta", "log_s"), TARGETS)
def test_residual_of_all_of_a_gaussian(delta, log_s):
    """From the tails of Q to its centre: near its mode Q(S) - L P(S) would be all cancelled."""
    log_levels = levels_of(delta, log_s, [1e-4, 0.02, 0.3, 0.5, 0.7, 0.999])
    got = residual(gaussian_target(delta, log_s), log_levels)
    with mpmath.workdps(40):
        want = np.array([float(mp_residual(delta, log_s, y)) for y in log_levels])
    # log r is only as right as rounding leaves it, and counts as its distance to the top.
    top = gaussian_target(delta, log_s).log_ratio(gaussian_target(delta, log_s).mode)
    error = 1e-11 + 1e-14 * (1.0 + top) / np.maximum(top - log_levels, 1e-12)
    assert np.all(np.abs(got - want) <= error * want)


@pytest.mark.parametrize(("delta", "log_s"), TARGETS)
@pytest.mark.parametrize("inner", [(0.1, 0.2), (0.45, 0.55), (0.6, 0.99)])
def test_residual_of_regions(delta, log_s, inner):
    """Regions between quantiles of Q, and what they have in common with S(L)."""
    target = gaussian_target(delta, log_s)
    a, b = target.p_cdf(stats.norm.ppf(inner) * math.exp(log_s / 2))
    x_a, x_b = ends(target, a, b)
    log_levels = levels_of(delta, log_s, [1e-4, 0.05, 0.3])
    got = residual(target, log_levels, a, b)
    with mpmath.workdps(40):
        want = [mp_residual(delta, log_s, y, mpf(float(x_a)), mpf(float(x_b))) for y in log_levels]
    want = np.array([float(w) for w in want])
    assert np.all(np.abs(got - want) <= 1e-9 * want)


def test_residuals_of_children_sum_to_their_parents(rng):
    target = gaussian_target(0.8, -1.5)
    a, c, b = np.sort(rng.uniform(size=(3, 200)), axis=0)
    log_level = rng.uniform(-2.0, 0.7, size=200)
    whole = residual(target, log_level, a, b)
    halves = residual(target, log_level, a, c) + residual(target, log_level, c, b)
    assert np.max(np.abs(whole - halves)) < 1e-13
    assert (whole > 0).sum() > 50


def test_residual_at_the_ends_of_the_levels():
    target = gaussian_target(1.0, -1.0)
    assert residual(target, -math.inf) == 1.0
    part = stats.norm(0.0, math.exp(-0.5)).sf(3.0)  # all of Q to the right of x = 3
    assert abs(residual(target, -math.inf, target.p_cdf(3.0)) / part - 1.0) < 1e-9
    assert residual(target, target.log_ratio(target.mode) + 1e-9) == 0.0
    same = gaussian_target(0.0, 0.0)
    assert abs(residual(same, math.log(0.25)) - 0.75) < 1e-15
    assert residual(same, 0.0) == 0.0


def test_residual_by_bisection_and_quadrature(rng):
    """A target without closed forms against scipy's adaptive quadrature."""
    target = triangle()
    for level, (a, b) in zip(
        rng.uniform(0.0, 2.0, 40), np.sort(rng.uniform(size=(40, 2))), strict=True
    ):
        want = integrate.quad(
            lambda x, level=level: max(math.exp(target.log_ratio(x)) - level, 0.0),
            a,
            b,
            points=[p for p in (0.3, 0.15 * level, 1.0 - 0.35 * level) if a < p < b],
            epsabs=1e-14,
        )[0]
        assert abs(float(residual(target, math.log(level), a, b)) - want) < 1e-12


@given(
    delta=st.floats(-3.0, 3.0),
    log_s=st.floats(-50.0, 0.0) | st.just(0.0),
    depth=st.floats(1e-6, 30.0),
)
def test_level_sets_end_where_r_is_the_level(delta, log_s, depth):
    target = gaussian_target(delta, log_s)
    log_level = float(target.log_ratio(target.mode)) - depth
    lo, hi = (float(x) for x in level_set(target, log_level))
    assert lo < hi
    for x in (lo, hi):
        if abs(x) < 20.0:  # beyond is no mass of P
            h = 0.5 * math.expm1(-log_s)
            scale = 1.0 + abs(log_level) + delta**2 + abs(x * delta) + h * x * x
            assert abs(target.log_ratio(x) - log_level) < 1e-13 * scale
    assert target.log_ratio(0.5 * (max(lo, -20.0) + min(hi, 20.0))) > log_level


@pytest.mark.parametrize(("delta", "log_s"), TARGETS)
def test_suprema_against_a_grid(delta, log_s):
    target = gaussian_target(delta, log_s)
    edges = np.concatenate([[0.0], np.geomspace(1e-15, 0.5, 12), [0.7, 0.9, 0.999, 1.0]])
    for a, b in pairwise(edges):
        u = np.linspace(max(a, 1e-16), b, 402)[:-1]  # within the reach
        highest = float(np.max(target.log_ratio(target.p_quantile(u))))
        assert log_sup(target, a, b) >= highest - 1e-12 * (1.0 + abs(highest))
    assert log_sup(target, 0.0, 1.0) == float(target.log_ratio(target.mode))


def test_log_ratio_is_that_of_the_normals(rng):
    for delta, log_s in TARGETS[:2] + TARGETS[4:]:
        z = rng.normal(size=50)
        want = stats.norm.logpdf(z, delta, math.exp(log_s / 2)) - stats.norm.logpdf(z)
        assert np.allclose(gaussian_target(delta, log_s).log_ratio(z - delta), want, 1e-11, 1e-12)


@pytest.mark.parametrize("delta", [0.2, -0.2])
def test_the_mode_is_within_the_reach(delta):
    """delta / (1 - s) is far outside where s is near 1, and nowhere where s = 1."""
    for log_s in (0.0, -1e-9, -1e-3):
        assert gaussian_target(delta, log_s).mode + delta == math.copysign(VARIABLE_REACH, delta)
    assert abs(gaussian_target(delta, -1.0).mode + delta - delta / -math.expm1(-1.0)) < 1e-15
    assert gaussian_target(0.0, 0.0).mode == 0.0


@pytest.mark.parametrize(("delta", "log_s"), TARGETS)
def test_sigma_against_adaptive_quadrature(delta, log_s):
    """By scipy, in log L itself, of the R that the tests above judge."""
    target = gaussian_target(delta, log_s)
    log_h = levels_of(delta, log_s, [0.03, 0.6, 0.97])
    for y, got in zip(log_h, sigma(tabulate_sigma(target), log_h), strict=True):
        start = min(y, 0.0) - 30.0
        area = integrate.quad(
            lambda t: math.exp(t) / residual(target, t), start, y, epsrel=1e-11, limit=500
        )[0]
        assert abs(got / (math.exp(start) + area) - 1.0) < 1e-9


def test_sigma_of_the_triangle_and_its_bounds():
    """Of a triangular density R(L) = (1 - L / 2)^2, so sigma(h) = h / (1 - h / 2)."""
    h = np.concatenate([[1e-14, 1e-9], np.linspace(0.01, 1.99, 40)])
    got = sigma(tabulate_sigma(triangle()), np.log(h))
    assert np.max(np.abs(got / (h / (1.0 - h / 2.0)) - 1.0)) < 1e-9
    assert np.all(got >= h * (1.0 - 1e-12))
    low = h < 1.0
    assert np.all(got[low] <= -np.log1p(-h[low]) * (1.0 + 1e-12))
    assert sigma(tabulate_sigma(triangle()), math.log(2.0)) == np.inf


def test_sigma_where_q_is_p():
    """R(L) = 1 - L: sigma(h) = -log(1 - h), infinite at r = 1."""
    table = tabulate_sigma(gaussian_target(0.0, 0.0))
    h = np.array([1e-3, 0.5, 0.999])
    assert np.allclose(sigma(table, np.log(h)), -np.log1p(-h), 1e-9, 0.0)
    assert sigma(table, 0.0) == np.inf


def test_scipy_is_imported_when_a_target_is_made():
    code = "import refmiracle.engines.numpy_engine.variables, sys; print('scipy' in sys.modules)"
    assert run_python(code).strip() == "False"


def test_masses_far_to_the_right_are_those_far_to_the_left():
    """The survival functions keep the digits that 1 - cdf would lose."""
    left, right = gaussian_target(-7.0, -3.2), gaussian_target(7.0, -3.2)
    log_levels = levels_of(7.0, -3.2, [0.01, 0.2, 0.4])
    assert np.allclose(residual(left, log_levels), residual(right, log_levels), 1e-12, 0.0)
    assert special.ndtr(7.0) > 0.999
