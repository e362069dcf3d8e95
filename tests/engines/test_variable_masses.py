"""What the compiled codes of variables compute: masses above levels, sigma, and the queue.

Each against plain integration or heapq; the codes themselves are in test_variable_codes.py.
"""

from __future__ import annotations

import heapq
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import integrate, stats

from refmiracle.engines.numba_engine import heap, nodes, sigma, unimodal


def plain_log_ratio(delta, log_s, z):
    return stats.norm.logpdf(z, delta, math.exp(0.5 * log_s)) - stats.norm.logpdf(z)


def plain_rest(delta, log_s, level, low=-12.0, high=12.0):
    """R_B(L) by integration of max(r - L, 0) dP, in pieces of 1/2 and of half of Q's width."""
    step = min(0.5, 0.5 * math.exp(0.5 * log_s))
    inner = np.arange(-12, 12.5) * step + delta
    edges = np.unique(np.clip(np.concatenate([np.linspace(-12, 12, 49), inner]), low, high))
    nodes, weights = np.polynomial.legendre.leggauss(60)
    half = 0.5 * np.diff(edges)[:, None]
    z = edges[:-1, None] + half * (1.0 + nodes)
    above = np.expm1(np.maximum(plain_log_ratio(delta, log_s, z) - math.log(level), 0.0))
    return level * float(np.sum(half * weights * above * stats.norm.pdf(z)))


@pytest.mark.parametrize("target", [(0.0, -2.0), (1.3, -0.6), (-2.0, -4.0), (0.9, 0.0)])
def test_residual_by_integration(target):
    """The kink of max(r - L, 0) costs the oracle digits; it is worth 1e-5 of L."""
    compiled = unimodal.gaussian_target(*target)
    for z in (-2.5, -1.0, 0.2, 1.1, 2.0):
        level = math.exp(plain_log_ratio(*target, z))
        for low, high in [(-np.inf, np.inf), (-0.5, 0.9), (1.0, 1.2), (-np.inf, -1.5)]:
            got = unimodal.residual(compiled, level, low, high)
            want = plain_rest(*target, level, max(low, -12.0), min(high, 12.0))
            assert abs(got - want) <= 1e-5 * min(level, 1.0) + 1e-12
            assert got >= 0.0


@given(
    st.floats(-3.0, 3.0),
    st.floats(-20.0, 0.0),
    st.floats(1e-6, 1.0),
    st.lists(st.floats(0.001, 0.999), min_size=3, max_size=3, unique=True),
)
def test_residuals_of_the_parts_are_that_of_the_whole(delta, log_s, below, places):
    """Narrow, wide, next to the peak: whatever way each part is computed."""
    target = unimodal.gaussian_target(delta, log_s)
    level = math.exp(target[5] - below)
    low, split, high = sorted(nodes.quantile(u) for u in places)
    left, right = ((low, split), (split, high))
    parts = unimodal.residual(target, level, *left) + unimodal.residual(target, level, *right)
    whole = unimodal.residual(target, level, low, high)
    assert abs(parts - whole) <= 1e-9 * whole + 1e-13 * math.exp(below)


@pytest.mark.parametrize("narrow", [1e-3, 1e-8, 1e-13])
def test_masses_of_narrow_intervals_keep_their_digits(narrow):
    for at in (0.0, 1.0, -7.5, 8.0):
        want = narrow * stats.norm.pdf(at)
        got = unimodal.normal_mass(at, -0.5 * narrow, 0.5 * narrow)
        assert abs(got / want - 1) < 1e-5 * narrow**0.1


def plain_sigma(delta, log_s, log_h):
    """sigma(h) by scipy: the integral of L / R(L) over log L, and of R over S(L) by scipy too."""
    s = math.exp(log_s)

    def slope(log_level):
        c = 0.5 * (delta**2 - log_s) - log_level
        e = 1.0 / s - 1.0
        root = math.sqrt(delta**2 + 2.0 * e * c)
        near = -2.0 * c / (delta + root)
        far = (delta + root) / e if e else 14.0
        edges = np.clip(np.linspace(near, far, 5), -12.0 - delta, 12.0 - delta)
        middle = max(near, min(far, 0.0))
        edges = sorted({edges[0], middle, *edges[1:]})

        def above(y):
            return math.expm1(c + y * (delta - 0.5 * e * y)) * math.exp(-0.5 * (y + delta) ** 2)

        rest = sum(
            integrate.quad(above, a, b, epsabs=0, epsrel=1e-11)[0]
            for a, b in pairwise(edges)
            if b > a
        )
        return math.sqrt(2.0 * math.pi) / rest

    first = -20.0
    edges = np.linspace(first, log_h, 6)
    parts = [integrate.quad(slope, a, b, epsabs=0, epsrel=1e-9)[0] for a, b in pairwise(edges)]
    return math.exp(first) + 0.5 * math.exp(2 * first) + sum(parts)


