"""Dense layers with bias and ReLU, and back, on slices of samples (see `tiles`).

Units and copies are as in `convolution`: y_o = ReLU(sign_o * unit + bias_o).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refmiracle.engines.numba_engine.compiling import compiled
from refmiracle.engines.numba_engine.elementary import COMPILE
from refmiracle.engines.numba_engine.tiles import (
    TILE,
    groups_of,
    multiply_2,
    multiply_4,
    pack,
)
from refmiracle.engines.numba_engine.vector import LANES, load, store


class DenseStage(NamedTuple):
    """Sizes and buffers of one dense layer, for one shard of a batch; all arrays flat float32."""

    inputs: int
    units: int
    copies: int
    rectified: bool
    forward_table: np.ndarray
    backward_table: np.ndarray
    signs: np.ndarray
    bias: np.ndarray
    x: np.ndarray
    y: np.ndarray
    dy: np.ndarray
    dx: np.ndarray
    du: np.ndarray
    samples_table: np.ndarray
    strips: np.ndarray
    tile: np.ndarray
    dw: np.ndarray
    db: np.ndarray


@compiled(**COMPILE)
def pack_forward(w, inputs, units, out):
    """Pack a flat matrix (in, units) for products along the inputs."""
    pack(w, (1, 1, inputs), (0, 0, units), units, 1, out)


@compiled(**COMPILE)
def pack_backward(w, inputs, units, out):
    """Pack a flat matrix (in, units) for products along the units."""
    pack(w, (1, 1, units), (0, 0, 1), inputs, units, out)


@compiled(**COMPILE)
def multiply_slices(table, x, terms, units, slices, tile, out):
    """Fill out[s, unit] = sum over k of w[k, unit] x[s, k]; two slices at a time."""
    for s in range(0, slices, 2):
        for group in range(groups_of(units)):
            multiply_2(
                x,
                s * terms * LANES,
                (s + 1) * terms * LANES,
                (1, 1, terms),
                (0, 0, LANES),
                table,
                group * terms * TILE,
                (0, 0),
                tile,
            )
            for unit in range(group * TILE, min((group + 1) * TILE, units)):
                for p in range(2):
                    at = ((s + p) * units + unit) * LANES
                    store(out, at, load(tile, ((unit % TILE) * 2 + p) * LANES))


@compiled(**COMPILE)
def strip_of(units):
    """Return the floats of a sample's units in `multiply_samples`: whole tiles of 4 vectors."""
    return -(-units // (4 * LANES)) * 4 * LANES


@compiled(**COMPILE)
def multiply_samples(x, dy, inputs, units, slices, table, strips, tile, dw):
    """Fill dw[k, unit] = sum over samples of x[k, sample] dy[unit, sample].

    Vectors run along the units here, so that no sum over lanes is left for each weight: `strips`
    takes dy with a sample's units side by side, `table` x packed by fives.
    """
    samples, length = slices * LANES, strip_of(units)
    pack(x, (1, slices, LANES), (0, inputs * LANES, 1), inputs, LANES, table)
    for s in range(slices):
        for unit in range(units):
            for n in range(LANES):
                strips[(s * LANES + n) * length + unit] = dy[(s * units + unit) * LANES + n]
    for group in range(groups_of(inputs)):
        for b in range(0, length, 4 * LANES):
            multiply_4(
                strips,
                b,
                b + LANES,
                b + 2 * LANES,
                b + 3 * LANES,
                (1, 1, samples),
                (0, 0, length),
                table,
                group * samples * TILE,
                (0, 0),
                tile,
            )
            for k in range(group * TILE, min((group + 1) * TILE, inputs)):
                first = (k % TILE) * 4 * LANES - b
                for unit in range(b, min(b + 4 * LANES, units)):
                    dw[k * units + unit] = tile[first + unit]


@compiled(**COMPILE)
def dense_forward(stage, slices):
    """Fill y = ReLU(sign * (w^T x) + bias), or without the ReLU; `du` holds the units."""
    units, outputs = stage.units, stage.units * stage.copies
    multiply_slices(stage.forward_table, stage.x, stage.inputs, units, slices, stage.tile, stage.du)
    zero = np.float32(0)
    for s in range(slices):
        for o in range(outputs):
            sign, bias = stage.signs[o], stage.bias[o]
            at, unit = (s * outputs + o) * LANES, (s * units + o // stage.copies) * LANES
            for n in range(LANES):
                y = sign * stage.du[unit + n] + bias
                stage.y[at + n] = zero if stage.rectified and y < zero else y  # NaN stays


@compiled(**COMPILE)
def dense_backward(stage, slices):
    """Fill dw, db and, where there is room for it, dx from dy."""
    units, copies = stage.units, stage.copies
    outputs = units * copies
    zero = np.float32(0)
    stage.db[:] = 0
    stage.du[: slices * units * LANES] = 0
    for s in range(slices):
        for o in range(outputs):
            sign, total = stage.signs[o], zero
            at, unit = (s * outputs + o) * LANES, (s * units + o // copies) * LANES
            for n in range(LANES):
                dead = stage.rectified and stage.y[at + n] == zero  # what is NaN is not
                g = zero if dead else stage.dy[at + n]
                total += g
                stage.du[unit + n] += sign * g
            stage.db[o] += total
    multiply_samples(
        stage.x,
        stage.du,
        stage.inputs,
        units,
        slices,
        stage.samples_table,
        stage.strips,
        stage.tile,
        stage.dw,
    )
    if stage.dx.size:
        multiply_slices(
            stage.backward_table, stage.du, units, stage.inputs, slices, stage.tile, stage.dx
        )
