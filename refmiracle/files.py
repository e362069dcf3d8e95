"""Files that are there whole or not at all, and outputs that are no files: pipes and devices."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shlex
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refmiracle.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# File systems take 255 bytes; the name of a temporary file is longer.
LONGEST_NAME = 200
# The file that others replace all the time; the target that another program has open on Windows.
TRIES, PAUSE = 50, 0.02  # seconds
# What a system says of a file that may be written to but not replaced.
NOT_REPLACED = (errno.EACCES, errno.EBUSY, errno.EPERM, errno.EXDEV)


def first_line(error: BaseException) -> str:
    """Return what an exception says, in one line; its type if it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def printable(text: str) -> str:
    """Return a name as text: bytes of it that are none, as backslash and number."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def quoted(argument: str | Path) -> str:
    """Return an argument as a shell takes it."""
    return subprocess.list2cmdline([argument]) if os.name == "nt" else shlex.quote(str(argument))


def flag(name: str, value: Any) -> str:
    """Return an option behind a space, as a shell takes it."""
    between = "=" if str(value).startswith("-") else " "
    return f" --{name.replace('_', '-')}{between}{quoted(str(value))}"


def in_one_line(path: Path) -> str:
    """Return a name to be printed, which may hold the end of a line."""
    return str(path).replace("\n", "\\n")


def as_path(name: str, given: Any) -> Path:
    """Return a path from outside.

    Parameters
    ----------
    name : str
        What the message calls it.
    given : str or os.PathLike of str

    Raises
    ------
    InputError
        If it is none that a system could have: empty, or with a zero byte in it.
    """
    text = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(text, str):
        raise InputError(f"{name} is {given!r:.40}; expected a path, as a str or a Path")
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        encoded = b""
    if not encoded or b"\0" in encoded:
        raise InputError(f"{name} {text!r} is no path")
    return Path(text)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, a pipe or a device as it comes.

    A file is written beside its place, flushed to the disk, and renamed.  Where `path` is a link
    that is the place of the file which it names.  A file that was there keeps its mode.  One that
    may be written to but not replaced is written to, and only a crash can leave it half written.

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
            if sys.stdout is not None:
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
        return _is_open_as(1, os.stat(path))
    return False


def _is_open_as(descriptor: int, there: os.stat_result) -> bool:
    """Tell whether a descriptor is of this file; consoles of Windows have no number to tell by."""
    return bool(there.st_ino) and os.path.samestat(there, os.fstat(descriptor))


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
            if _is_open_as(descriptor, there):
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
    with _beside(place) as (temporary, f):
        try:
            f.truncate(0)
            f.write(data)
            f.flush()
            _keep_mode(f.fileno(), place)
            os.fsync(f.fileno())
            if fcntl is None:  # Windows renames no open file
                f.close()
            _rename(temporary, place, data)
        except BaseException:
            # While the lock is held: then it is nobody else's.  Windows removes no open file.
            with contextlib.suppress(OSError):
                if fcntl is not None:
                    temporary.unlink()
            with contextlib.suppress(OSError):  # what is still to be written
                f.close()
            with contextlib.suppress(OSError):
                if fcntl is None:
                    temporary.unlink()
            raise


def _rename(temporary: Path, place: Path, data: bytes) -> None:
    """Put the temporary file in its place; where it may only be written to, write there.

    So it is with a file that is mounted by itself, as in containers, and with one of another user
    in a folder such as /tmp.
    """
    for _ in range(TRIES if fcntl is None else 0):
        try:
            os.replace(temporary, place)
            return
        except PermissionError:  # a scanner or an indexer has it open
            time.sleep(PAUSE)
    try:
        os.replace(temporary, place)
    except OSError as e:
        if e.errno not in NOT_REPLACED or not place.exists():
            raise
        before = place.read_bytes()
        try:
            _overwrite(place, data)
        except BaseException:  # such as a disk that is full, or Ctrl-C: what was there has room
            _overwrite(place, before)
            raise
        temporary.unlink()


def _overwrite(place: Path, data: bytes) -> None:
    """Write the whole of a file anew, where it is."""
    with open(place, "r+b") as f:
        f.write(data)
        f.truncate()
        f.flush()
        os.fsync(f.fileno())


@contextlib.contextmanager
def _beside(place: Path) -> Iterator[tuple[Path, Any]]:
    """Open a temporary file beside a place, once no other process or thread writes to it.

    It has always the same name, so that killed runs do not leave one file each.  The lock is the
    kernel's, who lifts it when its owner dies.  Without locks, as on Windows and some network
    file systems, each writer has a file of its own: of two the last one wins.
    """
    name = place.name
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    shared = place.with_name(f".{name}.tmp")
    for _ in range(TRIES if fcntl is not None else 0):
        with _open(shared) as f:
            try:
                fcntl.flock(f.fileno(), fcntl.LOCK_EX)
            except OSError:
                shared.unlink(missing_ok=True)  # another writer may have found the same
                break
            if _is_at(shared, f.fileno()):  # or the one who had it has renamed it
                yield shared, f
                return
    own = place.with_name(f".{name}.{os.getpid()}-{threading.get_ident()}.tmp")
    with _open(own) as f:
        yield own, f


def _open(temporary: Path) -> Any:
    """Open a file for writing, made if it is not there; what a link there names is not ours."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    if temporary.is_symlink():
        temporary.unlink(missing_ok=True)
    return open(os.open(temporary, flags, 0o666), "r+b")


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _keep_mode(descriptor: int, place: Path) -> None:
    """Give a new file the owner and mode of the one that it replaces, if there is one."""
    if not hasattr(os, "fchown"):  # Windows has the other alone, since Python 3.13
        return
    with contextlib.suppress(OSError):
        old = os.stat(place)
        with contextlib.suppress(OSError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
