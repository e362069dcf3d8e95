"""Small pictures that stand in the page itself: images as PNG, probabilities as bars."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NEGATIVE, ZERO, POSITIVE = (0, 114, 178), (250, 250, 250), (213, 94, 0)
BAR, BAR_HEIGHT, DIGIT_HEIGHT = 10, 40, 12


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """Return an image as a ``data:`` address.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (rows, columns) or (rows, columns, 3)
        Grey or RGB.
    """
    rows, columns = pixels.shape[:2]
    colour_type = 2 if pixels.ndim == 3 else 0
    # Each row begins with the number of its filter; 0 is none.
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), pixels.reshape(rows, -1)], axis=1)
    header = struct.pack(">IIBBBBB", columns, rows, 8, colour_type, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(lines.tobytes(), 9), b"IEND": b""}
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")
        for name, body in chunks.items()
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()


def as_picture(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image of a data set as `png_uri` takes it.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (rows, columns) or (channels, rows, columns)
        Three channels are taken for red, green and blue; of others the mean is shown.
    """
    if pixels.ndim == 2:
        return pixels
    if len(pixels) == 3:
        return np.moveaxis(pixels, 0, 2)
    return np.round(pixels.mean(axis=0)).astype(np.uint8)


def as_kernels(kernels: Array) -> Array:
    """Return kernels as they are shown: three channels in colour, of others their mean.

    Parameters
    ----------
    kernels : ndarray, shape (units, channels, rows, columns)

    Returns
    -------
    ndarray, shape (units, rows, columns) or (units, rows, columns, 3)
    """
    return np.moveaxis(kernels, 1, 3) if kernels.shape[1] == 3 else kernels.mean(axis=1)


def weights_picture(kernel: Array, limit: float) -> NDArray[np.uint8]:
    """Return a kernel of `as_kernels` as a picture.

    In red, green and blue a weight of zero is medium grey, a positive one brighter.
    """
    if kernel.ndim == 2:
        return colour_weights(kernel, limit)
    return np.round(127.5 * (1 + np.clip(kernel / limit, -1.0, 1.0))).astype(np.uint8)


def colour_weights(weights: Array, limit: float) -> NDArray[np.uint8]:
    """Return weights as colours: blue below zero, white at it, orange above.

    Parameters
    ----------
    weights : ndarray, any shape
    limit : float
        The magnitude that has the full colour; larger ones have it too.

    Returns
    -------
    ndarray of uint8, shape of the weights and 3
    """
    scale = np.clip(weights / limit, -1.0, 1.0)
    channels = [
        np.interp(scale, (-1.0, 0.0, 1.0), ends)
        for ends in zip(NEGATIVE, ZERO, POSITIVE, strict=True)
    ]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def kernel_svg(kernel: Array, limit: float, marked: Sequence[tuple[int, ...]], label: str) -> str:
    """Return a kernel as squares, some of them with a frame.

    Parameters
    ----------
    kernel : ndarray, shape (rows, columns)
    limit : float
        See `colour_weights`.
    marked : sequence of (row, column)
    label : str
        What it shows, for those who do not see it.
    """
    rows, columns = kernel.shape
    squares = [
        f'<rect x="{10 * j}" y="{10 * i}" width="10" height="10" fill="rgb({r},{g},{b})"/>'
        for i, line in enumerate(colour_weights(kernel, limit).tolist())
        for j, (r, g, b) in enumerate(line)
    ]
    frames = [
        f'<rect x="{10 * j + 1}" y="{10 * i + 1}" width="8" height="8" class="frame"/>'
        for i, j in marked
    ]
    return (
        f'<svg role="img" aria-label="{html.escape(label)}" class="kernel"'
        f' viewBox="0 0 {10 * columns} {10 * rows}">{"".join(squares + frames)}</svg>'
    )


@dataclass(frozen=True)
class Classes:
    """The classes whose probabilities are drawn.

    Attributes
    ----------
    shown : sequence of int
        Which, in the order of the bars.
    names : sequence of str
        Of each class of the network.
    """

    shown: Sequence[int]
    names: Sequence[str]

    def symbols(self) -> list[str]:
        """Return what stands below the bars: names of one letter, or else numbers."""
        short = has_symbols(self.names)
        return [self.names[i] if short else str(i) for i in self.shown]


def has_symbols(names: Sequence[str]) -> bool:
    """Tell whether each name is one letter, which a bar has room for."""
    return all(len(name.encode("utf-16-le", "surrogatepass")) == 2 for name in names)


def bars_svg(probabilities: Array, label: int, predicted: int, source: str, drawn: Classes) -> str:
    """Return the probabilities of classes as bars over their names or numbers.

    The true class has a frame around its name, the predicted one a bar of another colour.

    Parameters
    ----------
    probabilities : ndarray, shape (classes,)
    label, predicted : int
        Of the file, so that both charts of an image are marked alike.
    source : str
        Whose probabilities they are.
    drawn : Classes
    """
    bars = [
        "" if i == predicted else _bar(place, probabilities[i])
        for place, i in enumerate(drawn.shown)
    ]
    likely = sorted(range(len(probabilities)), key=lambda i: -probabilities[i])[:3]
    text = ", ".join(f"{drawn.names[i]} with {probabilities[i]:.0%}" for i in likely)
    width = BAR * len(drawn.shown)
    true, taken = drawn.shown.index(label), drawn.shown.index(predicted)
    return (
        f'<svg role="img" aria-label="{html.escape(f"{source}: {text}")}" class="bars"'
        f' viewBox="0 0 {width} {BAR_HEIGHT + DIGIT_HEIGHT}">'
        f'<path d="{"".join(bars)}"/>'
        f'<path class="predicted" d="{_bar(taken, probabilities[predicted])}"/>'
        f'<rect class="true" x="{BAR * true + 0.5}" y="{BAR_HEIGHT + 1}" width="{BAR - 1}"'
        f' height="{DIGIT_HEIGHT - 1.5}"/>'
        f'<path class="floor" d="M0 {BAR_HEIGHT}h{width}"/>{_symbols(drawn.symbols())}</svg>'
    )


def _symbols(symbols: Sequence[str]) -> str:
    """Return what stands below the bars; of one letter each it is one text."""
    centres = [BAR * place + BAR // 2 for place in range(len(symbols))]
    y = BAR_HEIGHT + DIGIT_HEIGHT - 3
    longest = max(map(len, symbols))
    if longest == 1:
        letters = html.escape("".join(symbols))
        return f'<text x="{" ".join(map(str, centres))}" y="{y}">{letters}</text>'
    size = f"font-size:{2 * DIGIT_HEIGHT / (longest + 2):.1f}px"
    return "".join(
        f'<text x="{x}" y="{y}" style="{size}">{html.escape(symbol)}</text>'
        for x, symbol in zip(centres, symbols, strict=True)
    )


def _bar(number: int, probability: float) -> str:
    height = f"{BAR_HEIGHT * probability:.1f}"
    return f"M{BAR * number + 1} {BAR_HEIGHT}v-{height}h{BAR - 2}v{height}z"
