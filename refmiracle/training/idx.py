"""IDX files, the format of MNIST, known by their content and not by their names.

The format is LeCun's: a big-endian magic (two zero bytes, the type, the number of axes), one
32-bit size for each axis, then the elements, big-endian.  The whole may be packed by gzip.
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

from refmiracle.errors import InputError

LARGEST_FILE = 1 << 30
PIECE = 1 << 20

INTEGERS = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4"}
FLOATS = {0x0D: "float32", 0x0E: "float64"}
GZIP = b"\x1f\x8b"
# What is found under the names of these files, by its first bytes.
OTHERS = {
    GZIP: "gzip within gzip",
    b"\x03\x08\x00\x00": "an IDX file with its bytes in little-endian order",
    b"\x01\x08\x00\x00": "an IDX file with its bytes in little-endian order",
    b"PK": "a zip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x93NUMPY": "a NumPy file",
    b"\x89HDF": "an HDF5 file",
    b"PAR1": "a Parquet file",
    b"version https://git-lfs": "a pointer of Git LFS",
    b"<": "an HTML or XML page",
}


@dataclass(frozen=True)
class Kind:
    """What a file should hold.

    Parameters
    ----------
    name : str
    axes : int
    largest : int
        The largest value; the smallest is 0.
    """

    name: str
    axes: int
    largest: int

    def __str__(self) -> str:
        return f"{self.name}: an IDX file of integers, axes: {self.axes}"


IMAGES = Kind("images", axes=3, largest=255)
LABELS = Kind("labels", axes=1, largest=9)


def read_idx(path: Path, kind: Kind) -> NDArray[np.uint8]:
    """Read an IDX file of any type of integers, packed by gzip or not.

    Raises
    ------
    InputError
        If the file cannot be read, holds something else, is cut off or has bytes behind its end.
    """
    try:
        with open(path, "rb") as f:
            packed = f.peek(len(GZIP))[: len(GZIP)] == GZIP
            return _parse(cast(BinaryIO, gzip.GzipFile(fileobj=f)) if packed else f, kind)
    except (OSError, EOFError, zlib.error) as e:
        reason = getattr(e, "strerror", None) or e
        raise InputError(f"{path}: cannot be read: {reason}") from e
    except InputError as e:
        raise InputError(f"{path}: {e}") from e


def _parse(f: BinaryIO, kind: Kind) -> NDArray[np.uint8]:
    dtype = _read_type(f, kind)
    sizes = f.read(4 * kind.axes)
    if len(sizes) < 4 * kind.axes:
        raise InputError(f"it ends within its header of {4 + 4 * kind.axes} bytes")
    shape = [int(n) for n in np.frombuffer(sizes, dtype=">u4")]
    size = math.prod(shape) * dtype.itemsize
    if size > LARGEST_FILE:
        raise InputError(f"it claims {size} bytes of data; at most {LARGEST_FILE} are read")
    data = _read_most(f, size + 1)
    if len(data) != size:
        more = "more" if len(data) > size else str(len(data))
        raise InputError(f"its header claims {size} bytes of data, but {more} are there")
    values = np.frombuffer(data, dtype=dtype).reshape(shape)
    if values.size and not 0 <= values.min() <= values.max() <= kind.largest:
        raise InputError(
            f"it holds values from {values.min()} to {values.max()}; expected {kind.name} from 0"
            f" to {kind.largest}"
        )
    values = values.astype(np.uint8, copy=False)
    values.flags.writeable = False
    return values


def _read_type(f: BinaryIO, kind: Kind) -> np.dtype[np.integer]:
    """Read the magic; return the type of the elements, or refuse what the file is instead."""
    head = f.read(4)
    if len(head) == 4 and head[:2] == b"\0\0" and head[2] in INTEGERS and head[3] == kind.axes:
        return np.dtype(INTEGERS[head[2]])
    raise InputError(f"it is {_found(head, f)}; expected {kind}")


def _found(head: bytes, f: BinaryIO) -> str:
    """Say what a file is, by its first bytes; four of them have been read."""
    if len(head) == 4 and head[:2] == b"\0\0" and head[2] in INTEGERS | FLOATS:
        of = f"of {FLOATS.get(head[2], 'integers')}, axes: {head[3]}"
        others = {k.axes: k.name for k in (IMAGES, LABELS)}
        hint = f" (are these the {others[head[3]]}?)" if head[3] in others else ""
        return f"an IDX file {of}{hint if head[2] in INTEGERS else ''}"
    head += f.read(24)
    for begin, what in OTHERS.items():
        if head.lstrip(b"\xef\xbb\xbf\r\n\t " if begin == b"<" else b"").startswith(begin):
            return what
    return f"no IDX file (it begins with {head[:8].hex(' ')})" if head else "empty"


def _read_most(f: BinaryIO, size: int) -> bytearray:
    """Read at most so many bytes, piece by piece: memory is taken for what is there."""
    data = bytearray()
    while len(data) < size and (piece := f.read(min(PIECE, size - len(data)))):
        data += piece
    return data
