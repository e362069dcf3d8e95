"""Images and labels from IDX files with the MNIST names, gzip or not.

The format is LeCun's: a big-endian magic (two zero bytes, the type, the number of axes), one
32-bit size for each axis, then the bytes.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

import refmiracle
from refmiracle.errors import InputError
from refmiracle.nn.network import CLASSES, IMAGE_SIZE, check_images, check_labels

UNSIGNED_BYTES = 0x08
IMAGE_SHAPE = (IMAGE_SIZE, IMAGE_SIZE)
LARGEST_FILE = 1 << 30
# As in the split that MIRACLE trained on, 5,000 training images are kept for choosing.
VALIDATION_IMAGES = 5000


@dataclass(frozen=True)
class Split:
    """Some images and their labels.

    Attributes
    ----------
    images : ndarray of uint8, shape (count, 28, 28)
    labels : ndarray of uint8, shape (count,)
        Values below 10.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def check_split(split: Split) -> Split:
    """Return images and labels that training, which does not look at each again, can take.

    Raises
    ------
    InputError
        If they are not as `Split` says.
    """
    check_labels(split.labels, len(check_images(split.images)))
    return split


def default_folder() -> Path:
    """Return the MNIST folder that the project carries: in the wheel, or beside the package."""
    package = Path(refmiracle.__file__).parent
    inside = package / "data" / "mnist"
    return inside if inside.is_dir() else package.parent / "data" / "mnist"


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes with a given number of axes; ``.gz`` is unpacked.

    Raises
    ------
    InputError
        If the file cannot be read, is no such file, is cut off or has bytes behind its end.
    """
    try:
        open_file = gzip.open if path.suffix == ".gz" else open
        with open_file(path, "rb") as f:
            return _parse_idx(cast(BinaryIO, f), axes)
    except (OSError, EOFError, zlib.error) as e:
        reason = getattr(e, "strerror", None) or e
        raise InputError(f"{path}: cannot be read: {reason}") from e
    except InputError as e:
        raise InputError(f"{path}: {e}") from e


def _parse_idx(f: BinaryIO, axes: int) -> NDArray[np.uint8]:
    head = f.read(4 + 4 * axes)
    if len(head) < 4 + 4 * axes or head[:4] != bytes([0, 0, UNSIGNED_BYTES, axes]):
        raise InputError(f"it is no IDX file of unsigned bytes with {axes} axes")
    shape = [int(n) for n in np.frombuffer(head, dtype=">u4", offset=4)]
    size = math.prod(shape)
    if size > LARGEST_FILE:
        raise InputError(f"it claims {size} bytes of data; at most {LARGEST_FILE} are read")
    data = f.read(size + 1)
    if len(data) != size:
        more = "more" if len(data) > size else str(len(data))
        raise InputError(f"its header claims {size} bytes of data, but {more} are there")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def load_split(folder: Path, name: str) -> Split:
    """Load the ``train`` or the ``t10k`` images and labels of a folder.

    Raises
    ------
    InputError
        If a file is missing or damaged, or the two do not belong together.
    """
    images = read_idx(_find(folder, f"{name}-images-idx3-ubyte"), axes=3)
    labels = read_idx(_find(folder, f"{name}-labels-idx1-ubyte"), axes=1)
    if images.shape[1:] != IMAGE_SHAPE:
        raise InputError(
            f"{folder}: the {name} images have {images.shape[1]}x{images.shape[2]} pixels;"
            " expected 28x28"
        )
    if len(images) != len(labels) or not len(images):
        raise InputError(f"{folder}: {len(images)} {name} images, but {len(labels)} labels")
    if labels.max() >= CLASSES:
        raise InputError(f"{folder}: {name} label {labels.max()} is out of range; expected 0 to 9")
    return check_split(Split(images, labels))


def _find(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InputError(f"{folder}: there is no {name} or {name}.gz")


def split_validation(train: Split, kept: int = VALIDATION_IMAGES) -> tuple[Split, Split]:
    """Return the training images less the last `kept`, and those for validation.

    Raises
    ------
    InputError
        If there are too few images to keep so many from training, or `kept` is negative.
    """
    if kept < 0:
        raise InputError(f"{kept} images kept for validation; expected 0 or more")
    count = len(train.images) - kept
    if count < kept:
        raise InputError(
            f"{len(train.images)} training images are too few; expected at least {2 * kept}, of"
            f" which {kept} are kept for validation (--validation)"
        )
    return (
        Split(train.images[:count], train.labels[:count]),
        Split(train.images[count:], train.labels[count:]),
    )
