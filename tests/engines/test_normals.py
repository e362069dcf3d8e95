"""The compiled normals: the same bits as the reference, wherever a stretch of a row begins."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import same_bits

from refmiracle.engines import get_engine
from refmiracle.engines.numba_engine import normals, philox

NUMPY, NUMBA = get_engine("numpy"), get_engine("numba")
SEED, STREAM, ROW = 4_000_000_000, 5, 2**31 + 7


def expected(rows, count):
    return NUMPY.normals(SEED, STREAM, rows, count).astype(np.float32)


@pytest.mark.parametrize(
    ("first", "count"), [(0, 0), (0, 1), (0, 3), (4, 4), (1020, 9), (1024, 1024), (8, 5001)]
)
def test_fill_normals(first, count):
    out = np.full(count, np.nan, dtype=np.float32)
    normals.fill_normals(np.uint64(SEED), np.uint64(STREAM), np.uint64(ROW), first, out)
    assert same_bits(out, expected([ROW], first + count)[0, first:])


def test_fill_candidates():
    """Dimension by candidate, in the order of a chunk, from any first candidate on."""
    table = np.empty((12, 4 * philox.COUNTERS), dtype=np.float32)
    normals.fill_candidates(np.uint64(SEED), np.uint64(STREAM), 1000, table)
    rows = 1000 + np.arange(table.shape[1]).reshape(-1, 4).T.ravel()
    assert same_bits(table.T, expected(rows, 12))


@pytest.mark.parametrize(("rows", "count"), [(0, 3), (1, 1), (1, 5001), (700, 3), (37, 30)])
def test_rows(rows, count):
    numbers = np.arange(rows) * 12345 + 17
    assert same_bits(NUMBA.normals(SEED, STREAM, numbers, count), expected(numbers, count))


def test_extreme_words():
    """The words next to 0, to the edges of the central region and to 2^32."""
    edges = (np.array([0.0, 0.075, 0.5, 0.925, 1.0]) * 2**32).astype(np.int64)
    words = (edges[:, None] + np.arange(-3, 4)).ravel()
    words = words[(words >= 0) & (words < 2**32)].astype(np.uint64)
    z = np.empty(len(words), dtype=np.float32)
    normals.quantiles_of_words(words, z)
    p = (words.astype(np.float64) + 0.5) * 2.0**-32
    assert same_bits(z, NUMPY.normal_quantile(p).astype(np.float32))
