"""The codes of variables in both engines: exact samples of Q, the same messages, and the limits.

What a message means is in tests/codes/test_variable_codes.py, by its definition.  Samples are held
to the bound of `exactness.dkw`; the compiled engine has the time for many.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from exactness import dkw, kl_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import same_bits
from scipy import special

from refmiracle.codes.code import VARIABLE
from refmiracle.codes.table import CODES
from refmiracle.codes.variable_codes import GreedyRejection
from refmiracle.engines import get_engine
from refmiracle.engines.numba_engine import grc
from refmiracle.engines.numba_engine.variables import SEARCHES
from refmiracle.engines.numpy_engine.unimodal import gaussian_target
from refmiracle.engines.numpy_engine.variables import BOUNDED, ENCODERS, TREES
from refmiracle.errors import InputError
from refmiracle.numerics.limits import LARGEST_NODE

NUMPY, NUMBA = get_engine("numpy"), get_engine("numba")
GLOBAL = [code for code in TREES if TREES[code] == "none"]
ON_TREES = [code for code in TREES if code not in GLOBAL]
EXACT = [code for code in TREES if CODES[code].exact]

# delta and log s by KL in bits: on both sides, wide and narrow, and without a mode (s = 1).
TARGETS = {
    1: [(0.8, -1.530), (-1.1774, 0.0)],
    5: [(1.6, -5.367), (-2.4, -2.042)],
    10: [(-2.5, -8.613)],
}


# They need r_max candidates on average: many samples at a small KL, else fewer.
WITHOUT_A_TREE = [(100_000, (0.8, -1.530)), (100_000, (0.0, -1.0)), (20_000, (1.6, -5.367))]


def distance(engine, code, count, delta, log_s, oversampling=0):
    """Kolmogorov and Smirnov's distance of `count` decoded samples from Q."""
    rows = np.arange(count)
    targets = np.full(count, delta), np.full(count, log_s)
    messages = engine.variable_messages(code, 17, rows, *targets, oversampling)
    z = np.sort(engine.variable_samples(code, 17, rows, messages).astype(np.float64))
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


def test_both_engines_know_the_codes_of_the_table_by_their_trees_and_searches():
    """The contract gives engines a name, so they have maps of their own."""
    kinds = {name: kind for name, kind in CODES.items() if kind.of == VARIABLE}
    assert {name: kind.tree for name, kind in kinds.items()} == TREES
    assert ENCODERS.keys() == TREES.keys() - {BOUNDED}
    assert SEARCHES.keys() == TREES.keys()
    assert [name for name, kind in kinds.items() if not kind.exact] == [BOUNDED]
    greedy = {name for name, kind in kinds.items() if isinstance(kind, GreedyRejection)}
    assert {name for name, search in SEARCHES.items() if search is grc} == greedy


def test_targets_have_their_bits():
    for bits, targets in TARGETS.items():
        for target in targets:
            assert abs(kl_bits(*target) - bits) < 0.1


@pytest.mark.parametrize("bits", TARGETS)
@pytest.mark.parametrize("code", [code for code in ON_TREES if code in EXACT])
def test_samples_follow_the_target(code, bits):
    for target in TARGETS[bits]:
        assert distance(NUMBA, code, 100_000, *target) <= dkw(100_000)


@pytest.mark.parametrize("code", GLOBAL)
@pytest.mark.parametrize(("count", "target"), WITHOUT_A_TREE)
def test_samples_follow_the_target_without_a_tree(code, count, target):
    assert distance(NUMBA, code, count, *target) <= dkw(count)


@pytest.mark.parametrize("code", EXACT)
def test_samples_of_the_plain_engine_follow_the_target(code):
    assert distance(NUMPY, code, 800, 1.0, math.log(0.25)) <= dkw(800)


def test_the_test_of_samples_has_power():
    """The tree of `dad-star` is too shallow to follow Q; with a few bits more it is not."""
    assert distance(NUMPY, "dad-star", 800, 1.0, math.log(0.25)) > dkw(800)
    assert distance(NUMBA, "dad-star", 100_000, *TARGETS[5][0]) > 2.0 * dkw(100_000)
    assert distance(NUMBA, "dad-star", 100_000, *TARGETS[5][0], oversampling=9) <= dkw(100_000)


@pytest.mark.parametrize("oversampling", [0, 2])
def test_depth_of_dad_star_is_limited(engine, rng, oversampling):
    count = {"numpy": 100, "numba": 2000}[engine.name]
    delta, log_s = random_targets(rng, count, 10)
    messages = engine.variable_messages("dad-star", 3, np.arange(count), delta, log_s, oversampling)
    bits = np.maximum(1, np.ceil(kl_bits(delta, log_s)) + oversampling)
    depth = np.floor(np.log2(messages))
    assert np.all(depth < bits)
    assert np.any(depth == bits - 1)


