"""What a program does at each place of a map: copies, sums, pools, and back.

All on slices of samples in one flat array `f`; a map's record in `t` says where (`instructions`).
`mode` is `SET` or `ADD`: whether a gradient is the first that reaches its map.
"""

from __future__ import annotations

import numpy as np

from refmiracle.engines.numba_engine.compiling import compiled
from refmiracle.engines.numba_engine.elementary import COMPILE
from refmiracle.engines.numba_engine.instructions import (
    ACROSS,
    ADD,
    BASE,
    CHANNELS,
    HEIGHT,
    PLANE,
    ROW,
    SET,
    SLICE,
)
from refmiracle.engines.numba_engine.vector import (
    LANES,
    add,
    fill,
    load,
    multiply,
    store,
    where_above,
    where_equal,
    where_greater,
    zero,
)

ONE, TWO, THREE = np.float32(1), np.float32(2), np.float32(3)


@compiled(**COMPILE)
def row_of(t, m, s, c, i):
    """Return where row i of channel c of slice s begins in the map of record m."""
    return t[m + BASE] + s * t[m + SLICE] + c * t[m + PLANE] + i * t[m + ROW]


@compiled(**COMPILE)
def put(f, at, value, mode):
    """Store a vector, or add it to what is there."""
    store(f, at, add(load(f, at), value) if mode == ADD else value)


@compiled(**COMPILE)
def copy(t, f, x, y, mode, rectified, slices):
    """Fill y = x, or y = ReLU(x); NaN stays."""
    for s in range(slices):
        for c in range(t[y + CHANNELS]):
            for i in range(t[y + HEIGHT]):
                a, b = row_of(t, x, s, c, i), row_of(t, y, s, c, i)
                for j in range(0, t[y + ACROSS] * LANES, LANES):
                    value = load(f, a + j)
                    if rectified:
                        value = where_greater(zero(), value, zero(), value)
                    put(f, b + j, value, mode)


@compiled(**COMPILE)
def mask(t, f, y, dy, dx, mode, slices):
    """Fill dx = dy where y, behind its ReLU, is not 0, and 0 there: also in place."""
    for s in range(slices):
        for c in range(t[y + CHANNELS]):
            for i in range(t[y + HEIGHT]):
                a, b, d = row_of(t, y, s, c, i), row_of(t, dy, s, c, i), row_of(t, dx, s, c, i)
                for j in range(0, t[y + ACROSS] * LANES, LANES):
                    g = where_equal(load(f, a + j), zero(), zero(), load(f, b + j))
                    put(f, d + j, g, mode)


@compiled(**COMPILE)
def add_maps(t, f, a, b, y, rectified, slices):
    """Fill y = a + b, or ReLU(a + b)."""
    for s in range(slices):
        for c in range(t[y + CHANNELS]):
            for i in range(t[y + HEIGHT]):
                p, q, r = row_of(t, a, s, c, i), row_of(t, b, s, c, i), row_of(t, y, s, c, i)
                for j in range(0, t[y + ACROSS] * LANES, LANES):
                    value = add(load(f, p + j), load(f, q + j))
                    if rectified:
                        value = where_greater(zero(), value, zero(), value)
                    store(f, r + j, value)


@compiled(**COMPILE)
def maximum(t, f, x, y, winner, rectified, slices):
    """Fill y with the maxima of 2x2 windows and `winner` with which of the four it is.

    The first of equals wins, and NaN is the maximum of its window.
    """
    for s in range(slices):
        for c in range(t[y + CHANNELS]):
            for i in range(t[y + HEIGHT]):
                a, b = row_of(t, x, s, c, 2 * i), row_of(t, x, s, c, 2 * i + 1)
                r, v = row_of(t, y, s, c, i), row_of(t, winner, s, c, i)
                for j in range(0, t[y + ACROSS] * LANES, LANES):
                    top, k = load(f, a + 2 * j), zero()
                    other = load(f, a + 2 * j + LANES)
                    k, top = (
                        where_above(other, top, fill(ONE), k),
                        where_above(other, top, other, top),
                    )
                    other = load(f, b + 2 * j)
                    k, top = (
                        where_above(other, top, fill(TWO), k),
                        where_above(other, top, other, top),
                    )
                    other = load(f, b + 2 * j + LANES)
                    k, top = (
                        where_above(other, top, fill(THREE), k),
                        where_above(other, top, other, top),
                    )
                    if rectified:
                        top = where_greater(zero(), top, zero(), top)
                    store(f, v + j, k)
                    store(f, r + j, top)


