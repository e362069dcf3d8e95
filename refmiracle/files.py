"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from refmiracle.errors import InputError


def first_line(error: BaseException) -> str:
    """Return what an exception says, in one line; its type if it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary file beside `path`, flush it to the disk, and rename it.

    Raises
    ------
    InputError
        If the file cannot be written; what stood at `path` is still there.
    """
    path = Path(path)
    if not path.name:
        raise InputError(f"{path}: cannot be written: it is no name of a file")
    # Always the same name, so that killed runs do not leave one file each.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except OSError as e:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise InputError(f"{path}: cannot be written: {e.strerror or e}") from e
