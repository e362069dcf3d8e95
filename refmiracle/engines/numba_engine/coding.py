"""Minimal random coding, compiled: scores and selection in one pass over the candidates.

Candidates lie in chunks (dimension, CHUNK), so that LLVM vectorises over them.  Scores are sums of
squares of differences in float64: as two matrix products they would be differences of huge terms
where s is tiny.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numba
import numpy as np

from refmiracle.engines.numba_engine.normals import (
    COUNTERS,
    EXACT,
    fill_candidates,
    fill_rows,
    philox,
    philox_rows,
    quantiles,
)
from refmiracle.engines.numba_engine.threads import parallel_map, row_parts
from refmiracle.numerics.philox import Stream

FAST: dict[str, Any] = {**EXACT, "fastmath": {"reassoc", "contract", "nsz"}}
NO_NAN: dict[str, Any] = {**EXACT, "fastmath": {"nnan", "nsz"}}

CHUNK = 4 * COUNTERS
KEPT_FLOATS = 2**24  # a codebook up to this size is kept for the next group of blocks
# No Gumbel variate of a 32-bit uniform is above -log(-log(1 - 2^-33)) = 22.88.
GUMBEL_MAX = 22.88


@numba.njit(**EXACT)
def _philox_many(counter, key, out):
    for i in range(len(counter)):
        out[i] = philox(counter[i, 0], counter[i, 1], counter[i, 2], counter[i, 3], key[0], key[1])


@numba.njit(**FAST)
def _score(table, delta, precision, constant, scores):
    """Fill scores[k] = log q(z_k) / p(z_k) in nats, for one block; dimensions are 4 n.

    z^2 / 2 - (z - delta)^2 / (2 s) = z delta - delta^2 / 2 - (z - delta)^2 (1/s - 1) / 2, where
    nothing cancels; `precision` is (1/s - 1) / 2, and `constant` holds what z is not in.
    """
    scores[:] = constant
    for d in range(0, len(delta), 4):
        z0, z1, z2, z3 = table[d], table[d + 1], table[d + 2], table[d + 3]
        m0, m1, m2, m3 = delta[d], delta[d + 1], delta[d + 2], delta[d + 3]
        h0, h1, h2, h3 = precision[d], precision[d + 1], precision[d + 2], precision[d + 3]
        for k in range(len(scores)):
            x0, x1 = np.float64(z0[k]), np.float64(z1[k])
            x2, x3 = np.float64(z2[k]), np.float64(z3[k])
            linear = (x0 * m0 + x1 * m1) + (x2 * m2 + x3 * m3)
            x0, x1, x2, x3 = x0 - m0, x1 - m1, x2 - m2, x3 - m3
            square = (x0 * x0 * h0 + x1 * x1 * h1) + (x2 * x2 * h2 + x3 * x3 * h3)
            scores[k] += linear - square


@numba.njit(**NO_NAN)
def _maximum(scores):
    top = scores[0]
    for k in range(1, len(scores)):
        top = max(top, scores[k])
    return top


@numba.njit(**EXACT)
def _perturbed(scores, k, words):
    """Return score k plus its Gumbel variate."""
    u = (np.float64(np.int64(words[k % 4, k // 4])) + 0.5) * 2.0**-32
    return scores[k] - math.log(-math.log(u))


@numba.njit(**EXACT)
def _flag_survivors(scores, words, best, flags):
    """Flag the candidates that may beat `best` once they have their Gumbel variates.

    With u = (word + 1/2) / 2^32 the variate -log(-log u) is at most -log(1 - u); so only those
    with 1 - u < exp(-t), t = best - score, can; and exp(-t) < (1 + t/4 + ... + (t/4)^3/6)^-4.
    """
    for j in range(4):
        for i in range(COUNTERS):
            t = best - scores[4 * i + j]
            t = 0.25 * t if t > 0.0 else 0.0
            rest = 1.0 - (np.float64(np.int64(words[j, i])) + 0.5) * 2.0**-32
            bound = 1.0 + t * (1.0 + t * (0.5 + t * (1.0 / 6.0)))
            bound *= bound
            flags[4 * i + j] = rest * (bound * bound) < 1.000001


@numba.njit(**EXACT)
def _select(scores, count, seed, block, start, words, flags, best, index):
    """Return the best score with its Gumbel variate, and its index, after these candidates."""
    top = _maximum(scores[:count])
    if top + GUMBEL_MAX <= best:
        return best, index
    philox_rows(np.uint64(start // 4), block, np.uint64(0), *seed, words)
    least = best
    if best == -np.inf:  # the candidate with the largest score sets a first bound
        k = 0
        while scores[k] < top:
            k += 1
        least = _perturbed(scores, k, words)
    _flag_survivors(scores, words, least, flags)
    eights = flags.view(np.uint64)
    for e in range((count + 7) // 8):
        if eights[e]:
            for k in range(8 * e, min(8 * e + 8, count)):
                if flags[k]:
                    score = _perturbed(scores, k, words)
                    if score > best:
                        best, index = score, start + k
    return best, index


@numba.njit(**EXACT)
def _search(table, start, count, seed, blocks, delta, precision, constant, best, index):
    """Pass over candidates start, ..., start + count - 1 for all blocks; keep each one's best."""
    scores, flags = np.empty(CHUNK), np.empty(CHUNK, np.uint8)
    words = np.empty((4, COUNTERS), np.uint64)
    for b in range(len(blocks)):
        _score(table, delta[b], precision[b], constant[b], scores)
        best[b], index[b] = _select(
            scores, count, seed, blocks[b], start, words, flags, best[b], index[b]
        )


