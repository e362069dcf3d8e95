"""The codes of variables: one message for each target N(delta, s) over P = N(0, 1), compiled."""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.numba_engine import astar, greedy, poisson
from refmiracle.engines.numba_engine.compiling import compiled
from refmiracle.engines.numba_engine.normals import EXACT
from refmiracle.engines.numba_engine.scalar import OWN, place, quantile, uniforms
from refmiracle.engines.numba_engine.threads import parallel_map, row_parts
from refmiracle.errors import InputError
from refmiracle.numerics.limits import (
    LARGEST_GLOBAL_BITS,
    LARGEST_NODE,
    LARGEST_TREE,
    check_targets,
)

ASTAR = ("as-star", "ad-star", "dad-star")
GREEDY = ("grc", "grc-s", "grc-d")
POISSON = ("gprs", "gprs-s", "gprs-d")
SAMPLE = ("as-star", "grc-s", "gprs-s")
GLOBAL = ("grc", "gprs")
CODES = ASTAR + GREEDY + POISSON

WORTH_THREADS = 256  # targets, or messages to decode

REASONS = {
    astar.TOO_MANY_NODES: f"more than {LARGEST_TREE} nodes of the tree",
    astar.TOO_DEEP: f"a node number of {LARGEST_NODE} or more",
    astar.TOO_WIDE: f"more than 2^{LARGEST_GLOBAL_BITS} candidates",
    astar.TOO_LONG: f"{greedy.LARGEST_CANDIDATE} candidates or more",
    astar.NOTHING_LEFT: "a region that is left to search",
}


@compiled(**EXACT)
def _region(seed, row, message, on_sample):
    """Return the region of node `message`, from the root down."""
    a, b, depth = 0.0, 1.0, 0
    while message >> (depth + 1):
        depth += 1
    for bit in range(depth - 1, -1, -1):
        if on_sample:
            split = place(a, b, uniforms(seed, row, message >> (bit + 1), OWN)[0])
        else:
            split = 0.5 * (a + b)
        if (message >> bit) & 1:
            a = split
        else:
            b = split
    return a, b


@compiled(**EXACT)
def _decode(seed, rows, messages, on_tree, on_sample, samples):
    for i in range(len(rows)):
        row, message, a, b = rows[i], messages[i], 0.0, 1.0
        if on_tree:
            a, b = _region(seed, row, message, on_sample)
        samples[i] = quantile(place(a, b, uniforms(seed, row, message, OWN)[0]))


def _parts(count):
    return row_parts(count, None if count > WORTH_THREADS else 1)


def _limits(code, delta, log_s, oversampling):
    """Return the node numbers that each target's tree stays below."""
    if code != "dad-star":
        return np.full(len(delta), np.iinfo(np.int64).max)
    bits = np.ceil(0.5 * (delta**2 + np.expm1(log_s) - log_s) / math.log(2)) + oversampling
    return np.int64(1) << np.clip(bits, 1, 62).astype(np.int64)


def search(code, seed, rows, delta, log_s, oversampling=0):
    """Return what `variable_messages` does, and the number of nodes visited for each target."""
    if code not in CODES:
        raise InputError(f"no code of variables is called {code!r}; expected one of {CODES}")
    check_targets(delta, log_s)
    rows = np.asarray(rows, dtype=np.uint64)
    delta, log_s = (np.ascontiguousarray(a, dtype=np.float64) for a in (delta, log_s))
    messages, visits = np.empty((2, len(rows)), dtype=np.int64)
    limits = _limits(code, delta, log_s, oversampling)
    seed, on_sample, on_tree = np.uint64(seed), code in SAMPLE, code not in GLOBAL

    def encode(part):
        targets, out = (delta[part], log_s[part]), (messages[part], visits[part])
        if code in ASTAR:
            astar.encode(seed, rows[part], *targets, limits[part], on_sample, *out)
        else:
            module = greedy if code in GREEDY else poisson
            module.encode(seed, rows[part], *targets, on_tree, on_sample, *out)

    parallel_map(encode, _parts(len(rows)))
    _refuse_failures(code, rows, delta, log_s, messages)
    return messages, visits


def _refuse_failures(code, rows, delta, log_s, messages):
    failed = np.flatnonzero(messages < 1)
    if len(failed):
        i = failed[0]
        raise InputError(
            f"{code} needs {REASONS[int(messages[i])]} for the target of variable {rows[i]}"
            f" (delta {delta[i]:.6g}, log s {log_s[i]:.6g})"
        )


def variable_messages(code, seed, rows, delta, log_s, oversampling=0):
    """Return one message for each variable; see docs/CODES.md section 4.

    Parameters
    ----------
    code : str
        One of `CODES`.
    seed : int
        0 <= seed < 2**32.
    rows : array_like of int, shape (n,)
        The variables' numbers, 0 <= row < 2**32: each draws from its own row of the stream.
    delta, log_s : array_like of float, shape (n,)
        Targets N(delta, s), whitened.
    oversampling : int
        Bits beyond the KL that `dad-star` has; the other codes take no notice.

    Returns
    -------
    ndarray of int64, shape (n,)
        1 <= message < 2**62: a node, or the number of a candidate.

    Raises
    ------
    InputError
        If no code can send a target, or this code's search would exceed its limits.
    """
    return search(code, seed, rows, delta, log_s, oversampling)[0]


def variable_samples(code, seed, rows, messages):
    """Return the samples that messages name, shape (n,), float32; the same bits everywhere.

    Raises
    ------
    InputError
        If a message is below 1, or 2**62 or more.
    """
    if code not in CODES:
        raise InputError(f"no code of variables is called {code!r}; expected one of {CODES}")
    rows = np.asarray(rows, dtype=np.uint64)
    messages = np.asarray(messages)
    bad = np.flatnonzero((messages < 1) | (messages >= LARGEST_NODE))
    if len(bad):
        i = bad[0]
        raise InputError(
            f"{code}: variable {rows[i]} has the message {messages[i]}; expected 1 to 2^62 - 1"
        )
    messages = np.ascontiguousarray(messages, dtype=np.int64)
    samples = np.empty(len(rows), dtype=np.float32)
    on_tree, on_sample = code not in GLOBAL, code in SAMPLE

    def decode(part):
        _decode(np.uint64(seed), rows[part], messages[part], on_tree, on_sample, samples[part])

    parallel_map(decode, _parts(len(rows)))
    return samples