@compiled(**COMPILE)
def blank(t, f, x, rows, columns, slices):
    """Set to 0 what lies beyond so many rows and columns of a map."""
    for s in range(slices):
        for c in range(t[x + CHANNELS]):
            for i in range(t[x + HEIGHT]):
                a = row_of(t, x, s, c, i)
                for j in range(columns if i < rows else 0, t[x + ACROSS]):
                    store(f, a + j * LANES, zero())


@compiled(**COMPILE)
def maximum_back(t, f, dy, winner, dx, mode, slices):
    """Fill dx = dy at the winners, 0 elsewhere."""
    if mode == SET:
        blank(t, f, dx, 2 * t[dy + HEIGHT], 2 * t[dy + ACROSS], slices)
    for s in range(slices):
        for c in range(t[dy + CHANNELS]):
            for i in range(t[dy + HEIGHT]):
                a, b = row_of(t, dx, s, c, 2 * i), row_of(t, dx, s, c, 2 * i + 1)
                r, v = row_of(t, dy, s, c, i), row_of(t, winner, s, c, i)
                for j in range(0, t[dy + ACROSS] * LANES, LANES):
                    g, k = load(f, r + j), load(f, v + j)
                    put(f, a + 2 * j, where_equal(k, zero(), g, zero()), mode)
                    put(f, a + 2 * j + LANES, where_equal(k, fill(ONE), g, zero()), mode)
                    put(f, b + 2 * j, where_equal(k, fill(TWO), g, zero()), mode)
                    put(f, b + 2 * j + LANES, where_equal(k, fill(THREE), g, zero()), mode)


@compiled(**COMPILE)
def mean(t, f, x, y, height, width, rectified, slices):
    """Fill y with the means of windows: (26b); row by row, so that long sums keep their digits."""
    share = fill(np.float32(1.0 / (height * width)))
    for s in range(slices):
        for c in range(t[y + CHANNELS]):
            for i in range(t[y + HEIGHT]):
                r = row_of(t, y, s, c, i)
                for j in range(t[y + ACROSS]):
                    sums = zero()
                    for u in range(height):
                        a = row_of(t, x, s, c, i * height + u) + j * width * LANES
                        row = zero()
                        for v in range(width):
                            row = add(row, load(f, a + v * LANES))
                        sums = add(sums, row)
                    value = multiply(sums, share)
                    if rectified:
                        value = where_greater(zero(), value, zero(), value)
                    store(f, r + j * LANES, value)


@compiled(**COMPILE)
def mean_back(t, f, dy, dx, height, width, mode, slices):
    """Fill dx with each place's share of its window's gradient: (26b)."""
    share = fill(np.float32(1.0 / (height * width)))
    rows, columns = t[dy + HEIGHT] * height, t[dy + ACROSS] * width
    if mode == SET:
        blank(t, f, dx, rows, columns, slices)
    for s in range(slices):
        for c in range(t[dy + CHANNELS]):
            for i in range(rows):
                a, r = row_of(t, dx, s, c, i), row_of(t, dy, s, c, i // height)
                for j in range(t[dy + ACROSS]):
                    g = multiply(load(f, r + j * LANES), share)
                    for v in range(j * width, (j + 1) * width):
                        put(f, a + v * LANES, g, mode)
