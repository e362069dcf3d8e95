"""A* coding on trees, compiled (docs/CODES.md section 4).

Source: Flamich, Markou and Hernandez-Lobato, arXiv 2201.12857, algorithms 2 and 3.
"""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.numba_engine.compiling import EXACT, compiled
from refmiracle.engines.numba_engine.heap import (
    EMPTY,
    HIGH_Z,
    KEY,
    LEFT,
    LOG_TIME,
    LOW_Z,
    RIGHT,
    TIME,
    UNIFORM,
    new_queue,
    pop,
    push,
)
from refmiracle.engines.numba_engine.nodes import OWN, ROOT, place, quantile, uniforms
from refmiracle.engines.numba_engine.unimodal import gaussian_target, log_ratio, log_sup
from refmiracle.numerics.limits import LARGEST_NODE, LARGEST_TREE

# In the place of a message: why there is none.
TOO_MANY_NODES, TOO_DEEP, TOO_LONG, NOTHING_LEFT = 0, -1, -2, -3


@compiled(**EXACT)
def _a_star(seed, row, target, limit, on_sample, queue):
    """Return the message, the number of nodes visited, and the queue's arrays."""
    U, V = uniforms(seed, row, ROOT, OWN)
    time = -math.log(V)
    log_time = math.log(time)
    root = (log_time - target[5], time, log_time, 0.0, 1.0, -np.inf, np.inf, U)
    queue, size = push(queue, EMPTY, ROOT, root)
    best, message, visited = np.inf, 0, 0
    while size > 0:
        slot, size = pop(queue, size)
        node, record = queue[1][slot], queue[2][slot]
        if record[KEY] >= best:
            break
        visited += 1
        if visited > LARGEST_TREE:
            return TOO_MANY_NODES, visited, queue
        a, b, lo, hi = record[LEFT], record[RIGHT], record[LOW_Z], record[HIGH_Z]
        time, log_time, u = record[TIME], record[LOG_TIME], place(a, b, record[UNIFORM])
        z = quantile(u)
        score = log_time - log_ratio(target, z)
        if score < best:
            best, message = score, node
        if 2 * node >= limit:
            continue
        if 2 * node >= LARGEST_NODE:
            return TOO_DEEP, visited, queue
        split = u if on_sample else 0.5 * (a + b)
        split_z = z if on_sample else quantile(split)
        for right in range(2):
            child = 2 * node + right
            a_c, b_c = (split, b) if right else (a, split)
            lo_c, hi_c = (split_z, hi) if right else (lo, split_z)
            top = log_sup(target, lo_c, hi_c)
            # A child arrives after its parent, so the first of these spares most of the draws.
            if log_time - top >= best or not b_c > a_c or child >= limit:
                continue
            U, V = uniforms(seed, row, child, OWN)
            t = time - math.log(V) / (b_c - a_c)
            log_t = math.log(t)
            if log_t - top < best:
                queue, size = push(
                    queue, size, child, (log_t - top, t, log_t, a_c, b_c, lo_c, hi_c, U)
                )
    return message, visited, queue


@compiled(**EXACT)
def encode(seed, rows, delta, log_s, limits, on_sample, messages, visits):
    """Fill messages and the numbers of visited nodes; node limits[i] and above do not exist."""
    queue = new_queue()
    for i in range(len(rows)):
        target = gaussian_target(delta[i], log_s[i])
        messages[i], visits[i], queue = _a_star(seed, rows[i], target, limits[i], on_sample, queue)
