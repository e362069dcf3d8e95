"""The normal quantile: 16 digits of mpmath's, the same bits in both engines, and normal draws."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from mpmath import mpf
from oracles import mp_relative_error, row_words, same_bits
from scipy import special, stats

from refmiracle.engines import get_engine
from refmiracle.numerics.normal import normal_quantile, portable_log
from refmiracle.numerics.philox import Stream, stream_words, words_to_uniform

# Where the algorithm changes its rational function: |p - 1/2| = 0.425 and r = 5, p = exp(-25).
SEAMS = [0.075, 0.925, float(np.exp(-25.0)), 2.0**-33, 1 - 2.0**-33]
SMALLEST, LARGEST = 2.0**-33, 1 - 2.0**-33
FALSE_ALARM = 1e-6


def neighbours(p, count=4):
    """p with the `count` floats below and above it."""
    below, above = [p], [p]
    for _ in range(count):
        below.append(np.nextafter(below[-1], 0.0))
        above.append(np.nextafter(above[-1], 1.0))
    return below[::-1] + above[1:]


def probabilities():
    """Seams with their neighbours, the far tail, the middle, and random places."""
    seams = [n for p in SEAMS for n in neighbours(p)]
    tail = [10.0**-k for k in range(1, 301, 13)] + [1e-300, 1 - 2.0**-53, 1 - 1e-12]
    middle = [0.5, 0.5 + 2.0**-52, 0.5 - 2.0**-53, 0.5 + 1e-9, 0.25, 0.3, 0.7]
    return [*seams, *tail, *middle, *np.random.default_rng(1).uniform(size=100)]


def mp_quantile(p):
    """The z with Phi(z) = p to 50 digits: Newton's method from scipy's value."""
    with mpmath.workdps(60):
        tail = min(mpf(p), 1 - mpf(p))  # Phi has its relative digits only in the lower tail
        z = mpf(float(special.ndtri(float(tail))))
        for _ in range(4):
            z -= (mpmath.ncdf(z) - tail) / mpmath.npdf(z)
        assert abs(mpmath.ncdf(z) / tail - 1) < mpf(10) ** -48
        return z if p < 0.5 else -z


def test_quantile_against_mpmath(engine):
    p = [q for q in probabilities() if q != 0.5]
    assert mp_relative_error(engine.normal_quantile(p), map(mp_quantile, p)) <= 1e-15
    assert engine.normal_quantile([0.5])[0] == 0.0


def test_quantile_of_what_is_no_probability(engine):
    p = np.array([0.0, 1.0, -0.1, 1.1, -np.inf, np.inf, np.nan, -0.0, np.nextafter(1.0, 2.0)])
    assert np.isnan(engine.normal_quantile(p)).all()


def test_quantile_keeps_the_shape(engine):
    p = np.array([[0.1, 0.2, 0.3], [0.4, 0.6, 0.9]])
    z = engine.normal_quantile(p)
    assert z.shape == p.shape
    assert z.dtype == np.float64
    assert np.all(np.diff(z.ravel()) > 0)


def test_quantile_is_antisymmetric(engine, rng):
    """Exactly so for the probabilities of words, whose 1 - p is exact in float64."""
    words = rng.integers(0, 2**32, size=10_000, dtype=np.uint32)
    p = np.concatenate([words_to_uniform(words), [SMALLEST, LARGEST, 0.5 - SMALLEST]])
    assert np.array_equal(engine.normal_quantile(1.0 - p), -engine.normal_quantile(p))


def test_engines_agree_bit_for_bit(rng):
    words = rng.integers(0, 2**32, size=200_000, dtype=np.uint32)
    p = np.concatenate(
        [probabilities(), words_to_uniform(words), 10.0 ** -rng.uniform(0, 300, 999)]
    )
    a, b = (get_engine(name).normal_quantile(p) for name in ("numpy", "numba"))
    assert same_bits(a, b)


def test_portable_log_against_mpmath(rng):
    near_one = [n for n in neighbours(1.0) if n != 1.0]
    seams = neighbours(float(np.sqrt(0.5))) + neighbours(0.5) + neighbours(2.0**-33)
    p = np.concatenate([near_one, seams, 10.0 ** rng.uniform(-300, 0, 300), [3.0, 1e10, 5e-324]])
    with mpmath.workdps(50):
        want = [mpmath.log(mpf(float(q))) for q in p]
    assert mp_relative_error(portable_log(p), want) <= 1e-15
    assert portable_log(1.0) == 0.0


def test_uniform_is_exact():
    words = [0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 0x243F6A88]
    got = [Fraction(float(u)) for u in words_to_uniform(np.array(words, dtype=np.uint32))]
    assert got == [Fraction(2 * w + 1, 2**33) for w in words]


def test_codebook_rows_against_mpmath(engine):
    """Value d of row k is word d of row k of the stream CODEBOOK, as a float32 normal."""
    seed, rows, dimension = 77, [0, 1, 2**20 + 1, 2**32 - 1], 7
    words = [w for row in rows for w in row_words(seed, Stream.CODEBOOK, row, dimension)]
    want = [np.float32(float(mp_quantile((w + 0.5) / 2**32))) for w in words]
    got = engine.codebook_rows(seed, rows, dimension)
    assert same_bits(got, np.array(want, dtype=np.float32).reshape(len(rows), dimension))


@pytest.mark.parametrize("dimension", [1, 4, 30, 33])
def test_codebooks_of_the_engines_agree_bit_for_bit(dimension):
    rows = np.arange(3000)
    a, b = (get_engine(name).codebook_rows(5, rows, dimension) for name in ("numpy", "numba"))
    assert same_bits(a, b)


def test_normals_are_quantiles_of_the_stream(engine):
    rows, count = [3, 0, 8], 6
    z = engine.normals(11, Stream.NOISE, rows, count)
    p = words_to_uniform(stream_words(11, Stream.NOISE, rows, count))
    assert same_bits(z, normal_quantile(p).astype(engine.dtype))


def test_codebook_is_standard_normal(engine):
    """Shape (Kolmogorov-Smirnov) and scale (chi-square of the squares) of 160,000 values."""
    z = engine.codebook_rows(2024, np.arange(8000), 20).astype(np.float64).ravel()
    assert stats.kstest(z, "norm").pvalue > FALSE_ALARM
    assert FALSE_ALARM < stats.chi2.cdf((z**2).sum(), z.size) < 1 - FALSE_ALARM


@pytest.mark.parametrize(("row_step", "column_step"), [(0, 1), (1, 0), (0, 4)])
def test_codebook_values_are_independent(row_step, column_step):
    """Pairs of neighbours fall into the 4 x 4 cells of quartiles equally often."""
    z = get_engine("numba").codebook_rows(2024, np.arange(8001), 24)
    first = z[:8000, :20]
    second = z[row_step : 8000 + row_step, column_step : 20 + column_step]
    quartiles = stats.norm.ppf([0.25, 0.5, 0.75])
    cells = 4 * np.digitize(first, quartiles) + np.digitize(second, quartiles)
    counts = np.bincount(cells.ravel(), minlength=16)
    assert stats.chisquare(counts).pvalue > FALSE_ALARM
