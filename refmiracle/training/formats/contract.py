"""What a form of data set is, and what all of them share: limits, types, the order of axes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from refmiracle.errors import InputError, named
from refmiracle.files import first_line
from refmiracle.numerics.philox import Stream, stream_permutation

# The parts of a data set, under their names in MNIST.
TRAIN, TEST = "train", "t10k"
# Bytes of the images of a part, as they stand in their file: Tiny ImageNet has 1.2e9.
LARGEST_DATA = 1 << 31
LARGEST_LABEL = 65_535
PIECE = 1 << 20
# Where a data set has no test images of its own, one image in so many is one.
TEST_SHARE = 6
DIVISION_SEED = 0


@dataclass(frozen=True)
class Found:
    """A part of a data set as its files have it.

    Attributes
    ----------
    images : ndarray of uint8, shape (count, height, width), or with one more axis
        That of the channels, wherever it is.
    labels : ndarray of integers, shape (count,)
    largest : int
        The largest label of the whole data set, as far as it is there.
    names : mapping of int to str
        Names of the labels, or of the classes; where there are none, a label's number is its name.
    named_by_class : bool
        Whether names are of classes, from 0 on, wherever the labels begin.
    transposed : bool
        Whether images of this form have their rows and columns swapped.
    labels_from : int
        Where labels of this form begin.
    channels_first : bool
        Whether this form has the channels behind the first axis; of others their number tells.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.integer]
    largest: int
    names: Mapping[int, str] = field(default_factory=dict)
    named_by_class: bool = False
    transposed: bool = False
    labels_from: int = 0
    channels_first: bool = False


class Format(Protocol):
    """A form of data set."""

    @property
    def words(self) -> str:
        """What it is called in messages."""

    @property
    def endings(self) -> tuple[str, ...]:
        """How the names of its files end in a folder, in lower case; none: it is one file."""

    def recognises(self, path: Path) -> bool:
        """Tell, by a look that costs nothing, whether a path is meant to be of this form."""

    def read(self, path: Path, part: str) -> Found:
        """Read the part `TRAIN` or `TEST`.

        Raises
        ------
        InputError
            If it is missing, damaged, something else or too large; the message names the file.
        """


@contextmanager
def refusals_of(place: Path | str) -> Iterator[None]:
    """Give each refusal the name of a file or an array; make one of whatever a library raises.

    One that names a file already, within this folder, is handed on.
    """
    try:
        yield
    except InputError as e:
        if str(e).startswith((f"{place}: ", f"{place}{os.sep}")):
            raise
        raise InputError(f"{place}: {e}") from e
    except OSError as e:
        named = str(e.filename or "")  # a file in this folder, or what is no file of ours
        where = named if named.startswith(f"{place}{os.sep}") else place
        raise InputError(f"{where}: cannot be read: {e.strerror or first_line(e)}") from e
    except MemoryError as e:
        raise InputError(f"{place}: not enough memory: {first_line(e)}") from e
    except Exception as e:  # zipfile, tarfile and each of their decompressors raise their own
        raise InputError(f"{place}: it is damaged ({first_line(e)})") from e


def check_size(size: int) -> int:
    """Return a number of bytes that memory is to be taken for.

    Raises
    ------
    InputError
        If it is beyond `LARGEST_DATA`.
    """
    if size > LARGEST_DATA:
        raise InputError(f"it claims {size} bytes of data; at most {LARGEST_DATA} are read")
    return size


def read_most(f: IO[bytes], size: int) -> bytearray:
    """Read at most so many bytes, piece by piece: memory is taken for what is there."""
    data = bytearray()
    while len(data) < size and (piece := f.read(min(PIECE, size - len(data)))):
        data += piece
    return data


def to_text(data: bytes | bytearray) -> str:
    """Return a list of names as text.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        raise InputError("the list of names is no text in UTF-8") from e


def to_pixels(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return images of any integers, of 3 or 4 axes, as bytes.

    Raises
    ------
    InputError
        If they are of other types, values or shapes.
    """
    if images.dtype.kind == "f":
        raise InputError(
            f"images of {images.dtype}; expected uint8: where white is 1, multiply by 255, round"
            " and convert"
        )
    if images.dtype.kind not in "iu":
        raise InputError(f"images of {images.dtype}; expected uint8")
    if images.ndim not in (3, 4) or not math.prod(images.shape[1:]):
        raise InputError(
            f"images of shape {images.shape}; expected (count, height, width), or one more axis for"
            " the channels"
        )
    if images.size and not 0 <= images.min() <= images.max() <= 255:
        raise InputError(
            f"it holds values from {images.min()} to {images.max()}; expected images from 0 to 255"
        )
    return images.astype(np.uint8, copy=False)


def to_channels_first(images: NDArray[np.uint8], channels: str | None) -> NDArray[np.uint8]:
    """Return images of 3 or 4 axes with their channels behind the first; a single one has no axis.

    Parameters
    ----------
    images : ndarray of uint8, shape (count, height, width), or with one more axis
    channels : str, optional
        ``first`` or ``last``: which of the axes of an image has the channels.  By default their
        number tells: it is smaller than the numbers of rows and of columns.

    Raises
    ------
    InputError
        If that does not tell, or there is no axis of channels though it is said which it is.
    """
    if images.ndim == 3:
        if channels is not None:
            raise InputError(
                f"images of shape {images.shape} have no axis for channels; expected no"
                f" {named('channels')}"
            )
        return images
    last = _channels_are_last(images.shape) if channels is None else channels == "last"
    turned = np.moveaxis(images, 3, 1) if last else images
    return turned[:, 0] if turned.shape[1] == 1 else turned


def _channels_are_last(shape: tuple[int, ...]) -> bool:
    first = shape[1] < min(shape[2], shape[3])
    last = shape[3] < min(shape[1], shape[2])
    if first or last:
        return last
    raise InputError(
        f"images of shape {shape}: which axis has the channels is not clear; expected fewer"
        f" channels than rows and than columns, or {named('channels')} first or last"
    )


def to_labels(labels: NDArray[np.generic]) -> NDArray[np.integer]:
    """Return labels as an array of integers of one axis.

    Raises
    ------
    InputError
        If they are of another type or shape.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise InputError(
            f"labels of {labels.dtype} and of shape {labels.shape}; expected integers, (count,) or"
            " (count, 1)"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() <= LARGEST_LABEL:
        raise InputError(
            f"it holds values from {labels.min()} to {labels.max()}; expected labels from 0 to"
            f" {LARGEST_LABEL}"
        )
    return labels.astype(np.uint16)


def check_counts(images: NDArray[Any], labels: NDArray[Any], part: str = "") -> None:
    """Refuse images without labels, labels without images, and none of either.

    Raises
    ------
    InputError
        If it is so.
    """
    if len(images) != len(labels) or not len(images):
        name = f"{part} images" if part else "images"
        raise InputError(f"{len(images)} {name}, but {len(labels)} labels")


def divide(count: int, part: str) -> NDArray[np.int64]:
    """Return which images of a data set without test images are of a part.

    All are permuted, always in the same way; the last sixth of them are for testing.

    Raises
    ------
    InputError
        If there are too few for that.
    """
    kept = count // TEST_SHARE
    if not kept:
        raise InputError(
            f"{count} images; expected at least {TEST_SHARE}, of which one is kept for testing"
        )
    order = permutation(count)
    return order[:-kept] if part == TRAIN else order[-kept:]


def permutation(count: int) -> NDArray[np.int64]:
    """Return the order in which images that stand sorted by class are taken."""
    return stream_permutation(DIVISION_SEED, Stream.DIVISION, 0, count)
