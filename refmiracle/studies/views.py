"""What of an image the first layers of a network see: kernels, and the places of a dense layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refmiracle.nn.contract import WEIGHT, Tensor
from refmiracle.nn.network import Network


@dataclass(frozen=True)
class Side:
    """What the places of a map see along one side of the image, rows or columns.

    Place i sees `window` pixels from ``start + i stride`` on; those outside of the image are zeros.

    Attributes
    ----------
    pixels : int
        Of the image.
    places : int
        Of the map.
    window, stride, start : int
        In pixels.
    """

    pixels: int
    places: int
    window: int = 1
    stride: int = 1
    start: int = 0

    def seen(self, place: int) -> slice:
        """Return the pixels of the image that a place sees."""
        first = self.start + place * self.stride
        return slice(max(0, first), max(0, first + self.window))

    def through(self, kernel: int, stride: int, padding: int) -> Side:
        """Return what the places see of the map that a kernel makes of this one."""
        return Side(
            self.pixels,
            (self.places + 2 * padding - kernel) // stride + 1,
            self.window + (kernel - 1) * self.stride,
            stride * self.stride,
            self.start - padding * self.stride,
        )


@dataclass(frozen=True)
class FirstDense:
    """The first dense layer of a network, which reads a map.

    Attributes
    ----------
    path : str
    channels : int
    sides : (Side, Side)
        Rows and columns of the map.
    """

    path: str
    channels: int
    sides: tuple[Side, Side]


def first_dense(network: Network) -> FirstDense | None:
    """Return the first dense layer, if it reads a map of more than one place.

    Before it there are convolutions and pools, and what works on each value by itself; behind
    other layers it is None.  A norm is taken for one of the latter: what it makes of the whole
    image's mean and variance is not followed.
    """
    channels, *image = network.input
    rows, columns = (Side(pixels, pixels) for pixels in image)
    for placed in network.placed:
        kind, *numbers = placed.spec()
        if kind == "dense":
            many = rows.places * columns.places > 1
            return FirstDense(placed.path, channels, (rows, columns)) if many else None
        if kind in ("conv2d", "maxpool2d", "meanpool2d"):
            channels = placed.layer.output(placed.shape)[0]
            kernel, stride, padding = _sliding(kind, numbers)
            rows = rows.through(kernel[0], stride[0], padding)
            columns = columns.through(kernel[1], stride[1], padding)
        elif kind not in ("flatten", "relu", "groupnorm"):
            return None
    return None


def _sliding(kind: str, numbers: list[Any]) -> tuple[Sequence[int], Sequence[int], int]:
    """Return the sides of a layer's window, its strides and its padding."""
    if kind == "conv2d":
        kernel, _, _, stride, padding, _ = numbers
        return kernel, (stride, stride), padding
    window = numbers or (2, 2)
    return window, window, 0


def first_kernels(network: Network) -> Tensor | None:
    """Return the weights of the first layer that has any, if it is a convolution."""
    tensors = network.tensors()
    found = tensors[0] if tensors else None
    return found if found and found.role == WEIGHT and len(found.shape) == 4 else None
