"""What the face of the package is given, looked at and made plain: images, labels, networks.

Images come in the axes that people have them in; networks take bytes, the channels first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.errors import InputError
from refmiracle.nn.contract import FIRST_OWN, Layer, Shape
from refmiracle.nn.description import from_description, to_description
from refmiracle.nn.limits import DESCRIBED
from refmiracle.nn.network import Network, check_network
from refmiracle.nn.networks import (
    DESCRIPTION,
    NETWORKS,
    SHIPPED,
    find_network,
    known_networks,
    network_of_text,
    shipped,
)
from refmiracle.nn.tree import place
from refmiracle.numerics.whole import as_array, described

Channels = Literal["last", "first"]
Given = str | bytes | Network | Sequence[Layer]
WHITE = 255


def as_pixels(
    images: ArrayLike, shape: tuple[int, int, int], channels: Channels
) -> tuple[NDArray[np.uint8], bool]:
    """Return images as networks take them, and whether one alone was given.

    Parameters
    ----------
    images : array_like
        Bytes, or floats in [0, 1], of which each is rounded to the nearest of 256 grey levels.
        Of shape (images, height, width, channels), or (images, channels, height, width) with
        ``channels="first"``; one channel needs no axis; (images, height * width * channels) is
        flat, in the same order.  One image has no axis of images.
    shape : (int, int, int)
        Channels, height and width.
    channels : str
        ``last`` or ``first``.

    Returns
    -------
    pixels : ndarray of uint8, shape (images, height, width) or (images, channels, height, width)
    alone : bool

    Raises
    ------
    InputError
        If they are anything else; the message names the shape that is wanted.
    """
    array = _as_bytes(images)
    for alone in (False, True):  # of a single row: (1, n) is one flat image, with its axis
        many = array[None] if alone else array
        if many.ndim and many.shape[1:] in _forms(shape, channels):
            return _channels_first(many, shape, channels), alone
    raise InputError(f"images of shape {array.shape}; expected {_wanted(shape, channels)}")


def _check_channels(channels: Channels) -> None:
    if not isinstance(channels, str) or channels not in ("last", "first"):
        raise InputError(f'channels is {described(channels)}; expected "last" or "first"')


def _forms(shape: tuple[int, int, int], channels: Channels) -> tuple[Shape, ...]:
    """Return the shapes that an image may have, the usual one first, flat last."""
    count, height, width = shape
    _check_channels(channels)
    whole = (height, width, count) if channels == "last" else shape
    plain = ((height, width),) if count == 1 else ()
    return *plain, whole, (math.prod(shape),)


def _wanted(shape: tuple[int, int, int], channels: Channels) -> str:
    """Return in words which shapes are taken."""
    usual, *_, flat = _forms(shape, channels)
    axes = ", ".join(map(str, usual))
    other = "first" if channels == "last" else "last"
    turned = f', channels {channels} (channels="{other}" says otherwise)' if shape[0] > 1 else ""
    return f"(images, {axes}){turned}, or flat (images, {flat[0]}); for one image no first axis"


def _as_bytes(images: ArrayLike) -> NDArray[np.uint8]:
    """Return images of any shape as bytes.

    Raises
    ------
    InputError
        If they are neither bytes nor floats in [0, 1].
    """
    array = as_array("images", images)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise InputError(
            f"images of {array.dtype}; expected uint8, or floats in [0, 1] (whole numbers from 0 to"
            " 255: convert them to uint8)"
        )
    if not array.size:
        return array.astype(np.uint8)
    low, high = float(array.min()), float(array.max())
    if math.isnan(low):
        raise InputError("images with NaN among them; expected floats in [0, 1], or uint8")
    if not (low >= 0.0 and high <= 1.0):
        raise InputError(
            f"images with values from {low!r} to {high!r}; expected floats in [0, 1], or uint8"
        )
    wide = array.astype(np.float32) if array.dtype.itemsize < 4 else array
    return np.rint(wide * wide.dtype.type(WHITE)).astype(np.uint8)


def _channels_first(
    many: NDArray[np.uint8], shape: tuple[int, int, int], channels: Channels
) -> NDArray[np.uint8]:
    count, height, width = shape
    pixels: NDArray[np.uint8]
    if count == 1:
        pixels = many.reshape(len(many), height, width)
    elif channels == "last":
        pixels = np.moveaxis(many.reshape(len(many), height, width, count), -1, 1)
    else:
        pixels = many.reshape(len(many), *shape)
    return np.ascontiguousarray(pixels)


def input_of(images: ArrayLike, channels: Channels) -> tuple[int, int, int]:
    """Return channels, height and width of images whose network is a list of layers.

    Flat ones are a single row.

    Raises
    ------
    InputError
        If they are not of two, three or four axes, or have their channels elsewhere: one or three
        of them before, or behind, the sides of a square.
    """
    _check_channels(channels)
    axes = np.shape(as_array("images", images))[1:]
    if not 1 <= len(axes) <= 3:
        raise InputError(
            f"images of shape {np.shape(images)}; expected (images, height, width), (images,"
            " height, width, channels) or flat ones, (images, values)"
        )
    if len(axes) == 3:
        turned = (axes[2], *axes[:2]) if channels == "last" else axes
        other = axes if channels == "last" else (axes[2], *axes[:2])
        if other[0] in (1, 3) and other[1] == other[2] > 4:
            told = "first" if channels == "last" else "last"
            raise InputError(
                f"images of shape {np.shape(images)} have their channels {told};"
                f' say so by channels="{told}", or give a Network, whose input is said'
            )
        return turned[0], turned[1], turned[2]
    return (1, 1, axes[0]) if len(axes) == 1 else (1, axes[0], axes[1])


def as_labels(labels: ArrayLike, images: int, classes: int) -> NDArray[np.unsignedinteger]:
    """Return the labels of images, in the type that data sets have them in.

    Parameters
    ----------
    labels : array_like of int, shape (images,) or (images, 1)
        Each from 0 to classes - 1.
    images, classes : int
        How many there are.

    Returns
    -------
    ndarray of uint8, or of little-endian uint16, shape (images,)

    Raises
    ------
    InputError
        If they are anything else.
    """
    array = as_array("labels", labels)
    if not array.ndim and array.dtype.kind in "iu":  # of one image alone
        array = array[None]
    if array.dtype.kind not in "iu" or array.shape not in ((images,), (images, 1)):
        raise InputError(
            f"labels of {array.dtype} and of shape {array.shape}; expected whole numbers from 0 to"
            f" {classes - 1}, ({images},)"
        )
    outside = array[(array < 0) | (array >= classes)]
    if outside.size:
        raise InputError(f"label {outside[0]} is out of range; expected 0 to {classes - 1}")
    # As `training.data.load_split` has them: by the labels that there are, not those there may be.
    return array.reshape(images).astype("u1" if array.max(initial=0) <= WHITE else "<u2")


def as_network(given: Given, images: ArrayLike, channels: Channels) -> Network:
    """Return the network that a run is given.

    Parameters
    ----------
    given : str, bytes, Network or sequence of Layer
        A name; a description as a file holds it, as bytes or in hexadecimal digits; a network; or
        layers, whose input is as the images are, and whose last one has an output for each class.
    images : array_like
    channels : str

    Raises
    ------
    InputError
        If it is none of these, or its layers do not fit each other.
    """
    if isinstance(given, Network):
        return known_network(check_network(given))
    if isinstance(given, str):
        return _of_text(given)
    if isinstance(given, bytes | bytearray | memoryview):
        return _of_description(bytes(given))
    if not isinstance(given, Sequence) or not all(map(_is_layer, given)):
        raise InputError(
            f"network is {described(given)}; expected a name, a Network, a description or a list of"
            " layers"
        )
    layers: tuple[Any, ...] = tuple(given)
    shape = input_of(images, channels)
    _, end = place(layers, shape)
    if len(end) != 1:
        raise InputError(f"the layers end with shape {end}; expected one number for each class")
    network = Network("layers", DESCRIBED, shape, end[0], layers)
    check_network(network)
    try:
        return _of_description(to_description(network))
    except InputError as e:
        raise InputError(f"network: {e}") from e


def _is_layer(given: Any) -> bool:
    return hasattr(given, "output") and not isinstance(given, type)


def _of_description(data: bytes) -> Network:
    try:
        return shipped(from_description(data))
    except InputError as e:
        raise InputError(f"network: {e}") from e


def _of_text(text: str) -> Network:
    """Return the network of a name, or of a description in hexadecimal digits."""
    if text in known_networks():
        return find_network(text)
    digits = text.removeprefix(DESCRIPTION)
    try:
        is_description = len(bytes.fromhex(digits)) > 1
    except ValueError:
        is_description = text != digits
    return network_of_text(f"{DESCRIPTION}{digits}") if is_description else find_network(text)


def known_network(network: Network) -> Network:
    """Return a network; one with a number of its own is known to this process from now on.

    Raises
    ------
    InputError
        If there is another one of that name or number, they are not what its own may be, or a file
        cannot describe a network without one.
    """
    if network.number == DESCRIBED:
        _ = to_description(network)
        return network
    if ":" in network.name:
        raise InputError(f"network {network.name}: expected a name without a colon")
    for other in (*SHIPPED, *list(NETWORKS.values())):
        if other.name == network.name and other != network:
            raise InputError(f"there is another network named {network.name}")
        if other.name != network.name and other.number == network.number:
            raise InputError(
                f"network {network.name}: number {network.number} is already {other.name}'s;"
                f" expected one from {FIRST_OWN} on that no other has"
            )
    if network.name not in NETWORKS and network.number < FIRST_OWN:
        raise InputError(
            f"network {network.name}: number {network.number} is reserved; expected one from"
            f" {FIRST_OWN} on"
        )
    NETWORKS.setdefault(network.name, network)
    return network  # whose hash factors may be others, though equal networks do not differ in them
