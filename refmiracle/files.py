"""Files that are there whole or not at all, and outputs that are no files: pipes and devices."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refmiracle.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# File systems take 255 bytes; a temporary file has five more.
LONGEST_NAME = 250


def first_line(error: BaseException) -> str:
    """Return what an exception says, in one line; its type if it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def printable(text: str) -> str:
    """Return a name as text: bytes of it that are none, as backslash and number."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, a pipe or a device as it comes.

    A file is written beside its place, flushed to the disk, and renamed.  Where `path` is a link
    that is the place of the file which it names.  A file that was there keeps its mode.

    Raises
    ------
    InputError
        If it cannot be written; a file that stood at `path` is still there.
    """
    with _refused(path):
        target, is_file = _find_target(Path(path))
        if isinstance(target, Path) and is_file:
            _replace(target, data)
        else:
            sys.stdout.flush()
            with open(target, "wb", closefd=isinstance(target, Path)) as f:
                f.write(data)


def check_writable(path: Path) -> None:
    """Refuse, before any work, an output that could not be written.

    Raises
    ------
    InputError
        If its folder is missing or closed, it is a folder, or a file that may not be written to.
    """
    with _refused(path):
        target, is_file = _find_target(Path(path))
        if isinstance(target, Path) and is_file:
            tempfile.TemporaryFile(dir=target.parent).close()


def is_standard_output(path: Path) -> bool:
    """Tell whether a path names what this process prints to, as /dev/stdout does."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.stat(path), os.fstat(1))
    return False


@contextlib.contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise InputError(f"{path}: cannot be written: {e.strerror or first_line(e)}") from e


def _find_target(path: Path) -> tuple[Path | int, bool]:
    """Return what is to be written to, a path or a descriptor, and whether it is a file."""
    if not path.name:
        raise OSError("it is no name of a file")
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return Path(os.path.realpath(path)), True
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(there, os.fstat(descriptor)):
                return descriptor, False
    if stat.S_ISDIR(there.st_mode):
        raise OSError(errno.EISDIR, "it is a folder")
    if stat.S_ISSOCK(there.st_mode):
        raise OSError(errno.ENXIO, "it is a socket")
    place = Path(os.path.realpath(path))
    if not stat.S_ISREG(there.st_mode) or not place.exists():
        return path, False  # what is no file, or has no name any more, as in /proc/self/fd
    os.close(os.open(place, os.O_WRONLY))
    return place, True


def _replace(place: Path, data: bytes) -> None:
    """Write a file beside its place and rename it."""
    # Always the same name, so that killed runs do not leave one file each.
    name = place.name
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    temporary = place.with_name(f".{name}.tmp")
    try:
        with _own(temporary) as f:
            f.truncate(0)
            f.write(data)
            f.flush()
            _keep_mode(f.fileno(), place)
            os.fsync(f.fileno())
            if fcntl is not None:
                os.replace(temporary, place)
        if fcntl is None:  # Windows renames no open file
            os.replace(temporary, place)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def _own(temporary: Path) -> Iterator[Any]:
    """Open the temporary file once no other process or thread writes to it.

    The lock is the kernel's, who lifts it when its owner dies.
    """
    while True:
        with open(temporary, "ab") as f:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(f.fileno(), fcntl.LOCK_EX)
                try:
                    same = os.path.samestat(os.fstat(f.fileno()), os.stat(temporary))
                except FileNotFoundError:
                    same = False
                if not same:  # the one who had it has renamed it
                    continue
            yield f
            return


def _keep_mode(descriptor: int, place: Path) -> None:
    """Give a new file the owner and mode of the one that it replaces, if there is one."""
    if not hasattr(os, "fchmod"):
        return
    with contextlib.suppress(OSError):
        old = os.stat(place)
        with contextlib.suppress(OSError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
