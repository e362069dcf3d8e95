"""Space partitioning, compiled: one arrival after another, each given up as soon as it has lost.

At every place log r_d + log Z_d - log m_d(j_d) is at most log Z_d, so a sample's places are drawn
four by four, and no more once even the bound of the rest cannot win.  The tables of what is
proposed are those of the reference: they are small beside the search.
"""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.numba_engine.compiling import EXACT, compiled
from refmiracle.engines.numba_engine.normals import _log_of_fraction, _quantile
from refmiracle.engines.numba_engine.philox import philox
from refmiracle.engines.numba_engine.threads import parallel_map, row_parts
from refmiracle.engines.numpy_engine.sp_pfr import (
    check_partition,
    intervals,
    proposal,
    split_messages,
    table_parts,
)
from refmiracle.numerics.limits import LAST_U, ROUNDING
from refmiracle.numerics.normal import SQRT_HALF
from refmiracle.numerics.philox import Stream

FEWEST_SLOTS = 64
EMPTY = -1
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: scatters what multiplies it


@compiled(**EXACT)
def _uniform(word):
    return (np.float64(np.int64(word)) + 0.5) * 2.0**-32


@compiled(**EXACT)
def _exponential(word):
    """Return -log of a word's uniform; the bits of `numpy_engine.orc_pfr.exponentials`."""
    m, e = math.frexp(_uniform(word))
    if m < SQRT_HALF:
        m, e = m + m, e - 1
    return -_log_of_fraction(m, e)


@compiled(**EXACT)
def _normal(word, interval, count):
    """Return z of a place in its own of `count` intervals of equal P-mass."""
    return _quantile(min((interval + _uniform(word)) / count, LAST_U))


@compiled(**EXACT)
def _slot(keys, key):
    """Return where a key stands, or would, in a table of 2^m slots, searched from its hash on."""
    mask = len(keys) - 1
    at = np.int64((np.uint64(key) * GOLDEN) >> np.uint64(32)) & mask
    while keys[at] != EMPTY and keys[at] != key:
        at = (at + 1) & mask
    return at


@compiled(**EXACT)
def _twice_as_many(keys, counts):
    """Return a table of twice as many slots with the same keys and counts."""
    more, more_counts = np.full(2 * len(keys), EMPTY, np.int64), np.zeros(2 * len(keys), np.int64)
    for at in range(len(keys)):
        if keys[at] != EMPTY:
            to = _slot(more, keys[at])
            more[to], more_counts[to] = keys[at], counts[at]
    return more, more_counts


