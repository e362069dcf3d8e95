"""Minimal random coding: the encoder is honest, the index is all that is sent, memory is bounded.

An honest encoder is one whose decoded samples follow Q.  With K candidates z_k ~ P of weights
W_k = q(z_k) / p(z_k) and S = sum_k W_k / K, so that E S = 1, a test function f with |f| <= 1/2 has

    E f(sample) - E_Q f = E[sum_k f(z_k) W_k / (K S)] - E[sum_k f(z_k) W_k / K]
                        = E[(sum_k f(z_k) W_k / (K S)) (1 - S)],

at most E|1 - S| / 2 <= sqrt(Var S) / 2 = sqrt(chi^2(Q || P) / K) / 2 in size.  Every event is such
an f (its indicator less 1/2), so that bounds the total variation distance, and with it the
distance of the two distribution functions.
"""

from __future__ import annotations

import numpy as np
import pytest
from exactness import (
    FALSE_ALARM,
    ONE,
    PLACES,
    TWO,
    distance,
    dkw,
    growth,
    log_ratio,
    total_variation_bound,
)
from oracles import row_words, same_bits
from scipy import special, stats

from refmiracle.codes.minimal_random_coding import decode, encode
from refmiracle.engines import get_engine, numba_engine, numpy_engine
from refmiracle.numerics.philox import Stream, words_to_uniform

NUMPY, NUMBA = get_engine("numpy"), get_engine("numba")
# Samples and bits; more of both make the bound tighter, and the numba engine has the time.
SIZES = {"numpy": (5000, 9), "numba": (20_000, 11)}


def argmax_encoder(engine, seed, bits, blocks, delta, log_s):
    """The dishonest encoder: the most likely candidate, always."""
    z = engine.codebook_rows(seed, np.arange(2**bits), delta.shape[1])
    return engine.log_weights(z, delta, log_s).argmax(axis=1)


def decoded(engine, encoder, count, bits, posterior):
    """Each sample comes from another seed, so from another codebook: they are independent."""
    delta, log_s = posterior
    samples = []
    for seed in range(count):
        index = encoder(engine, seed, bits, [0], delta, log_s)
        samples.append(decode(engine, seed, index, delta.shape[1])[0])
    return np.array(samples, np.float64)


def test_chi_square_by_quadrature():
    """The closed form that the bound of these tests stands on."""
    z = np.linspace(-12, 12, 200_001)
    log_ratio = 2 * stats.norm.logpdf(z, 1.0, 0.5) - stats.norm.logpdf(z)
    chi2 = np.exp(log_ratio).sum() * (z[1] - z[0]) - 1.0
    assert abs(total_variation_bound(*ONE, bits=0) / (0.5 * np.sqrt(chi2)) - 1) < 1e-9


@pytest.fixture
def one_thread(monkeypatch):
    """One block at a time is done sooner than another thread wakes; the bits are the same."""
    monkeypatch.setattr(numba_engine.threads, "THREADS", 1)


@pytest.mark.parametrize(
    ("posterior", "direction"),
    [PLACES[0], *(pytest.param(*place, marks=pytest.mark.slow) for place in PLACES[1:])],
)
def test_the_encoder_is_honest(engine, posterior, direction, one_thread):
    count, bits = SIZES[engine.name]
    bound = dkw(count) + total_variation_bound(*posterior, bits)
    assert bound < 0.07
    samples = decoded(engine, encode, count, bits, posterior)
    assert distance(samples, posterior, direction) <= bound


@pytest.mark.parametrize(("encoder", "bits"), [(encode, 1), (argmax_encoder, 9)])
def test_the_honesty_test_has_power(encoder, bits, one_thread):
    """Two candidates are too few to follow Q, and the argmax does not: both are told from Q.

    Even by the loosest bound of the test above.
    """
    bound = dkw(5000) + total_variation_bound(*ONE, 9)
    samples = decoded(NUMBA, encoder, 5000, bits, ONE)
    assert distance(samples, ONE, np.ones(1)) > 1.5 * bound


def test_indices_are_drawn_with_the_weights(engine):
    """For one codebook: 20,000 blocks of the same Q draw index k with probability W_k / sum W."""
    delta, log_s = (np.repeat(a, 20_000, axis=0) for a in TWO)
    indices = encode(engine, 4, 4, np.arange(20_000), delta, log_s)
    z = decode(engine, 4, np.arange(16), 2).astype(np.float64)
    weights = np.exp(expected_log_weights(z, *TWO)[0])
    counts = np.bincount(indices, minlength=16)
    expected = 20_000 * weights / weights.sum()
    # Cells that expect less than 5 are taken together, as the chi-square law needs.
    rare = expected < 5
    pooled = [np.append(a[~rare], a[rare].sum()) for a in (counts, expected)]
    assert (~rare).sum() >= 8
    pooled = [a[pooled[1] > 0] for a in pooled]
    assert stats.chisquare(*pooled).pvalue > FALSE_ALARM


