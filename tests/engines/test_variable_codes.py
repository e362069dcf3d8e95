"""The compiled codes of variables: exact samples of Q, the same messages as the plain engine.

An exact code's decoded samples follow Q.  With n samples the largest distance of their empirical
distribution function from Q's exceeds e with a probability of at most 2 exp(-2 n e^2), whatever Q
(Dvoretzky, Kiefer and Wolfowitz 1956, Massart 1990); e is such that a correct code fails one of
these tests with a probability of FALSE_ALARM, and the seeds are fixed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import philox, run_python, same_bits
from scipy import special, stats

from refmiracle.engines.numba_engine import unimodal
from refmiracle.engines.numba_engine.variables import (
    CODES,
    search,
    variable_messages,
    variable_samples,
)
from refmiracle.engines.numpy_engine import variables as plain
from refmiracle.errors import InputError
from refmiracle.numerics.limits import LARGEST_NODE
from refmiracle.numerics.philox import Stream

FALSE_ALARM = 1e-6
GLOBAL = [code for code in CODES if plain.TREES[code] == "none"]
SAMPLE = [code for code in CODES if plain.TREES[code] == "sample"]
TREES = [code for code in CODES if code not in GLOBAL]
EXACT = [code for code in CODES if code != "dad-star"]

# delta and log s by KL in bits: on both sides, wide and narrow, and without a mode (s = 1).
TARGETS = {
    1: [(0.8, -1.530), (-1.1774, 0.0)],
    5: [(1.6, -5.367), (-2.4, -2.042)],
    10: [(-2.5, -8.613)],
}


def dkw(n):
    """Distance that an empirical distribution function exceeds with probability FALSE_ALARM."""
    return math.sqrt(math.log(2.0 / FALSE_ALARM) / (2.0 * n))


def kl_bits(delta, log_s):
    return 0.5 * (delta**2 + np.expm1(log_s) - log_s) / math.log(2)


def distance(code, count, delta, log_s, oversampling=0):
    """Kolmogorov and Smirnov's distance of `count` decoded samples from Q."""
    rows = np.arange(count)
    targets = np.full(count, delta), np.full(count, log_s)
    messages = variable_messages(code, 17, rows, *targets, oversampling)
    z = np.sort(variable_samples(code, 17, rows, messages).astype(np.float64))
    below = special.ndtr((z - delta) * math.exp(-0.5 * log_s))
    steps = np.arange(count + 1) / count
    return max(np.max(steps[1:] - below), np.max(below - steps[:-1]))


def random_targets(rng, count, bits):
    """Targets of up to some bits, shared at random between mean and variance."""
    nats = bits * math.log(2) * rng.uniform(size=count)
    share = rng.uniform(size=count)
    delta = np.sqrt(2.0 * nats * share) * rng.choice([-1.0, 1.0], count)
    log_s = -2.0 * nats * (1.0 - share)
    far = np.abs(delta) + 4.76 * np.exp(0.5 * log_s) > 8.0
    return np.where(far, 0.3 * delta, delta), log_s


def test_targets_have_their_bits():
    for bits, targets in TARGETS.items():
        for target in targets:
            assert abs(kl_bits(*target) - bits) < 0.1


@pytest.mark.parametrize("bits", TARGETS)
@pytest.mark.parametrize("code", [code for code in TREES if code in EXACT])
def test_samples_follow_the_target(code, bits):
    for target in TARGETS[bits]:
        assert distance(code, 100_000, *target) <= dkw(100_000)


@pytest.mark.parametrize("code", GLOBAL)
@pytest.mark.parametrize(
    ("count", "target"), [(100_000, (0.8, -1.530)), (100_000, (0.0, -1.0)), (20_000, (1.6, -5.367))]
)
def test_samples_follow_the_target_without_a_tree(code, count, target):
    """They need r_max candidates on average: of 100,000 samples at small KL, else of fewer."""
    assert distance(code, count, *target) <= dkw(count)


def test_the_test_of_samples_has_power():
    """The tree of `dad-star` is too shallow to follow Q; with a few bits more it is not."""
    assert distance("dad-star", 100_000, *TARGETS[5][0]) > 2.0 * dkw(100_000)
    assert distance("dad-star", 100_000, *TARGETS[5][0], oversampling=9) <= dkw(100_000)


@pytest.mark.parametrize("oversampling", [-3, 0, 2])
def test_depth_of_dad_star_is_limited(rng, oversampling):
    delta, log_s = random_targets(rng, 2000, 10)
    messages = variable_messages("dad-star", 3, np.arange(2000), delta, log_s, oversampling)
    bits = np.maximum(1, np.ceil(kl_bits(delta, log_s)) + oversampling)
    depth = np.floor(np.log2(messages))
    assert np.all(depth < bits)
    assert np.any(depth == bits - 1)