@pytest.mark.parametrize("code", TREES)
def test_the_decoder_finds_the_encoders_sample(code):
    """Of targets so narrow that no other node's sample is as near: 2^-9 for 8 bits of P(B)."""
    log_s = -13.0 if code in GLOBAL else -36.0
    count = 60
    delta = np.random.default_rng(5).uniform(-1.5, 1.5, count)
    messages = NUMBA.variable_messages(code, 8, np.arange(count), delta, np.full(count, log_s))
    z = NUMBA.variable_samples(code, 8, np.arange(count), messages).astype(np.float64)
    # dad-star's trees may end before a sample of Q.
    widths = 6.0 if code != "dad-star" else 60.0
    assert np.max(np.abs(z - delta)) < widths * math.exp(0.5 * log_s) + 2.0**-24
    assert np.array_equal(z, NUMPY.variable_samples(code, 8, np.arange(count), messages))


@pytest.mark.parametrize("code", TREES)
def test_messages_are_the_plain_engines(code, rng):
    """No rate of differences is allowed for: near ties of rounding are rarer than this."""
    count = 80 if code.startswith("gprs") else 200  # the plain sigma takes long
    delta, log_s = random_targets(rng, count, 2 if code in GLOBAL else 12)
    rows = rng.integers(0, 2**32, count)
    if code in GLOBAL:
        delta = np.clip(delta, -0.7, 0.7)
    want = NUMPY.variable_messages(code, 2**32 - 1, rows, delta, log_s)
    got = NUMBA.variable_messages(code, 2**32 - 1, rows, delta, log_s)
    assert got.dtype == np.int64
    assert got.tolist() == want.tolist()
    assert len(set(got.tolist())) > 6
    samples = NUMBA.variable_samples(code, 2**32 - 1, rows, got)
    assert same_bits(samples, NUMPY.variable_samples(code, 2**32 - 1, rows, want))


@pytest.mark.parametrize("tree", ["as-star", "ad-star", "grc"])
def test_samples_of_any_message_are_the_plain_engines(tree, rng):
    """Shallow and deep, the last one too; deep regions may be empty."""
    messages = np.append(2 ** rng.uniform(0, 61.9, 60), 1).astype(np.int64)
    messages[:2] = LARGEST_NODE - 1, 2**61
    rows = rng.integers(0, 2**32, len(messages))
    got = NUMBA.variable_samples(tree, 6, rows, messages)
    assert same_bits(got, NUMPY.variable_samples(tree, 6, rows, messages))


@pytest.mark.parametrize("code", TREES)
def test_messages_do_not_depend_on_the_order(code, rng):
    delta, log_s = random_targets(rng, 300, 2)
    rows, order = np.arange(300), rng.permutation(300)
    together = NUMBA.variable_messages(code, 4, rows, delta, log_s)
    mixed = NUMBA.variable_messages(code, 4, rows[order], delta[order], log_s[order])
    assert np.array_equal(mixed, together[order])
    alone = [NUMBA.variable_messages(code, 4, [i], [delta[i]], [log_s[i]])[0] for i in range(20)]
    assert np.array_equal(alone, together[:20])


# As narrow as the limits allow, as wide as P and nearly so, far out, and nothing to send at all.
EDGES = [
    *((0.0, 0.0), (0.0, -1e-300), (0.0, -1e-16), (0.0, -1e-12), (1e-300, 0.0), (1e-9, 0.0)),
    *((1e-8, -1e-16), (-0.7, 0.0), (3.2, 0.0), (-3.2, 0.0), (3.2, -1e-17), (-3.2, -1e-9)),
    *((3.0, -1e-3), (7.0, -7.0), (7.0, math.log(0.04)), (-7.0, math.log(0.04)), (-6.9, -6.0)),
    *((6.0, -18.0), (-5.0, -27.0), (0.0, math.log(1e-12)), (2.0, math.log(1e-12))),
    *((0.0, math.log(1e-24)), (0.5, math.log(1e-24)), (-1.0, math.log(1e-23))),
]
# Rows, and log2 of the candidates without a tree that take too long.
QUICK = {"numpy": (4, 12.0), "numba": (200, 15.0)}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("delta", "log_s"), EDGES)
@pytest.mark.parametrize("code", TREES)
def test_targets_at_the_edge(engine, code, delta, log_s):
    """A sample of Q or a clear refusal: no warning, no NaN, no search without end."""
    target = gaussian_target(delta, log_s)
    bits = target.log_ratio(target.mode) / math.log(2.0)
    count, quick = QUICK[engine.name]
    if code in GLOBAL and quick < bits <= 22.0:
        pytest.skip("allowed, but takes minutes")
    rows = np.arange(count)
    arguments = code, 1, rows, np.full(count, delta), np.full(count, log_s)
    if code in GLOBAL and bits > 22.0:
        with pytest.raises(InputError, match=f"{code} needs .* candidates"):
            engine.variable_messages(*arguments)
        return
    try:
        messages = engine.variable_messages(*arguments)
    except InputError as error:  # a tree split at its samples is deep where Q is narrow
        assert TREES[code] == "sample"
        assert log_s < -50.0
        assert f"{code} needs" in str(error)
        assert "2^62" in str(error)
        return
    z = engine.variable_samples(code, 1, rows, messages).astype(np.float64)
    assert np.all(np.isfinite(z))
    far = np.abs(z - delta) - 2.0**-23 * abs(delta)
    assert code == "dad-star" or np.max(far) < 6.0 * math.exp(0.5 * log_s)
    if delta == log_s == 0.0:
        assert np.all(messages == 1)


