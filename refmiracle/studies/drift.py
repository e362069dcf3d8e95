"""Drift: what a network in the field meets that it was not trained on, made from images by formula.

Each kind takes bytes and gives bytes, and the same ones everywhere: sums run in one order, and what
is drawn at random is drawn from Philox.  What lies outside an image is black.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.numerics.philox import Stream, stream_words, words_to_uniform

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
CHUNK = 2000  # images at a time: floats take four times the room of bytes
WHITE = 255
MIDDLE_GREY = 127.5
# The neighbours, rows down and columns to the right, over which strokes grow or shrink.
FOOTPRINTS = {
    2: ((0, 0), (0, 1)),
    4: ((0, 0), (0, 1), (1, 0), (1, 1)),
    5: ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)),
    9: tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)),
    16: tuple((i, j) for i in (-1, 0, 1, 2) for j in (-1, 0, 1, 2)),
}


def _shifted(images: NDArray[np.generic], down: int, right: int) -> NDArray:
    """Return images moved by whole pixels, with 0 where they come from outside."""
    height, width = images.shape[1:]
    out = np.zeros_like(images)
    rows = slice(max(0, down), height + min(0, down))
    columns = slice(max(0, right), width + min(0, right))
    from_rows = slice(max(0, -down), height + min(0, -down))
    from_columns = slice(max(0, -right), width + min(0, -right))
    if rows.start < rows.stop and columns.start < columns.stop:
        out[:, rows, columns] = images[:, from_rows, from_columns]
    return out


def _as_bytes(values: NDArray[np.floating]) -> Pixels:
    return np.clip(np.rint(values), 0, WHITE).astype(np.uint8)


def resampled(images: Pixels, matrix: NDArray[np.float64]) -> Pixels:
    """Return images read at other places: bilinear, about the middle.

    Parameters
    ----------
    images : ndarray of uint8, shape (count, height, width)
    matrix : ndarray, shape (2, 2)
        What the row and column of a pixel, from the middle on, are multiplied by to give the place
        that it is read at.
    """
    shape = images.shape[1:]
    middle = (np.array(shape) - 1) / 2
    places = np.indices(shape).reshape(2, -1) - middle[:, None]
    at = matrix @ places + middle[:, None]
    corner = np.floor(at).astype(np.int64)
    part = at - corner
    total: Floats = np.zeros((len(images), places.shape[1]), np.float32)
    for down in (0, 1):
        for right in (0, 1):
            i, j = corner[0] + down, corner[1] + right
            inside = (i >= 0) & (i < shape[0]) & (j >= 0) & (j < shape[1])
            share = np.where(down, part[0], 1 - part[0]) * np.where(right, part[1], 1 - part[1])
            source = np.where(inside, i * shape[1] + j, 0)
            weight = np.where(inside, share, 0.0).astype(np.float32)
            total += images.reshape(len(images), -1)[:, source] * weight
    return _as_bytes(total).reshape(images.shape)


def rotate(images: Pixels, degrees: float) -> Pixels:
    """Return images turned anticlockwise about their middle."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return resampled(images, np.array([[c, s], [-s, c]]))


def shift(images: Pixels, pixels: float) -> Pixels:
    """Return images moved to the right and down by so many whole pixels each."""
    return _shifted(images, int(pixels), int(pixels))


def scale(images: Pixels, factor: float) -> Pixels:
    """Return images whose content is so many times as large."""
    return resampled(images, np.eye(2) / factor)


def blur(images: Pixels, sigma: float) -> Pixels:
    """Return images under a Gaussian of so many pixels, cut off at three of its sigmas."""
    reach = math.ceil(3 * sigma)
    taps = [math.exp(-0.5 * (n / sigma) ** 2) for n in range(-reach, reach + 1)]
    taps = [tap / sum(taps) for tap in taps]
    values: Floats = images.astype(np.float32)
    for down, right in ((1, 0), (0, 1)):
        total = np.zeros_like(values)
        for n, tap in zip(range(-reach, reach + 1), taps, strict=True):
            total += np.float32(tap) * _shifted(values, n * down, n * right)
        values = total
    return _as_bytes(values)


def contrast(images: Pixels, factor: float) -> Pixels:
    """Return images whose distances from the middle grey are so many times as large."""
    return _as_bytes(MIDDLE_GREY + factor * (images.astype(np.float64) - MIDDLE_GREY))


def thicken(images: Pixels, pixels: float) -> Pixels:
    """Return images of thicker strokes: the lightest of so many neighbours (`FOOTPRINTS`)."""
    moved = [_shifted(images, -down, -right) for down, right in FOOTPRINTS[int(pixels)]]
    return np.maximum.reduce(moved)


def thin(images: Pixels, pixels: float) -> Pixels:
    """Return images of thinner strokes: the darkest of so many neighbours (`FOOTPRINTS`)."""
    moved = [_shifted(images, -down, -right) for down, right in FOOTPRINTS[int(pixels)]]
    return np.minimum.reduce(moved)


