"""Images and labels from IDX files with the MNIST names, gzip or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import refmiracle
from refmiracle.errors import InputError
from refmiracle.nn.arguments import check_images, check_labels
from refmiracle.nn.network import Network
from refmiracle.training.idx import IMAGES, LABELS, Kind, read_idx

MNIST_SHAPE = (28, 28)
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


def check_split(split: Split, network: Network) -> Split:
    """Return images and labels that training, which does not look at each again, can take.

    Raises
    ------
    InputError
        If they are not as `Split` says, or not what the network is for.
    """
    check_labels(network, split.labels, len(check_images(network, split.images)))
    return split


def default_folder() -> Path:
    """Return the MNIST folder that the project carries: in the wheel, or beside the package."""
    package = Path(refmiracle.__file__).parent
    inside = package / "data" / "mnist"
    return inside if inside.is_dir() else package.parent / "data" / "mnist"


def load_split(folder: Path, name: str) -> Split:
    """Load the ``train`` or the ``t10k`` images and labels of a folder.

    Raises
    ------
    InputError
        If a file is missing or damaged, or the two do not belong together.
    """
    images = read_idx(_find(folder, name, IMAGES), IMAGES)
    labels = read_idx(_find(folder, name, LABELS), LABELS)
    if images.shape[1:] != MNIST_SHAPE:
        raise InputError(
            f"{folder}: the {name} images have {images.shape[1]}x{images.shape[2]} pixels;"
            " expected 28x28"
        )
    if len(images) != len(labels) or not len(images):
        raise InputError(f"{folder}: {len(images)} {name} images, but {len(labels)} labels")
    return Split(images, labels)


def _find(folder: Path, name: str, kind: Kind) -> Path:
    """Return the path of a file; many mirrors have a dot in its name."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    dash, dot = (f"{name}-{kind.name}{mark}idx{kind.axes}-ubyte" for mark in "-.")
    for path in (folder / f"{n}{ending}" for n in (dash, dot) for ending in ("", ".gz")):
        if path.is_file():
            return path
    raise InputError(f"{folder}: there is no {dash} or {dash}.gz, nor {dot} or {dot}.gz")


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
