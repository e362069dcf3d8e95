"""One process at a time in a run's folder, by a lock that the kernel lifts when its owner dies."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from refmiracle.errors import InputError, named

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NAME = ".lock"
# Windows lets nobody read what is locked: far behind the few words for whoever comes second.
FAR = 1 << 30
OWNER = re.compile(r"process \d+ on [\w.-]+, since [0-9: -]+ UTC")
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
# Locks held in this process; a forked child has them too, until it drops them.
_held: set[int] = set()

logger = logging.getLogger(__name__)


class LockedError(InputError):
    """Somebody else works in the folder."""


def _drop_in_child() -> None:
    """Close the parent's locks in a forked child, or they would outlive the parent."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_in_child)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes, and other threads, out of a folder that is there.

    Where the file system knows no locks the work goes on without, and the log says so.

    Raises
    ------
    InputError
        If somebody else works in the folder, or nothing can be written there.
    """
    path = folder / NAME
    try:
        descriptor = _take(path)
    except BlockingIOError:
        raise LockedError(
            f"{folder}: {_owner(path)} works there; wait for its end, or name another"
            f" {named('out')}"
        ) from None
    except OSError as e:
        raise InputError(f"{path}: cannot be written: {e.strerror or e}") from e
    _held.add(descriptor)
    try:
        yield
    finally:
        _release(path, descriptor)


def _take(path: Path) -> int:
    """Return the descriptor of the file, locked and with the name of its owner in it.

    Raises
    ------
    BlockingIOError
        If somebody else holds it.
    OSError
        If it cannot be opened.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            _lock(descriptor)
            if _is_at(path, descriptor):
                break
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its owner of before has just removed it
    with contextlib.suppress(OSError):  # a full disk: the lock holds without
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        owner = f"process {os.getpid()} on {socket.gethostname()}, since {began} UTC\n"
        os.ftruncate(descriptor, 0)
        os.write(descriptor, owner.encode("ascii", "replace"))
    return descriptor


def _lock(descriptor: int) -> None:
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, FAR, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            finally:
                os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        if e.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            raise BlockingIOError(*e.args) from e
        if e.errno not in NO_LOCKS:
            raise
        logger.warning("nothing keeps a second process out of the run: no locks here (%s)", e)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _owner(path: Path) -> str:
    """Return who holds the lock, as far as the file tells."""
    try:
        said = path.read_bytes()[:300].decode("ascii", "replace").strip()
    except OSError:
        said = ""
    return said if OWNER.fullmatch(said) else "another process"


def _release(path: Path, descriptor: int) -> None:
    if descriptor not in _held:  # a forked child: the lock is its parent's
        return
    _held.discard(descriptor)
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            path.unlink()
    os.close(descriptor)
    if sys.platform == "win32":  # what is open cannot be removed there: by us, or of another
        with contextlib.suppress(OSError):
            path.unlink()
