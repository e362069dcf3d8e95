"""Laws of integers and bounds of lengths, against sums and mpmath."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import zeta

from refmiracle.codes.lengths import (
    POISSON_EXCESS,
    best_theta,
    exponents,
    log_geometric_bits,
    log_geometric_mean_bits,
    theta_of_kl,
    zipf_bits,
    zipf_lambda,
)
from refmiracle.codes.table import CODES
from refmiracle.errors import InputError


@given(st.integers(1, 2**63 - 1))
def test_exponents(n):
    assert exponents([n])[0] == n.bit_length() - 1


@pytest.mark.parametrize("e", range(63))
def test_exponents_next_to_powers_of_two(e):
    assert exponents([2**e, max(1, 2**e - 1)]).tolist() == [e, max(0, e - 1)]


@pytest.mark.parametrize("n", [[0], [3, -1], [-(2**62)]])
def test_integers_below_one_are_refused(n):
    with pytest.raises(InputError, match="below 1"):
        exponents(n)


@given(st.floats(0.001, 0.999))
def test_the_log_geometric_law_sums_to_one(theta):
    n = np.arange(1, 2**12)
    assert np.exp2(-log_geometric_bits(n, theta)).sum() == pytest.approx(1 - theta**12)


@given(st.lists(st.integers(1, 2**40), min_size=1, max_size=20))
def test_the_best_theta_is_the_best(n):
    theta = best_theta(n)
    if max(n) == 1:
        assert theta == 0.0
        return
    shortest = log_geometric_bits(n, theta).mean()
    assert shortest == pytest.approx(log_geometric_mean_bits(exponents(n).mean()))
    for other in (theta * 0.99, theta + 0.01 * (1 - theta)):
        assert shortest <= log_geometric_bits(n, other).mean()


@given(st.floats(0, 1000))
def test_the_mean_length_is_below_the_bound_of_the_definition(m):
    """docs/CODES.md, section 5."""
    bits = log_geometric_mean_bits(m)
    assert m <= bits <= m + math.log2(m + 1) + math.log2(math.e) + 1e-9


@pytest.mark.parametrize("kl", [0.1, 1.0, 7.5, 40.0])
def test_zipf_against_mpmath(kl):
    exponent = zipf_lambda(kl)
    assert exponent == pytest.approx(1 + 1 / (kl + 1 + math.log2(math.e) / math.e))
    n = [1, 2, 3, 1000, 2**40]
    want = [float(-mpmath.log(mpmath.mpf(k) ** -exponent / mpmath.zeta(exponent), 2)) for k in n]
    np.testing.assert_allclose(zipf_bits(n, exponent), want, rtol=1e-13)


def costs_for_zipf(exponent):
    """Mean length in bits under Zipf's law, and under the best log-geometric one, of its own n."""
    e = np.arange(61)
    above = zeta(exponent, 2.0**e) / zeta(exponent)  # P(n >= 2^e)
    mean_e = ((above[:-1] - above[1:]) * e[:-1]).sum()
    # Beyond, the masses of octaves are a geometric series of this ratio to 2^-60.
    ratio = 2.0 ** (1.0 - exponent)
    mean_e += above[-1] * (60 + ratio / (1.0 - ratio))
    log_n = -mpmath.zeta(exponent, derivative=1) / mpmath.zeta(exponent) / mpmath.log(2)
    zipf = exponent * float(log_n) + math.log2(zeta(exponent))
    return zipf, log_geometric_mean_bits(mean_e)


def test_what_the_log_geometric_law_costs_above_zipf():
    """The figure in the docstring of `codes.lengths`."""
    costs = [costs_for_zipf(zipf_lambda(kl)) for kl in np.geomspace(0.1, 40.0, 60)]
    excess = [ours - zipf for zipf, ours in costs]
    assert min(excess) > 0.0
    assert 0.053 < max(excess) <= 0.0536


def test_costs_for_zipf_against_a_plain_sum():
    exponent = 3.0  # falls so fast that few terms are enough
    n = np.arange(1, 2**18)
    p = n**-exponent / zeta(exponent)
    zipf, ours = costs_for_zipf(exponent)
    assert zipf == pytest.approx((p * zipf_bits(n, exponent)).sum(), abs=1e-6)
    mean_e = (p * exponents(n)).sum()
    theta = mean_e / (1 + mean_e)
    assert ours == pytest.approx((p * log_geometric_bits(n, theta)).sum(), abs=1e-6)


def test_bounds_are_given_where_a_source_gives_them():
    assert CODES["pfr"].mean_bits_bound(7.0) == 7.0 + 3.0 + 4.0
    assert CODES["gprs"].mean_bits_bound(7.0) == 7.0 + 3.0 + 6.0
    assert CODES["grc"].mean_bits_bound(7.0) is None


@pytest.mark.parametrize("kl", [0.0, 0.5, 3.0, 10.0, 40.0])
def test_the_bound_of_zipf_follows_from_that_of_the_mean_logarithm(kl):
    """What Li and El Gamal prove: with E[log2 n] at its bound, Zipf's length is within theirs."""
    m = kl + math.log2(math.e) / math.e + 1
    assert m == pytest.approx(kl + POISSON_EXCESS)
    zipf = zipf_lambda(kl) * m + math.log2(zeta(zipf_lambda(kl)))
    assert zipf <= CODES["pfr"].mean_bits_bound(kl)
    assert log_geometric_mean_bits(m) <= CODES["pfr"].mean_bits_bound(kl) + 0.1


def test_theta_of_kl():
    assert theta_of_kl(0.875) == 0.5
    assert 0 < theta_of_kl(0.0) < theta_of_kl(40.0) < 1