def occlude(images: Pixels, pixels: float) -> Pixels:
    """Return images with a black square of so many pixels a side in their middle."""
    out, side = images.copy(), int(pixels)
    top, left = (max(0, (length - side) // 2) for length in images.shape[1:])
    out[:, top : top + side, left : left + side] = 0
    return out


def invert(images: Pixels, share: float, seed: int = 0, first: int = 0) -> Pixels:
    """Return images of which a share, drawn at random, is inverted, all channels together."""
    words = stream_words(seed, Stream.SELECTION, [0], len(images), first)[0]
    chosen = (words_to_uniform(words) < share).reshape(-1, *(1,) * (images.ndim - 1))
    return np.where(chosen, WHITE - images, images)


def add_noise(images: Pixels, deviation: float, seed: int = 0, first: int = 0) -> Pixels:
    """Return images with normal noise of a standard deviation in grey levels."""
    engine = get_engine("numba")  # any other has the same
    rows = np.arange(first, first + len(images))
    z = engine.normals(seed, Stream.NOISE, rows, math.prod(images.shape[1:]))
    return _as_bytes(images + np.float32(deviation) * z.reshape(images.shape).astype(np.float32))


@dataclass(frozen=True)
class Drift:
    """A kind of drift.

    Attributes
    ----------
    change : function
        Of images, shape (count, height, width), and a strength.  Each channel is one of them, but
        where `together` is set.
    strengths : tuple of float
    unit : str
        Of a strength.
    least, most : float
        Between which a strength may be.
    whole : bool
        Whether it is a whole number.
    only : tuple of int
        All that it may be, where these are few.
    random : bool
        Whether `change` takes a seed, and the number of the first image, too.
    together : bool
        Whether it takes the channels of an image as one image.
    """

    change: Callable[..., Pixels]
    strengths: tuple[float, ...]
    unit: str
    least: float
    most: float
    whole: bool = False
    only: tuple[int, ...] = ()
    random: bool = False
    together: bool = False

    def check(self, kind: str, strength: float) -> None:
        """Refuse a strength that means nothing.

        Raises
        ------
        InputError
            If it is out of range, not whole where it should be, or no neighbourhood has so many.
        """
        inside = self.least <= strength <= self.most  # not so for what is no number
        fits = inside and (not self.whole or strength == int(strength))
        expected = f"{'a whole number' if self.whole else 'a number'} from {self.least:g} to"
        expected += f" {self.most:g}"
        if self.only:
            fits, expected = strength in self.only, f"one of {', '.join(map(str, self.only))}"
        if not fits:
            raise InputError(f"strength {strength:g} of {kind}: expected {expected} ({self.unit})")


_NEIGHBOURS, _SIZES = "pixels of a neighbourhood", tuple(FOOTPRINTS)
DRIFTS = {
    "rotation": Drift(rotate, (10, 25, 40), "degrees", -360, 360),
    "shift": Drift(shift, (2, 4, 6), "pixels right and down", -1000, 1000, whole=True),
    "scale": Drift(scale, (0.85, 0.7, 0.55), "times the size", 0.01, 100),
    "blur": Drift(blur, (1, 1.5, 2.5), "pixels of sigma", 0.1, 100),
    "contrast": Drift(contrast, (0.6, 0.4, 0.2), "times the contrast", 0, 100),
    "inversion": Drift(
        invert, (0.25, 0.5, 1), "share of the images", 0, 1, random=True, together=True
    ),
    "thicker strokes": Drift(thicken, (4, 9, 16), _NEIGHBOURS, 2, 16, only=_SIZES),
    "thinner strokes": Drift(thin, (2, 4, 5), _NEIGHBOURS, 2, 16, only=_SIZES),
    "noise": Drift(add_noise, (32, 64, 96), "grey levels of sigma", 0, 1000, random=True),
    "occlusion": Drift(occlude, (6, 9, 12), "pixels a side", 0, 1000, whole=True),
}


def find_drift(kind: str) -> Drift:
    """Return the drift of a name.

    Raises
    ------
    InputError
        If there is none.
    """
    if kind not in DRIFTS:
        raise InputError(f"drift {kind!r:.40} is unknown; expected one of {', '.join(DRIFTS)}")
    return DRIFTS[kind]


def drifted(images: Pixels, kind: str, strength: float, seed: int = 0) -> Pixels:
    """Return images as they are after a drift.

    Parameters
    ----------
    images : ndarray of uint8, shape (count, height, width) or (count, channels, height, width)
    kind : str
        One of `DRIFTS`.
    strength : float
        In the unit of its kind; others than those that the studies try will do (`Drift.check`).
    seed : int
        Of the kinds that draw at random: each set of images has its own.

    Returns
    -------
    ndarray of uint8
        Of the same shape.

    Raises
    ------
    InputError
        If there is no such kind, or the strength means nothing.
    """
    drift = find_drift(kind)
    drift.check(kind, strength)
    flat = images if drift.together else images.reshape(-1, *images.shape[-2:])
    parts = []
    for first in range(0, len(flat), CHUNK):
        drawn = (seed, first) if drift.random else ()
        parts.append(drift.change(flat[first : first + CHUNK], strength, *drawn))
    return np.concatenate(parts or [flat]).reshape(images.shape)
