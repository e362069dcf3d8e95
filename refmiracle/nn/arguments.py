"""What the passes of a network are given, looked at first: images, labels and weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines.contract import Engine
from refmiracle.errors import InputError
from refmiracle.nn.contract import Weights
from refmiracle.nn.network import Network


def check_images(network: Network, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images in C order, as compiled code reads them without looking at bounds.

    Parameters
    ----------
    network : Network
    pixels : ndarray of uint8, shape (images, channels, height, width)
        As the network's input; one channel needs no axis, and has none in what is returned.

    Raises
    ------
    InputError
        If they are of another type or shape.
    """
    pixels, axes = np.asarray(pixels), network.image_shape()
    fits = pixels.shape[1:] in (axes, network.input) and pixels.ndim > 1
    if pixels.dtype != np.uint8 or not fits:
        expected = ", ".join(map(str, axes))
        raise InputError(
            f"images of {pixels.dtype}, shape {pixels.shape}; expected uint8, (images, {expected})"
        )
    return np.ascontiguousarray(pixels).reshape(len(pixels), *axes)


def check_labels(network: Network, labels: NDArray[np.integer], images: int) -> NDArray[np.int64]:
    """Return labels in C order; see `check_images`.

    Raises
    ------
    InputError
        If there is not one for each image, each a whole number from 0 to the last class.
    """
    labels = np.asarray(labels)
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels of {labels.dtype} and of shape {labels.shape}; expected integers, ({images},)"
        )
    outside = (labels < 0) | (labels >= network.classes)
    if outside.any():
        raise InputError(
            f"label {labels[outside][0]} is out of range; expected 0 to {network.classes - 1}"
        )
    return np.ascontiguousarray(labels, dtype=np.int64)


def check_weights(network: Network, weights: Weights) -> None:
    """Refuse weights that are not those of the network.

    Raises
    ------
    InputError
        If one is missing or of another shape.
    """
    for t in network.tensors():
        found = np.shape(weights[t.name]) if t.name in weights else "none"
        if found != t.shape:
            raise InputError(f"weights {t.name}: {found}; expected shape {t.shape}")


def all_finite(network: Network, engine: Engine, weights: Weights) -> bool:
    """Tell whether all weights are numbers in the engine's precision.

    Layers hand NaN on, but ReLU makes 0 of -inf: with an infinite weight a network would answer
    as if it were another.
    """
    with np.errstate(over="ignore"):
        given = (np.asarray(weights[t.name], engine.dtype) for t in network.tensors())
        return all(np.isfinite(w).all() for w in given)