@compiled(**EXACT)
def _interval(cumulative, u, count):
    """Return the first i with u < cumulative[i], of `count` intervals; the last if none."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        if u < cumulative[middle]:
            high = middle
        else:
            low = middle + 1
    return low


@compiled(**EXACT)
def _propose(key, block, t, cumulative, k, j_d):
    """Fill j_d with the intervals of arrival t; return the word of its time and its bin.

    A place with one interval needs no word, nor do four of them a counter.
    """
    c0, j, word, zero = np.uint64(t), 0, np.uint64(0), np.uint64(0)
    for d in range(-1, len(k), 4):
        drawn = d == -1
        for place in range(max(d, 0), min(d + 4, len(k))):
            drawn = drawn or k[place] > 0
        if not drawn:
            continue
        four = philox(c0, block, zero, np.uint64((d + 1) // 4), key[0], key[1])
        if d == -1:
            word = four[0]
        for place in range(max(d, 0), min(d + 4, len(k))):
            if k[place]:
                count = 1 << k[place]
                j_d[place] = _interval(cumulative[place], _uniform(four[place - d]), count)
                j = (j << k[place]) | j_d[place]
    return word, j


@compiled(**EXACT)
def _loss(key, block, n, j, j_d, k, target, log_sup, most):
    """Return log Z - log r' of a sample: the sum of log m_d(j_d) - log r_d; or any above `most`."""
    delta, narrowness, log_s = target
    loss = 0.0
    for d in range(0, len(k), 4):
        four = philox(np.uint64(n), block, np.uint64(j), np.uint64(d // 4), key[0], key[1])
        for place in range(d, min(d + 4, len(k))):
            m = delta[place]
            y = _normal(four[place - d], j_d[place], 1 << k[place]) - m
            log_r = 0.5 * m * m + y * (m - 0.5 * y * narrowness[place]) - 0.5 * log_s[place]
            loss += log_sup[place, j_d[place]] - log_r
        if loss > most:
            break
    return loss


@compiled(**EXACT)
def _message(keys, block, bits, k, target, log_sup, log_Z, cumulative):
    """Return n 2^K + j of one block; see `numpy_engine.sp_pfr._message`."""
    slots, counts = np.full(FEWEST_SLOTS, EMPTY, np.int64), np.zeros(FEWEST_SLOTS, np.int64)
    proposal_key, sample_key = keys
    j_d = np.zeros(len(k), np.int64)
    total = log_Z.sum()
    best, message, T, bins, t = np.inf, 0, 0.0, 0, 0
    while True:
        word, j = _propose(proposal_key, block, t, cumulative, k, j_d)
        T += _exponential(word)
        if 2 * bins > len(slots):
            slots, counts = _twice_as_many(slots, counts)
        at = _slot(slots, j)
        bins += slots[at] == EMPTY
        slots[at] = j
        counts[at] += 1
        bound = math.log(T) - total
        most = best - bound + ROUNDING
        loss = _loss(sample_key, block, counts[at], j, j_d, k, target, log_sup, most)
        if bound + loss < best:
            best, message = bound + loss, (counts[at] << bits) + j
        if bound - ROUNDING >= best:
            return message
        t += 1


@compiled(**EXACT)
def _fill_messages(keys, blocks, bits, k, targets, tables, out):
    (delta, narrowness, log_s), (log_sup, log_Z, cumulative) = targets, tables
    for b in range(len(blocks)):
        target = delta[b], narrowness[b], log_s[b]
        out[b] = _message(keys, blocks[b], bits, k, target, log_sup[b], log_Z[b], cumulative[b])


@compiled(**EXACT)
def _fill_samples(key, blocks, n, j, bits, out):
    dimension = out.shape[1]
    for b in range(len(blocks)):
        before = 0  # bits of the places before
        for d in range(0, dimension, 4):
            group = np.uint64(d // 4)
            four = philox(np.uint64(n[b]), blocks[b], np.uint64(j[b]), group, key[0], key[1])
            for place in range(d, min(d + 4, dimension)):
                after = (place + 1) * bits // dimension
                intervals_here = 1 << (after - before)
                j_d = (j[b] >> (bits - after)) & (intervals_here - 1)
                out[b, place] = _normal(four[place - d], j_d, intervals_here)
                before = after


def _key(seed, stream):
    return np.uint64(seed), np.uint64(stream)


def partition_messages(seed, bits, blocks, delta, log_s):
    """See `numpy_engine.sp_pfr.partition_messages`; threads share the blocks."""
    numbers, delta, log_s = check_partition(bits, blocks, delta, log_s)
    numbers, narrowness = numbers.astype(np.uint64), np.expm1(-log_s)
    k = intervals(bits, delta.shape[1]).bits
    keys = _key(seed, Stream.PROPOSAL), _key(seed, Stream.PARTITION)
    out = np.empty(len(numbers), dtype=np.int64)

    def send(part):
        for own in table_parts(bits, part.stop - part.start, delta.shape[1]):
            at = slice(part.start + own.start, part.start + own.stop)
            targets = delta[at], narrowness[at], log_s[at]
            tables = tuple(proposal(bits, delta[at], log_s[at]))
            _fill_messages(keys, numbers[at], bits, k, targets, tables, out[at])

    # More parts than threads, as some blocks take much longer than others.
    parallel_map(send, row_parts(len(numbers), 64))
    return out


def partition_rows(seed, bits, blocks, messages, dimension):
    """See `numpy_engine.sp_pfr.partition_rows`; the same bits."""
    blocks, n, j = split_messages(bits, blocks, messages)
    out = np.empty((len(n), dimension), dtype=np.float32)
    key = _key(seed, Stream.PARTITION)
    _fill_samples(key, blocks.astype(np.uint64), n, j, bits, out)
    return out
