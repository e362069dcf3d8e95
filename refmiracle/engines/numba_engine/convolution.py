"""Convolution, bias, pool and ReLU in one pass, and back, on slices of samples (see `tiles`).

A unit is a product of the kernel with the input; an output channel is sign * unit + bias.  Where
channels share their coded variables (hashing along the outputs) they share the unit too, which is
then computed once: channels o = unit * copies, ..., unit * copies + copies - 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refmiracle.engines.numba_engine.compiling import compiled
from refmiracle.engines.numba_engine.elementary import COMPILE
from refmiracle.engines.numba_engine.tiles import (
    DOTS,
    TILE,
    dots,
    groups_of,
    multiply_2,
    multiply_4,
    pack,
)
from refmiracle.engines.numba_engine.vector import (
    LANES,
    add,
    add_product,
    fill,
    load,
    load_bytes,
    store,
    store_bytes,
    total,
    where_above,
    where_equal,
    where_greater,
    zero,
)

ONE, TWO, THREE = np.float32(1), np.float32(2), np.float32(3)
KILLED = np.float32(4)  # the winner of a window whose maximum ReLU sets to zero


class ConvStage(NamedTuple):
    """Sizes and buffers of one convolution with pool and ReLU, for one shard of a batch.

    Flat float32 arrays, but `winner` (uint8).  The tables of weights are shared by all shards.
    """

    channels: int
    size: int  # rows and columns of the input
    kernel: int
    units: int
    copies: int
    forward_table: np.ndarray
    backward_table: np.ndarray
    signs: np.ndarray
    bias: np.ndarray
    x: np.ndarray
    y: np.ndarray
    winner: np.ndarray
    dy: np.ndarray
    dx: np.ndarray
    spread: np.ndarray
    tile: np.ndarray
    dw: np.ndarray
    db: np.ndarray


@compiled(**COMPILE)
def pack_forward(w, kernel, channels, units, out):
    """Pack a flat kernel (kh, kw, in, units) for products along (in, kh, kw)."""
    kh, kw = kernel
    pack(
        w,
        (channels, kh, kw),
        (units, kw * channels * units, channels * units),
        units,
        1,
        out,
    )


@compiled(**COMPILE)
def pack_backward(w, kernel, channels, units, out):
    """Pack a flat kernel (kh, kw, in, units) for products along (kh, kw, units)."""
    kh, kw = kernel
    pack(w, (kh, kw, units), (kw * channels * units, channels * units, 1), channels, units, out)


@compiled(**COMPILE)
def _finish_window(tile, m, sign, bias, y, winner, at):
    """Maximum, then ReLU, of sign * unit + bias over a 2x2 window; the first maximum wins.

    NaN is the maximum of its window, and stays behind ReLU: comparisons with it are false, so
    each is the one that then takes the NaN.
    """
    sign, bias = fill(sign), fill(bias)
    top, k = add_product(bias, sign, load(tile, m)), zero()
    other = add_product(bias, sign, load(tile, m + LANES))
    k, top = where_above(other, top, fill(ONE), k), where_above(other, top, other, top)
    other = add_product(bias, sign, load(tile, m + 2 * LANES))
    k, top = where_above(other, top, fill(TWO), k), where_above(other, top, other, top)
    other = add_product(bias, sign, load(tile, m + 3 * LANES))
    k, top = where_above(other, top, fill(THREE), k), where_above(other, top, other, top)
    top = where_greater(zero(), top, zero(), top)
    store_bytes(winner, at, where_equal(top, zero(), fill(KILLED), k))
    store(y, at, top)


@compiled(**COMPILE)
def conv_forward(stage, slices):
    """Fill y, winner = ReLU(pool(sign * (x * w) + bias)), the places of a tile being the window."""
    size, kernel, copies = stage.size, stage.kernel, stage.copies
    channels, outputs = stage.channels, stage.units * stage.copies
    pooled = (size - kernel + 1) // 2
    row, plane = size * LANES, size * size * LANES
    counts, steps = (channels, kernel, kernel), (plane, row, LANES)
    terms = channels * kernel * kernel * TILE
    w_steps = (kernel * kernel * TILE, kernel * TILE)
    for s in range(slices):
        for group in range(groups_of(stage.units)):
            for i in range(pooled):
                for j in range(pooled):
                    b = s * channels * plane + 2 * i * row + 2 * j * LANES
                    multiply_4(
                        stage.x,
                        b,
                        b + LANES,
                        b + row,
                        b + row + LANES,
                        counts,
                        steps,
                        stage.forward_table,
                        group * terms,
                        w_steps,
                        stage.tile,
                    )
                    first = group * TILE * copies
                    for o in range(first, min(first + TILE * copies, outputs)):
                        _finish_window(
                            stage.tile,
                            ((o - first) // copies) * 4 * LANES,
                            stage.signs[o],
                            stage.bias[o],
                            stage.y,
                            stage.winner,
                            (((s * outputs + o) * pooled + i) * pooled + j) * LANES,
                        )


@compiled(**COMPILE)
def _spread_unit(stage, s, unit, to):
    """Lay the gradient of a unit of slice s, before the pool, at spread[to:]; add up db."""
    pooled = (stage.size - stage.kernel + 1) // 2
    row, d = 2 * pooled * LANES, stage.spread
    outputs = stage.units * stage.copies
    one, two, three = fill(ONE), fill(TWO), fill(THREE)
    for o in range(unit * stage.copies, (unit + 1) * stage.copies):
        sign, sums = fill(stage.signs[o]), zero()
        for i in range(pooled):
            for j in range(pooled):
                at = (((s * outputs + o) * pooled + i) * pooled + j) * LANES
                t = to + 2 * i * row + 2 * j * LANES
                k, g = load_bytes(stage.winner, at), load(stage.dy, at)
                sums = add(sums, where_equal(k, fill(KILLED), zero(), g))
                g = add_product(zero(), sign, g)
                g0, g1 = where_equal(k, zero(), g, zero()), where_equal(k, one, g, zero())
                g2, g3 = where_equal(k, two, g, zero()), where_equal(k, three, g, zero())
                if o > unit * stage.copies:
                    g0, g1 = add(g0, load(d, t)), add(g1, load(d, t + LANES))
                    g2, g3 = add(g2, load(d, t + row)), add(g3, load(d, t + row + LANES))
                store(d, t, g0)
                store(d, t + LANES, g1)
                store(d, t + row, g2)
                store(d, t + row + LANES, g3)
        stage.db[o] += total(sums)


@compiled(**COMPILE)
def plane_of(rows, columns):
    """Return the floats from a plane of gradients to the next: not a power of two, for the cache.

    Planes of 8x8 vectors would all begin in the same set of the first-level cache.
    """
    return (rows * columns + 1) * LANES


@compiled(**COMPILE)
def input_gradient(table, dy, shape, kernel, units, slices, tile, dx):
    """Fill dx[c, y, x] = sum over u, v, o of w[u, v, c, o] dy[o, y - u, x - v], where that exists.

    `shape` is that of x, (channels, height, width); two slices at a time.
    """
    channels, height, width = shape
    kh, kw = kernel
    rows, columns = height - kh + 1, width - kw + 1
    plane = plane_of(rows, columns)
    for s in range(0, slices, 2):
        for group in range(groups_of(channels)):
            for y in range(height):
                u0, u1 = max(0, y - rows + 1), min(kh, y + 1)
                for x in range(width):
                    v0, v1 = max(0, x - columns + 1), min(kw, x + 1)
                    b = s * units * plane + ((y - u0) * columns + x - v0) * LANES
                    multiply_2(
                        dy,
                        b,
                        b + units * plane,
                        (u1 - u0, v1 - v0, units),
                        (-columns * LANES, -LANES, plane),
                        table,
                        ((group * kh + u0) * kw + v0) * units * TILE,
                        (kw * units * TILE, units * TILE),
                        tile,
                    )
                    for c in range(group * TILE, min((group + 1) * TILE, channels)):
                        for p in range(2):
                            at = (((s + p) * channels + c) * height + y) * width + x
                            store(dx, at * LANES, load(tile, ((c % TILE) * 2 + p) * LANES))


@compiled(**COMPILE)
def term(k, shape, kernel):
    """Return where place k of the kernel, counted (in, kh, kw), reads the input."""
    c, u, v = k // (kernel[0] * kernel[1]), k // kernel[1] % kernel[0], k % kernel[1]
    return ((c * shape[1] + u) * shape[2] + v) * LANES


@compiled(**COMPILE)
def _five_planes(first, here, plane):
    last = here - 1
    p1, p2, p3 = min(1, last) * plane, min(2, last) * plane, min(3, last) * plane
    return first, first + p1, first + p2, first + p3, first + last * plane


@compiled(**COMPILE)
def _two_planes(first, here, plane):
    return first, first + (here - 1) * plane


# Where the units of a tile lie; one that is not full repeats its last member.
unit_planes = _five_planes if DOTS == 5 else _two_planes


@compiled(**COMPILE)
def weight_gradient(x, x_first, dy, dy_first, dy_slice, shape, kernel, units, to, slices, tile, dw):
    """Add to dw[u, v, c, o] the sum over slices, i, j of x[c, i + u, j + v] dy[o, i, j].

    For at most DOTS units o, from `to` on; they lie in dy from `dy_first` on, and `dy_slice`
    floats further in each slice.  `units` are all that dw has.
    """
    channels, height, width = shape
    kh, kw = kernel
    rows, columns = height - kh + 1, width - kw + 1
    plane = plane_of(rows, columns)
    terms, here = channels * kh * kw, min(units - to, DOTS)
    for k in range(0, terms, TILE):
        dots(
            x,
            (
                x_first + term(k, shape, kernel),
                x_first + term(min(k + 1, terms - 1), shape, kernel),
                x_first + term(min(k + 2, terms - 1), shape, kernel),
                x_first + term(min(k + 3, terms - 1), shape, kernel),
                x_first + term(min(k + 4, terms - 1), shape, kernel),
            ),
            (channels * height * width * LANES, width * LANES, LANES),
            dy,
            unit_planes(dy_first, here, plane),
            (dy_slice, columns * LANES, LANES),
            (slices, rows, columns),
            tile,
        )
        for a in range(min(TILE, terms - k)):
            c, u, v = (k + a) // (kh * kw), (k + a) // kw % kh, (k + a) % kw
            first = ((u * kw + v) * channels + c) * units + to
            for b in range(here):
                dw[first + b] += tile[a * DOTS + b]


@compiled(**COMPILE)
def conv_backward(stage, slices, need_dx):
    """Fill dw, db and dx from dy: through the pool's winners, then through the products.

    Without dx, DOTS units of one slice at a time are laid out before the pool, which fits in
    the cache; dx needs all units.
    """
    rows = stage.size - stage.kernel + 1
    plane, units = plane_of(rows, rows), stage.units
    shape = (stage.channels, stage.size, stage.size)
    kernel = (stage.kernel, stage.kernel)
    stage.dw[:] = 0
    stage.db[:] = 0
    if need_dx:
        for s in range(slices):
            for unit in range(units):
                _spread_unit(stage, s, unit, (s * units + unit) * plane)
        input_gradient(
            stage.backward_table,
            stage.spread,
            shape,
            kernel,
            units,
            slices,
            stage.tile,
            stage.dx,
        )
    for to in range(0, units, DOTS):
        if need_dx:
            weight_gradient(
                stage.x,
                0,
                stage.spread,
                to * plane,
                units * plane,
                shape,
                kernel,
                units,
                to,
                slices,
                stage.tile,
                stage.dw,
            )
            continue
        for s in range(slices):
            for unit in range(to, min(to + DOTS, units)):
                _spread_unit(stage, s, unit, (unit - to) * plane)
            weight_gradient(
                stage.x,
                s * stage.channels * stage.size * stage.size * LANES,
                stage.spread,
                0,
                0,
                shape,
                kernel,
                units,
                to,
                1,
                stage.tile,
                stage.dw,
            )


@compiled(**COMPILE)
def convolve(table, x, shape, kernel, units, slices, tile, y):
    """Fill y[o, i, j] = sum over c, u, v of w[u, v, c, o] x[c, i + u, j + v]."""
    channels, height, width = shape
    kh, kw = kernel
    rows, columns = height - kh + 1, width - kw + 1
    plane, terms = height * width * LANES, channels * kh * kw * TILE
    for s in range(0, slices, 2):
        for group in range(groups_of(units)):
            for place in range(rows * columns):
                i, j = place // columns, place % columns
                b = s * channels * plane + (i * width + j) * LANES
                multiply_2(
                    x,
                    b,
                    b + channels * plane,
                    (channels, kh, kw),
                    (plane, width * LANES, LANES),
                    table,
                    group * terms,
                    (kh * kw * TILE, kw * TILE),
                    tile,
                )
                for o in range(group * TILE, min((group + 1) * TILE, units)):
                    for p in range(2):
                        at = ((s + p) * units + o) * rows * columns + place
                        store(y, at * LANES, load(tile, ((o % TILE) * 2 + p) * LANES))
