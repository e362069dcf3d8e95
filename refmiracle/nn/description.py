"""Networks as bytes: what a file says of a network that has no number of its own.

    channels, height, width, classes, list
    list   = number of layers, then each layer
    layer  = opcode, then the numbers of its kind; of a residual its body and its shortcut, as lists

All are varints below 2^16.  docs/SPEC.md, section 3.1, states it for every language, with the order
in which a reader checks it.  Names and default hash factors are not part of it: tensors are named
by kind and position, and a file has the factors that it was written with.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

from refmiracle.errors import InputError
from refmiracle.nn.contract import Layer
from refmiracle.nn.layers import Conv2d, Dense, Flatten, GroupNorm, MaxPool2d, MeanPool2d, Relu
from refmiracle.nn.limits import (
    DEEPEST,
    DESCRIBED,
    MOST_ACTIVATIONS,
    MOST_LAYERS,
    check_shapes,
)
from refmiracle.nn.network import Network
from refmiracle.nn.tree import OWN_NUMBER, Residual, numbers_of
from refmiracle.numerics.varints import read_varint, write_varint

LARGEST_BYTES = 4096
LARGEST_VALUE = 2**16 - 1

# By opcode; each kind says and reads its own numbers.
KINDS: dict[int, Any] = {
    kind.opcode: kind
    for kind in (Conv2d, Dense, Flatten, MaxPool2d, MeanPool2d, GroupNorm, Relu, Residual)
}


def to_description(network: Network) -> bytes:
    """Return what a file says of a network.

    Raises
    ------
    InputError
        If no reader would accept it, or a layer is of a kind that has no opcode of its own.
    """
    numbers = (*network.input, network.classes, *numbers_of(network.layers))
    outside = [n for n in numbers if not 0 <= n <= LARGEST_VALUE]
    if outside:
        raise InputError(f"{outside[0]} is out of range; a description has numbers below 2^16")
    data = b"".join(map(write_varint, numbers))
    described = from_description(data)
    for layer, read in zip(network.layers, described.layers, strict=True):
        if layer != read:  # of a class made of one that has an opcode
            raise InputError(f"{layer} is of a kind that a file cannot describe; {OWN_NUMBER}")
    return data


def from_description(data: bytes) -> Network:
    """Return the network that `to_description` wrote; it is named by its digest.

    Raises
    ------
    InputError
        If the bytes are not exactly one valid description.
    """
    network, end = read_description(data, 0)
    if end < len(data):
        raise InputError(f"{len(data) - end} bytes stand behind the network's description")
    return network


def read_description(data: bytes, start: int) -> tuple[Network, int]:
    """Return the network whose description begins at a byte, and the place behind it.

    Nothing is allocated by what the numbers claim: first all are read, at most 256 layers in at
    most 4,096 bytes, then the shapes that follow from them are looked at.

    Raises
    ------
    InputError
        If it is not valid.
    """
    reader = _Reader(data, start)
    channels, height, width, classes = (reader.number() for _ in range(4))
    layers = reader.outermost()
    written = data[start : reader.at]
    name = f"described-{hashlib.sha256(written).hexdigest()[:8]}"
    shape = channels, height, width
    if 0 in shape or math.prod(shape) > MOST_ACTIVATIONS:
        raise InputError(
            f"a network of images of {channels} x {height} x {width}; expected 1 to 2^24 values"
        )
    if classes < 2:
        raise InputError(f"a network of {classes} classes; expected 2 to {LARGEST_VALUE}")
    network = Network(name, DESCRIBED, shape, classes, layers)
    check_shapes(layers, shape, classes)
    return network, reader.at


class _Reader:
    """Reads numbers from a place on, and layers of them."""

    def __init__(self, data: bytes, start: int) -> None:
        self.data, self.at, self.end = data, start, start + LARGEST_BYTES
        self.count = self.depth = 0  # of layers, and of the residuals around the next one

    def number(self) -> int:
        """Return the next number.

        Raises
        ------
        InputError
            If it is cut off, not canonical, too large, or reaches beyond 4,096 bytes.
        """
        value, self.at = read_varint(self.data, self.at)
        if self.at > self.end:
            raise InputError(f"a network's description of more than {LARGEST_BYTES} bytes")
        if value > LARGEST_VALUE:
            raise InputError(f"{value} in a network's description; expected numbers below 2^16")
        return value

    def layers(self) -> tuple[Layer, ...]:
        """Return the next list of layers, within a residual.

        Raises
        ------
        InputError
            If there are too many layers, too deep, or one is of an unknown kind.
        """
        if self.depth == DEEPEST:
            raise InputError(f"residuals within residuals, more than {DEEPEST} deep")
        self.depth += 1
        found = self.outermost()
        self.depth -= 1
        return found

    def outermost(self) -> tuple[Layer, ...]:
        """Return the next list of layers, within none; see `layers`."""
        count = self.number()
        self.count += count
        if self.count > MOST_LAYERS:
            raise InputError(f"a network of more than {MOST_LAYERS} layers")
        return tuple(self._layer() for _ in range(count))

    def _layer(self) -> Layer:
        opcode = self.number()
        if opcode not in KINDS:
            known = ", ".join(map(str, sorted(KINDS)))
            raise InputError(f"opcode {opcode} of a layer is unknown; expected one of {known}")
        layer: Layer = KINDS[opcode].described(self)
        return layer
