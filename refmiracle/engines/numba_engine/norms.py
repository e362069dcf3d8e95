"""Group normalisation of a program's maps, and back, on slices of samples."""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.numba_engine.compiling import compiled
from refmiracle.engines.numba_engine.elementary import COMPILE
from refmiracle.engines.numba_engine.instructions import ACROSS, CHANNELS, HEIGHT
from refmiracle.engines.numba_engine.map_kernels import ONE, put, row_of
from refmiracle.engines.numba_engine.normalisation import EPSILON
from refmiracle.engines.numba_engine.vector import (
    LANES,
    add,
    add_product,
    fill,
    load,
    multiply,
    store,
    subtract,
    total,
    where_equal,
    where_greater,
    zero,
)


@compiled(**COMPILE)
def _moments(t, f, x, s, first, size, at):
    """Store mean, what it lacks, and 1 / sqrt(var + 1e-5) of some channels, at f[at:].

    A first mean is good to float32's digits of the values, which next to a large mean are few of
    the spread's; the centred values know the rest of it, and the variance around it.
    """
    height, width = t[x + HEIGHT], t[x + ACROSS]
    places = size * height * width
    share, sums = fill(np.float32(1.0 / places)), zero()
    for c in range(first, first + size):
        plane = zero()
        for i in range(height):
            a, row = row_of(t, x, s, c, i), zero()
            for j in range(0, width * LANES, LANES):
                row = add(row, load(f, a + j))
            plane = add(plane, row)
        sums = add(sums, plane)
    middle = multiply(sums, share)
    sums, squares = zero(), zero()
    for c in range(first, first + size):
        plane, of_squares = zero(), zero()
        for i in range(height):
            a, row, products = row_of(t, x, s, c, i), zero(), zero()
            for j in range(0, width * LANES, LANES):
                centred = subtract(load(f, a + j), middle)
                row, products = add(row, centred), add_product(products, centred, centred)
            plane, of_squares = add(plane, row), add(of_squares, products)
        sums, squares = add(sums, plane), add(squares, of_squares)
    store(f, at, middle)
    store(f, at + LANES, multiply(sums, share))
    store(f, at + 2 * LANES, squares)
    for n in range(at, at + LANES):
        lack, square = np.float64(f[n + LANES]), np.float64(f[n + 2 * LANES]) / places
        variance = square - lack * lack
        variance = 0.0 if variance < 0.0 else variance  # by rounding; NaN stays
        # Where float32 has no squares of them, 1 / inf would leave the bias alone, without a word.
        factor = 1.0 / math.sqrt(variance + EPSILON)
        f[n + 2 * LANES] = factor if variance < math.inf else math.nan


@compiled(**COMPILE)
def norm(op, t, w, f, slices):
    """Fill y = (1 + gain) xhat + bias of each group, or its ReLU: (27a); keep the moments.

    op: x, y, groups, gain and bias in w, where the moments are kept, rectified.
    """
    x, y, groups, gain, bias, kept, rectified = op[1], op[2], op[3], op[4], op[5], op[6], op[7]
    size = t[x + CHANNELS] // groups
    for s in range(slices):
        for q in range(groups):
            at = kept + (s * groups + q) * 3 * LANES
            _moments(t, f, x, s, q * size, size, at)
            middle, lack, factor = load(f, at), load(f, at + LANES), load(f, at + 2 * LANES)
            for c in range(q * size, (q + 1) * size):
                a = multiply(factor, fill(ONE + w[gain + c]))
                b = fill(w[bias + c])
                for i in range(t[x + HEIGHT]):
                    p, r = row_of(t, x, s, c, i), row_of(t, y, s, c, i)
                    for j in range(0, t[x + ACROSS] * LANES, LANES):
                        centred = subtract(subtract(load(f, p + j), middle), lack)
                        value = add_product(b, centred, a)
                        if rectified:
                            value = where_greater(zero(), value, zero(), value)
                        store(f, r + j, value)


@compiled(**COMPILE)
def _own(f, dy, y, rectified):
    """Return the gradient before the ReLU."""
    g = load(f, dy)
    return where_equal(load(f, y), zero(), zero(), g) if rectified else g


@compiled(**COMPILE)
def norm_back(op, t, w, f, g, slices):
    """Fill dx, and add to the gradients of gain and bias: (27b) and (27c).

    dx = (d - mean(d) - xhat mean(d xhat)) factor, of each group, with d = (1 + gain) dy.

    op: x, y, dy, dx, groups, gain in w, the gradients of gain and bias in g, where the moments are
    kept, rectified, mode.
    """
    x, y, dy, dx, groups, gain = op[1], op[2], op[3], op[4], op[5], op[6]
    dgain, dbias, kept, rectified, mode = op[7], op[8], op[9], op[10], op[11]
    size = t[x + CHANNELS] // groups
    height, width = t[x + HEIGHT], t[x + ACROSS]
    share = fill(np.float32(1.0 / (size * height * width)))
    for s in range(slices):
        for q in range(groups):
            at = kept + (s * groups + q) * 3 * LANES
            middle, lack, factor = load(f, at), load(f, at + LANES), load(f, at + 2 * LANES)
            of_d, of_product = zero(), zero()
            for c in range(q * size, (q + 1) * size):
                sums, products = zero(), zero()
                for i in range(height):
                    p, r, v = row_of(t, x, s, c, i), row_of(t, dy, s, c, i), row_of(t, y, s, c, i)
                    row, along = zero(), zero()
                    for j in range(0, width * LANES, LANES):
                        d = _own(f, r + j, v + j, rectified)
                        centred = subtract(subtract(load(f, p + j), middle), lack)
                        row, along = add(row, d), add_product(along, d, centred)
                    sums, products = add(sums, row), add(products, along)
                products = multiply(products, factor)
                g[dbias + c] += total(sums)
                g[dgain + c] += total(products)
                a = multiply(share, fill(ONE + w[gain + c]))
                of_d, of_product = add_product(of_d, a, sums), add_product(of_product, a, products)
            along = multiply(of_product, factor)
            for c in range(q * size, (q + 1) * size):
                a = fill(ONE + w[gain + c])
                for i in range(height):
                    p, r, v = row_of(t, x, s, c, i), row_of(t, dy, s, c, i), row_of(t, y, s, c, i)
                    b = row_of(t, dx, s, c, i)
                    for j in range(0, width * LANES, LANES):
                        d = multiply(_own(f, r + j, v + j, rectified), a)
                        centred = subtract(subtract(load(f, p + j), middle), lack)
                        d = subtract(subtract(d, of_d), multiply(centred, along))
                        put(f, b + j, multiply(d, factor), mode)
