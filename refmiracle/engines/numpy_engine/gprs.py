"""Greedy Poisson rejection sampling: the first arrival below the graph of sigma(r) is accepted.

Source: Flamich, "Greedy Poisson rejection sampling", NeurIPS 2023, arXiv 2305.15313.  Arrivals are
the points of a Poisson process over P in time T; z is accepted if T <= sigma(r(z)), where

    sigma(h) = integral from 0 to h of dL / R(L)

and R(L) is the mass of Q that remains above the level L.  All three are exact.

- Runtime: 2^D_inf[Q || P] candidates on average without a tree; O(KL) nodes on a tree.
- Length: KL + log2(KL + 1) + O(1) bits on average, with a constant of at most 6.
"""

from __future__ import annotations

import heapq

import numpy as np

from refmiracle.engines.numpy_engine.nodes import (
    ROOT,
    candidate_uniforms,
    children,
    edges,
    exponential,
    node_uniforms,
    sample_u,
)
from refmiracle.engines.numpy_engine.sigma import level_below, sigma, tabulate_sigma
from refmiracle.engines.numpy_engine.unimodal import Unimodal, log_sup
from refmiracle.numerics.limits import LARGER, LARGEST_TREE, MORE, SearchError


def encode_gprs(target: Unimodal, seed: int, row: int) -> int:
    """Return the number n of the first candidate with T_n <= sigma(r(z_n)), without a tree.

    Tries sup r candidates on average, and sends log2(n) of about KL bits.

    Parameters
    ----------
    target : Unimodal
    seed, row : int

    Returns
    -------
    int
        n >= 1

    Raises
    ------
    SearchError
        If none of 2^26 candidates is accepted.
    """
    table = tabulate_sigma(target)
    time = 0.0
    for first, uniforms in candidate_uniforms(seed, row):
        times = time + np.cumsum(-np.log(uniforms[:, 1]))
        log_r = target.log_ratio(target.p_quantile(uniforms[:, 0]))
        # sigma grows: below the level of a sigma less than the first time no candidate passes.
        high = np.flatnonzero(log_r >= level_below(table, times[0]))
        accepted = high[times[high] <= sigma(table, log_r[high])]
        if len(accepted):
            return first + int(accepted[0])
        time = times[-1]
    raise AssertionError("candidates do not end")


def encode_gprs_s(target: Unimodal, seed: int, row: int) -> int:
    """Return the first node with T <= sigma(r(z)) on the path towards the mode.

    A node that is rejected leaves only the side of the mode: on the other one r is less, and T
    greater.  O(KL[Q || P]) steps on average for unimodal r, which is optimal (arXiv 2305.15313).

    Parameters
    ----------
    target : Unimodal
    seed, row : int

    Returns
    -------
    int
        1 <= node < 2**62

    Raises
    ------
    SearchError
        If the path leads below node 2^61.
    """
    table = tabulate_sigma(target)
    node, time = ROOT, 0.0
    while True:
        uniform, v, _ = node_uniforms(seed, row, node.number)
        u = sample_u(node, uniform)
        x = float(target.p_quantile(u))
        time += exponential(v, node.b - node.a)
        if time <= sigma(table, target.log_ratio(x)):
            return node.number
        left, right = children("sample", node, u)
        node = right if x <= target.mode else left


def encode_gprs_d(target: Unimodal, seed: int, row: int) -> int:
    """Return the first node by time with T <= sigma(r(z)), of a tree with halved regions.

    A region is searched only while sigma of its largest r is above its time.

    Parameters
    ----------
    target : Unimodal
    seed, row : int

    Returns
    -------
    int
        1 <= node < 2**62

    Raises
    ------
    SearchError
        If the search passes 2^20 nodes, or numbers of 2^62.
    """
    table = tabulate_sigma(target)
    queue = [(exponential(node_uniforms(seed, row, 1)[1], 1.0), ROOT)]
    for _ in range(LARGEST_TREE):
        if not queue:
            raise SearchError(MORE)
        time, node = heapq.heappop(queue)
        u = sample_u(node, node_uniforms(seed, row, node.number)[0])
        if time <= sigma(table, target.log_ratio(target.p_quantile(u))):
            return node.number
        two = children("dyadic", node, u)
        latest = sigma(table, log_sup(target, *edges(two)))
        for child, last in zip(two, latest.tolist(), strict=True):
            v = node_uniforms(seed, row, child.number)[1]
            arrival = time + exponential(v, child.b - child.a)
            if arrival < last:
                heapq.heappush(queue, (arrival, child))
    raise SearchError(LARGER)