def node_uniforms(seed, row, node):
    """U and V of a node, from plain Python's Philox."""
    w = philox((node % 2**32, row, node // 2**32, 0), (seed, int(Stream.CANDIDATES)))
    return tuple((a * 2**20 + b // 2**12 + 0.5) / 2.0**52 for a, b in (w[:2], w[2:]))


def whole_tree(seed, row, on_sample, depth):
    """Number, time and u of all nodes of a tree down to a depth."""
    level = [(1, 0.0, 0.0, 1.0)]
    for _ in range(depth):
        below = []
        for n, time, a, b in level:
            U, V = node_uniforms(seed, row, n)
            t, u = time - math.log(V) / (b - a), a + (b - a) * U
            yield n, t, u
            c = u if on_sample else (a + b) / 2
            below += [(2 * n, t, a, c), (2 * n + 1, t, c, b)]
        level = below


@pytest.mark.parametrize("code", ["as-star", "ad-star"])
def test_a_star_by_search_of_the_whole_tree(code):
    """The least log T - log r of all nodes, and the decoder finds that node's sample."""
    depth, seen = 9, set()
    for row in range(12):
        nodes, times, u = zip(*whole_tree(5, row, code in SAMPLE, depth), strict=True)
        z = special.ndtri(np.array(u))
        for delta, log_s in [(0.6, -0.5), (-1.2, -1.5), (1.0, 0.0)]:
            r = stats.norm.logpdf(z, delta, math.exp(0.5 * log_s)) - stats.norm.logpdf(z)
            best = np.argmin(np.log(times) - r)
            message = variable_messages(code, 5, [row], [delta], [log_s])
            if message[0] >= 2**depth:  # below what was searched, so it must be better
                continue
            assert message[0] == nodes[best]
            sample = variable_samples(code, 5, [row], message)
            assert abs(sample[0] - z[best]) <= 1e-6 * max(1.0, abs(z[best]))
            seen.add(int(message[0]))
    assert len(seen) > 4


@pytest.mark.parametrize("code", CODES)
def test_the_decoder_finds_the_encoders_sample(code):
    """Of targets so narrow that no other node's sample is as near: 2^-9 for 8 bits of P(B)."""
    log_s = -13.0 if code in GLOBAL else -36.0
    count = 60
    delta = np.random.default_rng(5).uniform(-1.5, 1.5, count)
    messages = variable_messages(code, 8, np.arange(count), delta, np.full(count, log_s))
    z = variable_samples(code, 8, np.arange(count), messages).astype(np.float64)
    # dad-star's trees may end before a sample of Q.
    widths = 6.0 if code != "dad-star" else 60.0
    assert np.max(np.abs(z - delta)) < widths * math.exp(0.5 * log_s) + 2.0**-24
    assert np.array_equal(z, plain.variable_samples(code, 8, np.arange(count), messages))


@pytest.mark.parametrize("code", CODES)
def test_messages_are_the_plain_engines(code, rng):
    """No rate of differences is allowed for: near ties of rounding are rarer than this."""
    count = 80 if code.startswith("gprs") else 200  # the plain sigma takes long
    delta, log_s = random_targets(rng, count, 2 if code in GLOBAL else 12)
    rows = rng.integers(0, 2**32, count)
    if code in GLOBAL:
        delta = np.clip(delta, -0.7, 0.7)
    want = plain.variable_messages(code, 2**32 - 1, rows, delta, log_s)
    got = variable_messages(code, 2**32 - 1, rows, delta, log_s)
    assert got.dtype == np.int64
    assert got.tolist() == want.tolist()
    assert len(set(got.tolist())) > 6
    samples = variable_samples(code, 2**32 - 1, rows, got)
    assert same_bits(samples, plain.variable_samples(code, 2**32 - 1, rows, want))


@pytest.mark.parametrize("tree", ["as-star", "ad-star", "grc"])
def test_samples_of_any_message_are_the_plain_engines(tree, rng):
    """Shallow and deep, the last one too; deep regions may be empty."""
    messages = np.append(2 ** rng.uniform(0, 61.9, 60), 1).astype(np.int64)
    messages[:2] = LARGEST_NODE - 1, 2**61
    rows = rng.integers(0, 2**32, len(messages))
    got = variable_samples(tree, 6, rows, messages)
    assert same_bits(got, plain.variable_samples(tree, 6, rows, messages))


THREADS = """
import numpy as np
from refmiracle.engines.numba_engine import threads
from refmiracle.engines.numba_engine.variables import CODES, variable_messages, variable_samples
delta, log_s = np.linspace(-1, 1, 700), np.linspace(-3, 0, 700)
print(threads.THREADS)
for code in CODES:
    messages = variable_messages(code, 4, np.arange(700), delta, log_s)
    print(messages.tolist(), variable_samples(code, 4, np.arange(700), messages).tolist())
"""


def test_messages_do_not_depend_on_the_threads():
    outputs = [run_python(THREADS, NUMBA_NUM_THREADS=n).split("\n", 1) for n in ("1", "3")]
    assert [threads for threads, _ in outputs] == ["1", "3"]
    assert outputs[0][1] == outputs[1][1]


@pytest.mark.parametrize("code", CODES)
def test_messages_do_not_depend_on_the_order(code, rng):
    delta, log_s = random_targets(rng, 300, 2)
    rows, order = np.arange(300), rng.permutation(300)
    together = variable_messages(code, 4, rows, delta, log_s)
    mixed = variable_messages(code, 4, rows[order], delta[order], log_s[order])
    assert np.array_equal(mixed, together[order])
    alone = [variable_messages(code, 4, [i], [delta[i]], [log_s[i]])[0] for i in range(20)]
    assert np.array_equal(alone, together[:20])


@pytest.mark.parametrize("code", CODES)
def test_a_target_that_is_p_takes_the_first_sample(code):
    messages = variable_messages(code, 0, np.arange(300), np.zeros(300), np.zeros(300))
    assert np.all(messages == 1)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    ("delta", "log_s"),
    [
        (0.0, math.log(1e-24)),
        (0.0, math.log(1e-12)),
        (0.0, -1e-300),
        (0.0, -1e-16),
        (1e-300, 0.0),
        (1e-8, -1e-16),
        (-0.7, 0.0),
        (-3.2, 0.0),
        (3.2, -1e-17),
        (3.0, -1e-3),
        (7.0, -7.0),
        (-6.9, -6.0),
        (6.0, -18.0),
        (-5.0, -27.0),
    ],
)
def test_every_target_ends(code, delta, log_s):
    """With samples of Q, or with an error that says what it would take."""
    peak = unimodal.gaussian_target(delta, log_s)[5] / math.log(2)
    if code in GLOBAL and 15 < peak <= 22:
        pytest.skip("allowed, but takes minutes")
    targets = np.full(200, delta), np.full(200, log_s)
    try:
        messages, visits = search(code, 1, np.arange(200), *targets)
    except InputError as error:
        assert peak > 22 if code in GLOBAL else log_s < -50.0, error
        assert f"{code} needs" in str(error)
        return
    z = variable_samples(code, 1, np.arange(200), messages).astype(np.float64)
    far = np.abs(z - delta) - 2.0**-23 * abs(delta)
    assert code == "dad-star" or np.max(far) < 6.0 * math.exp(0.5 * log_s)
    assert np.all(visits >= 1)


@given(
    st.sampled_from(TREES),
    st.floats(-7.5, 7.5),
    st.one_of(st.floats(-60.0, 0.0), st.floats(-1.0, 0.0)),
    st.integers(0, 2**32 - 1),
)
def test_any_target_gives_a_message_or_an_error(code, delta, log_s, row):
    try:
        message = variable_messages(code, 2, [row], [delta], [log_s])
    except InputError:
        return
    assert 1 <= message[0] < LARGEST_NODE
    z = float(variable_samples(code, 2, [row], message)[0])
    assert code == "dad-star" or abs(z - delta) < 8.0 * math.exp(0.5 * log_s) + 1e-6


@pytest.mark.parametrize("code", GLOBAL)
def test_a_search_that_is_too_long_names_its_target(code):
    targets = np.array([0.1, 0.2, 0.3]), np.array([-0.5, -40.0, -0.5])
    with pytest.raises(InputError, match=rf"{code} needs more than 2\^22 .* variable 8 .*-40"):
        variable_messages(code, 1, [9, 8, 7], *targets)


@pytest.mark.parametrize("target", [(0.0, 0.1), (np.nan, -1.0), (0.0, -60.0), (6.0, -0.1)])
def test_impossible_targets_are_refused(target):
    with pytest.raises(InputError, match="a target"):
        variable_messages("gprs-s", 1, [0, 1], [0.0, target[0]], [-1.0, target[1]])


@pytest.mark.parametrize("message", [0, -1, 2**62, 2**63 - 1])
def test_invalid_messages_are_refused(message):
    with pytest.raises(InputError, match=f"variable 5 has the message {message}"):
        variable_samples("as-star", 1, [4, 5], [1, message])


def test_unknown_codes_are_refused():
    with pytest.raises(InputError, match="'mrc'"):
        variable_messages("mrc", 1, [0], [0.0], [0.0])
    with pytest.raises(InputError, match="'mrc'"):
        variable_samples("mrc", 1, [0], [1])


def test_nothing_has_no_messages():
    assert variable_messages("gprs-d", 1, [], [], []).shape == (0,)
    assert variable_samples("gprs-d", 1, [], []).shape == (0,)