def expected_log_weights(z, delta, log_s):
    """log q(z) - log p(z) by scipy, shape (blocks, candidates)."""
    return log_ratio(z[None], delta[:, None, :], log_s[:, None, :]).sum(axis=2)


@pytest.mark.parametrize("log_s", [-1e-6, -0.5, -5.0, -60.0, -600.0])
def test_log_weights_against_scipy(engine, rng, log_s):
    """Also where s is so tiny that an expanded square would be lost in rounding."""
    z = engine.codebook_rows(8, np.arange(50), 3)
    delta = rng.normal(size=(4, 3))
    delta[0] = z[7]  # a candidate in the very centre of Q
    spread = log_s * rng.uniform(0.9, 1.0, size=delta.shape)
    got = engine.log_weights(z, delta, spread)
    want = expected_log_weights(z.astype(np.float64), delta, spread)
    assert got.shape == (4, 50)
    # Relative to the terms, which may cancel: |z|^2 / 2 and |log s| / 2 are below 30 + |log s|.
    assert np.max(np.abs(got - want) / (np.abs(want) + 30.0 - log_s)) <= 1e-14
    assert got[0].argmax() == 7


def plain_scores(seed, bits, blocks, delta, log_s):
    """log W_k + Gumbel variates, by plain Python words and scipy's quantile."""
    dimension = delta.shape[1]
    words = [row_words(seed, Stream.CODEBOOK, k, dimension) for k in range(2**bits)]
    z = special.ndtri((np.array(words) + 0.5) / 2.0**32).astype(np.float32).astype(np.float64)
    own = np.array([row_words(seed, Stream.SELECTION, b, 2**bits) for b in blocks])
    return expected_log_weights(z, delta, log_s) - np.log(-np.log((own + 0.5) / 2.0**32))


def random_posteriors(rng, blocks, dimension):
    """Posteriors of a few nats each."""
    return 0.8 * rng.normal(size=(blocks, dimension)), -rng.exponential(size=(blocks, dimension))


@pytest.mark.parametrize(("bits", "dimension"), [(0, 2), (1, 3), (2, 1), (7, 5), (13, 2)])
def test_indices_by_a_plain_argmax(engine, rng, bits, dimension):
    """Of one candidate, of two, of a part of a chunk and of several chunks."""
    blocks = [0, 1, 885, 2**32 - 1]
    delta, log_s = random_posteriors(rng, len(blocks), dimension)
    scores = plain_scores(21, bits, blocks, delta, log_s)
    # A case whose first two are too near for rounding would judge nothing.
    first_two = np.sort(scores, axis=1)[:, -2:]
    assert bits == 0 or np.min(first_two[:, -1] - first_two[:, 0]) > 1e-6
    indices = encode(engine, 21, bits, blocks, delta, log_s)
    assert indices.dtype == np.int64
    assert indices.tolist() == scores.argmax(axis=1).tolist()


@pytest.mark.parametrize("chunk", [1, 3, 100, 1000])
def test_chunks_do_not_change_the_indices(rng, monkeypatch, chunk):
    """Also where the number of candidates is not a multiple of the chunk."""
    delta, log_s = random_posteriors(rng, 6, 3)
    want = encode(NUMPY, 2, 8, range(6), delta, log_s)
    monkeypatch.setattr(numpy_engine.mrc, "CANDIDATES_AT_ONCE", chunk)
    assert encode(NUMPY, 2, 8, range(6), delta, log_s).tolist() == want.tolist()
    assert len(set(want.tolist())) > 1


@pytest.mark.parametrize("bits", [1, 8, 11])
def test_a_kept_codebook_changes_nothing(rng, monkeypatch, bits):
    """The compiled engine keeps a small codebook, and makes a large one as it goes."""
    delta, log_s = random_posteriors(rng, 6, 3)
    kept = encode(NUMBA, 2, bits, range(6), delta, log_s)
    encode(NUMBA, 3, bits, range(6), delta, log_s)  # another codebook in between
    assert encode(NUMBA, 2, bits, range(6), delta, log_s).tolist() == kept.tolist()
    monkeypatch.setattr(numba_engine.mrc, "KEPT_FLOATS", 0)
    assert encode(NUMBA, 2, bits, range(6), delta, log_s).tolist() == kept.tolist()


