"""Greedy Poisson rejection sampling, compiled (docs/CODES.md section 4).

Source: Flamich, arXiv 2305.15313, algorithms 3 to 5.
"""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.numba_engine.a_star import (
    NOTHING_LEFT,
    TOO_DEEP,
    TOO_LONG,
    TOO_MANY_NODES,
)
from refmiracle.engines.numba_engine.compiling import EXACT, compiled
from refmiracle.engines.numba_engine.heap import (
    EMPTY,
    HIGH_Z,
    LEFT,
    LOW_Z,
    RIGHT,
    TIME,
    UNIFORM,
    new_queue,
    pop,
    push,
)
from refmiracle.engines.numba_engine.nodes import OWN, ROOT, place, quantile, uniforms
from refmiracle.engines.numba_engine.sigma import PANELS, arrives, mirrored, start
from refmiracle.engines.numba_engine.unimodal import gaussian_target
from refmiracle.numerics.limits import LARGEST_NODE, LARGEST_SEARCH, LARGEST_TREE


@compiled(**EXACT)
def _gprs(seed, row, target, sign, kept):
    """Return the message and the number of candidates."""
    time, n = 0.0, 1
    while n <= LARGEST_SEARCH:
        U, V = uniforms(seed, row, n, OWN)
        time -= math.log(V)
        z = quantile(place(0.0, 1.0, U))
        if arrives(time, target, sign * z, kept):
            return n, n
        n += 1
    return TOO_LONG, n


@compiled(**EXACT)
def _gprs_s(seed, row, target, sign, kept):
    """Return the message and the number of nodes on the path, on the tree `sample`."""
    node, a, b, time = 1, 0.0, 1.0, 0.0
    visited, mode = 0, sign * target[4]
    while node < LARGEST_NODE:
        visited += 1
        U, V = uniforms(seed, row, node, OWN)
        time -= math.log(V) / (b - a)
        u = place(a, b, U)
        z = quantile(u)
        if arrives(time, target, sign * z, kept):
            return node, visited
        if z <= mode:
            node, a = 2 * node + 1, u
        else:
            node, b = 2 * node, u
    return TOO_DEEP, visited


@compiled(**EXACT)
def _gprs_d(seed, row, target, sign, kept, queue):
    """Return the message, the number of nodes visited, and the queue, on the tree `dyadic`."""
    U, V = uniforms(seed, row, ROOT, OWN)
    time = -math.log(V)
    queue, size = push(queue, EMPTY, ROOT, (time, time, 0.0, 0.0, 1.0, -np.inf, np.inf, U))
    visited, mode = 0, sign * target[4]
    while size > 0:
        slot, size = pop(queue, size)
        node, record = queue[1][slot], queue[2][slot]
        visited += 1
        if visited > LARGEST_TREE:
            return TOO_MANY_NODES, visited, queue
        a, b, lo, hi = record[LEFT], record[RIGHT], record[LOW_Z], record[HIGH_Z]
        time, z = record[TIME], quantile(place(a, b, record[UNIFORM]))
        if arrives(time, target, sign * z, kept):
            return node, visited, queue
        if 2 * node >= LARGEST_NODE:
            return TOO_DEEP, visited, queue
        split = 0.5 * (a + b)
        split_z = quantile(split)
        for right in range(2):
            child = 2 * node + right
            a_c, b_c = (split, b) if right else (a, split)
            lo_c, hi_c = (split_z, hi) if right else (lo, split_z)
            if not b_c > a_c:
                continue
            highest = min(max(mode, lo_c), hi_c)
            U, V = uniforms(seed, row, child, OWN)
            t = time - math.log(V) / (b_c - a_c)
            if arrives(t, target, sign * highest, kept):
                record_c = (t, t, 0.0, a_c, b_c, lo_c, hi_c, U)
                queue, size = push(queue, size, child, record_c)
    return NOTHING_LEFT, visited, queue


@compiled(**EXACT)
def encode(seed, rows, delta, log_s, on_tree, on_sample, messages, visits):
    """Fill messages and the numbers of visited nodes."""
    queue, kept = new_queue(), np.empty((PANELS + 1, 5))
    for i in range(len(rows)):
        target = mirrored(gaussian_target(delta[i], log_s[i]))
        start(kept)
        sign = -1.0 if delta[i] < 0.0 else 1.0
        if not on_tree:
            messages[i], visits[i] = _gprs(seed, rows[i], target, sign, kept)
        elif on_sample:
            messages[i], visits[i] = _gprs_s(seed, rows[i], target, sign, kept)
        else:
            messages[i], visits[i], queue = _gprs_d(seed, rows[i], target, sign, kept, queue)
