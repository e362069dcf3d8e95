"""Bit-exact normals, compiled.

Bit-exactness rests on `EXACT`: no reordering, no fusing, no libm; the same float64 operations as
in `numerics.normal`, each correctly rounded, so that it does not matter how many LLVM does at a
time.  To let it, the work is laid out in loops without branches over buffers: words, then the
central rational for all of them, then the tails alone.
"""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.numba_engine.compiling import EXACT, compiled
from refmiracle.engines.numba_engine.philox import COUNTERS, philox, philox_rows
from refmiracle.engines.numba_engine.threads import parallel_map, row_parts
from refmiracle.numerics import normal

CENTRAL_TOP, CENTRAL_BOTTOM = normal.CENTRAL
MIDDLE_TOP, MIDDLE_BOTTOM = normal.MIDDLE
FAR_TOP, FAR_BOTTOM = normal.FAR
ATANH_SERIES = normal.ATANH_SERIES
LN2, SQRT_HALF = normal.LN2, normal.SQRT_HALF

FRACTION, HALF_BITS = np.int64((1 << 52) - 1), np.int64(0x3FE << 52)

WORTH_THREADS = 2**16  # normals


@compiled(**EXACT)
def _horner(coefficients, x):
    value = coefficients[0]
    for i in range(1, len(coefficients)):
        value = value * x + coefficients[i]
    return value


@compiled(**EXACT)
def _log_of_fraction(m, e):
    """Return log(m 2^e) for sqrt(1/2) <= m < sqrt(2)."""
    f = (m - 1.0) / (m + 1.0)
    return 2.0 * f * _horner(ATANH_SERIES, f * f) + np.float64(e) * LN2


@compiled(**EXACT)
def _central(q):
    r = 0.180625 - q * q
    return q * (_horner(CENTRAL_TOP, r) / _horner(CENTRAL_BOTTOM, r))


@compiled(**EXACT)
def _quantile(p):
    if not (p > 0.0 and p < 1.0):
        return np.nan
    q = p - 0.5
    if abs(q) <= 0.425:
        return _central(q)
    m, e = math.frexp(p if q < 0.0 else 1.0 - p)
    if m < SQRT_HALF:
        m, e = m + m, e - 1
    r = math.sqrt(-_log_of_fraction(m, e))
    if r <= 5.0:
        tail = _horner(MIDDLE_TOP, r - 1.6) / _horner(MIDDLE_BOTTOM, r - 1.6)
    else:
        tail = _horner(FAR_TOP, r - 5.0) / _horner(FAR_BOTTOM, r - 5.0)
    return -tail if q < 0.0 else tail


@compiled(**EXACT)
def quantiles(p, out):
    """Fill out with the normal quantiles of any p; see `numerics.normal.normal_quantile`."""
    for i in range(p.size):
        out[i] = _quantile(p[i])


@compiled(**EXACT)
def _tails(p, count, bits, e, z):
    """Fill z with the quantiles of p[:count] (overwritten), all |p - 1/2| > 0.425, p >= 2^-33.

    There r <= 5, and the parts of p that frexp gives stand in its bits.
    """
    for i in range(count):
        z[i] = p[i] - 0.5
        p[i] = p[i] if z[i] < 0.0 else 1.0 - p[i]
    for i in range(count):
        e[i] = (bits[i] >> 52) - 1022
        bits[i] = (bits[i] & FRACTION) | HALF_BITS
    for i in range(count):
        m, low = p[i], p[i] < SQRT_HALF
        m, exponent = (m + m if low else m), (e[i] - 1 if low else e[i])
        x = math.sqrt(-_log_of_fraction(m, exponent)) - 1.6
        tail = _horner(MIDDLE_TOP, x) / _horner(MIDDLE_BOTTOM, x)
        z[i] = -tail if z[i] < 0.0 else tail


