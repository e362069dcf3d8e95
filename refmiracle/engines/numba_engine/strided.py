"""Convolution with stride, padding and groups, and back, on slices of samples (see `tiles`).

Where all channels are one group the products are tiles, as in `convolution`, which has the case
without stride and padding to itself; so they are for each of a few large groups.  Where groups are
small (depthwise: of one channel) a tile would be filled in part, and plain sums of vectors are
faster.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from refmiracle.engines.numba_engine.compiling import compiled
from refmiracle.engines.numba_engine.convolution import (
    pack_backward,
    pack_forward,
    plane_of,
    term,
    unit_planes,
)
from refmiracle.engines.numba_engine.elementary import COMPILE
from refmiracle.engines.numba_engine.slices import aligned, from_slices, slices_of, to_slices
from refmiracle.engines.numba_engine.tiles import (
    DOTS,
    TILE,
    TILE_FLOATS,
    dots,
    groups_of,
    multiply_2,
)
from refmiracle.engines.numba_engine.vector import (
    LANES,
    add_product,
    load,
    splat,
    store,
    total,
    zero,
)

WORTH_TILES = TILE - 1  # inputs and outputs of a group


class Sizes(NamedTuple):
    """Of a convolution; `height` and `width` are those of the map with the zeros around it."""

    channels: int
    height: int
    width: int
    units: int
    kh: int
    kw: int
    rows: int
    columns: int
    stride: int
    padding: int
    groups: int


def sizes_of(x, w, stride, padding, groups):
    """Return the sizes of a convolution of x with w."""
    channels, height, width, _ = x.shape
    kh, kw, _, units = w.shape
    height, width = height + 2 * padding, width + 2 * padding
    rows, columns = (height - kh) // stride + 1, (width - kw) // stride + 1
    return Sizes(channels, height, width, units, kh, kw, rows, columns, stride, padding, groups)


def slices_with_zeros(x, sizes):
    """Return maps as slices, with zeros around each."""
    if not sizes.padding:
        return to_slices(x)
    p = sizes.padding
    whole = np.zeros((sizes.channels, sizes.height, sizes.width, x.shape[-1]), x.dtype)
    whole[:, p:-p, p:-p] = x
    return to_slices(whole)


def by_units(w):
    """Return a flat kernel as the sums of groups read it, over (units, fan, kh, kw)."""
    return np.ascontiguousarray(w.transpose(3, 2, 0, 1)).reshape(-1)


def large_groups(w, groups):
    """Return the inputs and outputs of each group that is worth tiles of its own."""
    fan, each = w.shape[2], w.shape[3] // groups
    if groups == 1 or min(fan, each) < WORTH_TILES:
        return []
    return [(slice(g * fan, (g + 1) * fan), slice(g * each, (g + 1) * each)) for g in range(groups)]


def conv2d(x, w, stride, padding, groups):
    """See `numpy_engine.layers.conv2d`; float32, without the bias."""
    if own := large_groups(w, groups):
        return np.concatenate(
            [conv2d(x[c], np.ascontiguousarray(w[..., o]), stride, padding, 1) for c, o in own]
        )
    z, slices = sizes_of(x, w, stride, padding, groups), slices_of(x.shape[-1])
    flat, y = slices_with_zeros(x, z), aligned(slices * z.units * z.rows * z.columns * LANES)
    if groups > 1:
        convolve_groups(by_units(w), flat, z, slices, y)
    else:
        table = aligned(groups_of(z.units) * TILE * z.channels * z.kh * z.kw)
        pack_forward(w.reshape(-1), (z.kh, z.kw), z.channels, z.units, table)
        convolve(table, flat, z, slices, aligned(TILE_FLOATS), y)
    return from_slices(y, (z.units, z.rows, z.columns, x.shape[-1]))


def conv2d_backward(x, w, dy, need_dx, stride, padding, groups):
    """See `numpy_engine.layers.conv2d_backward`; float32, without db."""
    if own := large_groups(w, groups):
        gradients = [
            conv2d_backward(
                x[c], np.ascontiguousarray(w[..., o]), dy[o], need_dx, stride, padding, 1
            )
            for c, o in own
        ]
        dxs, dws = zip(*gradients, strict=True)
        return (np.concatenate(dxs) if need_dx else None), np.concatenate(dws, axis=3)
    z, slices = sizes_of(x, w, stride, padding, groups), slices_of(x.shape[-1])
    planes, dw, dx = to_slices(dy, spare=1), np.zeros_like(w), None
    tile = aligned(max(TILE_FLOATS, z.kh * z.kw * LANES))
    if need_dx:
        dx = aligned(slices * math.prod(x.shape[:3]) * LANES)
        if groups > 1:
            input_gradient_of_groups(by_units(w), planes, z, slices, dx)
        else:
            table = aligned(groups_of(z.channels) * TILE * z.units * z.kh * z.kw)
            pack_backward(w.reshape(-1), (z.kh, z.kw), z.channels, z.units, table)
            input_gradient(table, planes, z, slices, tile, dx)
        dx = from_slices(dx, x.shape)
    gradient = weight_gradient_of_groups if groups > 1 else weight_gradient
    gradient(slices_with_zeros(x, z), planes, z, slices, tile, dw.reshape(-1))
    return dx, dw


@compiled(**COMPILE)
def convolve(table, x, z, slices, tile, y):
    """Fill y[o, i, j] = sum over c, u, v of w[u, v, c, o] x[c, stride i + u, stride j + v]."""
    plane, terms = z.height * z.width * LANES, z.channels * z.kh * z.kw * TILE
    for s in range(0, slices, 2):
        for group in range(groups_of(z.units)):
            for place in range(z.rows * z.columns):
                i, j = place // z.columns, place % z.columns
                b = s * z.channels * plane + z.stride * (i * z.width + j) * LANES
                multiply_2(
                    x,
                    b,
                    b + z.channels * plane,
                    (z.channels, z.kh, z.kw),
                    (plane, z.width * LANES, LANES),
                    table,
                    group * terms,
                    (z.kh * z.kw * TILE, z.kw * TILE),
                    tile,
                )
                for o in range(group * TILE, min((group + 1) * TILE, z.units)):
                    for p in range(2):
                        at = ((s + p) * z.units + o) * z.rows * z.columns + place
                        store(y, at * LANES, load(tile, ((o % TILE) * 2 + p) * LANES))


@compiled(**COMPILE)
def _taps(places, padding, kernel, stride, outputs):
    """Return for each row (or column) of a map where the kernel reads it, shape (places, 3).

    The first such place in the kernel, how many there are, each a stride behind the other, and the
    output that reads by the first; the outputs of the others come before it.
    """
    out = np.empty((places, 3), np.int64)
    for place in range(places):
        at = place + padding
        first, last = max(at - (outputs - 1) * stride, at % stride), min(kernel - 1, at)
        out[place, 0] = first
        out[place, 1] = (last - first) // stride + 1 if last >= first else 0
        out[place, 2] = (at - first) // stride
    return out


@compiled(**COMPILE)
def input_gradient(table, dy, z, slices, tile, dx):
    """Fill dx[c, y, x] = sum over all u, v, o of w[u, v, c, o] dy of the outputs that read it."""
    height, width = z.height - 2 * z.padding, z.width - 2 * z.padding
    of_rows = _taps(height, z.padding, z.kh, z.stride, z.rows)
    of_columns = _taps(width, z.padding, z.kw, z.stride, z.columns)
    plane = plane_of(z.rows, z.columns)
    for s in range(0, slices, 2):
        for group in range(groups_of(z.channels)):
            for y in range(height):
                u, us, i = of_rows[y]
                for x in range(width):
                    v, vs, j = of_columns[x]
                    b = s * z.units * plane + (i * z.columns + j) * LANES
                    multiply_2(
                        dy,
                        b,
                        b + z.units * plane,
                        (us, vs, z.units),
                        (-z.columns * LANES, -LANES, plane),
                        table,
                        ((group * z.kh + u) * z.kw + v) * z.units * TILE,
                        (z.stride * z.kw * z.units * TILE, z.stride * z.units * TILE),
                        tile,
                    )
                    for c in range(group * TILE, min((group + 1) * TILE, z.channels)):
                        for p in range(2):
                            at = (((s + p) * z.channels + c) * height + y) * width + x
                            store(dx, at * LANES, load(tile, ((c % TILE) * 2 + p) * LANES))


@compiled(**COMPILE)
def weight_gradient(x, dy, z, slices, tile, dw):
    """Fill dw[u, v, c, o] = sum over slices, i, j of x[c, stride i + u, ...] dy[o, i, j]."""
    shape, kernel = (z.channels, z.height, z.width), (z.kh, z.kw)
    plane, terms, row = plane_of(z.rows, z.columns), z.channels * z.kh * z.kw, z.width * LANES
    for to in range(0, z.units, DOTS):
        here = min(z.units - to, DOTS)
        for k in range(0, terms, TILE):
            dots(
                x,
                (
                    term(k, shape, kernel),
                    term(min(k + 1, terms - 1), shape, kernel),
                    term(min(k + 2, terms - 1), shape, kernel),
                    term(min(k + 3, terms - 1), shape, kernel),
                    term(min(k + 4, terms - 1), shape, kernel),
                ),
                (z.channels * z.height * row, z.stride * row, z.stride * LANES),
                dy,
                unit_planes(to * plane, here, plane),
                (z.units * plane, z.columns * LANES, LANES),
                (slices, z.rows, z.columns),
                tile,
            )
            for a in range(min(TILE, terms - k)):
                c, place = (k + a) // (z.kh * z.kw), (k + a) % (z.kh * z.kw)
                for b in range(here):
                    dw[(place * z.channels + c) * z.units + to + b] = tile[a * DOTS + b]


@compiled(**COMPILE)
def convolve_groups(w, x, z, slices, y):
    """Do as `convolve`, but c runs over the channels of o's group; w as `by_units` has it."""
    fan, each = z.channels // z.groups, z.units // z.groups
    plane = z.height * z.width * LANES
    for s in range(slices):
        for o in range(z.units):
            first = (s * z.channels + o // each * fan) * plane
            for i in range(z.rows):
                for j in range(z.columns):
                    sums, k = zero(), o * fan * z.kh * z.kw
                    for a in range(fan):
                        for u in range(z.kh):
                            row = (z.stride * i + u) * z.width + z.stride * j
                            b = first + a * plane + row * LANES
                            for v in range(z.kw):
                                sums = add_product(sums, splat(w, k), load(x, b + v * LANES))
                                k += 1
                    at = ((s * z.units + o) * z.rows + i) * z.columns + j
                    store(y, at * LANES, sums)


@compiled(**COMPILE)
def input_gradient_of_groups(w, dy, z, slices, dx):
    """Do as `input_gradient`, but o runs over the outputs of c's group."""
    fan, each = z.channels // z.groups, z.units // z.groups
    height, width = z.height - 2 * z.padding, z.width - 2 * z.padding
    of_rows = _taps(height, z.padding, z.kh, z.stride, z.rows)
    of_columns = _taps(width, z.padding, z.kw, z.stride, z.columns)
    plane = plane_of(z.rows, z.columns)
    for s in range(slices):
        for c in range(z.channels):
            for y in range(height):
                u0, us, i = of_rows[y]
                for x in range(width):
                    v0, vs, j = of_columns[x]
                    sums = zero()
                    for o in range(c // fan * each, (c // fan + 1) * each):
                        for q in range(us):
                            k = (o * fan + c % fan) * z.kh + u0 + q * z.stride
                            k = k * z.kw + v0
                            b = (s * z.units + o) * plane + ((i - q) * z.columns + j) * LANES
                            for r in range(vs):
                                g = load(dy, b - r * LANES)
                                sums = add_product(sums, splat(w, k + r * z.stride), g)
                    at = ((s * z.channels + c) * height + y) * width + x
                    store(dx, at * LANES, sums)


@compiled(**COMPILE)
def weight_gradient_of_groups(x, dy, z, slices, tile, dw):
    """Do as `weight_gradient`, but c runs over the channels of o's group.

    The sums of all places of the kernel lie in `tile`, so that each gradient is read once.
    """
    fan, each, places = z.channels // z.groups, z.units // z.groups, z.kh * z.kw
    plane = plane_of(z.rows, z.columns)
    for o in range(z.units):
        for a in range(fan):
            c = o // each * fan + a
            for k in range(places):
                store(tile, k * LANES, zero())
            for s in range(slices):
                for i in range(z.rows):
                    for j in range(z.columns):
                        g = load(dy, (s * z.units + o) * plane + (i * z.columns + j) * LANES)
                        top = ((s * z.channels + c) * z.height + z.stride * i) * z.width
                        for u in range(z.kh):
                            b = (top + u * z.width + z.stride * j) * LANES
                            for v in range(z.kw):
                                k = (u * z.kw + v) * LANES
                                value = load(x, b + v * LANES)
                                store(tile, k, add_product(load(tile, k), g, value))
            for k in range(places):
                dw[(k * fan + a) * z.units + o] = total(load(tile, k * LANES))
