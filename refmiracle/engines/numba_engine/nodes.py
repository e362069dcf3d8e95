"""The shared randomness of the codes of variables, compiled: uniforms of nodes, and samples.

Follows docs/CODES.md section 1.  A decoder computes all of it too, so it is bit-exact.
"""

from __future__ import annotations

import numpy as np

from refmiracle.engines.numba_engine.compiling import EXACT, compiled
from refmiracle.engines.numba_engine.normals import _quantile
from refmiracle.engines.numba_engine.philox import philox
from refmiracle.numerics.limits import LAST_U
from refmiracle.numerics.philox import Stream

CANDIDATES = np.uint64(Stream.CANDIDATES)
LOW, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
TWENTY, TWELVE = np.uint64(20), np.uint64(12)
# Lanes; as NumPy scalars, as numba compiles a function anew for each literal.
OWN, BRANCH = np.uint64(0), np.uint64(1)
ROOT = np.int64(1)


@compiled(**EXACT)
def uniforms(seed, row, node, lane):
    """Return U and V of a lane of a node of a row."""
    n, i = np.uint64(node), np.uint64(row)
    w0, w1, w2, w3 = philox(n & LOW, i & LOW, n >> SHIFT, lane, seed, CANDIDATES)
    first = np.float64(np.int64((w0 << TWENTY) + (w1 >> TWELVE)))
    second = np.float64(np.int64((w2 << TWENTY) + (w3 >> TWELVE)))
    return (first + 0.5) * 2.0**-52, (second + 0.5) * 2.0**-52


@compiled(**EXACT)
def place(a, b, U):
    """Return u of the sample of a node with the region (a, b)."""
    return min(a + (b - a) * U, LAST_U)


@compiled(**EXACT)
def quantile(u):
    """Return z with P(z) = u; -inf and inf for 0 and 1, which bound regions."""
    if u <= 0.0:
        return -np.inf
    return np.inf if u >= 1.0 else _quantile(u)
