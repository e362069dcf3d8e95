"""From targets to bytes and back: what is decoded is the same in both engines, for every code."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from refmiracle.codes import Gaussian, decode, encode
from refmiracle.codes.table import CODES
from refmiracle.fileformat.integers import best_theta16, read_integers, write_integers
from refmiracle.numerics.variance import log_s

FEW, AT_ONCE, MILLION = 2_000, 50_000, 1_000_000
CODING = Gaussian(np.array(0.5), np.array(2.0))


def random_targets(rng, count):
    """Targets of up to 5 bits whose ratio to P is at most some 8 bits, so that no code is slow."""
    kappa = rng.uniform(0.0, 5.0 * np.log(2.0), count)
    delta = rng.choice([-1.0, 1.0], count) * np.sqrt(2.0 * kappa * rng.uniform(0.0, 0.7, count))
    ratio = np.exp(0.5 * log_s(np.sqrt(2.0 * kappa - delta**2)))
    return Gaussian(CODING.mean + CODING.sigma * delta, CODING.sigma * ratio)


def through_bytes(message):
    """The message's integers as a receiver reads them."""
    code = CODES[message.code]
    raw, sent = code.raw_bits(message.block_bits), code.to_positive(message.integers.ravel())
    theta = best_theta16(sent, raw)
    read = read_integers(write_integers(sent, theta, raw), len(sent), theta, raw)
    return code.from_positive(read).reshape(message.integers.shape)


def check_round_trips(code, count, seed):
    target = random_targets(np.random.default_rng(seed), count)
    message = encode(target, CODING, seed, code, oversampling=1)
    assert np.array_equal(through_bytes(message), message.integers)
    samples = {e: decode(message, CODING, seed, engine=e) for e in ("numba", "numpy")}
    assert samples["numba"].tobytes() == samples["numpy"].tobytes()
    # They are samples of their own targets, not of their neighbours'.
    z = (samples["numba"] - target.mean) / target.sigma
    assert np.all(np.isfinite(z))
    if CODES[code].exact and code != "pfr":  # whose samples share a codebook, so their mean is free
        assert abs(z.mean()) < 6.0 / np.sqrt(count)
        assert abs(z.var() - 1.0) < 6.0 * np.sqrt(2.0 / count)


@pytest.mark.parametrize("code", CODES)
def test_some_targets(code):
    check_round_trips(code, FEW, seed=3)


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.parametrize("code", CODES)
def test_a_million_targets(code):
    for seed in range(MILLION // AT_ONCE):
        check_round_trips(code, AT_ONCE, seed)


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.parametrize("code", [name for name, code in CODES.items() if code.exact])
def test_a_hundred_thousand_samples_follow_their_target(code):
    """By Kolmogorov and Smirnov; the false alarm is 1e-6 for each code (Dvoretzky et al.)."""
    count, seeds = (1, 100_000) if code == "pfr" else (100_000, 1)
    delta, sigma = 1.2, 0.3  # 2.3 bits
    target = Gaussian(np.full(count, CODING.mean + CODING.sigma * delta), CODING.sigma * sigma)
    z = []
    for seed in range(seeds):
        message = encode(target, CODING, seed, code)
        z.append((decode(message, CODING, seed) - target.mean) / target.sigma)
    distance = stats.kstest(np.concatenate(z), stats.norm.cdf).statistic
    assert distance < np.sqrt(np.log(2.0 / 1e-6) / (2.0 * 100_000))
