"""Arrays in an .npz file: under Keras' names, under MedMNIST's, or images and labels alone.

Nothing in it is trusted: sizes are looked at before anything is unpacked, and what would have to be
unpickled is refused.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from refmiracle.errors import InputError
from refmiracle.training.formats.contract import (
    TEST,
    TRAIN,
    Found,
    check_counts,
    check_size,
    divide,
    read_most,
    refusals_of,
    to_labels,
    to_pixels,
    to_text,
)
from refmiracle.training.formats.kinds import HEAD, ZIP, seems

# Names of images and labels of each part.
HABITS = (
    {TRAIN: ("x_train", "y_train"), TEST: ("x_test", "y_test")},
    {TRAIN: ("train_images", "train_labels"), TEST: ("test_images", "test_labels")},
)
UNDIVIDED = ("images", "labels")
IMAGES = {"images", *(pair[0] for habit in HABITS for pair in habit.values())}
CLASSES = "classes"
EXPECTED = "x_train, y_train, x_test and y_test, or images and labels"
ENDING = ".npy"
# zip's bit of members that are encrypted.
ENCRYPTED = 1
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
MOST_NAMED = 8


class NpzFile:
    """A file that NumPy's savez has written, or that looks so."""

    words = "an .npz file"
    endings: tuple[str, ...] = ()

    def recognises(self, path: Path) -> bool:
        """Tell whether a file is a zip file or has the ending."""
        if not path.is_file():
            return False
        with refusals_of(path), open(path, "rb") as f:
            return path.suffix.lower() == ".npz" or f.read(4) in ZIP

    def read(self, path: Path, part: str) -> Found:
        """Read two arrays, and the labels of the other part."""
        with refusals_of(path), open(path, "rb") as f:
            head = f.read(HEAD)
            if head[:4] not in ZIP:
                raise InputError(f"it is {seems(head, 'zip file')}; expected {self.words}")
            with zipfile.ZipFile(f) as packed:
                return _read(packed, part)


def _read(packed: zipfile.ZipFile, part: str) -> Found:
    members = packed.namelist()
    keys = {name.removesuffix(ENDING) for name in members}
    if len(keys) < len(members):
        raise InputError("it holds two arrays of one name")
    names = _read_classes(packed) if CLASSES in keys else {}
    for habit in HABITS:
        if keys.isdisjoint(key for pair in habit.values() for key in pair):
            continue
        images, labels = (_read_array(packed, key) for key in habit[part])
        others = [_read_array(packed, key) for _, key in habit.values() if key in keys]
        return Found(images, labels, max(int(y.max(initial=0)) for y in others), names, True)
    if keys.isdisjoint(UNDIVIDED):
        held = ", ".join(sorted(keys)[:MOST_NAMED]) or "nothing"
        raise InputError(f"it holds {held}; expected {EXPECTED}")
    images, labels = (_read_array(packed, key) for key in UNDIVIDED)
    check_counts(images, labels)
    chosen = divide(len(images), part)
    return Found(images[chosen], labels[chosen], int(labels.max()), names, True)


def _read_array(packed: zipfile.ZipFile, key: str) -> NDArray[Any]:
    """Return images or labels, whichever a name is of."""
    with refusals_of(key):
        values = _unpack(packed, key)
        return to_pixels(values) if key in IMAGES else to_labels(values)


def _read_classes(packed: zipfile.ZipFile) -> dict[int, str]:
    with refusals_of(CLASSES):
        values = _unpack(packed, CLASSES)
        if values.dtype.kind not in "SU" or values.ndim != 1 or not len(values):
            raise InputError(
                f"{values.dtype} of shape {values.shape}; expected text, a name for each class"
            )
        texts = values.tolist()
        return dict(enumerate(to_text(t) if isinstance(t, bytes) else t for t in texts))


def _unpack(packed: zipfile.ZipFile, key: str) -> NDArray[Any]:
    """Return an array by its name, its size looked at before memory is taken."""
    try:
        member = packed.getinfo(key + ENDING)
    except KeyError:
        raise InputError(f"there is none; expected {EXPECTED}") from None
    if member.flag_bits & ENCRYPTED:
        raise InputError("it is encrypted")
    with packed.open(member) as f:
        version = npy.read_magic(f)
        if version not in HEADERS:
            raise InputError(f"a NumPy file of version {version}; expected 1.0 or 2.0")
        shape, columns_first, dtype = HEADERS[version](f)
        if dtype.hasobject:
            raise InputError("it holds pickled objects, which are not read; expected numbers")
        if min(shape, default=0) < 0:
            raise InputError(f"its header claims the shape {shape}")
        size = check_size(math.prod(shape) * dtype.itemsize)
        data = read_most(f, size + 1)
    if len(data) != size:
        more = "more" if len(data) > size else str(len(data))
        raise InputError(f"its header claims {size} bytes of data, but {more} are there")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if columns_first else "C")
