"""From a list of layers to a program: its stages, its weights, its maps, and its instructions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refmiracle.engines.numba_engine import instructions as code
from refmiracle.engines.numba_engine.maps import Tables
from refmiracle.engines.numba_engine.stages import (
    Conv,
    Copy,
    Maximum,
    Mean,
    Norm,
    Sum,
    Value,
    row_of_numbers,
)
from refmiracle.engines.numba_engine.vector import LANES

MOST_SLICES = max(1, 64 // LANES)
BLOCK_FLOATS = 2**19  # that the maps of a block should take, if more than a slice is to be in it
# Floats of a slice's maps, and of the weights as they are packed; there is no program for more.
LARGEST_SLICE, LARGEST_WEIGHTS = 2**25, 2**28
MOST_PHASES = 1024  # of a stride: each is an instruction


class MisfitError(Exception):
    """Layers that do not fit each other, or of a kind that no program has."""


class Part(NamedTuple):
    """A tensor's place in three flat arrays: as it is given, as it is computed with, and packed.

    `copies` outputs share a unit; `signs` tells where their signs are packed, if they are computed
    once.  Of a kernel nothing is packed as it is: `packed` is where a bias or a gain goes, and
    `gradient` where its gradient comes from.
    """

    given: slice
    own: slice
    outputs: int
    copies: int
    packed: int
    gradient: int
    signs: int


class Room:
    """Where tensors and their packed forms lie: counted up, stage by stage."""

    def __init__(self):
        self.given = self.own = self.packed = self.gradients = 0
        self.parts, self.pack_rows, self.unpack_rows = [], [], []

    def _part(self, given, own, outputs, copies, packed=code.NOWHERE, gradient=code.NOWHERE):
        first, start = self.given, self.own
        self.given, self.own = first + given, start + own
        places = slice(first, self.given), slice(start, self.own)
        self.parts.append(Part(*places, outputs, copies, packed, gradient, code.NOWHERE))
        return start

    def vector(self, count):
        """Return where a bias or a gain is packed, and where its gradient is."""
        packed, gradient = self._packed(count), self._gradients(count)
        self._part(count, count, 0, 1, packed, gradient)
        return packed, gradient

    def kernel(self, terms, outputs, copies, once):
        """Return where a kernel lies as it is computed with: `once` of the copies are one unit."""
        return self._part(terms * (outputs // copies), terms * (outputs // once), outputs, copies)

    def signs(self, outputs):
        """Return where the signs of the last kernel's outputs are packed."""
        packed = self._packed(outputs)
        self.parts[-1] = self.parts[-1]._replace(signs=packed)
        return packed

    def _packed(self, count):
        self.packed += count
        return self.packed - count

    def _gradients(self, count):
        self.gradients += count
        return self.gradients - count

    def table(self, units, tile, start, counts, steps, unit_step):
        """Return where weights are packed; see `machine.pack`."""
        to = self._packed(-(-units // tile) * tile * int(np.prod(counts)))
        self.pack_rows.append([units, tile, start, to, *counts, *steps, unit_step, 0])
        return to

    def gradient(self, units, tile, start, counts, steps, whole):
        """Return where gradients of weights are added up, in whole tiles of terms."""
        to = self._gradients(-(-units // tile) * tile * whole)
        self.unpack_rows.append([units, tile, start, to, *counts, *steps, 1, whole])
        return to


class Planner:
    """Makes the stages of a list of layers, those of residuals too, in order."""

    def __init__(self, copies):
        self.copies, self.room, self.stages = list(copies), Room(), []

    def add(self, stage):
        """Take a stage; return what it gives."""
        self.stages.append(stage)
        return stage.y

    def through(self, layers, x):
        """Return what a list of layers gives of a value."""
        for kind, *sizes in layers:
            make = getattr(self, f"_{kind}", None)
            if make is None:
                raise MisfitError
            x = make(x, *sizes)
            if min(x.map.shape) < 1:
                raise MisfitError
        return x

    def _conv2d(self, x, kernel, inputs, outputs, stride, padding, groups):
        if inputs != x.map.shape[0] or groups not in (1, inputs) or padding >= min(kernel):
            raise MisfitError
        if min(stride, x.map.shape[1]) * min(stride, x.map.shape[2]) > MOST_PHASES:
            raise MisfitError
        copies = self.copies.pop(0)
        return self.add(Conv(x, kernel, outputs, stride, padding, groups, copies, self.room))

    def _dense(self, x, inputs, outputs):
        if x.map.shape != (inputs, 1, 1):
            raise MisfitError
        return self.add(Conv(x, (1, 1), outputs, 1, 0, 1, self.copies.pop(0), self.room))

    def _flatten(self, x):
        channels, height, width = x.map.shape
        if height == width == 1:
            return x
        return self.add(Copy(x, (channels * height * width, 1, 1), False))

    def _relu(self, x):
        stage = x.stage
        fused = stage and not x.shared and not stage.rectified and not isinstance(stage, Copy)
        if not fused:
            return self.add(Copy(x, x.map.shape, True))
        stage.rectified = True
        return x

    def _maxpool2d(self, x):
        return self.add(Maximum(x))

    def _meanpool2d(self, x, height, width):
        return self.add(Mean(x, height, width))

    def _groupnorm(self, x, channels, groups):
        if channels != x.map.shape[0] or channels % groups:
            raise MisfitError
        return self.add(Norm(x, groups, self.room))

    def _residual(self, x, body, shortcut):
        x.shared = True
        a, b = self.through(body, x), self.through(shortcut, x)
        if a.map.shape != b.map.shape:
            raise MisfitError
        return self.add(Sum(a, b))


class Program:
    """The instructions for a network, and all sizes; nothing of it changes."""

    def __init__(self, layers, copies, image):
        planner, pixels = Planner(copies), Value(image)
        end = planner.through(layers, pixels)
        room = planner.room
        if end.map.shape[1:] != (1, 1) or planner.copies or not room.pack_rows:
            raise MisfitError
        if room.packed > LARGEST_WEIGHTS:
            raise MisfitError
        self.image, self.classes = image, end.map.shape[0]
        logits = Value(end.map.shape)
        self._lay_out(planner.stages, [pixels, logits])
        tables = Tables(self.slices)
        first = [row_of_numbers(code.COPY, *map(tables.record, (pixels.map, pixels.map)))]
        forward = [row for stage in planner.stages for row in stage.forward(tables)]
        end_map, answer, dy = map(tables.record, (end.map, logits.map, logits.grad))
        forward.append(row_of_numbers(code.COPY, end_map, answer, code.SET, 0))
        back = [row_of_numbers(code.LOSS, answer, dy)]
        back.append(row_of_numbers(code.COPY, dy, tables.record(end.grad), end.mode(), 0))
        for stage in reversed(planner.stages):
            back += stage.backward(tables) if stage.y.needed else []
        self.training = fixed([*first, *forward, *back])
        self.answering = fixed([*first, *forward, row_of_numbers(code.ANSWER, answer)])
        self.table = fixed(tables.whole())
        self.parts, self.own = tuple(room.parts), room.own
        self.given, self.packed, self.gradients = room.given, room.packed, room.gradients
        self.pack_rows, self.unpack_rows = fixed(room.pack_rows), fixed(room.unpack_rows)

    def _lay_out(self, stages, values):
        """Find how many slices a block has, and where in it each map lies."""
        for stage in stages:
            stage.need_zeros()
        values = [*values, *(stage.y for stage in stages)]
        maps = [one for value in values for one in (value.map, value.grad)]
        maps += [one for stage in stages for one in stage.maps()]
        maps = list({id(one): one for one in maps}.values())
        each = sum(one.slice() for one in maps) + sum(stage.kept() for stage in stages)
        if each > LARGEST_SLICE:
            raise MisfitError
        self.slices = max(1, min(MOST_SLICES, BLOCK_FLOATS // each))
        at = 0
        for one in maps:
            one.base, at = at, at + one.slice() * self.slices
        for stage in stages:
            if stage.kept():
                stage.base, at = at, at + stage.kept() * self.slices
        self.floats = at


def fixed(numbers):
    """Return whole numbers as an array that cannot be changed."""
    array = np.ascontiguousarray(numbers, dtype=np.int64)
    array.setflags(write=False)
    return array
