"""s(x), the variance that spends the rest of a budget, against mpmath at 50 digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from mpmath import mpf
from oracles import by_engine, mp_log_s, mp_relative_error

from refmiracle.numerics.variance import exp_excess, half_slope_ratio, log_s

# x^2 is denormal at 1e-162 and 0 at 1e-163; sqrt(2 kappa) = 37.4 for 700 nats, where s = 2e-305.
DENORMAL = [1e-300, 1e-200, 1e-163, 1e-162, 3e-162, 1.5e-154]
SEAMS = [9.99e-9, 1e-8, 1.01e-8, 7e-6, 7.1e-6, 0.0141, 0.3, 0.3225, 0.33, 0.5]
LARGE = [1.0, 3.0, 10.0, 26.6, 37.4, 100.0]

# D and kappa in nats -> log s with x^2 = 2 kappa - D^2: a computed table, by mpmath to 40 digits.
TABLE = [
    ("0", "0.001", "-0.063919306643358450442"),
    ("0", "1", "-2.9475309025422851276"),
    ("0.5", "0.2", "-0.60262965122520046126"),
    ("1", "0.5000001", "-0.00063252220572821883834"),
    ("2", "5", "-6.9990872853664951859"),
    ("0", "500", "-1001"),
]


def places():
    grid = 10.0 ** np.random.default_rng(2).uniform(-12, 1.6, size=300)
    return [*DENORMAL, *SEAMS, *LARGE, *grid]


def test_mp_log_s_by_the_lambert_function():
    """The oracle of this file against another one: s = -W0(-exp(-1 - x^2))."""
    with mpmath.workdps(60):
        for x in (mpf("1e-5"), mpf("0.3"), mpf(1), mpf(7)):
            s = -mpmath.lambertw(-mpmath.exp(-1 - x * x)).real
            assert abs(mpmath.log(s) / mp_log_s(x) - 1) < mpf(10) ** -40


def test_log_s_against_mpmath():
    x = places()
    assert mp_relative_error(log_s(x), map(mp_log_s, x)) <= 1e-15
    assert log_s(0.0) == 0.0


def test_log_s_of_the_engines_against_mpmath(engine):
    """In float32 an argument has 7 digits, and so has the result."""
    x = np.array([1e-30, 1e-20, *SEAMS, *LARGE, *places()[-300:]], dtype=engine.dtype)
    tolerance = by_engine(engine, 1e-15, 2e-7)
    got = engine.log_s(x)
    assert got.dtype == engine.dtype
    assert mp_relative_error(got, [mp_log_s(float(v)) for v in x]) <= tolerance
    assert engine.log_s(np.zeros((2, 3))).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize(("d", "kappa", "want"), TABLE)
def test_table_of_log_s(engine, d, kappa, want):
    with mpmath.workdps(40):
        x = float(mpmath.sqrt(2 * mpf(kappa) - mpf(d) ** 2))
        got = float(engine.log_s(np.array([x]))[0])
        assert abs(mpf(got) / mpf(want) - 1) < by_engine(engine, 1e-15, 2e-7)


def test_exp_excess_keeps_its_digits(rng):
    """exp(-y) - 1 + y near 0, at the seam of the series, for negative and for large y."""
    y = np.concatenate(
        [
            [1e-150, -1e-150, 1e-17, -1e-9, 0.5, -0.5, np.nextafter(0.5, 0), 1.0, 800.0, 1e5],
            *(sign * 10.0 ** rng.uniform(-20, np.log10(0.5), 100) for sign in (1, -1)),
            10.0 ** rng.uniform(np.log10(0.5), 3, 100),
        ]
    )
    with mpmath.workdps(350):
        want = [mpmath.exp(-v) - 1 + v for v in map(mpf, y.tolist())]
        assert mp_relative_error(exp_excess(y), want) <= 2e-15
    assert exp_excess(0.0) == 0.0


def test_half_slope_ratio_is_the_slope_of_s():
    """ds/dx = -2 s x / (1 - s); here against mpmath's derivative of s itself."""
    x = [1e-100, 1e-20, *places()[len(DENORMAL) :]]
    got = half_slope_ratio(x, log_s(x))
    with mpmath.workdps(50):
        want = [mpf(v) / -mpmath.expm1(mp_log_s(v)) for v in x]
    assert mp_relative_error(got, want) <= 2e-15
    for v in (1e-3, 0.3, 1.0, 5.0):
        with mpmath.workdps(40):
            slope = mpmath.diff(lambda t: mpmath.exp(mp_log_s(t)), mpf(v))
            assert (
                abs(-2 * mpmath.exp(mp_log_s(v)) * half_slope_ratio(v, log_s(v)) / slope - 1)
                < 1e-15
            )


@pytest.mark.parametrize("x", [0.0, 1e-300, 1e-30])
def test_half_slope_ratio_at_the_branch_point(x):
    assert abs(half_slope_ratio(x, log_s(x)) * np.sqrt(2.0) - 1.0) <= 1e-15


def test_s_spends_what_the_mean_leaves(engine):
    """s - log s = 1 + x^2, the definition, where the terms do not cancel."""
    x = np.array([0.5, 1.0, 2.0, 5.0, 12.0])
    y = engine.log_s(x).astype(np.float64)
    tolerance = by_engine(engine, 1e-14, 1e-6)
    assert np.max(np.abs((np.exp(y) - y) / (1 + x**2) - 1)) <= tolerance
