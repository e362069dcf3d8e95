"""Images and labels of any form that is known, as training and evaluation take them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import refmiracle
from refmiracle.errors import InputError, named
from refmiracle.files import printable
from refmiracle.nn.network import Network
from refmiracle.nn.networks import SHIPPED
from refmiracle.numerics.arrays import read_only
from refmiracle.training.formats.contract import (
    Found,
    check_counts,
    refusals_of,
    to_channels_first,
)
from refmiracle.training.formats.table import find_format

DIGITS = tuple("0123456789")
MOST_CLASSES = 65_535
LONGEST_NAME = 200
# As in the split that MIRACLE trained on, 5,000 training images are kept for choosing.
VALIDATION_IMAGES = 5000


@dataclass(frozen=True)
class Split:
    """Some images and their labels.

    Attributes
    ----------
    images : ndarray of uint8, shape (count, height, width) or (count, channels, height, width)
        Grey images have no axis for their one channel.
    labels : ndarray of uint8, or of little-endian uint16, shape (count,)
        Bytes where there are at most 256 classes.
    classes : tuple of str
        The name of each class, of those too that no image here is of.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.unsignedinteger]
    classes: tuple[str, ...] = DIGITS

    def with_channels(self) -> NDArray[np.uint8]:
        """Return the images as networks see them, shape (count, channels, height, width)."""
        return self.images[:, None] if self.images.ndim == 3 else self.images

    def input_shape(self) -> tuple[int, int, int]:
        """Return channels, height and width of an image."""
        channels, height, width = self.with_channels().shape[1:]
        return channels, height, width

    def part(self, chosen: slice) -> Split:
        """Return some of the images, with their labels."""
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])

    def name(self, label: int) -> str:
        """Return the name of a class; of one that a network has beyond these, its number."""
        return self.classes[label] if label < len(self.classes) else str(label)


@dataclass(frozen=True)
class DataSet:
    """Where a data set is, and how it differs from others of its form.

    Attributes
    ----------
    path : Path
    transposed : bool, optional
        Whether the images have rows and columns swapped; only EMNIST's have by default.
    labels_from : int, optional
        The label of the first class: 1 for EMNIST's letters, 0 otherwise.
    channels : str, optional
        ``first`` or ``last``: which axis of an image has the channels, where arrays or IDX files
        have one for them.  By default their number tells.
    """

    path: Path
    transposed: bool | None = None
    labels_from: int | None = None
    channels: str | None = None

    def __str__(self) -> str:
        return str(self.path)


Data = Path | DataSet


def check_split(split: Split, network: Network, open_choice: bool = False) -> Split:
    """Return images and labels that a network, which does not look at each again, can take.

    Parameters
    ----------
    split : Split
    network : Network
    open_choice : bool
        Whether another network may be taken: then it is said which one tells as many classes apart.

    Raises
    ------
    InputError
        If they are not as `Split` says, or not of the network's shape and classes.
    """
    shape, classes = network.input, network.classes
    images, labels = split.images, np.asarray(split.labels)
    bytes_ = isinstance(images, np.ndarray) and images.dtype == np.uint8
    if not bytes_ or not (images.ndim == 3 or (images.ndim == 4 and images.shape[1] > 1)):
        raise InputError(
            f"images of {np.asarray(images).dtype}, shape {np.shape(images)}; expected uint8,"
            " (images, height, width) or (images, channels, height, width), channels above 1"
        )
    if split.input_shape() != shape:
        found, wanted = ("x".join(map(str, s)) for s in (split.input_shape(), shape))
        raise InputError(
            f"images of {found} (channels, height, width); {network.name} takes {wanted}"
        )
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels of {labels.dtype} and of shape {labels.shape}; expected integers,"
            f" ({len(images)},)"
        )
    outside = labels[(labels < 0) | (labels >= classes)]
    if len(split.classes) > classes or outside.size:
        found = f"label {outside[0]}" if outside.size else f"labels of {len(split.classes)} classes"
        needed = max(len(split.classes), int(labels.max(initial=0)) + 1)
        other = _other(network, needed) if open_choice else ""
        raise InputError(f"{found}; {network.name} tells {classes} classes apart, from 0{other}")
    return split


def _other(network: Network, classes: int) -> str:
    """Return what says which network would do, where one that comes along would."""
    name = network.name.partition(":")[0]
    if name not in {known.name for known in SHIPPED} or classes <= network.classes:
        return ""
    return f"; expected as many, or {named('network')} {name}:{classes}"


def default_folder() -> Path:
    """Return the MNIST folder that the project carries: in the wheel, or beside the package."""
    package = Path(refmiracle.__file__).parent
    inside = package / "data" / "mnist"
    return inside if inside.is_dir() else package.parent / "data" / "mnist"


def load_split(data: Data, name: str) -> Split:
    """Load the training or the test images of a data set, and their labels.

    Parameters
    ----------
    data : Path or DataSet
    name : str
        ``train`` or, as MNIST calls the test images, ``t10k``.

    Raises
    ------
    InputError
        If it is no data set of a known form, a file is missing or damaged, images and labels do
        not belong together, or there are too few or too many classes.
    """
    data = data if isinstance(data, DataSet) else DataSet(Path(data))
    found = find_format(data.path, name).read(data.path, name)
    with refusals_of(data.path):
        check_counts(found.images, found.labels, name)
        images, first = _with_channels_first(found, data.channels), found.labels_from
        if found.transposed if data.transposed is None else data.transposed:
            images = images.swapaxes(-1, -2)
        first = first if data.labels_from is None else data.labels_from
        classes = _name_classes(found, first)
        labels: NDArray[np.unsignedinteger] = (found.labels - first).astype(
            "u1" if len(classes) <= 256 else "<u2"
        )
        return Split(read_only(np.ascontiguousarray(images).view()), read_only(labels), classes)


def _with_channels_first(found: Found, said: str | None) -> NDArray[np.uint8]:
    """Return images with their channels behind the first axis, if they have an axis for them."""
    if not found.channels_first:
        return to_channels_first(found.images, said)
    if said is not None:
        raise InputError(
            f"{named('channels')} {said} is for arrays and IDX files; expected none with data of"
            " this form"
        )
    return found.images


def _name_classes(found: Found, first: int) -> tuple[str, ...]:
    """Return the names of all classes; where the labels have none, their numbers."""
    if first < 0:
        raise InputError(f"{named('labels_from')} {first} is out of range; expected 0 or more")
    smallest, largest = int(found.labels.min()), int(found.labels.max())
    if smallest < first:
        raise InputError(
            f"label {smallest}; expected labels from {first} on ({named('labels_from')})"
        )
    largest = max(largest, found.largest)
    ahead = first if found.named_by_class else 0
    by_label = {ahead + number: name for number, name in found.names.items()}
    if by_label:
        if largest > max(by_label):
            raise InputError(f"label {largest}; the names of the classes end at {max(by_label)}")
        largest = max(by_label)
    count = largest - first + 1
    if not 2 <= count <= MOST_CLASSES:
        raise InputError(f"classes: {count}; expected 2 to {MOST_CLASSES}")
    labels = range(first, largest + 1)
    names = tuple(printable(by_label.get(label, str(label))) for label in labels)
    longest = max(names, key=len)
    if len(longest) > LONGEST_NAME:
        raise InputError(f"a class's name has {len(longest)} letters; at most {LONGEST_NAME}")
    return names


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
            f" which {kept} are kept for validation ({named('validation')})"
        )
    return train.part(slice(count)), train.part(slice(count, None))
