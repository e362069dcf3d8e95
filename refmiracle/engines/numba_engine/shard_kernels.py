"""The whole network in one compiled call for each shard of a batch: loss, gradients, logits.

Networks of the form (convolution, pool, ReLU) ... (dense, ReLU) ... dense, with or without
convolutions; any other list of layers is a program (`machine`).  Buffers come from the caller,
who keeps them from step to step (`plan`): a step allocates nothing.  numba types an empty tuple
by itself and could not index it, so networks without convolutions have entry points of their own.
"""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.numba_engine.compiling import compiled
from refmiracle.engines.numba_engine.convolution import conv_backward, conv_forward
from refmiracle.engines.numba_engine.elementary import COMPILE
from refmiracle.engines.numba_engine.matrix import dense_backward, dense_forward
from refmiracle.engines.numba_engine.vector import LANES


@compiled(**COMPILE)
def load_images(pixels, first, count, slices, x):
    """Fill x = pixels / 255 - 1/2 of images first, ..., first + count - 1; lanes beyond are 0."""
    size = pixels.shape[1] * pixels.shape[2]
    flat = pixels.reshape(len(pixels), size)
    scale, half = np.float32(1.0 / 255.0), np.float32(0.5)
    for s in range(slices):
        for n in range(LANES):
            image = s * LANES + n
            if image < count:
                for i in range(size):
                    x[(s * size + i) * LANES + n] = (
                        np.float32(flat[first + image, i]) * scale - half
                    )
            else:
                for i in range(size):
                    x[(s * size + i) * LANES + n] = np.float32(0)


@compiled(**COMPILE)
def cross_entropy(logits, classes, labels, first, count, slices, scale, dlogits):
    """Return the summed loss in nats; dlogits = scale * (softmax - one-hot), zero beyond count.

    Equation (28a) of docs/derivations.md.
    """
    loss = 0.0
    for s in range(slices):
        for n in range(LANES):
            at = s * classes * LANES + n
            image = s * LANES + n
            if image >= count:
                for c in range(classes):
                    dlogits[at + c * LANES] = np.float32(0)
                continue
            best = at
            for c in range(1, classes):
                best = at + c * LANES if logits[at + c * LANES] > logits[best] else best
            # Where the network is sure, sums without the one large term keep the digits.
            rest, wrong = np.float32(0), np.float32(0)
            for c in range(classes):
                e = math.exp(logits[at + c * LANES] - logits[best])
                rest += np.float32(0) if at + c * LANES == best else e
                dlogits[at + c * LANES] = e
            own = at + labels[first + image] * LANES
            if not math.isfinite(logits[best]):  # the whole gradient is NaN, then
                rest = np.float32(math.nan)
            dlogits[own] = np.float32(0)
            for c in range(classes):
                dlogits[at + c * LANES] *= scale / (np.float32(1) + rest)
                wrong += dlogits[at + c * LANES]
            dlogits[own] = -wrong
            loss += np.float64(math.log1p(rest) - (logits[own] - logits[best]))
    return loss


@compiled(**COMPILE)
def dense_gradients(denses, labels, first, count, slices, scale):
    """Return the summed loss from the dense layers' input on; fill their dw, db and dx."""
    for depth in range(len(denses)):
        dense_forward(denses[depth], slices)
    last = denses[len(denses) - 1]
    loss = cross_entropy(
        last.y, last.units * last.copies, labels, first, count, slices, scale, last.dy
    )
    for depth in range(len(denses)):
        dense_backward(denses[len(denses) - 1 - depth], slices)
    return loss


@compiled(**COMPILE)
def dense_logits(denses, first, count, slices, out):
    """Fill out[class, image] from the dense layers' input on."""
    for depth in range(len(denses)):
        dense_forward(denses[depth], slices)
    last = denses[len(denses) - 1]
    classes = last.units * last.copies
    for image in range(count):
        at = (image // LANES) * classes * LANES + image % LANES
        for c in range(classes):
            out[c, first + image] = last.y[at + c * LANES]


@compiled(**COMPILE)
def gradients_with_convolutions(convs, denses, pixels, labels, first, count, slices, scale):
    """See `shard_gradients`."""
    load_images(pixels, first, count, slices, convs[0].x)
    for depth in range(len(convs)):
        conv_forward(convs[depth], slices)
    loss = dense_gradients(denses, labels, first, count, slices, scale)
    for depth in range(len(convs)):
        conv_backward(convs[len(convs) - 1 - depth], slices, depth + 1 < len(convs))
    return loss


@compiled(**COMPILE)
def gradients_of_dense_layers(denses, pixels, labels, first, count, slices, scale):
    """See `shard_gradients`."""
    load_images(pixels, first, count, slices, denses[0].x)
    return dense_gradients(denses, labels, first, count, slices, scale)


@compiled(**COMPILE)
def logits_with_convolutions(convs, denses, pixels, first, count, slices, out):
    """See `shard_logits`."""
    load_images(pixels, first, count, slices, convs[0].x)
    for depth in range(len(convs)):
        conv_forward(convs[depth], slices)
    dense_logits(denses, first, count, slices, out)


@compiled(**COMPILE)
def logits_of_dense_layers(denses, pixels, first, count, slices, out):
    """See `shard_logits`."""
    load_images(pixels, first, count, slices, denses[0].x)
    dense_logits(denses, first, count, slices, out)


def shard_gradients(convs, denses, *rest):
    """Return the summed loss of images first, ..., first + count - 1; fill dw and db.

    The rest is pixels, labels, first, count, slices, scale.
    """
    if convs:
        return gradients_with_convolutions(convs, denses, *rest)
    return gradients_of_dense_layers(denses, *rest)


def shard_logits(convs, denses, *rest):
    """Fill out[class, image] with the logits of images first, ..., first + count - 1.

    The rest is pixels, first, count, slices, out.
    """
    if convs:
        return logits_with_convolutions(convs, denses, *rest)
    return logits_of_dense_layers(denses, *rest)
