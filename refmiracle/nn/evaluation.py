"""What a network answers: logits, classes, and how often they are wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines.contract import Array, Engine
from refmiracle.errors import InputError
from refmiracle.nn.arguments import all_finite, check_images, check_labels, check_weights
from refmiracle.nn.contract import Weights
from refmiracle.nn.network import Network
from refmiracle.nn.tree import through, values_of
from refmiracle.nn.unshared import unshared_pass

EVALUATION_BATCH = 500
FEW = 8  # images
VALUES_AT_ONCE = 2**25  # of a batch, behind or before any layer, if one image has no more


def forward(network: Network, engine: Engine, weights: Weights, x: Array) -> Array:
    """Return the logits, shape (classes, batch), of x, shape (channels, height, width, batch)."""
    for layer in network.placed:  # what a backward pass would need is let go of at once
        x, _ = layer.forward(engine, weights, x)
    return x


def images_at_once(network: Network) -> int:
    """Return how many images go through a network together, so that it decides the memory.

    Not the number of images: a file may describe a network of 2^24 values behind a layer.
    """
    values = max(map(values_of, through(network.placed)), default=1)
    return max(1, min(EVALUATION_BATCH, VALUES_AT_ONCE // max(1, values)))


def classes(scores: Array) -> NDArray[np.int64]:
    """Return the class with the largest score for each image, shape (images,).

    Parameters
    ----------
    scores : ndarray, shape (classes, images)
        Logits, or what rises with them: probabilities or their logarithms.

    Raises
    ------
    InputError
        If one is not finite: an argmax would name a class all the same.
    """
    if not np.isfinite(scores).all():
        raise InputError("a logit is not finite, as a weight is not or is too large: no class")
    return scores.argmax(axis=0)


def logits(network: Network, engine: Engine, weights: Weights, pixels: NDArray[np.uint8]) -> Array:
    """Return the logits of images, shape (classes, images), in the engine's dtype.

    Where a weight is not finite they are NaN, all of them.

    Parameters
    ----------
    network : Network
    engine : Engine
    weights : dict of str to ndarray
        By tensor name.
    pixels : ndarray of uint8, shape (images, channels, height, width)
        One channel needs no axis.

    Raises
    ------
    InputError
        If weights or images are not of these shapes and types.
    """
    check_weights(network, weights)
    pixels = check_images(network, pixels)
    if not all_finite(network, engine, weights):
        return np.full((network.classes, len(pixels)), np.nan, engine.dtype)
    unshared = unshared_pass(network, engine, weights)
    if unshared is not None:
        return unshared.logits(pixels)

    batch = images_at_once(network)

    def part(start: int) -> Array:
        return forward(network, engine, weights, engine.images(pixels[start : start + batch]))

    # One empty part, where there are no images, has the shape that the caller expects.
    firsts = range(0, max(1, len(pixels)), batch)
    # An engine of vectors fills up to 32 of them: where a few images are all that memory is for,
    # parts that went side by side would take many times as much, so one waits for the other.
    parts = engine.map(part, firsts) if batch >= FEW else map(part, firsts)
    return np.concatenate([*parts], axis=1)


def predict(
    network: Network, engine: Engine, weights: Weights, pixels: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Return the class with the largest logit for each image; shape (images,).

    Raises
    ------
    InputError
        If weights or images are not what `logits` takes, or a logit is not finite.
    """
    return classes(logits(network, engine, weights, pixels))


def error_rate(
    network: Network,
    engine: Engine,
    weights: Weights,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer],
) -> float:
    """Return the share of images whose predicted class is not their label, in [0, 1].

    Raises
    ------
    InputError
        If weights, images or labels are not of these shapes and types, there is no image, or a
        logit is not finite.
    """
    labels = check_labels(network, labels, len(pixels))
    if not len(labels):
        raise InputError("there are no images, so there is no error rate")
    return float(np.mean(predict(network, engine, weights, pixels) != labels))
