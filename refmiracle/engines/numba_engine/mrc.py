"""Minimal random coding, compiled: scores and selection in one pass over the candidates.

Candidates lie in chunks (dimension, CHUNK), so that LLVM vectorises over them, and within a chunk
in the order in which Philox leaves the words that select among them (`_candidate_of_column`).
Scores are sums over the places in float64, equation (34a): as two matrix products they would be
differences of huge terms where s is tiny.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from refmiracle.engines.numba_engine.compiling import EXACT, compiled
from refmiracle.engines.numba_engine.normals import fill_candidates, normals
from refmiracle.engines.numba_engine.philox import COUNTERS, philox_rows
from refmiracle.engines.numba_engine.threads import parallel_map, row_parts
from refmiracle.numerics.arrays import read_only, read_only_view
from refmiracle.numerics.limits import check_weighable
from refmiracle.numerics.philox import Stream

FUSED: dict[str, Any] = {**EXACT, "fastmath": {"contract"}, "forceinline": True}

CHUNK = 4 * COUNTERS
KEPT_FLOATS = 2**24  # a codebook up to this size is kept for the next group of blocks
# No Gumbel variate of a 32-bit uniform is above -log(-log(1 - 2^-33)) = 22.88.
GUMBEL_MAX = 22.88


@compiled(**FUSED)
def _score_two(table, delta, precision, constant, scores):
    """Fill scores[b, k] = log q(z_k) / p(z_k) in nats, for two blocks; dimensions are 2 n.

    With y = z - delta, z^2 / 2 - y^2 / (2 s) = delta^2 / 2 + y (delta - y (1/s - 1) / 2), which
    is exact where Q = P; `precision` is (1/s - 1) / 2, and `constant` holds what z is not in.
    Two blocks by two dimensions: more constants would not stay in registers.
    """
    one, two = scores[0], scores[1]
    one[:], two[:] = constant[0], constant[1]
    for d in range(0, delta.shape[1], 2):
        z0, z1 = table[d], table[d + 1]
        m0, m1, h0, h1 = delta[0, d], delta[0, d + 1], precision[0, d], precision[0, d + 1]
        n0, n1, i0, i1 = delta[1, d], delta[1, d + 1], precision[1, d], precision[1, d + 1]
        for k in range(len(one)):
            x0, x1 = np.float64(z0[k]), np.float64(z1[k])
            y0, y1 = x0 - m0, x1 - m1
            one[k] = one[k] + y0 * (m0 - y0 * h0) + y1 * (m1 - y1 * h1)
            y0, y1 = x0 - n0, x1 - n1
            two[k] = two[k] + y0 * (n0 - y0 * i0) + y1 * (n1 - y1 * i1)


@compiled(**EXACT)
def _any_above(scores, bound):
    """Tell whether a score is above a bound; counting vectorises, a maximum does not."""
    count = 0
    for k in range(len(scores)):
        count += scores[k] > bound
    return count > 0


@compiled(**EXACT)
def _perturbed(score, word):
    """Return a score plus its Gumbel variate."""
    u = (np.float64(np.int64(word)) + 0.5) * 2.0**-32
    return score - math.log(-math.log(u))


@compiled(**FUSED)
def _flag_survivors(scores, words, best, flags):
    """Flag the candidates that may beat `best` once they have their Gumbel variates.

    With u = (word + 1/2) / 2^32 the variate -log(-log u) is at most -log(1 - u); so only those
    with 1 - u < exp(-t), t = best - score, can; and exp(-t) < (1 + t/4 + ... + (t/4)^3/6)^-4.
    """
    for k in range(len(flags)):
        t = 0.25 * (best - scores[k])
        t = t if t > 0.0 else 0.0
        rest = (1.0 - 2.0**-33) - np.float64(np.int64(words[k])) * 2.0**-32
        bound = 1.0 + t * (1.0 + t * (0.5 + t * (1.0 / 6.0)))
        bound *= bound
        flags[k] = rest * (bound * bound) < 1.000001


@compiled(**EXACT)
def _candidate_of_column(k):
    """Return which candidate of a chunk lies in column k; see `normals.fill_candidates`."""
    return 4 * (k % COUNTERS) + k // COUNTERS


@compiled(**EXACT)
def _select(scores, selection, block, start, words, flags, best, index):
    """Return the best score with its Gumbel variate, and its index, after these candidates."""
    if not _any_above(scores, best - GUMBEL_MAX):
        return best, index
    philox_rows(np.uint64(start // 4), block, np.uint64(0), *selection, words.reshape(4, COUNTERS))
    least = best
    if best == -np.inf:  # the candidate with the largest score sets a first bound
        k = scores.argmax()
        least = _perturbed(scores[k], words[k])
    _flag_survivors(scores, words, least, flags)
    eights = flags.view(np.uint64)
    for e in range(len(eights)):
        if eights[e]:
            for k in range(8 * e, 8 * e + 8):
                if flags[k]:
                    score, n = _perturbed(scores[k], words[k]), start + _candidate_of_column(k)
                    if score > best or (score == best and n < index):
                        best, index = score, n
    return best, index


@compiled(**EXACT)
def _keep_best(scores, start, best, index):
    """Return the best score, and its index, after these candidates."""
    if _any_above(scores, best):
        for k in range(len(scores)):
            n = start + _candidate_of_column(k)
            if scores[k] > best or (scores[k] == best and n < index):
                best, index = scores[k], n
    return best, index


@compiled(**EXACT)
def _search(
    table, start, count, selection, sampled, blocks, delta, precision, constant, best, index
):
    """Pass over a chunk of the `count` candidates for all blocks; keep each one's best.

    With `sampled` each score has its Gumbel variate added first.
    """
    scores, flags = np.empty((2, CHUNK)), np.empty(CHUNK, np.uint8)
    words = np.empty(CHUNK, np.uint64)
    for two in range(0, len(blocks), 2):
        _score_two(table, delta[two:], precision[two:], constant[two:], scores)
        if count < CHUNK:
            for k in range(CHUNK):
                if _candidate_of_column(k) >= count:
                    scores[:, k] = -np.inf
        for b in range(two, min(two + 2, len(blocks))):
            own = scores[b - two]
            if sampled:
                best[b], index[b] = _select(
                    own, selection, blocks[b], start, words, flags, best[b], index[b]
                )
            else:
                best[b], index[b] = _keep_best(own, start, best[b], index[b])


def _filled_up(count, unit):
    return -(-count // unit) * unit


def _targets(delta, log_s):
    """Return what `_score_two` takes, filled up to 2 n blocks and 2 n dimensions."""
    delta, log_s = np.asarray(delta, dtype=np.float64), np.asarray(log_s, dtype=np.float64)
    blocks, dimension = delta.shape
    shape = _filled_up(blocks, 2), _filled_up(dimension, 2)
    whole, precision, constant = np.zeros(shape), np.zeros(shape), np.zeros(shape[0])
    whole[:blocks, :dimension] = delta
    precision[:blocks, :dimension] = 0.5 * np.expm1(-log_s)
    constant[:blocks] = 0.5 * (delta * delta - log_s).sum(axis=1)
    return whole, precision, constant


def _fill_chunk(seed, chunk, table):
    fill_candidates(np.uint64(seed), np.uint64(Stream.CODEBOOK), chunk * CHUNK, table)


@lru_cache(maxsize=1)
def _kept_codebook(seed, bits, dimension):
    """Return the tables of all chunks, shape (chunks, dimension filled up, CHUNK)."""
    chunks = -(-(2**bits) // CHUNK)
    tables = np.empty((chunks, _filled_up(dimension, 4), CHUNK), dtype=np.float32)

    def fill(part):
        for c in range(part.start, part.stop):
            _fill_chunk(seed, c, tables[c])

    parallel_map(fill, row_parts(chunks))
    return read_only(tables)


def codebook_rows(seed, indices, dimension):
    """See `numpy_engine.mrc.codebook_rows`; the same bits."""
    return normals(seed, Stream.CODEBOOK, indices, dimension)


def log_weights(candidates, delta, log_s):
    """See `numpy_engine.mrc.log_weights`; summed in float64."""
    candidates = np.asarray(candidates, dtype=np.float32)
    blocks = len(delta)
    delta, precision, constant = _targets(delta, log_s)
    table = np.zeros((delta.shape[1], len(candidates)), dtype=np.float32)
    table[: candidates.shape[1]] = candidates.T
    table = read_only(table)  # as the kept ones are: functions are compiled for either
    scores = np.empty((len(delta), len(candidates)))
    for b in range(0, len(delta), 2):
        _score_two(table, delta[b:], precision[b:], constant[b:], scores[b:])
    return scores[:blocks]


def select_indices(seed, bits, blocks, delta, log_s, best=False):
    """See `numpy_engine.mrc.select_indices`; each thread passes over its own candidates."""
    check_weighable(delta, log_s)
    blocks = np.asarray(blocks, dtype=np.uint64)
    dimension = delta.shape[1]
    targets = _targets(delta, log_s)
    chunks, depth = -(-(2**bits) // CHUNK), _filled_up(dimension, 4)
    keep = chunks * CHUNK * depth <= KEPT_FLOATS
    kept = _kept_codebook(seed, bits, dimension) if keep else None
    selection = np.uint64(seed), np.uint64(Stream.SELECTION)

    def best_of(part):
        highest = np.full(len(blocks), -np.inf)
        index = np.zeros(len(blocks), dtype=np.int64)
        scratch = np.empty((depth, CHUNK), dtype=np.float32)
        for c in range(part.start, part.stop):
            if kept is None:
                _fill_chunk(seed, c, scratch)
            table = read_only_view(scratch) if kept is None else kept[c]
            _search(
                table, c * CHUNK, 2**bits, selection, not best, blocks, *targets, highest, index
            )
        return highest, index

    results = parallel_map(best_of, row_parts(chunks))
    highest = np.stack([r[0] for r in results])
    index = np.stack([r[1] for r in results])
    # The first part with the maximum holds the lowest index, as ties require.
    return index[highest.argmax(axis=0), np.arange(len(blocks))]