@numba.njit(**FAST)
def _fill_scores(candidates, delta, precision, constant, scores):
    for b in range(len(delta)):
        _score(candidates, delta[b], precision[b], constant[b], scores[b])


def _whole_dimension(dimension):
    return -(-dimension // 4) * 4


def _targets(delta, log_s):
    """Return what `_score` takes of each block, in float64, filled up to 4 n dimensions."""
    delta, log_s = np.asarray(delta, dtype=np.float64), np.asarray(log_s, dtype=np.float64)
    shape = (len(delta), _whole_dimension(delta.shape[1]))
    whole, precision = np.zeros(shape), np.zeros(shape)
    whole[:, : delta.shape[1]] = delta
    precision[:, : delta.shape[1]] = 0.5 * np.expm1(-log_s)
    return whole, precision, 0.0 - 0.5 * (log_s + delta * delta).sum(axis=1)


def _fill_chunk(seed, chunk, table):
    fill_candidates(np.uint64(seed), np.uint64(Stream.CODEBOOK), chunk * CHUNK, table)


@lru_cache(maxsize=1)
def _kept_codebook(seed, bits, dimension):
    """Return the tables of all chunks, shape (chunks, dimension filled up, CHUNK)."""
    chunks = -(-(2**bits) // CHUNK)
    tables = np.empty((chunks, _whole_dimension(dimension), CHUNK), dtype=np.float32)

    def fill(part):
        for c in range(part.start, part.stop):
            _fill_chunk(seed, c, tables[c])

    parallel_map(fill, row_parts(chunks))
    return tables


def philox4x32(counter, key):
    """See `numerics.philox.philox4x32`."""
    counter = np.asarray(counter, dtype=np.uint64)
    out = np.empty((counter.size // 4, 4), dtype=np.uint64)
    _philox_many(np.ascontiguousarray(counter.reshape(-1, 4)), np.array(key, np.uint64), out)
    return out.astype(np.uint32).reshape(counter.shape)


def normal_quantile(p):
    """See `numerics.normal.normal_quantile`; the same bits."""
    p = np.ascontiguousarray(p, dtype=np.float64)
    out = np.empty_like(p)
    quantiles(p.reshape(-1), out.reshape(-1))
    return out


def normals(seed, stream, rows, count):
    """See `numpy_engine.coding.normals`; computed in float64, rounded to float32."""
    rows = np.asarray(rows, dtype=np.uint64)
    out = np.empty((len(rows), count), dtype=np.float32)
    fill_rows(np.uint64(seed), np.uint64(stream), rows, out)
    return out


def codebook_rows(seed, indices, dimension):
    """See `numpy_engine.coding.codebook_rows`; the same bits."""
    return normals(seed, Stream.CODEBOOK, indices, dimension)


def log_weights(candidates, delta, log_s):
    """See `numpy_engine.coding.log_weights`; summed in float64."""
    candidates = np.asarray(candidates, dtype=np.float32)
    targets = _targets(delta, log_s)
    table = np.zeros((targets[0].shape[1], len(candidates)), dtype=np.float32)
    table[: candidates.shape[1]] = candidates.T
    scores = np.empty((len(delta), len(candidates)))
    _fill_scores(table, *targets, scores)
    return scores


def select_indices(seed, bits, blocks, delta, log_s):
    """See `numpy_engine.coding.select_indices`; each thread passes over its own candidates."""
    blocks = np.asarray(blocks, dtype=np.uint64)
    dimension = delta.shape[1]
    targets = _targets(delta, log_s)
    chunks, depth = -(-(2**bits) // CHUNK), _whole_dimension(dimension)
    keep = chunks * CHUNK * depth <= KEPT_FLOATS
    kept = _kept_codebook(seed, bits, dimension) if keep else None
    selection = np.uint64(seed), np.uint64(Stream.SELECTION)

    def best_of(part):
        best = np.full(len(blocks), -np.inf)
        index = np.zeros(len(blocks), dtype=np.int64)
        scratch = np.empty((depth, CHUNK), dtype=np.float32)
        for c in range(part.start, part.stop):
            table = scratch if kept is None else kept[c]
            if kept is None:
                _fill_chunk(seed, c, table)
            count = min(CHUNK, 2**bits - c * CHUNK)
            _search(table, c * CHUNK, count, selection, blocks, *targets, best, index)
        return best, index

    results = parallel_map(best_of, row_parts(chunks))
    best = np.stack([r[0] for r in results])
    index = np.stack([r[1] for r in results])
    # The first part with the maximum holds the lowest index, as ties require.
    return index[best.argmax(axis=0), np.arange(len(blocks))]
