"""The codes of variables: one message for each target N(delta, s) over P = N(0, 1), compiled."""

from __future__ import annotations

import numpy as np

from refmiracle.engines.numba_engine import a_star, gprs, grc
from refmiracle.engines.numba_engine.compiling import EXACT, compiled
from refmiracle.engines.numba_engine.nodes import OWN, place, quantile, uniforms
from refmiracle.engines.numba_engine.threads import parallel_map, row_parts
from refmiracle.engines.numpy_engine.variables import (
    BOUNDED,
    check_messages,
    check_variables,
    refusal,
    tree_bits,
    tree_of,
)
from refmiracle.numerics.limits import DEEPER, LARGER, LONGER, MORE

# The search of each code.
SEARCHES = {
    "as-star": a_star,
    "ad-star": a_star,
    "dad-star": a_star,
    "grc": grc,
    "grc-s": grc,
    "grc-d": grc,
    "gprs": gprs,
    "gprs-s": gprs,
    "gprs-d": gprs,
}

WORTH_THREADS = 256  # targets, or messages to decode

REASONS = {
    a_star.TOO_MANY_NODES: LARGER,
    a_star.TOO_DEEP: DEEPER,
    a_star.TOO_LONG: LONGER,
    a_star.NOTHING_LEFT: MORE,
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
    if code != BOUNDED:
        return np.full(len(delta), np.iinfo(np.int64).max)
    return np.int64(1) << tree_bits(delta, log_s, oversampling)


def search(code, seed, rows, delta, log_s, oversampling=0):
    """Return what `variable_messages` does, and the number of nodes visited for each target."""
    delta, log_s = (np.ascontiguousarray(a, dtype=np.float64) for a in (delta, log_s))
    check_variables(code, rows, delta, log_s)
    rows = np.asarray(rows, dtype=np.uint64)
    messages, visits = np.empty((2, len(rows)), dtype=np.int64)
    limits = _limits(code, delta, log_s, oversampling)
    tree, searched = tree_of(code), SEARCHES[code]
    seed, on_sample, on_tree = np.uint64(seed), tree == "sample", tree != "none"

    def encode(part):
        targets, out = (delta[part], log_s[part]), (messages[part], visits[part])
        # A* always has a tree, which may end; the others have one or none.
        own = limits[part] if searched is a_star else on_tree
        searched.encode(seed, rows[part], *targets, own, on_sample, *out)

    parallel_map(encode, _parts(len(rows)))
    _refuse_failures(code, rows, delta, log_s, messages)
    return messages, visits


def _refuse_failures(code, rows, delta, log_s, messages):
    failed = np.flatnonzero(messages < 1)
    if len(failed):
        i = failed[0]
        raise refusal(code, rows, delta, log_s, i, REASONS[int(messages[i])])


def variable_messages(code, seed, rows, delta, log_s, oversampling=0):
    """Return one message for each variable; see docs/CODES.md section 4.

    Parameters
    ----------
    code : str
        One of `SEARCHES`.
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
    tree, rows = tree_of(code), np.asarray(rows, dtype=np.uint64)
    messages = np.ascontiguousarray(check_messages(code, rows, messages))
    samples = np.empty(len(rows), dtype=np.float32)
    on_tree, on_sample = tree != "none", tree == "sample"

    def decode(part):
        _decode(np.uint64(seed), rows[part], messages[part], on_tree, on_sample, samples[part])

    parallel_map(decode, _parts(len(rows)))
    return samples
