"""IDX files, the format of MNIST, known by their content and not by their names.

The format is LeCun's: a big-endian magic (two zero bytes, the type, the number of axes), one
32-bit size for each axis, then the elements, big-endian.  The whole may be packed by gzip.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from refmiracle.errors import InputError
from refmiracle.numerics.arrays import read_only
from refmiracle.training.formats.contract import check_size, read_most, to_labels, to_pixels
from refmiracle.training.formats.kinds import GZIP, HEAD, seems

INTEGERS = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4"}
FLOATS = {0x0D: "float32", 0x0E: "float64"}


@dataclass(frozen=True)
class Kind:
    """What a file should hold.

    Parameters
    ----------
    name : str
    axes : tuple of int
        How many it may have.
    check : function
        Returns the elements in the type that they are used in, or refuses their values.
    """

    name: str
    axes: tuple[int, ...]
    check: Callable[[NDArray[np.generic]], NDArray[np.integer]]

    def __str__(self) -> str:
        axes = " or ".join(map(str, self.axes))
        return f"{self.name}: an IDX file of integers, axes: {axes}"


IMAGES = Kind("images", (3, 4), to_pixels)
LABELS = Kind("labels", (1,), to_labels)


def read_idx(path: Path, kind: Kind) -> NDArray[np.integer]:
    """Read an IDX file of any type of integers, packed by gzip or not.

    Returns
    -------
    ndarray
        Images of uint8, their axes as they stand in the file, or labels of uint16.

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


def _parse(f: BinaryIO, kind: Kind) -> NDArray[np.integer]:
    dtype, axes = _read_type(f, kind)
    sizes = f.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise InputError(f"it ends within its header of {4 + 4 * axes} bytes")
    shape = [int(n) for n in np.frombuffer(sizes, dtype=">u4")]
    # Axes of 0 hide how large the others are.
    check_size(math.prod(n for n in shape if n) * dtype.itemsize)
    size = math.prod(shape) * dtype.itemsize
    data = read_most(f, size + 1)
    if len(data) != size:
        more = "more" if len(data) > size else str(len(data))
        raise InputError(f"its header claims {size} bytes of data, but {more} are there")
    return read_only(kind.check(np.frombuffer(data, dtype=dtype).reshape(shape)))


def _read_type(f: BinaryIO, kind: Kind) -> tuple[np.dtype[np.integer], int]:
    """Read the magic; return type and axes of the elements, or refuse what the file is instead."""
    head = f.read(4)
    if len(head) == 4 and head[:2] == b"\0\0" and head[2] in INTEGERS and head[3] in kind.axes:
        return np.dtype(INTEGERS[head[2]]), head[3]
    raise InputError(f"it is {_found(head, f)}; expected {kind}")


def _found(head: bytes, f: BinaryIO) -> str:
    """Say what a file is, by its first bytes; four of them have been read."""
    if len(head) == 4 and head[:2] == b"\0\0" and head[2] in INTEGERS | FLOATS:
        of = f"of {FLOATS.get(head[2], 'integers')}, axes: {head[3]}"
        others = {axes: k.name for k in (IMAGES, LABELS) for axes in k.axes}
        hint = f" (are these the {others[head[3]]}?)" if head[3] in others else ""
        return f"an IDX file {of}{hint if head[2] in INTEGERS else ''}"
    if head.startswith(GZIP):
        return "gzip within gzip"
    return seems(head + f.read(HEAD - len(head)), "IDX file")
