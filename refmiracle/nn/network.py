"""A network: a name, a number for the file format, and a list of layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines import get_engine
from refmiracle.engines.contract import Array, Engine, LayerSpec, NetworkPass
from refmiracle.errors import InputError
from refmiracle.files import first_line
from refmiracle.nn.layers import Layer, Tensor, Weights

EVALUATION_BATCH = 500
IMAGE_SIZE = 28
CLASSES = 10
LARGEST_NUMBER = 255


@dataclass(frozen=True)
class Network:
    """A feed-forward classifier of 28x28 images.

    Parameters
    ----------
    name : str
    number : int
        Its number in the file format (docs/SPEC.md); never reused.
    layers : tuple of Layer
    hash_factors : tuple of int
        For each tensor how many weights share one coded variable, by default.
    """

    name: str
    number: int
    layers: tuple[Layer, ...]
    hash_factors: tuple[int, ...]

    def tensors(self) -> tuple[Tensor, ...]:
        """Return all tensors in the order of the file format."""
        return tuple(t for layer in self.layers for t in layer.tensors())

    def specs(self) -> tuple[LayerSpec, ...]:
        """Return all layers as plain data."""
        return tuple(layer.spec() for layer in self.layers)

    def count(self) -> int:
        """Return the number of weights."""
        return sum(math.prod(t.shape) for t in self.tensors())


def forward(network: Network, engine: Engine, weights: Weights, x: Array) -> Array:
    """Return the logits, shape (classes, batch), of activations x, shape (1, 28, 28, batch)."""
    for layer in network.layers:
        x, _ = layer.forward(engine, weights, x)
    return x


def check_network(network: Network) -> Network:
    """Return a network whose layers fit each other, a 28x28 image and its hash factors.

    One blank image goes forward and back, with weights of zero: shapes and names are looked at,
    not whether a gradient is right.

    Raises
    ------
    InputError
        If they do not; the message names the layer.
    """
    try:
        tensors = network.tensors()
    except Exception as e:  # of a layer that somebody else has written
        said = f"a layer does not tell its tensors: {type(e).__name__}: {first_line(e)}"
        raise _misfit(network, said) from e
    names = {t.name for t in tensors}
    if not 1 <= network.number <= LARGEST_NUMBER:
        raise _misfit(network, f"its number is {network.number}; expected 1 to {LARGEST_NUMBER}")
    if len(names) < len(tensors):
        raise _misfit(network, "two of its tensors have the same name")
    if len(network.hash_factors) != len(tensors):
        raise _misfit(
            network,
            f"{len(network.hash_factors)} hash factors; expected {len(tensors)}, one for each"
            " tensor",
        )
    for t, factor in zip(tensors, network.hash_factors, strict=True):
        if not 1 <= factor <= math.prod(t.shape):
            raise _misfit(network, f"hash factor {factor} of {t.name} is out of range")
    engine = get_engine("numpy")
    weights = {t.name: np.zeros(t.shape) for t in tensors}
    _check_backward(network, engine, weights, _check_forward(network, engine, weights))
    return network


def _misfit(network: Network, text: str) -> InputError:
    return InputError(f"network {network.name}: {text}")


def _check_forward(network: Network, engine: Engine, weights: Weights) -> list[tuple[Array, Any]]:
    """Return the input of each layer and what it keeps, for one blank image."""
    x = np.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 1))
    passed = []
    for number, layer in enumerate(network.layers):
        try:
            layer.spec()
            y, kept = layer.forward(engine, weights, x)
            fits = y.shape[-1] == 1 and y.size > 0
        except (ValueError, IndexError):
            fits = False
        except Exception as e:  # of a layer that somebody else has written
            said = f"layer {number}, {layer}: {type(e).__name__}: {first_line(e)}"
            raise _misfit(network, said) from e
        if not fits:
            raise _misfit(
                network,
                f"layer {number}, {layer}, does not take activations of shape {x.shape[:-1]}",
            )
        passed.append((x, kept))
        x = y
    if x.shape != (CLASSES, 1):
        raise _misfit(network, f"it ends with shape {x.shape[:-1]}; expected ({CLASSES},)")
    return passed


def _check_backward(
    network: Network, engine: Engine, weights: Weights, passed: list[tuple[Array, Any]]
) -> None:
    """Refuse layers whose gradients have other names or shapes than what they are of."""
    dy = np.zeros((CLASSES, 1))
    for number in range(len(network.layers) - 1, -1, -1):
        layer, (x, kept) = network.layers[number], passed[number]
        where = f"layer {number}, {layer}"
        try:
            dy, grads = layer.backward(engine, weights, kept, dy, need_dx=number > 0)
            found = {name: np.shape(g) for name, g in grads.items()}
        except Exception as e:  # of a layer that somebody else has written
            said = f"{where}, backward: {type(e).__name__}: {first_line(e)}"
            raise _misfit(network, said) from e
        expected = {t.name: t.shape for t in layer.tensors()}
        if found != expected:
            raise _misfit(network, f"{where}: gradients {found}; expected {expected}")
        if number and np.shape(dy) != x.shape:
            raise _misfit(network, f"{where}: dx of shape {np.shape(dy)}; expected {x.shape}")


def _shard_gradients(
    network: Network,
    engine: Engine,
    weights: Weights,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer],
    scale: float,
) -> tuple[float, Weights]:
    """Return scale times the summed loss of some samples, and its gradients."""
    x = engine.images(pixels)
    kept = []
    for layer in network.layers:
        x, k = layer.forward(engine, weights, x)
        kept.append(k)
    losses, dy = engine.softmax_cross_entropy(x, labels)
    dy = dy * engine.dtype.type(scale)
    grads: Weights = {}
    for depth in range(len(network.layers) - 1, -1, -1):
        dy, own = network.layers[depth].backward(
            engine, weights, kept[depth], dy, need_dx=depth > 0
        )
        grads.update(own)
    return float(losses.sum()) * scale, grads


def split_tensors(network: Network, flat: Array) -> Weights:
    """Return views of a flat array of all weights, by tensor name."""
    weights, first = {}, 0
    for t in network.tensors():
        size = math.prod(t.shape)
        weights[t.name] = flat[first : first + size].reshape(t.shape)
        first += size
    return weights


def _unshared_pass(network: Network, engine: Engine) -> NetworkPass | None:
    layers_with_weights = len(network.tensors()) // 2
    return engine.network_pass(network.specs(), (1,) * layers_with_weights, IMAGE_SIZE)


def _unshared_units(network: Network, weights: Weights) -> tuple[Array, list[Array]]:
    """Return the weights as the units of a pass without sharing, and signs of +1."""
    tensors = network.tensors()
    units = np.concatenate([np.asarray(weights[t.name], np.float32).ravel() for t in tensors])
    return units, [np.ones(t.shape, np.float32) for t in tensors[1::2]]


def check_images(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images in C order, as compiled code reads them without looking at bounds.

    Raises
    ------
    InputError
        If they are not of uint8 and of shape (images, 28, 28).
    """
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8 or pixels.shape != (*pixels.shape[:1], IMAGE_SIZE, IMAGE_SIZE):
        raise InputError(
            f"images of {pixels.dtype}, shape {pixels.shape}; expected uint8, (images, 28, 28)"
        )
    return np.ascontiguousarray(pixels)


