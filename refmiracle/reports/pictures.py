"""Small pictures that stand in the page itself: images as PNG, probabilities as bars."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Sequence

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


def bars_svg(probabilities: Array, label: int, predicted: int, source: str) -> str:
    """Return the probabilities of the ten classes as bars over their digits.

    The true class has a frame around its digit, the predicted one a bar of another colour.

    Parameters
    ----------
    probabilities : ndarray, shape (10,)
    label, predicted : int
        Of the file, so that both charts of an image are marked alike.
    source : str
        Whose probabilities they are.
    """
    classes = range(len(probabilities))
    bars = ["" if i == predicted else _bar(i, probabilities[i]) for i in classes]
    likely = sorted(classes, key=lambda i: -probabilities[i])[:3]
    text = ", ".join(f"{i} with {probabilities[i]:.0%}" for i in likely)
    centres = " ".join(str(BAR * i + BAR // 2) for i in classes)
    digits = "".join(map(str, classes))
    return (
        f'<svg role="img" aria-label="{html.escape(source)}: {text}" class="bars"'
        f' viewBox="0 0 {BAR * len(probabilities)} {BAR_HEIGHT + DIGIT_HEIGHT}">'
        f'<path d="{"".join(bars)}"/>'
        f'<path class="predicted" d="{_bar(predicted, probabilities[predicted])}"/>'
        f'<rect class="true" x="{BAR * label + 0.5}" y="{BAR_HEIGHT + 1}" width="{BAR - 1}"'
        f' height="{DIGIT_HEIGHT - 1.5}"/>'
        f'<path class="floor" d="M0 {BAR_HEIGHT}h{BAR * len(probabilities)}"/>'
        f'<text x="{centres}" y="{BAR_HEIGHT + DIGIT_HEIGHT - 3}">{digits}</text></svg>'
    )


def _bar(number: int, probability: float) -> str:
    height = f"{BAR_HEIGHT * probability:.1f}"
    return f"M{BAR * number + 1} {BAR_HEIGHT}v-{height}h{BAR - 2}v{height}z"
