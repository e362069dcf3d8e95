"""Codes of blocks: samples follow Q, exactly or with minimal random coding's bias; lengths.

Exact codes are held to the bound of `exactness.dkw` alone.  Samples are independent: of `orc` and
`pfr` each has another seed, of `sp-pfr` another block (its candidates are drawn by block).
"""

from __future__ import annotations

import numpy as np
import pytest
from exactness import ONE, PLACES, distance, dkw, kl_bits, total_variation_bound
from oracles import same_bits
from scipy import stats

from refmiracle.engines import get_engine

NUMBA = get_engine("numba")
SAMPLES = {"numpy": 400, "numba": 1500}

# KL 3.3 nats.
FIVE = np.array([[1.2, -0.5, 0.0, 0.3, -1.0]]), np.log([[0.2, 0.6, 1.0, 0.05, 0.5]])


def of_codebooks(engine, encoder, count, target):
    """Samples that an encoder (seed -> index) finds in `count` codebooks."""
    dimension = target[0].shape[1]
    return np.array(
        [engine.codebook_rows(s, encoder(s), dimension)[0] for s in range(count)], np.float64
    )


def partition_samples(engine, bits, count, target):
    delta, log_s = (np.repeat(a, count, axis=0) for a in target)
    blocks = np.arange(count)
    messages = engine.partition_messages(5, bits, blocks, delta, log_s)
    return engine.partition_rows(5, bits, blocks, messages, delta.shape[1]).astype(np.float64)


@pytest.mark.parametrize(("target", "direction"), PLACES)
def test_pfr_is_exact(engine, target, direction):
    count = SAMPLES[engine.name]
    samples = of_codebooks(engine, lambda s: engine.poisson_indices(s, [0], *target), count, target)
    assert distance(samples, target, direction) <= dkw(count)


@pytest.mark.parametrize("bits", [0, 3])
@pytest.mark.parametrize(("target", "direction"), PLACES)
def test_sp_pfr_is_exact(engine, bits, target, direction):
    count = {"numpy": 400, "numba": 20_000}[engine.name]
    samples = partition_samples(engine, bits, count, target)
    assert distance(samples, target, direction) <= dkw(count)


@pytest.mark.parametrize("bits", [0, 4, 12])
def test_sp_pfr_is_exact_in_each_of_five_dimensions(bits):
    """With no bits for some places, and with two or three for each."""
    samples = partition_samples(NUMBA, bits, 10_000, FIVE)
    for axis in np.eye(5):
        assert distance(samples, FIVE, axis) <= dkw(10_000)
    assert np.max(np.abs(np.corrcoef(samples.T) - np.eye(5))) < 5.0 / np.sqrt(10_000)


@pytest.mark.parametrize(("target", "direction"), PLACES)
def test_orc_has_no_more_bias_than_mrc(engine, target, direction):
    count, bits = SAMPLES[engine.name], {"numpy": 9, "numba": 10}[engine.name]
    samples = of_codebooks(
        engine, lambda s: engine.ordered_indices(s, bits, [0], *target), count, target
    )
    bound = dkw(count) + total_variation_bound(*target, bits)
    assert bound < 0.17
    assert distance(samples, target, direction) <= bound


def test_the_tests_of_exactness_have_power():
    """Two candidates do not follow Q; nor does a target whose mean is a fifth of a sigma off."""
    samples = of_codebooks(NUMBA, lambda s: NUMBA.ordered_indices(s, 1, [0], *ONE), 600, ONE)
    assert distance(samples, ONE, np.ones(1)) > 1.5 * dkw(600)
    shifted = partition_samples(NUMBA, 2, 20_000, (ONE[0] + 0.1, ONE[1]))
    assert distance(shifted, ONE, np.ones(1)) > 1.5 * dkw(20_000)


def random_targets(rng, blocks, dimension, bits):
    """Targets of `bits` bits of KL each, of uneven places."""
    shape = blocks, dimension
    delta, log_s = rng.uniform(-1.5, 1.5, size=shape), -rng.uniform(0.2, 1.5, size=shape)
    low, high = np.zeros((blocks, 1)), np.full((blocks, 1), 30.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        spent = kl_bits(np.sqrt(middle) * delta, middle * log_s).sum(axis=1, keepdims=True)
        too_much = spent > bits
        low, high = np.where(too_much, low, middle), np.where(too_much, middle, high)
    return np.sqrt(middle) * delta, middle * log_s


def test_orc_prefers_low_indices(rng):
    """At 12 bits for KLs of 4: mrc's index is nearly uniform, orc's like that of an exact code."""
    blocks = np.arange(500)
    targets = random_targets(rng, 500, 4, 4.0)
    orc = NUMBA.ordered_indices(1, 12, blocks, *targets)
    mrc = NUMBA.select_indices(1, 12, blocks, *targets)
    assert np.mean(np.log2(mrc + 1)) > 10.0
    assert np.mean(np.log2(orc + 1)) < 5.5
    pfr = NUMBA.poisson_indices(1, blocks, *targets)
    assert np.mean(np.log2(pfr + 1)) < 5.0  # KL + 1


@pytest.mark.parametrize(("kl", "dimension"), [(4, 1), (8, 1), (4, 4), (6, 3)])
def test_length_of_sp_pfr(rng, kl, dimension):
    """K bits, K = KL, and E log2 n of at most about log2(1 + r 2^-K): 1.5 bits over the KL."""
    blocks = np.arange(300)
    delta, log_s = random_targets(rng, 300, dimension, float(kl))
    messages = NUMBA.partition_messages(2, kl, blocks, delta, log_s)
    z = NUMBA.partition_rows(2, kl, blocks, messages, dimension).astype(np.float64)
    log_n = np.log2(messages >> kl)
    log_r = 0.5 * (z**2 - (z - delta) ** 2 * np.exp(-log_s) - log_s).sum(axis=1)
    expected = np.log2(1.0 + np.exp(log_r) * 2.0**-kl)
    five_sigma = 5.0 * np.std(log_n - expected) / np.sqrt(len(blocks))
    assert np.mean(log_n) <= np.mean(expected) + five_sigma
    assert kl + np.mean(log_n) <= kl + 1.5


@pytest.mark.parametrize(("sender", "receiver"), [("numpy", "numba"), ("numba", "numpy")])
@pytest.mark.parametrize(("bits", "dimension"), [(0, 3), (2, 7), (9, 5), (20, 2), (24, 9)])
def test_the_message_is_all_that_is_sent(rng, sender, receiver, bits, dimension):
    """The other engine finds the same sample, bit for bit, in the bin that the message names."""
    blocks = np.array([0, 7, 2**32 - 1, 12])
    targets = random_targets(rng, 4, dimension, 3.0)
    messages = get_engine(sender).partition_messages(9, bits, blocks, *targets)
    assert messages.dtype == np.int64
    rows, own = (
        get_engine(name).partition_rows(9, bits, blocks, messages, dimension)
        for name in (receiver, sender)
    )
    assert rows.dtype == np.float32
    assert same_bits(rows, own)
    names = [""] * len(blocks)
    for d in range(dimension):
        k = (d + 1) * bits // dimension - d * bits // dimension
        inside = np.floor(stats.norm.cdf(rows[:, d].astype(np.float64)) * 2**k).astype(int)
        names = [name + (f"{i:0{k}b}" if k else "") for name, i in zip(names, inside, strict=True)]
    assert [int(name or "0", 2) for name in names] == (messages % 2**bits).tolist()