@pytest.mark.parametrize("name", ["numpy", "numba"])
@settings(max_examples=25)
@given(
    code=st.sampled_from(list(TREES)),
    seed=st.integers(0, 2**32 - 1),
    rows=st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3),
    delta=st.floats(-1.5, 1.5),
    log_s=st.floats(-4.0, 0.0),
)
def test_messages_and_samples_of_any_variable(name, code, seed, rows, delta, log_s):
    """In a plausible place; alone or together the same; no message is more than an int64."""
    engine = get_engine(name)
    delta, log_s = np.array([delta, 0.5 * delta, 0.0]), np.array([log_s, 0.5 * log_s, log_s])
    messages = engine.variable_messages(code, seed, rows, delta, log_s)
    z = engine.variable_samples(code, seed, rows, messages)
    assert messages.dtype == np.int64
    assert z.dtype == np.float32
    assert np.all((messages >= 1) & (messages < LARGEST_NODE))
    # Q has less than 1e-15 beyond 8 standard deviations; dad-star has no such promise.
    assert code == "dad-star" or np.all(np.abs(z - delta) < 8.0 * np.exp(0.5 * log_s))
    backwards = engine.variable_messages(code, seed, rows[::-1], delta[::-1], log_s[::-1])
    assert backwards.tolist() == messages[::-1].tolist()
    pairs = zip(rows, messages, strict=True)
    alone = [engine.variable_samples(code, seed, [r], [m])[0] for r, m in pairs]
    assert same_bits(z, np.array(alone))


@given(
    st.sampled_from(ON_TREES),
    st.floats(-7.5, 7.5),
    st.one_of(st.floats(-60.0, 0.0), st.floats(-1.0, 0.0)),
    st.integers(0, 2**32 - 1),
)
def test_any_target_gives_a_message_or_an_error(code, delta, log_s, row):
    try:
        message = NUMBA.variable_messages(code, 2, [row], [delta], [log_s])
    except InputError:
        return
    assert 1 <= message[0] < LARGEST_NODE
    z = float(NUMBA.variable_samples(code, 2, [row], message)[0])
    assert code == "dad-star" or abs(z - delta) < 8.0 * math.exp(0.5 * log_s) + 1e-6


@pytest.mark.parametrize("code", GLOBAL)
def test_a_search_that_is_too_long_names_its_target(code):
    targets = np.array([0.1, 0.2, 0.3]), np.array([-0.5, -40.0, -0.5])
    with pytest.raises(InputError, match=rf"{code} needs more than 2\^22 .* variable 8 .*-40"):
        NUMBA.variable_messages(code, 1, [9, 8, 7], *targets)


@pytest.mark.parametrize("code", TREES)
@pytest.mark.parametrize(
    ("delta", "log_s", "match"),
    [
        (math.nan, 0.0, "not finite"),
        (0.0, 0.1, "log variance ratio"),
        (0.0, -60.0, "a target has a KL"),
        (6.9, math.log(0.2), "standard deviations"),
    ],
)
def test_targets_that_are_refused(engine, code, delta, log_s, match):
    with pytest.raises(InputError, match=match):
        engine.variable_messages(code, 0, [0, 1], [0.1, delta], [-1.0, log_s])


def test_other_refusals(engine):
    with pytest.raises(InputError, match="no code of variables is named 'mrc'"):
        engine.variable_messages("mrc", 0, [0], [0.0], [0.0])
    with pytest.raises(InputError, match="no code of variables is named 'mrc'"):
        engine.variable_samples("mrc", 0, [0], [1])
    for message in (0, -1, 2**62, 2**63 - 1):
        with pytest.raises(InputError, match=f"variable 5 has the message {message}"):
            engine.variable_samples("as-star", 0, [4, 5], [1, message])
    for row in (-1, 2**32):
        with pytest.raises(InputError, match=f"rows: {row} is out of range"):
            engine.variable_samples("as-star", 0, [row], [1])


def test_nothing_has_no_messages(engine):
    assert engine.variable_messages("gprs-d", 1, [], [], []).shape == (0,)
    assert engine.variable_samples("gprs-d", 1, [], []).shape == (0,)
