"""The plan of a whole network: its buffers, and its passes by the threads of the engine."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np

from refmiracle.engines.numba_engine import convolution, matrix
from refmiracle.engines.numba_engine.convolution import ConvStage
from refmiracle.engines.numba_engine.general import general_pass
from refmiracle.engines.numba_engine.matrix import DenseStage
from refmiracle.engines.numba_engine.shard_kernels import shard_gradients, shard_logits
from refmiracle.engines.numba_engine.slices import aligned, slices_of
from refmiracle.engines.numba_engine.threads import THREADS, parallel_map, row_parts, shards
from refmiracle.engines.numba_engine.tiles import TILE, TILE_FLOATS, groups_of
from refmiracle.engines.numba_engine.vector import LANES
from refmiracle.numerics.spares import Spares

EVALUATION_SHARD = 64
WORTH_THREADS = 100_000  # weights
# Buffers are for whole shards and all layers; a network of more values an image goes without.
LARGEST_IMAGE = 2**17
# A training at a time takes two: for its steps, 15 MB for LeNet-5 in batches of 256, and logits.
SPARES = Spares(4)


class Packed(NamedTuple):
    """The weights of a layer as its products read them; each call fills them with its own."""

    forward_table: np.ndarray
    backward_table: np.ndarray
    signs: np.ndarray
    bias: np.ndarray


class Conv:
    """A convolution with pool and ReLU: its sizes, and what buffers they ask for."""

    def __init__(self, kernel, inputs, outputs, copies, size):
        self.sizes = (inputs, size, kernel, outputs // copies, copies)
        self.lengths = (kernel**2 * inputs * (outputs // copies), outputs)
        self.outputs, self.pooled = outputs, (size - kernel + 1) // 2

    def values(self):
        """Return how many values of an image it gives, before its pool."""
        return self.outputs * (2 * self.pooled) ** 2

    def packed(self):
        """Return room for its weights."""
        inputs, _, kernel, units, _ = self.sizes
        forward = aligned(groups_of(units) * TILE * kernel**2 * inputs)
        backward = aligned(groups_of(inputs) * TILE * kernel**2 * units)
        return Packed(forward, backward, aligned(self.outputs), aligned(self.outputs))

    def pack_forward(self, w, packed):
        """Fill the table for the forward pass from the flat units."""
        inputs, _, kernel, units, _ = self.sizes
        convolution.pack_forward(w, (kernel, kernel), inputs, units, packed.forward_table)

    def pack_backward(self, w, packed):
        """Fill the table for the gradient by the input."""
        inputs, _, kernel, units, _ = self.sizes
        convolution.pack_backward(w, (kernel, kernel), inputs, units, packed.backward_table)

    def stage(self, packed, slices, x, dx, dw, db):
        """Return buffers for a shard; x and dx belong to the layer below."""
        _, size, kernel, units, _ = self.sizes
        whole = units * slices if dx.size else TILE
        y = self.outputs * self.pooled**2 * LANES * slices
        return ConvStage(
            *self.sizes,
            *packed,
            x=x,
            y=aligned(y),
            winner=aligned(y, np.uint8),
            dy=aligned(y),
            dx=dx,
            spread=aligned(whole * convolution.plane_of(size - kernel + 1, size - kernel + 1)),
            tile=aligned(TILE_FLOATS),
            dw=dw,
            db=db,
        )


class Dense:
    """A dense layer with or without ReLU: its sizes, and what buffers they ask for."""

    def __init__(self, inputs, outputs, copies, rectified):
        self.sizes = (inputs, outputs // copies, copies, rectified)
        self.lengths = (inputs * (outputs // copies), outputs)
        self.outputs = outputs

    def values(self):
        """Return how many values of an image it gives."""
        return self.outputs

    def packed(self):
        """Return room for its weights."""
        inputs, units, _, _ = self.sizes
        forward = aligned(groups_of(units) * TILE * inputs)
        backward = aligned(groups_of(inputs) * TILE * units)
        return Packed(forward, backward, aligned(self.outputs), aligned(self.outputs))

    def pack_forward(self, w, packed):
        """Fill the table for the forward pass from the flat units."""
        inputs, units, _, _ = self.sizes
        matrix.pack_forward(w, inputs, units, packed.forward_table)

    def pack_backward(self, w, packed):
        """Fill the table for the gradient by the input."""
        inputs, units, _, _ = self.sizes
        matrix.pack_backward(w, inputs, units, packed.backward_table)

    def stage(self, packed, slices, x, dx, dw, db):
        """Return buffers for a shard; x and dx belong to the layer below."""
        inputs, units, _, _ = self.sizes
        return DenseStage(
            *self.sizes,
            *packed,
            x=x,
            y=aligned(self.outputs * LANES * slices),
            dy=aligned(self.outputs * LANES * slices),
            dx=dx,
            du=aligned(units * LANES * slices),
            samples_table=aligned(groups_of(inputs) * TILE * LANES * slices),
            strips=aligned(matrix.strip_of(units) * LANES * slices),
            tile=aligned(TILE_FLOATS),
            dw=dw,
            db=db,
        )


class NetworkPass:
    """See `contract.NetworkPass`.  It holds sizes alone, and serves any number of callers."""

    def __init__(self, convs, denses, pixels):
        self.layers = (*convs, *denses)
        self.depth, self.classes = len(convs), denses[-1].outputs
        self.pixels = pixels
        lengths = (n for layer in self.layers for n in layer.lengths)
        self.edges = tuple(accumulate(lengths, initial=0))

    def packed(self):
        """Return room for the weights of all layers."""
        return [layer.packed() for layer in self.layers]

    def stages(self, packed, samples, gradients):
        """Return the number of slices of a shard of so many samples, and all its stages."""
        slices = slices_of(samples)
        x, dx = aligned(self.pixels * LANES * slices), aligned(0)
        stages = []
        for number, layer in enumerate(self.layers):
            a, b, c = self.edges[2 * number : 2 * number + 3]
            stage = layer.stage(packed[number], slices, x, dx, gradients[a:b], gradients[b:c])
            x, dx = stage.y, stage.dy
            stages.append(stage)
        return slices, tuple(stages[: self.depth]), tuple(stages[self.depth :])

    def _training(self, batch):
        """Return room for the weights, the work of each shard of a batch, and their gradients.

        Of a shard there is first image, count, slices and stages.
        """
        packed = self.packed()
        parts = [(part.start, part.stop - part.start) for part in shards(batch)]
        gradients = np.zeros((len(parts), self.edges[-1]), dtype=np.float32)
        work = [
            (first, count, *self.stages(packed, count, g))
            for (first, count), g in zip(parts, gradients, strict=True)
        ]
        return packed, work, gradients

    def _load(self, units, signs, packed):
        packing = []
        for number, (layer, own) in enumerate(zip(self.layers, packed, strict=True)):
            a, b, c = self.edges[2 * number : 2 * number + 3]
            own.bias[:] = units[b:c]
            own.signs[:] = signs[number]
            packing += [
                (layer.pack_forward, units[a:b], own),
                (layer.pack_backward, units[a:b], own),
            ]
        self._map(lambda task: task[0](*task[1:]), packing)

    def _map(self, function, items):
        """Use the threads for what is large; for what is small, waking them takes longer."""
        if self.edges[-1] > WORTH_THREADS:
            parallel_map(function, items)
            return
        for item in items:
            function(item)

    def loss_and_grads(self, units, signs, pixels, labels, out):
        """See `contract.NetworkPass.loss_and_grads`."""
        batch = len(labels)
        scale = np.float32(1.0 / batch)
        with SPARES.one((self, batch), lambda: self._training(batch)) as (packed, work, gradients):
            self._load(units, signs, packed)

            def run(shard):
                first, count, slices, convs, denses = shard
                return shard_gradients(convs, denses, pixels, labels, first, count, slices, scale)

            losses = parallel_map(run, work)
            # Of a single column NumPy takes the sum in another order: no part is one.
            parts = row_parts(len(out), min(THREADS, len(out) // 2))
            self._map(lambda part: np.sum(gradients[:, part], axis=0, out=out[part]), parts)
        return sum(losses) / batch

    def logits(self, units, signs, pixels):
        """See `contract.NetworkPass.logits`."""
        firsts = range(0, len(pixels), EVALUATION_SHARD)
        logits = np.empty((self.classes, len(pixels)), dtype=np.float32)
        with SPARES.one((self, None), self.packed) as packed:
            self._load(units, signs, packed)
            buffers = SimpleQueue()  # each thread that works on this call takes some
            for _ in range(min(THREADS, len(firsts))):
                unused = np.empty(self.edges[-1], dtype=np.float32)
                buffers.put(self.stages(packed, EVALUATION_SHARD, unused))

            def run(first):
                slices, convs, denses = stages = buffers.get()
                count = min(EVALUATION_SHARD, len(pixels) - first)
                try:
                    shard_logits(convs, denses, pixels, first, count, slices, logits)
                finally:
                    buffers.put(stages)

            parallel_map(run, firsts)
        return logits


@lru_cache(maxsize=4)
def network_pass(layers, copies, image):
    """See `contract.Engine.network_pass`.

    Networks like LeNet-5 have passes of their own here, all others a program (`programs`).

    Compiled code does not look at bounds, so layers that do not fit each other have no pass; nor
    has a network whose buffers would take more than some hundred megabytes for each thread.
    """
    found = staged_pass(layers, copies, image[1]) if image == (1, image[1], image[1]) else None
    return found or general_pass(layers, copies, image)


def staged_pass(layers, copies, size):
    """Return passes of (conv2d, maxpool2d, relu) ... flatten (dense, relu) ... dense, or None."""
    rest, copies, convs, denses = list(layers), list(copies), [], []
    pixels, channels = size * size, 1
    while [kind for kind, *_ in rest[:3]] == ["conv2d", "maxpool2d", "relu"]:
        _, (kernel, width), inputs, outputs, *sliding = rest[0]
        plain = kernel == width and sliding == [1, 0, 1]
        if not plain or (size - kernel + 1) % 2 or inputs != channels:
            return None
        convs.append(Conv(kernel, inputs, outputs, copies.pop(0), size))
        rest, size, channels = rest[3:], convs[-1].pooled, outputs
    if rest[:1] != [("flatten",)]:
        return None
    rest, width = rest[1:], channels * size * size
    while rest and rest[0][0] == "dense" and rest[0][1] == width:
        rectified = [kind for kind, *_ in rest[1:2]] == ["relu"]
        denses.append(Dense(*rest[0][1:], copies.pop(0), rectified))
        rest, width = rest[1 + rectified :], denses[-1].outputs
    if rest or not denses or denses[-1].sizes[-1]:
        return None
    values = pixels + sum(layer.values() for layer in (*convs, *denses))
    return NetworkPass(convs, denses, pixels) if values <= LARGEST_IMAGE else None
