"""Codes of blocks in both engines: against plain loops that never stop early, and at the limits."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from exactness import growth, log_ratio
from hypothesis import given
from hypothesis import strategies as st
from oracles import philox, row_words, run_python, same_bits
from scipy import optimize, special

from refmiracle.engines import numba_engine, numpy_engine
from refmiracle.engines.numba_engine import orc_pfr as numba_orc_pfr
from refmiracle.engines.numba_engine import sp_pfr as numba_sp_pfr
from refmiracle.engines.numpy_engine import orc_pfr as numpy_orc_pfr
from refmiracle.engines.numpy_engine import sp_pfr as numpy_sp_pfr
from refmiracle.errors import InputError
from refmiracle.numerics.philox import Stream

ENGINES = {"numpy": numpy_engine.ENGINE, "numba": numba_engine.ENGINE}
NUMBERS = [0, 3, 885, 2**32 - 1]  # of blocks
NARROW = math.log(1e-12)


def random_targets(rng, blocks, dimension, scale=1.0):
    """Targets of about 0.7 scale bits in each place."""
    shape = blocks, dimension
    return (
        math.sqrt(scale) * rng.uniform(-1.2, 1.2, size=shape),
        -scale * rng.uniform(0.1, 1.5, size=shape),
    )


def uniforms(words):
    return (np.array(words, dtype=np.float64) + 0.5) / 2.0**32


def first_of(scores):
    """The place of the least score; a case whose first two nearly tie would judge nothing."""
    assert len(scores) == 1 or np.diff(np.sort(scores)[:2])[0] > 1e-9
    return int(np.argmin(scores))


def plain_ordered(seed, candidates, blocks, delta, log_s, without_end):
    """All `candidates` arrivals of each block, by plain Python words and scipy's quantile."""
    N, dimension = candidates, delta.shape[1]
    words = [row_words(seed, Stream.CODEBOOK, k, dimension) for k in range(N)]
    z = special.ndtri(uniforms(words)).astype(np.float32).astype(np.float64)
    indices = []
    for block, d, ls in zip(blocks, delta, log_s, strict=True):
        T, scores = 0.0, []
        for k, u in enumerate(uniforms(row_words(seed, Stream.SELECTION, block, N))):
            T += -math.log(u) if without_end else -math.log(u) * N / (N - k)
            scores.append(math.log(T) - log_ratio(z[k], d, ls).sum())
        indices.append(first_of(scores))
    return indices


@pytest.mark.parametrize(("bits", "dimension"), [(0, 2), (1, 3), (2, 1), (7, 5), (11, 2)])
def test_orc_by_a_plain_loop(engine, rng, bits, dimension):
    """One candidate, two, a part of a chunk, several chunks; none is passed over."""
    targets = random_targets(rng, len(NUMBERS), dimension, 2.0)
    want = plain_ordered(21, 2**bits, NUMBERS, *targets, without_end=False)
    indices = engine.ordered_indices(21, bits, NUMBERS, *targets)
    assert indices.dtype == np.int64
    assert indices.tolist() == want


@pytest.mark.parametrize(("dimension", "scale"), [(1, 3.0), (5, 0.5), (2, 1.5)])
def test_pfr_by_a_plain_loop_that_goes_on(engine, rng, dimension, scale):
    """The r_max here are below 2^6, so that 2^10 arrivals are many more than a search needs."""
    targets = random_targets(rng, len(NUMBERS), dimension, scale)
    want = plain_ordered(4, 2**10, NUMBERS, *targets, without_end=True)
    assert engine.poisson_indices(4, NUMBERS, *targets).tolist() == want
    assert max(want) > 0