@compiled(**EXACT)
def quantiles_of_words(words, z):
    """Fill z, float32, with the normals of words, uint64 below 2^32; both flat."""
    count = words.size
    scratch = np.empty((5, count))
    p, far, value, bits = scratch[0], scratch[1], scratch[2], scratch.view(np.int64)
    places = bits[3]
    tails = 0
    for i in range(count):
        p[i] = (np.float64(np.int64(words[i])) + 0.5) * 2.0**-32
        z[i] = _central(p[i] - 0.5)
    for i in range(count):
        places[tails] = i
        tails += abs(p[i] - 0.5) > 0.425
    for i in range(tails):
        far[i] = p[places[i]]
    _tails(far, tails, bits[1], bits[4], value)
    for i in range(tails):
        z[places[i]] = value[i]


@compiled(**EXACT)
def fill_normals(seed, stream, row, first, out):
    """Fill out with normals first, first + 1, ... of a row of a stream; first is 4 n."""
    words, z = np.empty((4, COUNTERS), np.uint64), np.empty((4, COUNTERS), np.float32)
    for start in range(0, out.size, 4 * COUNTERS):
        counter = np.uint64((first + start) // 4)
        philox_rows(counter, row, np.uint64(0), seed, stream, words)
        quantiles_of_words(words.reshape(-1), z.reshape(-1))
        for i in range(min(COUNTERS, (out.size - start) // 4)):
            at = start + 4 * i
            out[at], out[at + 1], out[at + 2], out[at + 3] = z[0, i], z[1, i], z[2, i], z[3, i]
        for k in range(max(start, out.size // 4 * 4), min(start + 4 * COUNTERS, out.size)):
            out[k] = z[k % 4, (k - start) // 4]


@compiled(**EXACT)
def fill_rows(seed, stream, rows, out):
    """Fill out[r] with the first normals of row rows[r] of a stream, a few rows at a time."""
    count, zero = out.shape[1], np.uint64(0)
    if count > 4 * COUNTERS:
        for r in range(len(rows)):
            fill_normals(seed, stream, rows[r], 0, out[r])
        return
    group = max(1, 4 * COUNTERS // max(1, count))
    words = np.empty((group, count), np.uint64)
    for first in range(0, len(rows), group):
        here = min(group, len(rows) - first)
        for r in range(here):
            for k in range(0, count, 4):
                four = philox(np.uint64(k // 4), rows[first + r], zero, zero, seed, stream)
                for j in range(min(4, count - k)):
                    words[r, k + j] = four[j]
        quantiles_of_words(words[:here].reshape(-1), out[first : first + here].reshape(-1))


@compiled(**EXACT)
def fill_candidates(seed, stream, first, table):
    """Fill table[d, k] with normal d of row first + 4 (k mod COUNTERS) + k div COUNTERS.

    In this order the rows stand as `philox_rows` leaves as many words of one row, flat.  The
    table has 4 COUNTERS columns, and a multiple of 4 rows.
    """
    words, z = np.empty((4, COUNTERS), np.uint64), np.empty((4, COUNTERS), np.float32)
    for k in range(4):
        row, columns = np.uint64(first + k), slice(k * COUNTERS, (k + 1) * COUNTERS)
        for d in range(0, table.shape[0], 4):
            philox_rows(np.uint64(d // 4), row, np.uint64(4), seed, stream, words)
            quantiles_of_words(words.reshape(-1), z.reshape(-1))
            for j in range(4):
                table[d + j, columns] = z[j]


def normal_quantile(p):
    """See `numerics.normal.normal_quantile`; the same bits."""
    p = np.ascontiguousarray(p, dtype=np.float64)
    out = np.empty_like(p)
    quantiles(p.reshape(-1), out.reshape(-1))
    return out


def normals(seed, stream, rows, count):
    """See `numpy_engine.normals.normals`; computed in float64, rounded to float32."""
    rows = np.asarray(rows, dtype=np.uint64)
    out = np.empty((len(rows), count), dtype=np.float32)

    def fill(part):
        fill_rows(np.uint64(seed), np.uint64(stream), rows[part], out[part])

    # Few normals are made sooner than another thread wakes.
    parallel_map(fill, row_parts(len(rows), None if out.size > WORTH_THREADS else 1))
    return out
