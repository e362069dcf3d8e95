"""CIFAR-10 and CIFAR-100 in their binary form: a folder, or the archive as it is downloaded.

A record is one byte for the class (two for CIFAR-100, the coarse and the fine one), then 3,072 of
the image: a plane of 32x32 for each of red, green and blue.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from refmiracle.errors import InputError
from refmiracle.training.formats.contract import (
    PIECE,
    TEST,
    TRAIN,
    Found,
    read_most,
    refusals_of,
    to_text,
)
from refmiracle.training.formats.kinds import GZIP

IMAGE = (3, 32, 32)
PIXELS = 3 * 32 * 32
# Of an archive, as much as of a checkpoint: CIFAR's have 184 MB.
LARGEST_UNPACKED = 1 << 28
MOST_MEMBERS = 1000
# Of the form that is not read.
PICKLES = ("data_batch_1", "test_batch", "fine_label_names", "meta", "batches.meta")
USTAR, USTAR_AT = b"ustar", 257


@dataclass(frozen=True, eq=False)
class Kind:
    """One of the two data sets.

    Parameters
    ----------
    name : str
    folder : str
        That its archive holds.
    files : mapping of str to tuple of str
        Of each part.
    classes : tuple of int
        How many classes each byte before an image tells apart; the last one is the label.
    names : str
        The file with the names of the classes.
    """

    name: str
    folder: str
    files: Mapping[str, tuple[str, ...]]
    classes: tuple[int, ...]
    names: str

    def record(self) -> int:
        """Return the bytes of a record."""
        return len(self.classes) + PIXELS


KINDS = (
    Kind(
        "CIFAR-10",
        "cifar-10-batches-bin",
        {TRAIN: tuple(f"data_batch_{i}.bin" for i in range(1, 6)), TEST: ("test_batch.bin",)},
        (10,),
        "batches.meta.txt",
    ),
    Kind(
        "CIFAR-100",
        "cifar-100-binary",
        {TRAIN: ("train.bin",), TEST: ("test.bin",)},
        (20, 100),
        "fine_label_names.txt",
    ),
)


class CifarFolder:
    """The folder with the ``.bin`` files, or the folder that this one lies in."""

    words = "CIFAR-10 or CIFAR-100 in binary form"
    endings = (".bin", "batches.meta.txt", "_label_names.txt")

    def recognises(self, path: Path) -> bool:
        """Tell whether there is one of the files."""
        return bool(_folders(path))

    def read(self, path: Path, part: str) -> Found:
        """Read the files of a part."""
        folders = _folders(path)
        if len(folders) > 1:
            raise InputError(f"{path}: it holds {' and '.join(k.name for k in folders)}; name one")
        ((kind, folder),) = folders.items()
        with refusals_of(folder):
            files = {name: _read_file(folder, name) for name in kind.files[part]}
            batches = [_parse(kind, name, data) for name, data in files.items()]
            names = _read_file(folder, kind.names) if (folder / kind.names).exists() else None
            return _join(kind, batches, _parse_names(kind, names) if names is not None else {})


def _read_file(folder: Path, name: str) -> bytearray:
    try:
        with open(folder / name, "rb") as f:
            data = read_most(f, LARGEST_UNPACKED + 1)
    except OSError as e:
        raise InputError(f"{name} cannot be read: {e.strerror or e}") from e
    if len(data) > LARGEST_UNPACKED:
        raise InputError(f"{name} has more than {LARGEST_UNPACKED} bytes")
    return data


def _folders(path: Path) -> dict[Kind, Path]:
    """Return where the files of each kind are: here, or one below."""
    found = {}
    for kind in KINDS:
        files = [name for names in kind.files.values() for name in names]
        for folder in (path, path / kind.folder):
            if kind not in found and any((folder / name).is_file() for name in files):
                found[kind] = folder
    return found


class CifarArchive:
    """The ``.tar.gz``; its members are known by their names alone, and none is unpacked to disk."""

    words = "the .tar.gz of CIFAR-10 or CIFAR-100 in binary form"
    endings: tuple[str, ...] = ()

    def recognises(self, path: Path) -> bool:
        """Tell whether a file is packed by gzip, or a tar archive."""
        if not path.is_file():
            return False
        with refusals_of(path), open(path, "rb") as f:
            head = f.read(USTAR_AT + len(USTAR))
            return head.startswith(GZIP) or head[USTAR_AT:] == USTAR

    def read(self, path: Path, part: str) -> Found:
        """Read the files of a part; the archive is read to its end, where gzip has its checksum."""
        with refusals_of(path), open(path, "rb") as f:
            packed = f.peek(len(GZIP))[: len(GZIP)] == GZIP
            limited = _Limited(cast(BinaryIO, gzip.GzipFile(fileobj=f)) if packed else f)
            kind, members = _read_archive(limited, part)
            while limited.read(PIECE):
                pass
            absent = [name for name in kind.files[part] if name not in members]
            if absent:
                raise InputError(f"there is no {kind.folder}/{absent[0]} in it")
            batches = [_parse(kind, name, members[name]) for name in kind.files[part]]
            names = members.get(kind.names)
            return _join(kind, batches, _parse_names(kind, names) if names is not None else {})


class _Limited:
    """A file that is refused once too much of it is read."""

    def __init__(self, f: BinaryIO) -> None:
        self.f, self.left = f, LARGEST_UNPACKED

    def read(self, size: int) -> bytes:
        data = self.f.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise InputError(f"it unpacks to more than {LARGEST_UNPACKED} bytes")
        return data


def _read_archive(limited: _Limited, part: str) -> tuple[Kind, dict[str, bytes]]:
    """Return what the archive is of, and the files in it that a part takes, by name."""
    own = {
        place: (kind, name)
        for kind in KINDS
        for name in (*kind.files[TRAIN], *kind.files[TEST], kind.names)
        for place in (name, f"{kind.folder}/{name}")
    }
    kinds: set[Kind] = set()
    members: dict[str, bytes] = {}
    pickled = False
    with tarfile.open(fileobj=cast(Any, limited), mode="r|") as archive:
        for number, member in enumerate(archive):
            if number == MOST_MEMBERS:
                raise InputError(f"it has more than {MOST_MEMBERS} members")
            place = member.name.removeprefix("./")
            pickled |= place.rpartition("/")[2] in PICKLES
            if place not in own:
                continue
            kind, name = own[place]
            kinds.add(kind)
            if name in members:
                raise InputError(f"it holds {name} twice")
            if name in (*kind.files[part], kind.names):
                members[name] = _read_member(archive, member)
    if len(kinds) != 1:
        what = "the pickles of CIFAR's Python version" if pickled else "no files of CIFAR"
        what = " and ".join(sorted(kind.name for kind in kinds)) or what
        raise InputError(f"it holds {what}; expected CIFAR-10 or CIFAR-100 in binary form")
    return kinds.pop(), members


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    f = archive.extractfile(member) if member.isreg() and not member.issparse() else None
    if f is None:
        raise InputError(f"{member.name} in it is no plain file")
    data = f.read(min(member.size, LARGEST_UNPACKED))
    if len(data) != member.size:
        raise InputError(
            f"{member.name} in it claims {member.size} bytes, but {len(data)} are there"
        )
    return data


def _parse(kind: Kind, name: str, data: bytes | bytearray) -> NDArray[np.uint8]:
    """Return the records of a file, shape (count, bytes)."""
    size = kind.record()
    if not data or len(data) % size:
        raise InputError(
            f"{name} has {len(data)} bytes; expected records of {size} bytes, as {kind.name} has"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    for column, classes in enumerate(kind.classes):
        largest = int(records[:, column].max())
        if largest >= classes:
            raise InputError(f"{name} holds a label of {largest}; expected 0 to {classes - 1}")
    return records


def _parse_names(kind: Kind, data: bytes | bytearray) -> dict[int, str]:
    names = [line.strip() for line in to_text(data).splitlines() if line.strip()]
    if len(names) != kind.classes[-1]:
        raise InputError(f"{kind.names} has {len(names)} names; expected {kind.classes[-1]}")
    return dict(enumerate(names))


def _join(kind: Kind, batches: Sequence[NDArray[np.uint8]], names: dict[int, str]) -> Found:
    before = len(kind.classes)
    images = np.concatenate([b[:, before:] for b in batches]).reshape(-1, *IMAGE)
    labels = np.concatenate([b[:, before - 1] for b in batches])
    return Found(images, labels, kind.classes[-1] - 1, names, channels_first=True)
