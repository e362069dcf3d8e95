"""Any network in one compiled call for each shard of a batch: a loop over a program's instructions.

A program (`programs`) is a table of instructions, made once from the list of layers: first those
of the forward pass, then the loss or the answer, then those that go back.  What each row holds is
said at the function that reads it.  A shard goes through in blocks of as many slices as the buffers
have room for, so memory does not grow with the batch.
"""

from __future__ import annotations

import numpy as np

from refmiracle.engines.numba_engine import instructions as code
from refmiracle.engines.numba_engine import map_kernels
from refmiracle.engines.numba_engine.compiling import compiled
from refmiracle.engines.numba_engine.elementary import COMPILE
from refmiracle.engines.numba_engine.instructions import (
    ACROSS,
    BASE,
    CHANNELS,
    HEIGHT,
    NOWHERE,
    PLANE,
    SLICE,
)
from refmiracle.engines.numba_engine.map_kernels import put, row_of
from refmiracle.engines.numba_engine.norms import norm, norm_back
from refmiracle.engines.numba_engine.products import (
    ALONE,
    FEW,
    PLACES,
    TERMS,
    TERMS_ALONE,
    UNITS,
    dots_alone,
    dots_many,
    multiply_alone,
    multiply_few,
    multiply_many,
    multiply_one,
)
from refmiracle.engines.numba_engine.shard_kernels import cross_entropy
from refmiracle.engines.numba_engine.vector import (
    LANES,
    add,
    add_product,
    fill,
    load,
    store,
    total,
    where_equal,
    where_greater,
    zero,
)

TILE_FLOATS = max(UNITS * PLACES, ALONE) * LANES
# Places of a tile of `dots`: few enough for their gradients to stay in the first-level cache.
BLOCK = 64


@compiled(**COMPILE)
def _finish(op, t, w, f, tile, width, unit, units, place, places):
    """Store a tile of `width` places: y = sign * unit + bias for each copy, or its ReLU.

    Of the tile so many units and places are meant, from `unit` and `place` on.
    """
    copies, y, plane, mode, rectified = op[8], op[9], op[11], op[12], op[13]
    bias, signs = op[14], op[15]
    for a in range(units):
        for o in range((unit + a) * copies, (unit + a + 1) * copies):
            for c in range(places):
                value = load(tile, (a * width + c) * LANES)
                if signs != NOWHERE:
                    value = add_product(fill(w[bias + o]), fill(w[signs + o]), value)
                elif bias != NOWHERE:
                    value = add(value, fill(w[bias + o]))
                if rectified:
                    value = where_greater(zero(), value, zero(), value)
                put(f, y + o * plane + t[op[10] + place + c], value, mode)