# Below the peak of log r, in nats; s = 1 has no peak, and log r of a place is taken.
@pytest.mark.parametrize(
    ("delta", "log_s", "log_h"),
    [
        (0.0, -2.0, 0.95),
        (0.0, -2.0, -2.0),
        (0.7, -1.0, 0.5),
        (2.0, -4.0, 4.0),
        (0.0, -7.91, 3.7),
        (0.8, 0.0, 0.9),
        (0.1, -1e-3, 0.2),
    ],
)
def test_sigma_by_scipy(delta, log_s, log_h):
    target = unimodal.gaussian_target(delta, log_s)
    assert log_h < target[5]
    kept = np.empty((sigma.PANELS + 1, 5))
    y = unimodal.superlevel(target, log_h)[2]
    want = plain_sigma(delta, log_s, log_h)
    for steps in range(3):  # from nothing, from what is kept, and from a place further on
        if steps != 1:
            sigma.start(kept)
        if steps == 2:
            sigma.sigma(target, 0.5 * (y + min(target[4], 8.0) - delta), kept)
        assert abs(sigma.sigma(target, y, kept) / want - 1) < 2e-8
    for time, expected in [(want * (1 - 1e-6), True), (want * (1 + 1e-6), False)]:
        for own in (target, sigma.mirrored(unimodal.gaussian_target(-delta, log_s))):
            sigma.start(kept)
            assert sigma.arrives(time, own, delta + y, kept) is expected


@given(
    st.floats(1e-3, 3.0),
    st.floats(-20.0, 0.0),
    st.lists(st.floats(1e-3, 0.999), min_size=2, max_size=8),
    st.floats(0.1, 3.0),
)
@example(0.0201, -16.734375, [0.5, 0.75], 0.5)  # the slope at the mode, rounded, is 2.2e-11
def test_bounds_decide_as_sigma_does(delta, log_s, places, factor):
    """In any order of the places, whatever is kept of those before."""
    target = unimodal.gaussian_target(delta, log_s)
    kept, fresh = np.empty((2, sigma.PANELS + 1, 5))
    sigma.start(kept)
    for u in places:
        z = min(nodes.quantile(u), target[4])
        y = z - delta
        # At the mode, where the slope is 0 but for the rounding of y, sigma is infinite.
        at_mode = z == target[4] or target[0] - target[1] * y <= 1e-9 * delta
        if at_mode or unimodal.log_ratio(target, z) < -200.0:
            continue
        sigma.start(fresh)
        value = sigma.sigma(target, y, fresh)
        level = math.exp(unimodal.log_ratio(target, z))
        assert level * (1 - 1e-9) <= value
        assert level >= 1.0 or value <= -math.log1p(-level) * (1 + 1e-9)
        time = value * factor
        if abs(factor - 1.0) > 1e-6:
            assert sigma.arrives(time, target, z, kept) is (factor < 1.0)


@given(st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=300))
def test_the_queue_is_heapqs(steps):
    """Pushes of few keys, so with ties, and pops; it grows, and slots are used again."""
    queue, size, want = heap.new_queue(), 0, []
    for node, key in enumerate(steps):
        if key is not None:
            record = (float(key), 2.0 * node, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5)
            queue, size = heap.push(queue, size, node, record)
            heapq.heappush(want, (key, node))
        elif want:
            slot, size = heap.pop(queue, size)
            record, number = queue[2][slot], queue[1][slot]
            assert (record[heap.KEY], number) == heapq.heappop(want)
            assert record[heap.TIME] == 2.0 * number
    assert size == len(want)
