"""Codes of variables in the reference engine: exact, decodable from the number alone, bounded.

Every code has one oracle: the plain definition of docs/CODES.md section 4 over all nodes of the
upper part of a tree, whose uniforms come from plain Python words.  The exact codes of a target that
is no Gaussian must also pass a Kolmogorov-Smirnov test (`exactness.dkw`); those of Gaussians, and
whatever both engines promise, are in tests/engines/test_variable_codes.py.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from exactness import dkw, kl_bits
from oracles import philox, same_bits
from scipy import integrate, stats

from refmiracle.engines.numpy_engine.nodes import decoded_u, node_uniforms, uniforms
from refmiracle.engines.numpy_engine.sigma import sigma, tabulate_sigma
from refmiracle.engines.numpy_engine.unimodal import Unimodal, gaussian_target
from refmiracle.engines.numpy_engine.variables import (
    TREES,
    encode_unimodal,
    variable_messages,
    variable_samples,
)
from refmiracle.errors import InputError
from refmiracle.numerics.normal import normal_quantile

EXACT = [code for code in TREES if code != "dad-star"]
SAMPLES = 800
SEED = 11
LAST_U = 1.0 - 2.0**-53


def triangle_cdf(x):
    """Of a triangular density on (0, 1) with its mode at 0.3."""
    return np.where(x < 0.3, x**2 / 0.3, 1.0 - (1.0 - x) ** 2 / 0.7)


# A triangular target over a uniform coding distribution: given as functions, S(L) in closed form.
TRIANGLE = Unimodal(
    log_ratio=lambda x: np.log(2.0 * np.minimum(x / 0.3, (1.0 - x) / 0.7)),
    mode=0.3,
    p_pdf=np.ones_like,
    p_cdf=lambda x: x,
    p_quantile=lambda u: u,
    q_cdf=triangle_cdf,
    level_set=lambda log_level: (
        0.3 * np.minimum(0.5 * np.exp(log_level), 1.0),
        1.0 - 0.7 * np.minimum(0.5 * np.exp(log_level), 1.0),
    ),
    support=(0.0, 1.0),
)


def plain_uniforms(seed, row, node):
    """U, V and U' by docs/CODES.md section 1, in plain Python integers."""
    lanes = [philox((node % 2**32, row, node // 2**32, lane), (seed, 9)) for lane in (0, 1)]
    u, v = ((lanes[0][k] * 2**20 + lanes[0][k + 1] // 2**12 + 0.5) / 2**52 for k in (0, 2))
    return u, v, (lanes[1][0] * 2**20 + lanes[1][1] // 2**12 + 0.5) / 2**52


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_uniforms_of_nodes(seed):
    nodes = [1, 2, 63, 64, 2**31 + 5, 2**32 - 1, 2**32, 2**40 + 3, 2**62 - 1]
    for row in (0, 2**32 - 1):
        want = [plain_uniforms(seed, row, node) for node in nodes]
        assert uniforms(seed, row, nodes).tolist() == [list(w) for w in want]
        assert [node_uniforms(seed, row, node) for node in nodes] == want


@lru_cache(maxsize=256)
def grown(tree, seed, row, nodes):
    """u, T and the region (a, b) of nodes 1, 2, ..., at index node; of the tree's upper part."""
    u, time = np.full(nodes, np.nan), np.full(nodes, np.inf)
    a, b = np.zeros(nodes), np.ones(nodes)
    for n in range(1, nodes):
        if n > 1:
            parent = n // 2
            c = u[parent] if tree == "sample" else 0.5 * (a[parent] + b[parent])
            a[n], b[n] = (a[parent], c) if n % 2 == 0 else (c, b[parent])
        uniform, v, _ = plain_uniforms(seed, row, n)
        u[n] = min(a[n] + (b[n] - a[n]) * uniform, LAST_U)
        time[n] = (time[n // 2] if n > 1 else 0.0) - math.log(v) / (b[n] - a[n])
    return u, time, a, b


@pytest.mark.parametrize("tree", ["sample", "dyadic"])
def test_the_decoder_replays_the_path(tree):
    u, _, _, _ = grown(tree, 3, 17, 300)
    assert decoded_u(tree, 3, [17] * 299, range(1, 300)).tolist() == u[1:].tolist()


def test_candidates_without_a_tree():
    want = [plain_uniforms(3, 17, n)[0] for n in (1, 2, 1000, 2**40)]
    assert decoded_u("none", 3, [17] * 4, (1, 2, 1000, 2**40)).tolist() == want
    z = variable_samples("grc", 3, [17] * 4, [1, 2, 1000, 2**40])
    assert same_bits(z, normal_quantile(want).astype(np.float32))


# KL of 0.8, 1.6 and 0.4 nats, the modes within, to the left, and far outside of P.
GAUSSIANS = [(1.0, math.log(0.25)), (-1.4, math.log(0.1)), (0.9, -1e-3)]
NODES = 512


def first_of(values, nodes):
    """The node with the least value."""
    return int(nodes[np.argmin(values)])


def plain_a_star(target, seed, row, tree, end=NODES):
    u, time, _, _ = grown(tree, seed, row, end)
    nodes = np.arange(1, end)
    return first_of(np.log(time[1:]) - target.log_ratio(target.p_quantile(u[1:])), nodes)


def plain_poisson(target, seed, row, tree):
    """The first arrival of all that lies below the graph of sigma(r)."""
    u, time, _, _ = grown(tree, seed, row, NODES)
    log_r = target.log_ratio(target.p_quantile(u[1:]))
    below = np.flatnonzero(time[1:] <= sigma(tabulate_sigma(target), log_r))
    return first_of(time[1:][below], below + 1)


@pytest.mark.parametrize(("delta", "log_s"), GAUSSIANS)
@pytest.mark.parametrize("code", ["as-star", "ad-star", "gprs-s", "gprs-d"])
def test_searches_of_trees_find_the_best_of_all_nodes(code, delta, log_s):
    """Bounds spare only what cannot win; a winner among the nodes below these is another matter."""
    target = gaussian_target(delta, log_s)
    plain = plain_a_star if code.endswith("star") else plain_poisson
    got = [encode_unimodal(code, target, SEED, row) for row in range(12)]
    want = [plain(target, SEED, row, TREES[code]) for row in range(12)]
    seen = [(g, w) for g, w in zip(got, want, strict=True) if g < NODES]
    assert len(seen) >= 9
    assert all(g == w for g, w in seen)
    assert len(set(got)) > 2


@pytest.mark.parametrize(("delta", "log_s"), GAUSSIANS)
def test_dad_star_is_the_search_of_a_short_tree(delta, log_s):
    target = gaussian_target(delta, log_s)
    for bits in (1, 3, 5):
        got = [encode_unimodal("dad-star", target, SEED, row, bits) for row in range(30)]
        assert got == [plain_a_star(target, SEED, row, "dyadic", 2**bits) for row in range(30)]


def mass_above(target, level, a, b):
    """R_B(L) of a Gaussian by scipy's quadrature over x."""
    ends = [
        float(target.p_quantile(np.float64(u))) if 0 < u < 1 else w
        for u, w in ((a, -target.mode - 12.0), (b, 12.0 - target.mode))
    ]
    # Kinks where r passes the level.
    grid = np.linspace(*ends, 2001)
    above = target.log_ratio(grid) > math.log(level) if level > 0.0 else np.ones(2001, bool)
    kinks = grid[1:][above[1:] != above[:-1]]
    return integrate.quad(
        lambda x: max(math.exp(target.log_ratio(x)) - level, 0.0) * target.p_pdf(x),
        *ends,
        points=[*kinks, target.mode] if ends[0] < target.mode < ends[1] else [*kinks, ends[1]],
        limit=200,
    )[0]


def plain_greedy(target, seed, row, tree):
    """One path, or no tree, with masses by quadrature."""
    n, a, b, level = 1, 0.0, 1.0, 0.0
    while True:
        uniform, v, branch = plain_uniforms(seed, row, n)
        u = min(a + (b - a) * uniform, LAST_U)
        rest = mass_above(target, level, a, b)
        if v * rest < (b - a) * (math.exp(target.log_ratio(target.p_quantile(u))) - level):
            return n
        level += rest / (b - a)
        if tree == "none":
            n += 1
            continue
        c = u if tree == "sample" else 0.5 * (a + b)
        left, right = mass_above(target, level, a, c), mass_above(target, level, c, b)
        go_left = branch * (left + right) < left
        n, a, b = (2 * n, a, c) if go_left else (2 * n + 1, c, b)


@pytest.mark.parametrize(("delta", "log_s"), GAUSSIANS)
@pytest.mark.parametrize("code", ["grc", "grc-s", "grc-d"])
def test_greedy_codes_by_their_definition(code, delta, log_s):
    target = gaussian_target(delta, log_s)
    got = [encode_unimodal(code, target, SEED, row) for row in range(10)]
    assert got == [plain_greedy(target, SEED, row, TREES[code]) for row in range(10)]
    assert len(set(got)) > 2


@pytest.mark.parametrize(("delta", "log_s"), GAUSSIANS[:2])
def test_gprs_by_its_definition(delta, log_s):
    target = gaussian_target(delta, log_s)
    for row in range(30):
        n, time = 0, 0.0
        while True:
            n += 1
            u, v, _ = plain_uniforms(SEED, row, n)
            time -= math.log(v)
            if time <= sigma(tabulate_sigma(target), target.log_ratio(target.p_quantile(u))):
                break
        assert encode_unimodal("gprs", target, SEED, row) == n


def distance(samples, cdf):
    return stats.kstest(samples, cdf).statistic


@pytest.mark.parametrize("code", EXACT)
def test_a_target_that_is_no_gaussian(code):
    numbers = [encode_unimodal(code, TRIANGLE, SEED, row) for row in range(SAMPLES)]
    x = TRIANGLE.p_quantile(decoded_u(TREES[code], SEED, range(SAMPLES), numbers))
    assert distance(x, triangle_cdf) < dkw(SAMPLES)
    assert distance(x, lambda x: x) > dkw(SAMPLES)  # samples of P would not pass


@pytest.mark.parametrize("code", EXACT)
def test_no_closed_form_is_needed(code):
    """By bisection the same numbers come out."""
    found = replace(TRIANGLE, level_set=None)
    want = [encode_unimodal(code, TRIANGLE, SEED, row) for row in range(12)]
    assert [encode_unimodal(code, found, SEED, row) for row in range(12)] == want
    assert len(set(want)) > 1


def test_a_decoder_knows_no_target():
    taken = list(inspect.signature(variable_samples).parameters)
    assert taken == ["code", "seed", "rows", "messages"]


def test_a_tree_without_a_limit_is_refused():
    with pytest.raises(InputError, match="bits"):
        encode_unimodal("dad-star", TRIANGLE, 0, 0)


@pytest.mark.parametrize("code", ["as-star", "grc-s", "gprs-s"])
def test_lengths_are_near_to_the_divergence(code):
    """Mean log2 of node numbers: KL is 2.3 bits, and the codes waste a few."""
    delta, log_s = GAUSSIANS[1]
    messages = variable_messages(code, 2, np.arange(200), [delta] * 200, [log_s] * 200)
    assert np.mean(np.log2(messages)) < 2.0 * kl_bits(delta, log_s) + 2.0
