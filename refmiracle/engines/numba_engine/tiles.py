"""The inner products that all layers are made of, as tiles of sums that stay in registers.

Samples lie in slices of LANES: an activation is a flat array over (slice, channel, row, column,
lane), a dense one over (slice, feature, lane).  A vector is one place of one slice; a product
walks over places by strides, so a convolution needs no im2col.  Weights are packed five output
units at a time (`pack`), as the tiles read them.

A walk has three loops, given by `counts` and by the `steps` that each takes in an array.  Sums
are in a fixed order, whatever the number of threads.
"""

from __future__ import annotations

from refmiracle.engines.numba_engine.compiling import compiled
from refmiracle.engines.numba_engine.elementary import COMPILE
from refmiracle.engines.numba_engine.vector import (
    LANES,
    REGISTERS,
    add_product,
    load,
    splat,
    store,
    total,
    zero,
)

TILE = 5  # output units in a tile: divides all widths of LeNet-5
TILE_FLOATS = 4 * TILE * LANES
DOTS = 5 if REGISTERS >= 32 else 2  # places of y in a tile of `dots`


@compiled(**COMPILE)
def groups_of(units):
    """Return how many tiles hold so many output units."""
    return (units + TILE - 1) // TILE


@compiled(**COMPILE)
def pack(w, counts, steps, units, unit_step, out):
    """Fill out[unit // 5][place of the walk][unit % 5] = w[walk + unit * unit_step]."""
    o = 0
    for group in range(groups_of(units)):
        for p in range(counts[0]):
            for q in range(counts[1]):
                for r in range(counts[2]):
                    k = p * steps[0] + q * steps[1] + r * steps[2]
                    for m in range(group * TILE, (group + 1) * TILE):
                        out[o] = w[k + m * unit_step] if m < units else 0.0
                        o += 1


@compiled(**COMPILE)
def _multiply_4_at_once(x, b0, b1, b2, b3, counts, steps, w, first, w_steps, out):
    """Fill out[a, c] = sum over walk of w[walk, a] x[b_c + walk] for 5 units a and 4 places c.

    `w_steps` are the steps of the two outer loops in w; the inner one reads on.  Twenty sums,
    four places and a weight are in registers.
    """
    z = zero()
    s0, s1, s2, s3, t0, t1, t2, t3, u0, u1 = z, z, z, z, z, z, z, z, z, z
    u2, u3, v0, v1, v2, v3, y0, y1, y2, y3 = z, z, z, z, z, z, z, z, z, z
    for p in range(counts[0]):
        for q in range(counts[1]):
            i = p * steps[0] + q * steps[1]
            k = first + p * w_steps[0] + q * w_steps[1]
            for _ in range(counts[2]):
                x0, x1, x2, x3 = load(x, b0 + i), load(x, b1 + i), load(x, b2 + i), load(x, b3 + i)
                f = splat(w, k)
                s0, s1 = add_product(s0, f, x0), add_product(s1, f, x1)
                s2, s3 = add_product(s2, f, x2), add_product(s3, f, x3)
                f = splat(w, k + 1)
                t0, t1 = add_product(t0, f, x0), add_product(t1, f, x1)
                t2, t3 = add_product(t2, f, x2), add_product(t3, f, x3)
                f = splat(w, k + 2)
                u0, u1 = add_product(u0, f, x0), add_product(u1, f, x1)
                u2, u3 = add_product(u2, f, x2), add_product(u3, f, x3)
                f = splat(w, k + 3)
                v0, v1 = add_product(v0, f, x0), add_product(v1, f, x1)
                v2, v3 = add_product(v2, f, x2), add_product(v3, f, x3)
                f = splat(w, k + 4)
                y0, y1 = add_product(y0, f, x0), add_product(y1, f, x1)
                y2, y3 = add_product(y2, f, x2), add_product(y3, f, x3)
                i += steps[2]
                k += TILE
    sums = (s0, s1, s2, s3, t0, t1, t2, t3, u0, u1, u2, u3, v0, v1, v2, v3, y0, y1, y2, y3)
    for n in range(20):
        store(out, n * LANES, sums[n])


