"""Greedy rejection coding, compiled (docs/CODES.md section 4).

Sources: Flamich and Theis, arXiv 2304.10407; Flamich, Markou and Hernandez-Lobato, arXiv
2309.15746, algorithm 1 and its trees.
"""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.numba_engine.a_star import NOTHING_LEFT, TOO_DEEP, TOO_LONG
from refmiracle.engines.numba_engine.compiling import EXACT, compiled
from refmiracle.engines.numba_engine.nodes import BRANCH, OWN, place, quantile, uniforms
from refmiracle.engines.numba_engine.unimodal import gaussian_target, log_ratio, residual
from refmiracle.numerics.limits import LARGEST_NODE, LARGEST_SEARCH


@compiled(**EXACT)
def _grc(seed, row, target):
    """Return the message and the number of candidates."""
    level, n = 0.0, 1
    while n <= LARGEST_SEARCH:
        U, V = uniforms(seed, row, n, OWN)
        above = math.exp(log_ratio(target, quantile(place(0.0, 1.0, U)))) - level
        left = residual(target, level, -np.inf, np.inf)
        if V * left < above:
            return n, n
        if left <= 0.0:
            return NOTHING_LEFT, n
        level += left
        n += 1
    return TOO_LONG, n


@compiled(**EXACT)
def _grc_tree(seed, row, target, on_sample):
    """Return the message and the number of nodes on the path."""
    node, a, b, lo, hi = 1, 0.0, 1.0, -np.inf, np.inf
    level, left, visited = 0.0, 1.0, 0
    while node < LARGEST_NODE:
        visited += 1
        U, V = uniforms(seed, row, node, OWN)
        u, mass = place(a, b, U), b - a
        z = quantile(u)
        if V * left < mass * (math.exp(log_ratio(target, z)) - level):
            return node, visited
        if mass <= 0.0 or left <= 0.0:
            return NOTHING_LEFT, visited
        level += left / mass
        split = u if on_sample else 0.5 * (a + b)
        split_z = z if on_sample else quantile(split)
        lower = residual(target, level, lo, split_z)
        upper = residual(target, level, split_z, hi)
        # Where one is 0 there is nothing to draw.
        choice = uniforms(seed, row, node, BRANCH)[0] if lower > 0.0 and upper > 0.0 else 0.5
        if choice * (lower + upper) < lower:
            node, b, hi, left = 2 * node, split, split_z, lower
        else:
            node, a, lo, left = 2 * node + 1, split, split_z, upper
    return TOO_DEEP, visited


@compiled(**EXACT)
def encode(seed, rows, delta, log_s, on_tree, on_sample, messages, visits):
    """Fill messages and the numbers of visited nodes."""
    for i in range(len(rows)):
        target = gaussian_target(delta[i], log_s[i])
        if on_tree:
            messages[i], visits[i] = _grc_tree(seed, rows[i], target, on_sample)
        else:
            messages[i], visits[i] = _grc(seed, rows[i], target)
