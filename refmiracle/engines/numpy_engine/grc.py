"""Greedy rejection coding: fill Q from below, candidate by candidate.

Source: Flamich and Theis, "Adaptive greedy rejection sampling", arXiv 2304.10407, and Flamich,
Markou and Hernandez-Lobato, "Faster relative entropy coding with greedy rejection coding",
arXiv 2309.15746 (GRCG, GRCS, GRCD by how regions are split); the sampler is that of Harsha, Jain,
McAllester and Radhakrishnan, IEEE Transactions on Information Theory 56, 2010.

L is the level up to which r has been handed out, R_B(L) the mass of Q that remains above it.
All three are exact.

- Runtime: GRCG tries sup r candidates on average (arXiv 2304.10407); for unimodal r GRCS makes at
  most beta KL + O(1) steps on average, beta about 4.82 and KL in bits, and GRCD, it is
  conjectured, KL + O(1) (arXiv 2309.15746).
- Length: KL + 2 log2(KL + 1) + O(1) bits on average (Harsha et al. 2010).
"""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.numpy_engine.nodes import (
    ROOT,
    candidate_uniforms,
    children,
    edges,
    node_uniforms,
    sample_u,
)
from refmiracle.engines.numpy_engine.unimodal import Unimodal, residual
from refmiracle.numerics.limits import MORE, SearchError


def encode_grc(target: Unimodal, seed: int, row: int) -> int:
    """Return the number n of the first candidate that is accepted: V R(L) < r(z_n) - L.

    log2(n) is KL + O(1) bits on average (Harsha et al. 2010).  Each level follows from the one
    before, so candidates pass one at a time: slow in Python where sup r is large.

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
        If nothing of Q is left, which rounding alone can bring about, or none of 2^26 candidates
        is accepted.
    """
    level, rest = 0.0, 1.0
    for first, uniforms in candidate_uniforms(seed, row):
        r = np.exp(target.log_ratio(target.p_quantile(uniforms[:, 0])))
        for n, (ratio, v) in enumerate(
            zip(r.tolist(), uniforms[:, 1].tolist(), strict=True), first
        ):
            if v * rest < ratio - level:
                return n
            level += rest
            rest = float(residual(target, math.log(level)))
            if rest == 0.0:
                raise SearchError(MORE)
    raise AssertionError("candidates do not end")


def encode_grc_tree(target: Unimodal, seed: int, row: int, tree: str) -> int:
    """Return the first node accepted on one path: V R_B(L) < P(B) (r(z) - L).

    A rejected node passes on to a child with the probability of the mass that is left there.

    Parameters
    ----------
    target : Unimodal
    seed, row : int
    tree : {"sample", "dyadic"}
        GRCS splits a region at its sample, GRCD in the middle.

    Returns
    -------
    int
        1 <= node < 2**62

    Raises
    ------
    SearchError
        If the path leads below node 2^61 or to a region without mass.
    """
    node, level, rest = ROOT, 0.0, 1.0
    while True:
        uniform, v, branch = node_uniforms(seed, row, node.number)
        u, mass = sample_u(node, uniform), node.b - node.a
        ratio = math.exp(target.log_ratio(target.p_quantile(u)))
        if v * rest < mass * (ratio - level):
            return node.number
        if mass <= 0.0 or rest <= 0.0:
            raise SearchError(MORE)
        level += rest / mass
        two = children(tree, node, u)
        left, right = residual(target, math.log(level), *edges(two)).tolist()
        node, rest = (two[0], left) if branch * (left + right) < left else (two[1], right)
