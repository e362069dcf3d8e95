"""Random words, bit-exact normals and minimal random coding, compiled.

Bit-exactness rests on `EXACT`: no reordering, no fusing, no libm; the same float64 operations
in the same order as `numerics.normal`.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from refmiracle.engines.numba_engine.threads import parallel_map, row_parts
from refmiracle.numerics import normal
from refmiracle.numerics.philox import Stream

EXACT: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": False}
FAST: dict[str, Any] = {**EXACT, "fastmath": {"reassoc", "contract", "nsz"}}

CENTRAL_TOP, CENTRAL_BOTTOM = normal.CENTRAL
MIDDLE_TOP, MIDDLE_BOTTOM = normal.MIDDLE
FAR_TOP, FAR_BOTTOM = normal.FAR
ATANH_SERIES = normal.ATANH_SERIES
LN2, SQRT_HALF = normal.LN2, normal.SQRT_HALF

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
K0, K1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)

CHUNK = 1024
# No Gumbel variate of a 32-bit uniform is above -log(-log(1 - 2^-33)) = 22.88.
GUMBEL_MAX = 22.88


@numba.njit(**EXACT)
def _philox(c0, c1, c2, c3, k0, k1):
    for _ in range(10):
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (p1 >> SHIFT) ^ c1 ^ k0, p1 & LOW, (p0 >> SHIFT) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + K0) & LOW, (k1 + K1) & LOW
    return c0, c1, c2, c3


@numba.njit(**EXACT)
def _philox_many(counter, key, out):
    for i in range(len(counter)):
        out[i] = _philox(counter[i, 0], counter[i, 1], counter[i, 2], counter[i, 3], key[0], key[1])


@numba.njit(**EXACT)
def _horner(coefficients, x):
    value = coefficients[0]
    for i in range(1, len(coefficients)):
        value = value * x + coefficients[i]
    return value


@numba.njit(**EXACT)
def _log(p):
    m, e = math.frexp(p)
    if m < SQRT_HALF:
        m, e = m + m, e - 1
    f = (m - 1.0) / (m + 1.0)
    return 2.0 * f * _horner(ATANH_SERIES, f * f) + np.float64(e) * LN2


@numba.njit(**EXACT)
def _quantile(p):
    if not (p > 0.0 and p < 1.0):
        return np.nan
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        return q * (_horner(CENTRAL_TOP, r) / _horner(CENTRAL_BOTTOM, r))
    r = math.sqrt(-_log(p if q < 0.0 else 1.0 - p))
    if r <= 5.0:
        tail = _horner(MIDDLE_TOP, r - 1.6) / _horner(MIDDLE_BOTTOM, r - 1.6)
    else:
        tail = _horner(FAR_TOP, r - 5.0) / _horner(FAR_BOTTOM, r - 5.0)
    return -tail if q < 0.0 else tail


@numba.njit(**EXACT)
def _quantiles(p, out):
    for i in range(p.size):
        out[i] = _quantile(p[i])


@numba.njit(**EXACT)
def _normals(seed, stream, rows, out):
    count = out.shape[1]
    for r in range(len(rows)):
        for block in range((count + 3) // 4):
            words = _philox(np.uint64(block), rows[r], np.uint64(0), np.uint64(0), seed, stream)
            for j in range(min(4, count - 4 * block)):
                out[r, 4 * block + j] = _quantile((np.float64(words[j]) + 0.5) * 2.0**-32)


@numba.njit(**FAST)
def _score(candidates, delta, log_s, scores):
    """scores[b, k] = log q(z_k) / p(z_k) in nats; candidates are (dimension, K) here."""
    for b in range(len(delta)):
        row = scores[b]
        row[:] = -0.5 * log_s[b].sum()
        for d in range(delta.shape[1]):
            mean, half_precision = delta[b, d], 0.5 * math.exp(-log_s[b, d])
            z = candidates[d]
            for k in range(len(row)):
                x = np.float64(z[k])
                row[k] += 0.5 * x * x - (x - mean) * (x - mean) * half_precision


@numba.njit(**EXACT)
def _select(scores, seed, stream, blocks, start, best, index):
    """Add Gumbel variates to the scores of candidates start, start + 1, ... and keep the best.

    A candidate that could not win with the largest variate there is needs none.
    """
    for b in range(len(blocks)):
        for k in range(scores.shape[1]):
            if scores[b, k] + GUMBEL_MAX <= best[b]:
                continue
            n = start + k
            words = _philox(np.uint64(n // 4), blocks[b], np.uint64(0), np.uint64(0), seed, stream)
            u = (np.float64(words[n % 4]) + 0.5) * 2.0**-32
            score = scores[b, k] - math.log(-math.log(u))
            if score > best[b]:
                best[b], index[b] = score, n


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
    _quantiles(p.reshape(-1), out.reshape(-1))
    return out


def normals(seed, stream, rows, count):
    """See `numpy_engine.coding.normals`; computed in float64, rounded to float32."""
    rows = np.asarray(rows, dtype=np.uint64)
    out = np.empty((len(rows), count), dtype=np.float32)
    _normals(np.uint64(seed), np.uint64(stream), rows, out)
    return out


def codebook_rows(seed, indices, dimension):
    """See `numpy_engine.coding.codebook_rows`; the same bits."""
    return normals(seed, Stream.CODEBOOK, indices, dimension)


def log_weights(candidates, delta, log_s):
    """See `numpy_engine.coding.log_weights`; summed in float64."""
    scores = np.empty((len(delta), len(candidates)))
    _score(
        np.ascontiguousarray(np.asarray(candidates).T, dtype=np.float32),
        np.ascontiguousarray(delta, dtype=np.float64),
        np.ascontiguousarray(log_s, dtype=np.float64),
        scores,
    )
    return scores


def select_indices(seed, bits, blocks, delta, log_s):
    """See `numpy_engine.coding.select_indices`; each thread passes over its own candidates."""
    blocks = np.asarray(blocks, dtype=np.uint64)
    delta = np.ascontiguousarray(delta, dtype=np.float64)
    log_s = np.ascontiguousarray(log_s, dtype=np.float64)

    def best_of(part):
        best = np.full(len(blocks), -np.inf)
        index = np.zeros(len(blocks), dtype=np.int64)
        for start in range(part.start, part.stop, CHUNK):
            rows = np.arange(start, min(start + CHUNK, part.stop))
            scores = log_weights(codebook_rows(seed, rows, delta.shape[1]), delta, log_s)
            _select(
                scores, np.uint64(seed), np.uint64(Stream.SELECTION), blocks, start, best, index
            )
        return best, index

    results = parallel_map(best_of, row_parts(2**bits))
    best = np.stack([r[0] for r in results])
    index = np.stack([r[1] for r in results])
    # The first part with the maximum holds the lowest index, as ties require.
    return index[best.argmax(axis=0), np.arange(len(blocks))]
