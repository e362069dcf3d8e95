"""Folders with four IDX files, under MNIST's names or under EMNIST's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refmiracle.errors import InputError
from refmiracle.training.formats.contract import TEST, TRAIN, Found, read_most, refusals_of, to_text
from refmiracle.training.formats.idx import IMAGES, LABELS, Kind, read_idx

# EMNIST calls the test images so.
EMNIST_PARTS = {TRAIN: "train", TEST: "test"}
EMNIST_FILE = re.compile(r"(emnist-.+)-(?:train|test)-(?:images|labels)[-.]idx\d-ubyte(?:\.gz)?")
LETTERS = "emnist-letters"
LARGEST_MAPPING = 1 << 20


def _names(stem: str, kind: Kind) -> list[list[str]]:
    """Return names that a file may have, with and without .gz; many mirrors have a dot in them."""
    plain = [f"{stem}-{kind.name}{mark}idx{axes}-ubyte" for axes in kind.axes for mark in "-."]
    return [[name, f"{name}.gz"] for name in plain]


def _find(folder: Path, stem: str, kind: Kind) -> Path | None:
    for path in (folder / name for names in _names(stem, kind) for name in names):
        if path.is_file():
            return path
    return None


def missing(folder: Path, stem: str, kind: Kind) -> str:
    """Return in words that a file is not there."""
    dash, dot = _names(stem, kind)[:2]
    return f"{folder}: there is no {' or '.join(dash)}, nor {' or '.join(dot)}"


def _read(folder: Path, stem: str, kind: Kind) -> NDArray[np.integer]:
    path = _find(folder, stem, kind)
    if path is None:
        raise InputError(missing(folder, stem, kind))
    return read_idx(path, kind)


def _largest(folder: Path, stems: Iterator[str]) -> int:
    """Return the largest label of all parts that are there: a part need not have each class."""
    paths = (_find(folder, stem, LABELS) for stem in stems)
    return max((int(read_idx(p, LABELS).max(initial=0)) for p in paths if p), default=0)


class MnistFolder:
    """``train-images-idx3-ubyte`` and so on, as MNIST and its many followers have them."""

    words = "four IDX files under MNIST's names"
    endings = ("-ubyte", "-ubyte.gz")

    def recognises(self, path: Path) -> bool:
        """Tell whether there is one of the four files."""
        return any(_find(path, part, kind) for part in (TRAIN, TEST) for kind in (IMAGES, LABELS))

    def read(self, path: Path, part: str) -> Found:
        """Read two of the files."""
        images, labels = _read(path, part, IMAGES), _read(path, part, LABELS)
        return Found(images.view(np.uint8), labels, _largest(path, iter((TRAIN, TEST))))


class EmnistFolder:
    """``emnist-letters-train-images-idx3-ubyte`` and so on.

    A folder of a single one of EMNIST's data sets, or a folder and behind it which of them, as in
    ``gzip/emnist-letters``.  The images have rows and columns swapped, as the originals do, and the
    labels of the letters begin at 1.
    """

    words = "IDX files under EMNIST's names"
    endings = ("-ubyte", "-ubyte.gz", "-mapping.txt")

    def recognises(self, path: Path) -> bool:
        """Tell whether there are files of such names."""
        return bool(_sets(path))

    def read(self, path: Path, part: str) -> Found:
        """Read two of the files, and the mapping of labels to characters if it is there."""
        sets = _sets(path)
        if len(sets) > 1:
            names = " or ".join(f"/{place.name}" for place in sets)
            raise InputError(
                f"{path}: it holds {len(sets)} data sets; name one of them behind the folder:"
                f" {names}"
            )
        folder, name = sets[0].parent, sets[0].name
        stem = f"{name}-{EMNIST_PARTS[part]}"
        images, labels = _read(folder, stem, IMAGES), _read(folder, stem, LABELS)
        return Found(
            images.view(np.uint8),
            labels,
            _largest(folder, (f"{name}-{p}" for p in EMNIST_PARTS.values())),
            _read_mapping(folder / f"{name}-mapping.txt"),
            transposed=True,
            labels_from=1 if name == LETTERS else 0,
        )


def _sets(path: Path) -> list[Path]:
    """Return the data sets of a folder, or the one that a path names, as folder and name."""
    folder = path if path.is_dir() else path.parent
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []
    sets = {found[1] for name in names if (found := EMNIST_FILE.fullmatch(name))}
    return [folder / name for name in sorted(sets) if folder == path or name == path.name]


def _read_mapping(path: Path) -> dict[int, str]:
    """Return the character of each label: in each line a label and the codes of its characters."""
    names: dict[int, str] = {}
    if not path.exists():
        return names
    with refusals_of(path), open(path, "rb") as f:
        for number, line in enumerate(to_text(read_most(f, LARGEST_MAPPING)).splitlines(), start=1):
            try:
                label, character, *_ = map(int, line.split())
                names[label] = chr(character)
                good = label >= 0 and names[label].isprintable()
            except (ValueError, OverflowError):
                good = not line.strip()
            if not good:
                raise InputError(
                    f"line {number} is {line[:40]!r}; expected a label and the code of a character"
                )
    return names