def plain_partition(seed, K, block, delta, log_s, arrivals):
    """The message of one block by docs/CODES.md section 3, arrival by arrival, without a stop."""
    dimension = len(delta)
    k = [(d + 1) * K // dimension - d * K // dimension for d in range(dimension)]
    log_m = [suprema(delta[d], log_s[d], k[d]) for d in range(dimension)]
    log_Z = [special.logsumexp(log_m[d]) - k[d] * math.log(2) for d in range(dimension)]
    sums = [np.cumsum(np.exp(m - special.logsumexp(m))) for m in log_m]
    T, counts, scores, messages = 0.0, {}, [], []
    for t in range(arrivals):
        u = uniforms(counter_words((t, block, 0), (seed, Stream.PROPOSAL), 1 + dimension))
        T -= math.log(u[0])
        j_d = [int(np.argmax(u[1 + d] < sums[d])) for d in range(dimension)]
        j = 0
        for d in range(dimension):
            j = j * 2 ** k[d] + j_d[d]
        counts[j] = n = counts.get(j, 0) + 1
        w = uniforms(counter_words((n, block, j), (seed, Stream.PARTITION), dimension))
        z = special.ndtri([(j_d[d] + w[d]) / 2 ** k[d] for d in range(dimension)])
        gain = sum(log_Z[d] - log_m[d][j_d[d]] for d in range(dimension))
        scores.append(math.log(T) - log_ratio(z, delta, log_s).sum() - gain)
        messages.append(n * 2**K + j)
    return messages[first_of(scores)], len(counts)


def counter_words(counter, key, count):
    four = [philox((*counter, g), (key[0], int(key[1]))) for g in range(-(-count // 4))]
    return [w for words in four for w in words][:count]


def suprema(delta, log_s, k):
    """log m(i) over 2^k intervals by a bounded search."""
    edges = special.ndtri(np.arange(2**k + 1) / 2**k)
    edges[0], edges[-1] = special.ndtri(2.0 ** -(33 + k)), -special.ndtri(2.0 ** -(33 + k))
    best = []
    for low, high in pairwise(edges):
        found = optimize.minimize_scalar(
            lambda z: -log_ratio(z, delta, log_s), bounds=(low, high), options={"xatol": 1e-9}
        )
        best.append(max(-found.fun, *log_ratio(np.array([low, high]), delta, log_s)))
    return np.array(best)


@pytest.mark.parametrize(
    ("K", "dimension", "scale"), [(0, 2, 1.5), (1, 3, 1.0), (7, 2, 2.0), (6, 5, 0.8)]
)
def test_sp_pfr_by_a_plain_loop_that_goes_on(engine, rng, K, dimension, scale):
    delta, log_s = random_targets(rng, 3, dimension, scale)
    got = engine.partition_messages(8, K, NUMBERS[-3:], delta, log_s)
    assert got.dtype == np.int64
    for message, block, d, ls in zip(got, NUMBERS[-3:], delta, log_s, strict=True):
        want, bins = plain_partition(8, K, block, d, ls, 300)
        assert message == want
        assert bins > min(2**K, 8) // 2  # the arrivals are spread over bins


def test_engines_agree(rng):
    """On targets that need thousands of arrivals, in more bins than a hash table begins with."""
    targets = random_targets(rng, 40, 6, 1.5)
    orc = [e.ordered_indices(6, 11, range(40), *targets) for e in ENGINES.values()]
    assert orc[0].tolist() == orc[1].tolist()
    assert len(set(orc[0].tolist())) > 25
    pfr = [e.poisson_indices(6, range(40), *targets) for e in ENGINES.values()]
    assert pfr[0].tolist() == pfr[1].tolist()
    assert pfr[0].max() > 500
    few = slice(0, 10)
    for K in (0, 5, 14, 24):
        sp = [
            e.partition_messages(6, K, range(10), targets[0][few], targets[1][few])
            for e in ENGINES.values()
        ]
        assert sp[0].tolist() == sp[1].tolist()


def test_arrival_times_are_the_same_bits(rng):
    """So the engines' scores differ by no more than a rounding of each."""
    words = rng.integers(0, 2**32, size=1024, dtype=np.uint64)
    words[:4] = 0, 2**32 - 1, 2**31, 2**31 - 1
    E = np.empty((2, 1024))
    numba_orc_pfr._fill_exponentials(words, E[0])
    assert same_bits(E[0], numpy_orc_pfr.exponentials(words))
    assert np.max(np.abs(E[0] / -np.log(uniforms(words)) - 1.0)) < 1e-14
    own = np.array([numba_sp_pfr._exponential(w) for w in words[:100]])
    assert same_bits(own, E[0, :100])
    E[1] = E[0]
    T = numpy_orc_pfr.running_sums(np.array(0.3), E[0].reshape(4, 256).T.ravel())
    assert numba_orc_pfr._add_up_two(E, (0.3, 0.0))[0] == T[-1]
    assert same_bits(np.ascontiguousarray(E[0].reshape(4, 256).T).ravel(), T)


def test_chunks_and_neighbours_do_not_change_the_messages(engine, rng, monkeypatch):
    """Blocks that stop leave the others; a short chunk stops sooner than a long one."""
    targets = random_targets(rng, 9, 3, 1.5)
    targets[0][4], targets[1][4] = 0.0, 0.0  # this one stops at once
    blocks = np.arange(9)

    def messages(of):
        own = [a[of] for a in targets]
        return [
            engine.ordered_indices(2, 10, blocks[of], *own).tolist(),
            engine.poisson_indices(2, blocks[of], *own).tolist(),
            engine.partition_messages(2, 5, blocks[of], *own).tolist(),
        ]

    together = messages(slice(None))
    alone = [messages(slice(i, i + 1)) for i in range(9)]
    assert together == [[m[c][0] for m in alone] for c in range(3)]
    assert [row[::-1] for row in messages(slice(None, None, -1))] == together
    monkeypatch.setattr(numpy_orc_pfr, "CANDIDATES_AT_ONCE", 7)
    monkeypatch.setattr(numpy_sp_pfr, "TABLE_FLOATS", 1)
    monkeypatch.setattr(numba_orc_pfr, "SLAB_FLOATS", 1)
    monkeypatch.setattr(numba_orc_pfr, "KEPT_FLOATS", 0)
    numba_orc_pfr._kept_slabs.cache_clear()
    assert messages(slice(None)) == together
    assert messages(slice(0, 0)) == [[], [], []]


def test_places_that_are_not_used_count_nothing(engine, rng):
    """delta = 0, log_s = 0: r is 1 there. (Bits of bins are spread over all places: K = 0.)"""
    delta, log_s = random_targets(rng, 6, 3)
    wide = [np.pad(a, ((0, 0), (0, 6))) for a in (delta, log_s)]
    for a, b in [
        [engine.ordered_indices(2, 9, range(6), *t) for t in ((delta, log_s), wide)],
        [engine.poisson_indices(2, range(6), *t) for t in ((delta, log_s), wide)],
        [engine.partition_messages(2, 0, range(6), *t) for t in ((delta, log_s), wide)],
    ]:
        assert a.tolist() == b.tolist()
    assert np.all(numpy_sp_pfr.proposal(12, *wide).log_bound[:, 3:] == 0.0)


def test_a_target_that_is_the_coding_distribution_costs_nothing(engine):
    nothing = np.zeros((3, 4))
    assert engine.ordered_indices(1, 10, range(3), nothing, nothing).tolist() == [0, 0, 0]
    assert engine.poisson_indices(1, range(3), nothing, nothing).tolist() == [0, 0, 0]
    messages = engine.partition_messages(1, 6, range(3), nothing, nothing)
    assert (messages >> 6).tolist() == [1, 1, 1]


@given(delta=st.floats(-8.0, 8.0), log_s=st.floats(-50.0, 0.0), k=st.sampled_from([0, 1, 2, 5]))
def test_suprema_bound_what_can_be_drawn(delta, log_s, k):
    """Of every interval, and by little: none of the samples in it has a larger ratio."""
    delta, log_s = np.array([delta]), np.array([log_s])
    p = numpy_sp_pfr.proposal(k, delta, log_s)
    words = np.unique(np.r_[np.linspace(0, 2**32 - 1, 999).astype(np.int64), 0:9])
    u = (np.arange(2**k)[:, None] + uniforms(words)) / 2**k
    z = numpy_engine.ENGINE.normal_quantile(u)
    log_r = numpy_orc_pfr.log_suprema(delta, log_s, z, z)  # at one point: log r itself
    assert np.all(log_r <= p.log_sup[0][:, None] + 1e-9)
    ends = numpy_engine.ENGINE.normal_quantile((np.arange(2**k) + uniforms([0])) / 2**k)
    mode = delta / max(-np.expm1(log_s[0]), 1e-300)
    near = np.clip(mode, ends, -ends[::-1])
    assert np.all(p.log_sup[0] >= numpy_orc_pfr.log_suprema(delta, log_s, near, near) - 1e-9)
    assert p.cumulative[0, -1] == pytest.approx(1.0, abs=1e-12)
    assert p.log_bound[0] == pytest.approx(special.logsumexp(p.log_sup[0]) - k * np.log(2))


def test_log_suprema_against_scipy(rng):
    delta, log_s = random_targets(rng, 20, 1, 3.0)
    for k in (0, 3):
        got = numpy_sp_pfr.proposal(k, delta, log_s).log_sup[:, 0]
        want = [suprema(d[0], ls[0], k) for d, ls in zip(delta, log_s, strict=True)]
        assert np.max(np.abs(got - want)) < 1e-7


def test_more_bins_need_fewer_candidates(rng):
    """With K = 0 the bound is that of pfr; it falls to 1 as the bins become narrow."""
    delta, log_s = random_targets(rng, 10, 2, 3.0)
    r_max = numpy_orc_pfr.log_suprema(delta, log_s, -6.338, 6.338).sum(axis=1)
    bounds = [numpy_sp_pfr.proposal(K, delta, log_s).log_bound.sum(axis=1) for K in range(21)]
    assert np.max(np.abs(bounds[0] - r_max)) < 1e-3
    assert np.all(np.diff(bounds[::2], axis=0) < 0.0)  # every place has a bit more
    assert np.all((bounds[20] > 0.0) & (bounds[20] < 0.05))


@pytest.mark.parametrize("bits", [0, 1, 20, 23])
def test_the_outermost_samples_are_finite_and_bounded(bits):
    """The uniform next to 1 does not round to 1, even with 23 bits of a bin above 32."""
    k, _, reach = numpy_sp_pfr.intervals(bits, 1)
    for word, interval in ((0, 0), (2**32 - 1, 2**bits - 1)):
        u = numba_sp_pfr._normal(np.uint64(word), interval, 2**bits)
        within = (interval + uniforms(word)) / 2.0**k
        z = numpy_engine.ENGINE.normal_quantile(np.minimum(within, 1.0 - 2.0**-53))
        assert u == z[0]
        assert 6.3 < abs(z[0]) <= reach[0]


ODD = st.sampled_from([0.0, 1e-300, 1e-9, 0.7, 3.0, 6.0, -6.0, 6.7, 7.9])
ODD_LOG_S = st.sampled_from([0.0, -1e-300, -1e-9, -0.5, -6.0, NARROW, -50.0])


@given(places=st.lists(st.tuples(ODD, ODD_LOG_S), min_size=1, max_size=3), K=st.integers(0, 9))
def test_every_target_has_an_answer_or_a_refusal(places, K):
    """Also a place with s = 1e-12, means of 6, a KL of 0, s = 1; neither engine hangs."""
    delta, log_s = (np.array([a]) for a in zip(*places, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_orc_pfr, "LARGEST_SEARCH_BITS", 12)
        for call in (
            lambda e: ENGINES[e].ordered_indices(1, K, [5], delta, log_s),
            lambda e: ENGINES[e].poisson_indices(1, [5], delta, log_s),
            lambda e: ENGINES[e].partition_messages(1, K, [5], delta, log_s),
        ):
            answers = []
            for engine in ("numpy", "numba"):
                try:
                    answers.append(call(engine).tolist())
                except InputError as error:
                    answers.append(str(error))
            assert answers[0] == answers[1]


def test_one_very_narrow_place_is_sent(engine):
    """s = 1e-12 needs 2^19.9 candidates of pfr, and hardly any with 20 bits of bins."""
    delta, log_s = np.array([[0.1]]), np.array([[NARROW]])
    messages = engine.partition_messages(1, 20, [2], delta, log_s)
    z = engine.partition_rows(1, 20, [2], messages, 1)
    assert abs(z[0, 0] - 0.1) < 6e-6
    assert messages[0] >> 20 < 100


def test_refusals_say_which_block_and_how_many(engine):
    delta, log_s = np.full((2, 3), 0.1), np.full((2, 3), -0.5)
    log_s[1] = -12.6
    with pytest.raises(InputError, match=r"block 9 needs a search of about 2\^27\.3 .*fewer bits"):
        engine.poisson_indices(1, [4, 9], delta, log_s)
    with pytest.raises(InputError, match=r"block 9 .* at most 2\^26 .* smaller blocks"):
        engine.partition_messages(1, 0, [4, 9], delta, log_s)
    # The mean lies where the codebook has no samples: r is small, the search without end.
    with pytest.raises(InputError, match="block 0 needs a search"):
        engine.poisson_indices(1, [0], np.array([[6.7]]), np.array([[2 * math.log(0.05)]]))
    for bits in (-1, 27):
        with pytest.raises(InputError, match="expected 0 to 26"):
            engine.ordered_indices(1, bits, [4, 9], delta, log_s)
    for bits in (-1, 25):
        with pytest.raises(InputError, match="expected 0 to 24"):
            engine.partition_messages(1, bits, [4, 9], delta, log_s)
        with pytest.raises(InputError, match="expected 0 to 24"):
            engine.partition_rows(1, bits, [4], [2**25], 3)
    for message in (0, 7, 2**35, -8):
        with pytest.raises(InputError, match="block 4 has candidate"):
            engine.partition_rows(1, 3, [4], [message], 3)
    for call in (
        lambda d, ls: engine.ordered_indices(1, 3, [4], d, ls),
        lambda d, ls: engine.poisson_indices(1, [4], d, ls),
        lambda d, ls: engine.partition_messages(1, 3, [4], d, ls),
    ):
        for bad in ((np.nan, -1.0), (0.0, 0.1), (9.0, -1.0)):
            with pytest.raises(InputError, match="target"):
                call(*(np.full((1, 2), a) for a in bad))


WITH_THREADS = """
import numpy as np
from refmiracle.engines.numba_engine import ENGINE, threads, variables
rng = np.random.default_rng(1)
delta, log_s = rng.uniform(-1.2, 1.2, (21, 4)), -rng.uniform(0.1, 2.0, (21, 4))
print(threads.THREADS)
print(ENGINE.ordered_indices(3, 12, range(21), delta, log_s).tolist())
print(ENGINE.poisson_indices(3, range(21), delta, log_s).tolist())
print(ENGINE.partition_messages(3, 6, range(21), delta, log_s).tolist())
delta, log_s = np.linspace(-1, 1, 700), np.linspace(-3, 0, 700)
for code in variables.SEARCHES:
    messages = ENGINE.variable_messages(code, 4, np.arange(700), delta, log_s)
    print(messages.tolist(), ENGINE.variable_samples(code, 4, np.arange(700), messages).tolist())
"""


@pytest.mark.slow
def test_threads_change_nothing():
    """In the codes of blocks and in those of variables."""
    one, three = (run_python(WITH_THREADS, NUMBA_NUM_THREADS=n).split("\n", 1) for n in "13")
    assert (one[0], three[0]) == ("1", "3")
    assert one[1] == three[1]
    assert len(one[1]) > 200


@pytest.mark.parametrize(("name", "bits", "most"), [("numpy", 18, 32), ("numba", 21, 100)])
def test_memory_does_not_grow_with_the_candidates(name, bits, most):
    """All at once would take 63 MB and 250 MB; the compiled engine keeps the first 64 MB."""
    pytest.importorskip("resource")
    assert growth(name, "ordered_indices", bits) < most * 2**20


def test_a_kept_codebook_changes_nothing(rng):
    targets = random_targets(rng, 4, 3, 2.0)
    first = numba_orc_pfr.ordered_indices(1, 12, range(4), *targets).tolist()
    assert 0 in numba_orc_pfr._kept_slabs(1, 4)
    numba_orc_pfr.poisson_indices(2, range(4), *targets)  # another codebook in between
    assert numba_orc_pfr._kept_slabs(1, 4) == {}
    assert numba_orc_pfr.ordered_indices(1, 12, range(4), *targets).tolist() == first
    assert numba_orc_pfr.ordered_indices(1, 12, range(4), *targets).tolist() == first
    assert same_bits(
        numba_orc_pfr._kept_slabs(1, 4)[0][0, :3, 256],
        numba_engine.ENGINE.codebook_rows(1, [1], 3)[0],
    )