@compiled(**COMPILE)
def _multiply_2(x, b0, b1, counts, steps, w, first, w_steps, out, to, row):
    """Do as `multiply_4` for the places c = to and to + 1 of the `row` that out has."""
    z = zero()
    s0, s1, t0, t1, u0, u1, v0, v1, y0, y1 = z, z, z, z, z, z, z, z, z, z
    for p in range(counts[0]):
        for q in range(counts[1]):
            i = p * steps[0] + q * steps[1]
            k = first + p * w_steps[0] + q * w_steps[1]
            for _ in range(counts[2]):
                x0, x1 = load(x, b0 + i), load(x, b1 + i)
                f = splat(w, k)
                s0, s1 = add_product(s0, f, x0), add_product(s1, f, x1)
                f = splat(w, k + 1)
                t0, t1 = add_product(t0, f, x0), add_product(t1, f, x1)
                f = splat(w, k + 2)
                u0, u1 = add_product(u0, f, x0), add_product(u1, f, x1)
                f = splat(w, k + 3)
                v0, v1 = add_product(v0, f, x0), add_product(v1, f, x1)
                f = splat(w, k + 4)
                y0, y1 = add_product(y0, f, x0), add_product(y1, f, x1)
                i += steps[2]
                k += TILE
    sums = (s0, s1, t0, t1, u0, u1, v0, v1, y0, y1)
    for n in range(10):
        store(out, (n // 2 * row + to + n % 2) * LANES, sums[n])


@compiled(**COMPILE)
def multiply_2(x, b0, b1, counts, steps, w, first, w_steps, out):
    """Do as `multiply_4` for 2 places c."""
    _multiply_2(x, b0, b1, counts, steps, w, first, w_steps, out, 0, 2)


@compiled(**COMPILE)
def _multiply_4_in_turns(x, b0, b1, b2, b3, counts, steps, w, first, w_steps, out):
    """Do as `_multiply_4_at_once`: ten sums, two places and a weight in registers."""
    _multiply_2(x, b0, b1, counts, steps, w, first, w_steps, out, 0, 4)
    _multiply_2(x, b2, b3, counts, steps, w, first, w_steps, out, 2, 4)


# Sums beyond the registers would be loaded and stored at every term; the bits are the same.
multiply_4 = _multiply_4_at_once if REGISTERS >= 32 else _multiply_4_in_turns


@compiled(**COMPILE)
def _dots_5(x, x_bases, x_steps, y, y_bases, y_steps, counts, out):
    """Fill out[a, b] = sum over walk and lanes of x[x_bases[a] + walk] y[y_bases[b] + walk].

    Five places of x by five of y: twenty-five sums in registers.
    """
    z = zero()
    a0, a1, a2, a3, a4, b0, b1, b2, b3, b4 = z, z, z, z, z, z, z, z, z, z
    c0, c1, c2, c3, c4, d0, d1, d2, d3, d4 = z, z, z, z, z, z, z, z, z, z
    e0, e1, e2, e3, e4 = z, z, z, z, z
    i0, i1, i2, i3, i4 = x_bases
    j0, j1, j2, j3, j4 = y_bases
    for p in range(counts[0]):
        for q in range(counts[1]):
            i = p * x_steps[0] + q * x_steps[1]
            j = p * y_steps[0] + q * y_steps[1]
            for _ in range(counts[2]):
                x0, x1, x2 = load(x, i0 + i), load(x, i1 + i), load(x, i2 + i)
                x3, x4 = load(x, i3 + i), load(x, i4 + i)
                f = load(y, j0 + j)
                a0, b0, c0 = add_product(a0, x0, f), add_product(b0, x1, f), add_product(c0, x2, f)
                d0, e0 = add_product(d0, x3, f), add_product(e0, x4, f)
                f = load(y, j1 + j)
                a1, b1, c1 = add_product(a1, x0, f), add_product(b1, x1, f), add_product(c1, x2, f)
                d1, e1 = add_product(d1, x3, f), add_product(e1, x4, f)
                f = load(y, j2 + j)
                a2, b2, c2 = add_product(a2, x0, f), add_product(b2, x1, f), add_product(c2, x2, f)
                d2, e2 = add_product(d2, x3, f), add_product(e2, x4, f)
                f = load(y, j3 + j)
                a3, b3, c3 = add_product(a3, x0, f), add_product(b3, x1, f), add_product(c3, x2, f)
                d3, e3 = add_product(d3, x3, f), add_product(e3, x4, f)
                f = load(y, j4 + j)
                a4, b4, c4 = add_product(a4, x0, f), add_product(b4, x1, f), add_product(c4, x2, f)
                d4, e4 = add_product(d4, x3, f), add_product(e4, x4, f)
                i += x_steps[2]
                j += y_steps[2]
    out[0], out[1], out[2], out[3], out[4] = total(a0), total(a1), total(a2), total(a3), total(a4)
    out[5], out[6], out[7], out[8], out[9] = total(b0), total(b1), total(b2), total(b3), total(b4)
    out[10], out[11], out[12] = total(c0), total(c1), total(c2)
    out[13], out[14] = total(c3), total(c4)
    out[15], out[16], out[17] = total(d0), total(d1), total(d2)
    out[18], out[19] = total(d3), total(d4)
    out[20], out[21], out[22] = total(e0), total(e1), total(e2)
    out[23], out[24] = total(e3), total(e4)


@compiled(**COMPILE)
def _dots_2(x, x_bases, x_steps, y, y_bases, y_steps, counts, out):
    """Do as `_dots_5` for two places of y: ten sums in registers."""
    z = zero()
    a0, a1, b0, b1, c0, c1, d0, d1, e0, e1 = z, z, z, z, z, z, z, z, z, z
    i0, i1, i2, i3, i4 = x_bases
    j0, j1 = y_bases
    for p in range(counts[0]):
        for q in range(counts[1]):
            i = p * x_steps[0] + q * x_steps[1]
            j = p * y_steps[0] + q * y_steps[1]
            for _ in range(counts[2]):
                y0, y1 = load(y, j0 + j), load(y, j1 + j)
                f = load(x, i0 + i)
                a0, a1 = add_product(a0, f, y0), add_product(a1, f, y1)
                f = load(x, i1 + i)
                b0, b1 = add_product(b0, f, y0), add_product(b1, f, y1)
                f = load(x, i2 + i)
                c0, c1 = add_product(c0, f, y0), add_product(c1, f, y1)
                f = load(x, i3 + i)
                d0, d1 = add_product(d0, f, y0), add_product(d1, f, y1)
                f = load(x, i4 + i)
                e0, e1 = add_product(e0, f, y0), add_product(e1, f, y1)
                i += x_steps[2]
                j += y_steps[2]
    out[0], out[1], out[2], out[3] = total(a0), total(a1), total(b0), total(b1)
    out[4], out[5], out[6], out[7] = total(c0), total(c1), total(d0), total(d1)
    out[8], out[9] = total(e0), total(e1)


dots = _dots_5 if DOTS == 5 else _dots_2
