"""Folders of PNG or JPEG images, one for each class, by Pillow (extra ``images``)."""

from __future__ import annotations

import io
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.errors import InputError
from refmiracle.extras import import_extra
from refmiracle.training.formats.contract import (
    TEST,
    TRAIN,
    Found,
    check_size,
    divide,
    permutation,
    read_most,
    refusals_of,
)
from refmiracle.training.formats.kinds import HEAD, JPEG, PNG, seems

logger = logging.getLogger(__name__)

EXTRA = "images"
# Under which a folder may have its parts.
PARTS = {TRAIN: "train", TEST: "test"}
ENDINGS = (".png", ".jpg", ".jpeg")
# What systems put into folders.
OVERLOOKED = ("thumbs.db", "desktop.ini")
LARGEST_FILE = 1 << 26
# What an intact PNG file ends with: the chunk IEND and its checksum.
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
LARGEST_PICTURE = 1 << 26  # pixels
GREY, RGB = "L", "RGB"
# Modes that hold the same pixels in another way.
CONVERTED = {"1": GREY, "P": RGB}


class ClassFolders:
    """A folder for each class, in ``train`` and ``test`` or without such a division."""

    words = "folders of PNG or JPEG images, one for each class"
    endings = ENDINGS

    def recognises(self, path: Path) -> bool:
        """Tell whether some folder has an image in it, or one of a part has folders in it."""
        return bool(_parts(path)) or any(_has_images(f) for f in _folders(path).values())

    def read(self, path: Path, part: str) -> Found:
        """Read the images of a part; the training images are permuted, as they stand by class."""
        readers = _readers()
        with refusals_of(path):
            parts = _parts(path)
            if not parts:
                names = list(_folders(path))
                files, labels = _list_images(_folders(path), names)
                chosen = divide(len(files), part)
            elif part not in parts:
                raise InputError(f"there is no folder {PARTS[part]} with a folder for each class")
            else:
                if TRAIN not in parts:
                    logger.warning(
                        "%s: there is no folder train, so its classes are the folders of %s",
                        path,
                        PARTS[part],
                    )
                names = list(parts.get(TRAIN, parts[part]))
                files, labels = _list_images(parts[part], names)
                chosen = permutation(len(files)) if part == TRAIN else np.arange(len(files))
            images = _read_images([files[i] for i in chosen], readers)
        classes = dict(enumerate(names))
        return Found(images, labels[chosen], len(names) - 1, classes, channels_first=True)


def _folders(path: Path) -> dict[str, Path]:
    """Return the folders in a folder by name, sorted; hidden ones are none."""
    if not path.is_dir():
        return {}
    with os.scandir(path) as entries:
        names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    return {name: path / name for name in sorted(names)}


def _parts(path: Path) -> dict[str, dict[str, Path]]:
    """Return the class folders of each part, where a folder is divided into parts."""
    found = {part: _folders(path / name) for part, name in PARTS.items()}
    return {part: folders for part, folders in found.items() if folders}


def _has_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(e.name.lower().endswith(ENDINGS) for e in entries)


def _list_images(
    folders: Mapping[str, Path], names: Sequence[str]
) -> tuple[list[Path], NDArray[np.int64]]:
    """Return all images, sorted by class and name, and their labels."""
    unknown = [folder for name, folder in folders.items() if name not in names]
    if unknown:
        raise InputError(f"{unknown[0]}: there is no such class among the training images")
    files, labels = [], []
    for label, name in enumerate(names):
        own = _list_files(folders[name]) if name in folders else []
        files += own
        labels += [label] * len(own)
    return files, np.array(labels, dtype=np.int64)


def _list_files(folder: Path) -> list[Path]:
    files = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):  # not as the system sorts
        name = path.name.lower()
        if name.startswith(".") or name in OVERLOOKED:
            continue
        if path.is_dir() or not name.endswith(ENDINGS):
            raise InputError(f"{path}: it is among images; expected {', '.join(ENDINGS)} only")
        files.append(path)
    return files


@dataclass(frozen=True)
class _Size:
    """What all images of a data set have in common."""

    width: int
    height: int
    mode: str

    def shape(self) -> tuple[int, ...]:
        """Return the shape of an image as Pillow gives it."""
        return (self.height, self.width, *((3,) if self.mode == RGB else ()))

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {'RGB' if self.mode == RGB else 'grey'}"


def _read_images(files: Sequence[Path], readers: Mapping[bytes, Any]) -> NDArray[np.uint8]:
    """Return images of one size and mode, shape (count, height, width) or (count, 3, ...)."""
    first = None
    for number, path in enumerate(files):
        with refusals_of(path):
            image, size = _open(path, readers)
            if first is None:
                first = size
                check_size(len(files) * math.prod(size.shape()))
                pixels = np.empty((len(files), *size.shape()), np.uint8)
            if size != first:
                example = f"{files[0].parent.name}/{files[0].name}"
                raise InputError(
                    f"its size is {size}; the first, {example}, has {first}, and all must have one"
                )
            # Not decoded before its size is known.
            image.load()
            if image.mode != size.mode:
                image = image.convert(size.mode)
            pixels[number] = np.asarray(image)
    if first is None:
        raise InputError("there are no images in the folders of the classes")
    return pixels if pixels.ndim == 3 else np.moveaxis(pixels, 3, 1)


def _readers() -> dict[bytes, Any]:
    """Return Pillow's classes by what their files begin with.

    Image.open would warn of large images; here, none is decoded before its size is known.
    """
    return {
        PNG: import_extra("PIL.PngImagePlugin", EXTRA, ("PngImageFile",)).PngImageFile,
        JPEG: import_extra("PIL.JpegImagePlugin", EXTRA, ("JpegImageFile",)).JpegImageFile,
    }


def _open(path: Path, readers: Mapping[bytes, Any]) -> tuple[Any, _Size]:
    """Return an image that is not decoded yet, and its size."""
    with open(path, "rb") as f:
        data = read_most(f, LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise InputError(f"it has more than {LARGEST_FILE} bytes")
    begin = next((begin for begin in readers if data.startswith(begin)), None)
    if begin is None:
        raise InputError(f"it is {seems(bytes(data[:HEAD]), 'image')}; expected PNG or JPEG")
    if begin == PNG and not data.endswith(PNG_END):
        raise InputError("it is cut off, or has bytes behind its end")
    image = readers[begin](io.BytesIO(data))
    mode = CONVERTED.get(image.mode, image.mode)
    if mode not in (GREY, RGB) or "transparency" in image.info:
        what = "transparency" if "transparency" in image.info else f"pixels of mode {image.mode}"
        raise InputError(f"it has {what}; expected grey or RGB of 8 bits, without transparency")
    if any(";16" in str(tile) for tile in image.tile):  # Pillow would drop the lower byte
        raise InputError("it has pixels of 16 bits; expected grey or RGB of 8 bits")
    if getattr(image, "n_frames", 1) > 1:
        raise InputError("it has several frames; expected one image")
    width, height = image.size
    if width * height > LARGEST_PICTURE:
        raise InputError(f"it claims {width}x{height} pixels; at most {LARGEST_PICTURE} are read")
    return image, _Size(width, height, mode)
