"""The passes of any network, by its program and the threads of the engine."""

from __future__ import annotations

from queue import SimpleQueue

import numpy as np

from refmiracle.engines.numba_engine.machine import TILE_FLOATS, pack, run, unpack
from refmiracle.engines.numba_engine.programs import MisfitError, Program
from refmiracle.engines.numba_engine.slices import aligned
from refmiracle.engines.numba_engine.threads import THREADS, parallel_map, row_parts, shards
from refmiracle.numerics.spares import Spares

EVALUATION_SHARD = 64
# Gradients are kept for so many parts of a batch at most, whatever its size.
MOST_PARTS = 16
SPARES = Spares(4)
NO_LABELS = np.zeros(0, np.int64)
NOTHING = np.zeros((0, 0), np.float32)


class GeneralPass:
    """See `contract.NetworkPass`.  It holds a program alone, and serves any number of callers."""

    def __init__(self, program):
        self.program, self.classes = program, program.classes

    def _buffers(self, parts):
        """Return the weights' room, and room for maps for each thread that may want some."""
        program, rooms = self.program, SimpleQueue()
        for _ in range(min(THREADS, parts)):
            rooms.put((aligned(program.floats), aligned(TILE_FLOATS)))
        return aligned(program.own), aligned(program.packed), rooms

    def _load(self, units, signs, own, packed):
        """Fill `own` with the weights to compute with, and `packed` as the products read them."""
        signs = iter(signs)
        for part in self.program.parts:
            given, mine = units[part.given], own[part.own]
            if not part.outputs:
                packed[part.packed : part.packed + len(given)] = given
                continue
            of_outputs = next(signs)
            if part.signs >= 0:
                packed[part.signs : part.signs + part.outputs] = of_outputs
                mine[:] = given
                continue
            columns = given.reshape(-1, part.outputs // part.copies)
            columns = np.repeat(columns, part.copies, axis=1) if part.copies > 1 else columns
            np.multiply(columns, of_outputs, out=mine.reshape(-1, part.outputs))
        pack(self.program.pack_rows, own, packed)

    def _unload(self, gradients, signs, own, out):
        """Fill `out` with the gradients of what was given; `own` is written over."""
        unpack(self.program.unpack_rows, gradients, own)
        signs = iter(signs)
        for part in self.program.parts:
            given, mine = out[part.given], own[part.own]
            if not part.outputs:
                given[:] = gradients[part.gradient : part.gradient + len(given)]
                continue
            of_outputs = next(signs)
            if part.signs >= 0:
                given[:] = mine
                continue
            columns = mine.reshape(-1, part.outputs) * of_outputs
            columns.reshape(-1, part.copies).sum(axis=1, out=given)

    def _training(self, batch):
        """Return the parts of a batch, their gradients, and buffers."""
        ends = shards(batch)
        parts = [
            (ends[p.start].start, ends[p.stop - 1].stop)
            for p in row_parts(len(ends), min(MOST_PARTS, len(ends)))
        ]
        gradients = np.zeros((len(parts), self.program.gradients), dtype=np.float32)
        return parts, gradients, self._buffers(len(parts))

    def _run(self, rooms, packed, instructions, gradients, *rest):
        """Run the program in a room of its own."""
        program, room = self.program, rooms.get()
        try:
            return run(instructions, program.table, packed, room[0], gradients, room[1], *rest)
        finally:
            rooms.put(room)

    def loss_and_grads(self, units, signs, pixels, labels, out):
        """See `contract.NetworkPass.loss_and_grads`."""
        batch, program = len(labels), self.program
        pixels, scale = pixels.reshape(batch, -1), np.float32(1.0 / batch)
        with SPARES.one((self, batch), lambda: self._training(batch)) as kept:
            parts, gradients, (own, packed, rooms) = kept
            self._load(units, signs, own, packed)

            def work(number):
                first, end = parts[number]
                gradients[number] = 0
                given = pixels, labels, first, end - first, program.slices, scale, NOTHING
                return self._run(rooms, packed, program.training, gradients[number], *given)

            losses = parallel_map(work, range(len(parts)))
            self._unload(gradients.sum(axis=0), signs, own, out)
        return sum(losses) / batch

    def logits(self, units, signs, pixels):
        """See `contract.NetworkPass.logits`."""
        count, program = len(pixels), self.program
        firsts = range(0, count, EVALUATION_SHARD)
        pixels = pixels.reshape(count, int(np.prod(program.image)))
        out = np.empty((self.classes, count), dtype=np.float32)
        with SPARES.one((self, None), lambda: self._buffers(THREADS)) as (own, packed, rooms):
            self._load(units, signs, own, packed)
            none = np.zeros(0, np.float32)

            def work(first):
                here = min(EVALUATION_SHARD, count - first)
                given = pixels, NO_LABELS, first, here, program.slices, np.float32(0), out
                self._run(rooms, packed, program.answering, none, *given)

            parallel_map(work, firsts)
        return out


def general_pass(layers, copies, image):
    """Return the passes of a network by its program, or None where it has none."""
    try:
        return GeneralPass(Program(layers, copies, image))
    except MisfitError:
        return None
