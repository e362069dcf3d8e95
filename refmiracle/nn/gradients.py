"""The loss of a network on a batch, and its gradients by all weights."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines.contract import Engine
from refmiracle.errors import InputError
from refmiracle.nn.arguments import all_finite, check_images, check_labels, check_weights
from refmiracle.nn.contract import Weights
from refmiracle.nn.network import Network
from refmiracle.nn.tree import backward_through, forward_through
from refmiracle.nn.unshared import unshared_pass


def _shard_gradients(
    network: Network,
    engine: Engine,
    weights: Weights,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer],
    scale: float,
) -> tuple[float, Weights]:
    """Return scale times the summed loss of some samples, and its gradients."""
    x, kept = forward_through(network.placed, engine, weights, engine.images(pixels))
    losses, dy = engine.softmax_cross_entropy(x, labels)
    dy = dy * engine.dtype.type(scale)
    _, grads = backward_through(network.placed, engine, weights, kept, dy, need_dx=False)
    return float(losses.sum()) * scale, grads


def loss_and_grads(
    network: Network,
    engine: Engine,
    weights: Weights,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer],
) -> tuple[float, Weights]:
    """Return the mean softmax cross-entropy of a batch, in nats, and its gradients.

    Parameters
    ----------
    network : Network
    engine : Engine
    weights : dict of str to ndarray
        By tensor name.
    pixels : ndarray of uint8, shape (batch, channels, height, width)
        One channel needs no axis.
    labels : ndarray of int, shape (batch,)

    Returns
    -------
    loss : float
    grads : dict of str to ndarray
        By tensor name, in the shapes of the weights.

    Raises
    ------
    InputError
        If weights, images or labels are not of these shapes and types, or there is no image.
        Where a weight is not finite, loss and gradients are NaN, all of them.
    """
    check_weights(network, weights)
    pixels = check_images(network, pixels)
    labels = check_labels(network, labels, len(pixels))
    if not len(pixels):
        raise InputError("there are no images, so there is no mean loss")
    if not all_finite(network, engine, weights):
        nothing = {t.name: np.full(t.shape, np.nan, engine.dtype) for t in network.tensors()}
        return math.nan, nothing
    unshared = unshared_pass(network, engine, weights)
    if unshared is not None:
        return unshared.loss_and_grads(pixels, labels)
    scale = 1.0 / len(labels)
    parts = engine.map(
        lambda s: _shard_gradients(network, engine, weights, pixels[s], labels[s], scale),
        engine.shards(len(labels)),
    )
    loss, grads = parts[0]
    for other_loss, other in parts[1:]:
        loss += other_loss
        for name, g in other.items():
            grads[name] = grads[name] + g  # not in place: it may be the layer's
    return loss, grads
