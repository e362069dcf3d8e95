"""A* coding: the Poisson functional representation, searched on a tree.

Source: Flamich, Markou and Hernandez-Lobato, "Fast relative entropy coding with A* coding", ICML
2022, arXiv 2201.12857.  The samples of the tree's nodes with their times T are the points of a
Poisson process over P; the first point by log T - log r is a sample of Q, and bounds on r spare
the search most of the tree.

- AS*, AD*: exact.  AS* visits O(D_inf[Q || P]) nodes on average if r is unimodal, and AD* does as
  far as was observed; both take O(KL) bits.
- DAD*: not exact; visits at most 2^bits nodes, and its number has at most so many bits.
"""

from __future__ import annotations

import heapq
import math

from refmiracle.engines.numpy_engine.nodes import (
    ROOT,
    children,
    edges,
    exponential,
    node_uniforms,
    sample_u,
)
from refmiracle.engines.numpy_engine.unimodal import Unimodal, log_sup
from refmiracle.numerics.limits import LARGER, LARGEST_TREE, SearchError


def encode_a_star(target: Unimodal, seed: int, row: int, tree: str, end: int | None = None) -> int:
    """Return the node whose log T - log r is least (docs/CODES.md, section 4).

    Parameters
    ----------
    target : Unimodal
    seed, row : int
    tree : {"sample", "dyadic"}
        AS* splits a region at its sample, AD* in the middle.
    end : int, optional
        There are no nodes of this number and above: DAD* has 2^bits.

    Returns
    -------
    int
        1 <= node < 2**62, and below `end`

    Raises
    ------
    SearchError
        If the search passes 2^20 nodes, or numbers of 2^62.
    """
    time = exponential(node_uniforms(seed, row, 1)[1], 1.0)
    queue = [(math.log(time) - float(log_sup(target, 0.0, 1.0)), ROOT, time)]
    least, best = math.inf, 1
    visited = 0
    while queue:
        bound, node, time = heapq.heappop(queue)
        if bound >= least:
            break
        visited += 1
        if visited > LARGEST_TREE:
            raise SearchError(LARGER)
        u = sample_u(node, node_uniforms(seed, row, node.number)[0])
        score = math.log(time) - float(target.log_ratio(target.p_quantile(u)))
        if score < least:
            least, best = score, node.number
        if end is not None and 2 * node.number >= end:
            continue
        two = children(tree, node, u)
        for child, log_top in zip(two, log_sup(target, *edges(two)).tolist(), strict=True):
            v = node_uniforms(seed, row, child.number)[1]
            arrival = time + exponential(v, child.b - child.a)
            bound = math.log(arrival) - log_top
            if bound < least and (end is None or child.number < end):
                heapq.heappush(queue, (bound, child, arrival))
    return best