@compiled(**COMPILE)
def product(op, t, w, f, tile, slices):
    """Fill a map with products: a convolution (25a), a matrix, or their transposes in (26a).

    op: x, its places, places in a slice, taps, terms, w, units, copies, y, its places, from a unit
    to the next, mode, rectified, bias, signs, repeats (of one channel each), from a repeat's x to
    the next.  Units go by `UNITS`, or alone where repeats are.
    """
    at, places, taps, terms, units, alone = op[2], op[3] * slices, op[4], op[5], op[7], op[16] > 0
    together, all_units = (1, op[16] * units) if alone else (UNITS, units)
    place = 0
    while place < places:
        left = places - place
        if alone:
            width = ALONE if left >= ALONE else 1
        else:
            width = PLACES if left * 3 > PLACES * 2 else FEW
        for unit in range(0, all_units, together):
            x, k = op[1] + (unit // units * op[17] if alone else 0), op[6] + unit * terms
            if not alone and width == PLACES:
                multiply_many(f, x, t, at + place, taps, terms, w, k, tile)
            elif not alone:
                multiply_few(f, x, t, at + place, taps, terms, w, k, tile)
            elif width == ALONE:
                multiply_alone(f, x, t, at + place, taps, terms, w, k, tile)
            else:
                multiply_one(f, x, t, at + place, taps, terms, w, k, tile)
            here = min(together, all_units - unit)
            _finish(op, t, w, f, tile, width, unit, here, place, min(width, left))
        place += width


@compiled(**COMPILE)
def gradient(op, t, f, g, slices):
    """Add to the gradients of weights: (26) and (26a) of docs/derivations.md, by blocks of places.

    op: x, taps, terms (whole tiles), dy, its units, units, pairs of places, places in a slice,
    where in g, repeats, from a repeat's x to the next.
    """
    x, taps, terms, dy, unit_table, units = op[1], op[2], op[3], op[4], op[5], op[6]
    pairs, places, to, repeats = op[7], op[8] * slices, op[9], op[10]
    blocks = max(1, places // BLOCK)
    for block in range(blocks):
        first, end = places * block // blocks, places * (block + 1) // blocks
        pair, count = pairs + 2 * first, end - first
        if repeats == 0:
            for unit in range(0, units, UNITS):
                for k in range(0, terms, TERMS):
                    at = to + unit * terms + k * UNITS
                    dots_many(f, x, taps + k, dy, unit_table + unit, t, pair, count, g, at)
        else:
            for unit in range(repeats * units):
                own = x + unit // units * op[11]
                for k in range(0, terms, TERMS_ALONE):
                    at = to + unit * terms + k
                    dots_alone(f, own, taps + k, dy, unit_table + unit, t, pair, count, g, at)


@compiled(**COMPILE)
def settle(op, t, w, f, g, slices):
    """Turn dy into that of the units: through ReLU and signs, summed over copies; add up db.

    op: y, dy, rectified, where in g, copies, du, signs.
    """
    y, dy, rectified, to, copies, du, signs = op[1], op[2], op[3], op[4], op[5], op[6], op[7]
    for s in range(slices):
        for o in range(t[dy + CHANNELS]):
            sums = zero()
            for i in range(t[dy + HEIGHT]):
                a, b, row = row_of(t, y, s, o, i), row_of(t, dy, s, o, i), zero()
                d = row_of(t, du, s, o // copies, i)
                for j in range(0, t[dy + ACROSS] * LANES, LANES):
                    value = load(f, b + j)
                    if rectified:
                        value = where_equal(load(f, a + j), zero(), zero(), value)
                        store(f, b + j, value)
                    row = add(row, value)
                    if signs != NOWHERE:
                        signed = add_product(zero(), fill(w[signs + o]), value)
                        put(f, d + j, signed, code.ADD if o % copies else code.SET)
                sums = add(sums, row)
            g[to + o] += total(sums)


@compiled(**COMPILE)
def load_images(pixels, first, count, slices, t, x, f):
    """Fill x = pixels / 255 - 1/2 of images first, ..., first + count - 1; lanes beyond are 0."""
    scale, half = np.float32(1.0 / 255.0), np.float32(0.5)
    height, width = t[x + HEIGHT], t[x + ACROSS]
    for s in range(slices):
        for n in range(LANES):
            image = s * LANES + n
            for c in range(t[x + CHANNELS]):
                for i in range(height):
                    at, k = row_of(t, x, s, c, i) + n, (c * height + i) * width
                    for j in range(width):
                        value = np.float32(0)
                        if image < count:
                            value = np.float32(pixels[first + image, k + j]) * scale - half
                        f[at + j * LANES] = value


@compiled(**COMPILE)
def answer(t, f, y, first, count, out):
    """Fill out[class, image]."""
    for image in range(count):
        at = t[y + BASE] + image // LANES * t[y + SLICE] + image % LANES
        for c in range(t[y + CHANNELS]):
            out[c, first + image] = f[at + c * t[y + PLANE]]


@compiled(**COMPILE)
def loss(t, f, y, dy, labels, first, count, slices, scale):
    """Return the summed loss, and fill dy: see `shard_kernels.cross_entropy`."""
    size = slices * t[y + SLICE]
    logits = f[t[y + BASE] : t[y + BASE] + size]
    dlogits = f[t[dy + BASE] : t[dy + BASE] + size]
    return cross_entropy(logits, t[y + CHANNELS], labels, first, count, slices, scale, dlogits)


@compiled(**COMPILE)
def run(ops, t, w, f, g, tile, pixels, labels, first, count, most, scale, out):  # noqa: PLR0912
    """Return the summed loss of some images, or fill out[class, image], as the program says.

    Gradients are added to `g`.  The first row is the map of images; blocks are of `most` slices.
    What numba inlines it compiles once more at each level, so all branches stand at this one.
    """
    found = 0.0
    for block in range(0, count, most * LANES):
        begin, here = first + block, min(most * LANES, count - block)
        slices = (here + LANES - 1) // LANES
        load_images(pixels, begin, here, slices, t, ops[0, 1], f)
        for n in range(1, len(ops)):
            op = ops[n]
            kind, a, b, c = op[0], op[1], op[2], op[3]
            if kind == code.PRODUCT:
                product(op, t, w, f, tile, slices)
            elif kind == code.GRADIENT:
                gradient(op, t, f, g, slices)
            elif kind == code.SETTLE:
                settle(op, t, w, f, g, slices)
            elif kind == code.NORM:
                norm(op, t, w, f, slices)
            elif kind == code.NORM_BACK:
                norm_back(op, t, w, f, g, slices)
            elif kind == code.COPY:
                map_kernels.copy(t, f, a, b, c, op[4], slices)
            elif kind == code.SUM:
                map_kernels.add_maps(t, f, a, b, c, op[4], slices)
            elif kind == code.MASK:
                map_kernels.mask(t, f, a, b, c, op[4], slices)
            elif kind == code.MAXIMUM:
                map_kernels.maximum(t, f, a, b, c, op[4], slices)
            elif kind == code.MAXIMUM_BACK:
                map_kernels.maximum_back(t, f, a, b, c, op[4], slices)
            elif kind == code.MEAN:
                map_kernels.mean(t, f, a, b, c, op[4], op[5], slices)
            elif kind == code.MEAN_BACK:
                map_kernels.mean_back(t, f, a, b, c, op[4], op[5], slices)
            elif kind == code.LOSS:
                found += loss(t, f, a, b, labels, begin, here, slices, scale)
            elif kind == code.ANSWER:
                answer(t, f, a, begin, here, out)
    return found


@compiled(**COMPILE)
def pack(rows, flat, w):
    """Lay weights out as the products read them: by tiles of units, 0 where there are fewer.

    A row: units, units in a tile, from, to, three counts of terms, their three steps, a unit's
    step.
    """
    for n in range(len(rows)):
        row = rows[n]
        tile, to = row[1], row[3]
        for unit in range(0, row[0], tile):
            for p in range(row[4]):
                for q in range(row[5]):
                    for r in range(row[6]):
                        at = row[2] + p * row[7] + q * row[8] + r * row[9]
                        for a in range(unit, unit + tile):
                            w[to] = flat[at + a * row[10]] if a < row[0] else np.float32(0)
                            to += 1


@compiled(**COMPILE)
def unpack(rows, g, flat):
    """Put gradients where their weights are; of a row see `pack`, and last a unit's terms."""
    for n in range(len(rows)):
        row = rows[n]
        tile = row[1]
        for unit in range(row[0]):
            first = row[3] + unit // tile * tile * row[11] + unit % tile
            for p in range(row[4]):
                for q in range(row[5]):
                    for r in range(row[6]):
                        term = (p * row[5] + q) * row[6] + r
                        at = row[2] + p * row[7] + q * row[8] + r * row[9] + unit * row[10]
                        flat[at] = g[first + term * tile]
