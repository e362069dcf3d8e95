"""Random words, compiled: Philox4x32-10, as `numerics.philox` has it."""

from __future__ import annotations

import numpy as np

from refmiracle.engines.numba_engine.compiling import EXACT, compiled

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
K0, K1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)

COUNTERS = 256  # computed at a time: 1024 words, whose buffers stay in the first-level cache


@compiled(**EXACT)
def _round(state):
    c0, c1, c2, c3, k0, k1 = state
    p0, p1 = M0 * c0, M1 * c2
    c0, c1, c2, c3 = (p1 >> SHIFT) ^ c1 ^ k0, p1 & LOW, (p0 >> SHIFT) ^ c3 ^ k1, p0 & LOW
    return c0, c1, c2, c3, (k0 + K0) & LOW, (k1 + K1) & LOW


@compiled(forceinline=True, **EXACT)
def philox(c0, c1, c2, c3, k0, k1):
    """Return the four words of a counter; all are uint64 below 2^32.

    Without a loop, and inlined: only then a loop around the call is vectorised.
    """
    s = _round(_round(_round(_round(_round((c0, c1, c2, c3, k0, k1))))))
    c0, c1, c2, c3, _, _ = _round(_round(_round(_round(_round(s)))))
    return c0, c1, c2, c3


@compiled(**EXACT)
def philox_rows(c0, row, row_step, k0, k1, words):
    """Fill words[j, i] with word j of (c0, row + i row_step, 0, 0), or (c0 + i, row, 0, 0).

    The latter, the counters that follow in one row, where row_step is 0.
    """
    # Masked, LLVM sees that products of 32 bits by 32 do.
    k0, k1, c0, row = k0 & LOW, k1 & LOW, c0 & LOW, row & LOW
    step, zero = np.uint64(0) if row_step else np.uint64(1), np.uint64(0)
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    for i in range(len(w0)):
        a, b = (c0 + np.uint64(i) * step) & LOW, (row + np.uint64(i) * row_step) & LOW
        w0[i], w1[i], w2[i], w3[i] = philox(a, b, zero, zero, k0, k1)


@compiled(**EXACT)
def _philox_many(counter, key, out):
    for i in range(len(counter)):
        out[i] = philox(counter[i, 0], counter[i, 1], counter[i, 2], counter[i, 3], key[0], key[1])


def philox4x32(counter, key):
    """See `numerics.philox.philox4x32`."""
    counter = np.asarray(counter, dtype=np.uint64)
    out = np.empty((counter.size // 4, 4), dtype=np.uint64)
    _philox_many(np.ascontiguousarray(counter.reshape(-1, 4)), np.array(key, np.uint64), out)
    return out.astype(np.uint32).reshape(counter.shape)