def test_engines_choose_the_same_indices(rng):
    delta, log_s = random_posteriors(rng, 200, 6)
    a, b = (
        encode(get_engine(name), 6, 11, range(200), delta, log_s) for name in ("numpy", "numba")
    )
    assert a.tolist() == b.tolist()
    assert len(set(a.tolist())) > 100


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("width", [1e-3, 1.0, 30.0])
def test_no_winner_is_passed_over(rng, seed, width):
    """Candidates that cannot win get no Gumbel variate: none that would have won is among them.

    From posteriors so wide that the variates decide to some so narrow that they hardly matter;
    an odd number of blocks, and several chunks.
    """
    delta, log_s = (width * a for a in random_posteriors(rng, 15, 3))
    scores = NUMPY.log_weights(NUMPY.codebook_rows(seed, np.arange(2**13), 3), delta, log_s)
    scores += numpy_engine.mrc.gumbel(seed, range(15), 2**13, 0)
    assert encode(NUMBA, seed, 13, range(15), delta, log_s).tolist() == scores.argmax(1).tolist()


def test_the_bound_on_gumbel_variates_holds(rng):
    """Also for the least and the largest word, and a score that just wins."""
    words = rng.integers(0, 2**32, size=20_000, dtype=np.uint64)
    words[:2] = 0, 2**32 - 1
    variates = -np.log(-np.log(words_to_uniform(words)))
    flags = np.empty(len(words), dtype=np.uint8)
    for margin in (0.0, 1e-9):
        numba_engine.mrc._flag_survivors(margin - variates, words, 0.0, flags)
        assert flags.all()
    numba_engine.mrc._flag_survivors(-3.0 - variates, words, 0.0, flags)
    assert flags.mean() < 1e-3  # three nats short, nearly all are spared


def test_a_block_does_not_depend_on_its_neighbours(engine, rng):
    """Progressive encoding sends a few blocks at a time."""
    numbers = [5, 0, 17, 3]
    delta, log_s = random_posteriors(rng, 4, 4)
    together = encode(engine, 3, 9, numbers, delta, log_s)
    alone = [
        int(encode(engine, 3, 9, [n], delta[i : i + 1], log_s[i : i + 1])[0])
        for i, n in enumerate(numbers)
    ]
    assert together.tolist() == alone
    backwards = encode(engine, 3, 9, numbers[::-1], delta[::-1], log_s[::-1])
    assert backwards.tolist() == alone[::-1]


def test_blocks_and_seeds_draw_apart(engine):
    """The same Q in other blocks, or under another seed, is another draw."""
    delta, log_s = (np.repeat(a, 50, axis=0) for a in ONE)
    by_block = encode(engine, 0, 10, range(50), delta, log_s)
    by_seed = [int(encode(engine, seed, 10, [0], *ONE)[0]) for seed in range(50)]
    assert len(set(by_block.tolist())) > 30
    assert len(set(by_seed)) > 30


@pytest.mark.parametrize(("sender", "receiver"), [("numpy", "numba"), ("numba", "numpy")])
def test_the_index_is_all_that_is_sent(rng, sender, receiver):
    """The other engine finds the same candidates, bit for bit, from the seed and the indices."""
    delta, log_s = random_posteriors(rng, 20, 7)
    indices = encode(get_engine(sender), 31, 10, range(20), delta, log_s)
    assert np.all((indices >= 0) & (indices < 2**10))
    rows = get_engine(sender).codebook_rows(31, np.arange(2**10), 7)[indices]
    assert same_bits(decode(get_engine(receiver), 31, indices, 7), rows)


def test_a_certain_posterior_sends_the_nearest_candidate(engine):
    """s = exp(-30) around candidate 77: no Gumbel variate makes up for a distance."""
    delta = engine.codebook_rows(9, [77], 4).astype(np.float64)
    index = encode(engine, 9, 8, [0], delta, np.full((1, 4), -30.0))
    assert index.tolist() == [77]


@pytest.mark.parametrize(
    ("name", "bits"),
    [("numpy", 18), ("numba", 22), pytest.param("numba", 24, marks=pytest.mark.slow)],
)
def test_memory_does_not_grow_with_the_candidates(name, bits):
    """All candidates at once would take 63 MB (numpy, float64), 0.5 GB and 2 GB; a chunk, 1 MB."""
    pytest.importorskip("resource")
    assert growth(name, "select_indices", bits) < 32 * 2**20


@pytest.mark.parametrize("bits", [1, 5, 13])
def test_best_is_the_candidate_with_the_largest_weight(engine, rng, bits):
    delta, log_s = rng.normal(size=(20, 3)), -rng.exponential(size=(20, 3))
    z = decode(engine, 6, np.arange(2**bits), 3).astype(np.float64)
    expected = expected_log_weights(z, delta, log_s).argmax(axis=1)
    assert np.array_equal(encode(engine, 6, bits, np.arange(20), delta, log_s, "best"), expected)
    # Where Q = P all are equal, and the first is taken.
    nothing = np.zeros((2, 3))
    assert encode(engine, 6, bits, [0, 1], nothing, nothing, "best").tolist() == [0, 0]
