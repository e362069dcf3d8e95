"""Ordered random coding and the Poisson functional representation, compiled.

Each block adds up its own arrivals, candidate by candidate, so threads share the blocks, not the
candidates.  The candidates come in slabs of chunks, which all threads make together; within a
chunk they lie as `mrc` has them.  A logarithm per candidate is needed for the arrival times,
which add up; but hardly any candidate can still win, so few scores need theirs.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from refmiracle.engines.numba_engine.compiling import EXACT, compiled
from refmiracle.engines.numba_engine.mrc import (
    CHUNK,
    KEPT_FLOATS,
    _any_above,
    _candidate_of_column,
    _fill_chunk,
    _filled_up,
    _score_two,
    _targets,
)
from refmiracle.engines.numba_engine.normals import FRACTION, HALF_BITS, SQRT_HALF, _log_of_fraction
from refmiracle.engines.numba_engine.philox import COUNTERS, philox_rows
from refmiracle.engines.numba_engine.threads import parallel_map, row_parts
from refmiracle.engines.numpy_engine.orc_pfr import (
    as_float64,
    check_bits,
    check_search,
    log_suprema,
)
from refmiracle.numerics.arrays import read_only
from refmiracle.numerics.limits import (
    CODEBOOK_REACH,
    LARGEST_SEARCH_BITS,
    ROUNDING,
    check_targets,
)
from refmiracle.numerics.philox import Stream

SLAB_FLOATS = 2**21  # normals that are made at a time


@compiled(**EXACT)
def _fill_exponentials(words, E):
    """Fill E with -log((word + 1/2) / 2^32), the bits of `numpy_engine.orc_pfr.exponentials`."""
    bits = E.view(np.int64)
    exponent = np.empty(E.size)
    for i in range(E.size):
        E[i] = (np.float64(np.int64(words[i])) + 0.5) * 2.0**-32
    for i in range(E.size):
        exponent[i] = np.float64(np.int32((bits[i] >> 52) - 1022))
        bits[i] = (bits[i] & FRACTION) | HALF_BITS
    for i in range(E.size):
        m, low = E[i], E[i] < SQRT_HALF
        m, e = (m + m if low else m), (exponent[i] - 1.0 if low else exponent[i])
        E[i] = -_log_of_fraction(m, e)


@compiled(**EXACT)
def _add_up_two(E, last):
    """Make running sums of E[0] and E[1], from `last` on, in the order of candidates.

    Two blocks at a time, as each sum waits for the one before.
    """
    one, two = E[0].reshape(4, COUNTERS), E[1].reshape(4, COUNTERS)
    a, b = last
    for i in range(COUNTERS):
        for j in range(4):
            a += one[j, i]
            b += two[j, i]
            one[j, i], two[j, i] = a, b
    return a, b


@compiled(**EXACT)
def _keep_least(log_r, T, start, best, index):
    """Return the least log T - log r, and its index, after these candidates.

    No arrival is before the chunk's first, T[0], so log r must be above log T[0] - best.
    """
    first = math.log(T[0]) - 1e-9  # so that rounding passes over none
    if not _any_above(log_r, first - best):
        return best, index
    for k in range(len(log_r)):
        if log_r[k] > first - best:
            score, n = math.log(T[k]) - log_r[k], start + _candidate_of_column(k)
            if score < best or (score == best and n < index):
                best, index = score, n
    return best, index


@compiled(**EXACT)
def _remaining(start, N):
    """Return N - k of the candidates of a chunk, by column, or 1 if N is 0: without end.

    It is 0 from candidate N on, where arrival times become infinite.
    """
    remaining = np.ones(CHUNK)
    if N:
        for k in range(CHUNK):
            remaining[k] = max(N - start - _candidate_of_column(k), 0)
    return remaining


@compiled(**EXACT)
def _search(table, start, N, selection, live, blocks, targets, log_r_max, last, best, index):
    """Pass over a chunk of the N candidates, or of all (0), for the blocks `live`.

    Keeps each one's best.  Returns how many go on; they are moved to the front of `live`.
    """
    delta, precision, constant = targets
    log_r, words = np.empty((2, CHUNK)), np.empty((4, COUNTERS), np.uint64)
    T = np.empty((2, CHUNK))
    remaining, scale = _remaining(start, N), np.float64(max(N, 1))
    two, left = np.empty(2, np.int64), 0
    for i in range(0, len(live), 2):
        two[0], two[1] = live[i], live[min(i + 1, len(live) - 1)]
        _score_two(table, delta[two], precision[two], constant[two], log_r)
        for own in range(2):
            row = blocks[two[own]]
            philox_rows(np.uint64(start // 4), row, np.uint64(0), *selection, words)
            _fill_exponentials(words.reshape(-1), T[own])
            for k in range(CHUNK):
                T[own, k] = T[own, k] * scale / remaining[k]
        sums = _add_up_two(T, (last[two[0]], last[two[1]]))
        for own in range(min(2, len(live) - i)):
            b = two[own]
            last[b] = sums[own]
            best[b], index[b] = _keep_least(log_r[own], T[own], start, best[b], index[b])
            if math.log(last[b]) - log_r_max[b] < best[b]:
                live[left] = b
                left += 1
    return left


def _slab_of_chunks(seed, first, count, depth):
    tables = np.empty((count, depth, CHUNK), dtype=np.float32)

    def fill(part):
        for c in range(part.start, part.stop):
            _fill_chunk(seed, first + c, tables[c])

    parallel_map(fill, row_parts(count))
    return read_only(tables)


@lru_cache(maxsize=1)
def _kept_slabs(seed, depth):
    """Return the slabs of one codebook that searches have met, by their first chunk.

    Searches in several threads add to it, each slab once; none changes.
    """
    return {}


def _slabs(seed, depth, end):
    """Yield the first chunk and the tables of slabs that grow, up to chunk `end` if there is one.

    The first ones are kept for the next group of blocks, as far as they are not large.
    """
    most = 1 << max(0, (SLAB_FLOATS // (depth * CHUNK)).bit_length() - 1)
    kept, first = _kept_slabs(seed, depth), 0
    while end is None or first < end:
        count = min(max(1, first), most)
        tables = kept.get(first)
        if tables is None:
            tables = _slab_of_chunks(seed, first, count, depth)
            if (first + count) * depth * CHUNK <= KEPT_FLOATS:
                tables = kept.setdefault(first, tables)
        yield first, tables
        first += count


def _first_by_ratio(seed, blocks, delta, log_s, bits):
    """See `numpy_engine.orc_pfr._first_by_ratio`; N = 2^bits, or without end if None."""
    blocks, (delta, log_s) = np.asarray(blocks, dtype=np.uint64), as_float64(delta, log_s)
    log_r_max = log_suprema(delta, log_s, -CODEBOOK_REACH, CODEBOOK_REACH).sum(axis=1) + ROUNDING
    targets, selection = _targets(delta, log_s), (np.uint64(seed), np.uint64(Stream.SELECTION))
    last, best = np.zeros(len(blocks)), np.full(len(blocks), np.inf)
    index = np.zeros(len(blocks), dtype=np.int64)
    live = np.arange(len(blocks))
    N, end = (0, None) if bits is None else (2**bits, -(-(2**bits) // CHUNK))
    for first, tables in _slabs(seed, _filled_up(delta.shape[1], 4), end):

        def search(part, first=first, tables=tables, live=live):
            mine = live[part]
            for c, table in enumerate(tables):
                start = (first + c) * CHUNK
                count = _search(
                    table, start, N, selection, mine, blocks, targets, log_r_max, last, best, index
                )
                mine = mine[:count]
            return mine

        live = np.concatenate(parallel_map(search, row_parts(len(live))))
        if not len(live):
            break
    return index


def ordered_indices(seed, bits, blocks, delta, log_s):
    """See `numpy_engine.orc_pfr.ordered_indices`."""
    check_bits(bits, LARGEST_SEARCH_BITS, "ordered random coding")
    check_targets(delta, log_s)
    return _first_by_ratio(seed, blocks, delta, log_s, bits)


def poisson_indices(seed, blocks, delta, log_s):
    """See `numpy_engine.orc_pfr.poisson_indices`."""
    check_targets(delta, log_s)
    log_bound = log_suprema(delta, log_s, -CODEBOOK_REACH, CODEBOOK_REACH).sum(axis=1)
    check_search(blocks, log_bound, delta, log_s, CODEBOOK_REACH)
    return _first_by_ratio(seed, blocks, delta, log_s, None)