def check_labels(labels: NDArray[np.integer], images: int) -> NDArray[np.int64]:
    """Return labels in C order; see `check_images`.

    Raises
    ------
    InputError
        If there is not one for each image, each a whole number from 0 to 9.
    """
    labels = np.asarray(labels)
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels of {labels.dtype} and of shape {labels.shape}; expected integers, ({images},)"
        )
    outside = (labels < 0) | (labels >= CLASSES)
    if outside.any():
        raise InputError(f"label {labels[outside][0]} is out of range; expected 0 to {CLASSES - 1}")
    return np.ascontiguousarray(labels, dtype=np.int64)


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


def _check_weights(network: Network, weights: Weights) -> None:
    for t in network.tensors():
        found = np.shape(weights[t.name]) if t.name in weights else "none"
        if found != t.shape:
            raise InputError(f"weights {t.name}: {found}; expected shape {t.shape}")


def _all_finite(network: Network, engine: Engine, weights: Weights) -> bool:
    """Tell whether all weights are numbers in the engine's precision.

    Layers hand NaN on, but ReLU makes 0 of -inf: with an infinite weight a network would answer
    as if it were another.
    """
    with np.errstate(over="ignore"):
        given = (np.asarray(weights[t.name], engine.dtype) for t in network.tensors())
        return all(np.isfinite(w).all() for w in given)


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
    pixels : ndarray of uint8, shape (batch, 28, 28)
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
    _check_weights(network, weights)
    pixels = check_images(pixels)
    labels = check_labels(labels, len(pixels))
    if not len(pixels):
        raise InputError("there are no images, so there is no mean loss")
    if not _all_finite(network, engine, weights):
        nothing = {t.name: np.full(t.shape, np.nan, engine.dtype) for t in network.tensors()}
        return math.nan, nothing
    whole = _unshared_pass(network, engine)
    if whole is not None:
        units, signs = _unshared_units(network, weights)
        flat = np.empty_like(units)
        loss = whole.loss_and_grads(units, signs, pixels, labels, flat)
        return loss, split_tensors(network, flat)
    scale = 1.0 / len(labels)
    parts = engine.map(
        lambda s: _shard_gradients(network, engine, weights, pixels[s], labels[s], scale),
        engine.shards(len(labels)),
    )
    loss, grads = parts[0]
    for other_loss, other in parts[1:]:
        loss += other_loss
        for name, g in other.items():
            grads[name] += g
    return loss, grads


def logits(network: Network, engine: Engine, weights: Weights, pixels: NDArray[np.uint8]) -> Array:
    """Return the logits of images, shape (classes, images), in the engine's dtype.

    Where a weight is not finite they are NaN, all of them.

    Parameters
    ----------
    network : Network
    engine : Engine
    weights : dict of str to ndarray
        By tensor name.
    pixels : ndarray of uint8, shape (images, 28, 28)

    Raises
    ------
    InputError
        If weights or images are not of these shapes and types.
    """
    _check_weights(network, weights)
    pixels = check_images(pixels)
    if not _all_finite(network, engine, weights):
        return np.full((CLASSES, len(pixels)), np.nan, engine.dtype)
    whole = _unshared_pass(network, engine)
    if whole is not None:
        units, signs = _unshared_units(network, weights)
        return whole.logits(units, signs, pixels)

    def part(start: int) -> Array:
        x = engine.images(pixels[start : start + EVALUATION_BATCH])
        return forward(network, engine, weights, x)

    # One empty part, where there are no images, has the shape that the caller expects.
    return np.concatenate(engine.map(part, range(0, max(1, len(pixels)), EVALUATION_BATCH)), axis=1)


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
    labels = check_labels(labels, len(pixels))
    if not len(labels):
        raise InputError("there are no images, so there is no error rate")
    return float(np.mean(predict(network, engine, weights, pixels) != labels))
