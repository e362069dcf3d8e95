"""Functions compiled by numba, and the folder in which their machine code is kept between starts.

numba's own cache looks at one file a function, does not see a change in another that the function
calls into, needs a folder that it can write to, and takes a file that was cut off for good.  Here
the folder's name is a digest of all that the code is made of, each file in it carries the SHA-256
of its content, and whatever cannot be read or written is compiled instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

import refmiracle
from refmiracle.errors import InputError, named
from refmiracle.files import first_line


def check_settings() -> None:
    """Refuse what numba was told with which nothing can be compiled.

    Raises
    ------
    InputError
        If compilation is switched off, or LLVM would end the process over the features.
    """
    config: Any = numba.config
    if config.DISABLE_JIT:
        raise InputError(
            f"NUMBA_DISABLE_JIT is set, and engine numba is compiled; use {named('engine')} numpy"
        )
    for feature in (config.CPU_FEATURES or "").split(","):
        if feature and feature[0] not in "+-":
            raise InputError(
                f"NUMBA_CPU_FEATURES holds {feature!r}; expected features like +avx2 or -avx2"
            )


check_settings()
LOG = logging.getLogger("refmiracle")
HERE = Path(__file__).parent
DIGEST_BYTES = 32
PREFIX = "refmiracle-"
KEPT_SECONDS = 30 * 86400
# In the names of settings of numba that do not change the code that it makes for a processor.
HARMLESS = ("CACHE", "COLOR", "CUDA", "GDB", "THREAD")
# Options of what has to be the same bits everywhere: no reordering, no fusing, no libm.
EXACT: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": False}


def compiled(**options):
    """Return a decorator: `numba.njit` with these options, and the code kept as this module says.

    Parameters
    ----------
    **options
        Of `numba.njit`, but for `cache`.
    """

    def decorate(function):
        dispatcher = numba.njit(**options)(function)
        dispatcher._cache = KeptCode(function)  # where numba has its own
        return dispatcher

    return decorate


def digest(parts: Iterable[bytes]) -> str:
    """Return a digest of some parts that knows where each ends."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little") + part)
    return found.hexdigest()[:12]


@cache
def of_source() -> str:
    """Return a digest of the files that the code is compiled from.

    These are the engine's, and those of `numerics`, whose constants it holds.
    """
    numerics = Path(refmiracle.__file__).parent / "numerics"
    files = sorted([*HERE.glob("*.py"), *numerics.glob("*.py")])
    return digest(part for file in files for part in (file.name.encode(), file.read_bytes()))


@cache
def of_surroundings() -> str:
    """Return a digest of what else decides the code: versions, processor, what numba was told."""
    try:
        features = llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM does not know the features of every platform
        features = ""
    told = [
        (name, repr(value))
        for name, value in sorted(vars(numba.config).items())
        if name.isupper() and not any(part in name for part in HARMLESS)
    ]
    versions = sys.version, numba.__version__, np.__version__, llvm.llvm_version_info
    texts = repr(versions), llvm.get_host_cpu_name(), features, repr(told)
    return digest(text.encode() for text in texts)


@cache
def folders() -> tuple[Path, ...]:
    """Return where code may be kept, best first.

    In the folder that NUMBA_CACHE_DIR names, and no other; or beside the source, and if that may
    not be written to, in the user's own.  All are read: who installs may compile for all users.
    """
    name = f"{PREFIX}{of_source()}-{of_surroundings()}"
    chosen = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    if chosen:
        return (Path(chosen).absolute() / name,)
    own = Path(AppDirs("refmiracle", appauthor=False).user_cache_dir)
    beside = HERE / "__pycache__" / name
    return (beside, own / name) if own.is_absolute() else (beside,)  # not where there is no home


@cache
def clear_old(folder: Path) -> None:
    """Remove code that nobody will ask for again from where new code is about to be kept.

    Beside the source is no other source's code; elsewhere another installation may use what is not
    old.  The folder itself stays: reading does not make it younger.
    """
    for other in {*folder.parent.glob(f"{PREFIX}*")} - {folder}:
        with contextlib.suppress(OSError):
            replaced = folder.is_relative_to(HERE) and of_source() not in other.name
            if replaced or time.time() - other.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(other, ignore_errors=True)


@cache
def say_that_nothing_is_kept(reason: str) -> None:
    """Say so once."""
    LOG.warning(
        "refmiracle: compiled code cannot be kept, so each start compiles anew (%s);"
        " NUMBA_CACHE_DIR may name another folder",
        reason,
    )


def _digest_of(name: str, content: bytes) -> bytes:
    """Return a digest of kept code and of which it is."""
    return hashlib.sha256(name.encode() + b"\0" + content).digest()


class KeptCode:
    """The kept code of one function: what numba asks of a dispatcher's cache.

    Parameters
    ----------
    function : function
        The Python function.
    """

    def __init__(self, function):
        self.name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"

    @property
    def cache_path(self):
        """Return the folder that is tried first."""
        return str(folders()[0])

    def _file(self, sig, codegen):
        """Return the name of the file for a signature and a target machine."""
        key = repr((sig, codegen.magic_tuple())).encode()
        return f"{self.name}-{hashlib.sha256(key).hexdigest()[:16]}.bin"

    def load_overload(self, sig, target_context):
        """Return what was kept for a signature, or None."""
        target_context.refresh()
        name = self._file(sig, target_context.codegen())
        for folder in folders():
            try:
                data = (folder / name).read_bytes()
            except OSError:
                continue
            kept, content = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
            if _digest_of(name, content) == kept:
                return CompileResult._rebuild(target_context, *pickle.loads(content))
        return None

    def save_overload(self, sig, result):
        """Keep what was compiled for a signature, if a folder takes it."""
        if result.library.has_dynamic_globals:  # it holds addresses of this process
            return
        content = dumps(result._reduce())
        name = self._file(sig, result.codegen)
        data = _digest_of(name, content) + content
        reasons = []
        for folder in folders():
            try:
                write_whole(folder, name, data)
                return
            except OSError as e:
                reasons.append(f"{folder.parent}: {e.strerror or first_line(e)}")
        say_that_nothing_is_kept("; ".join(reasons))

    def enable(self):
        """Do nothing."""

    disable = flush = enable


def write_whole(folder: Path, name: str, data: bytes) -> None:
    """Write a file whole or not at all; others may write the same at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    clear_old(folder)
    descriptor, temporary = tempfile.mkstemp(suffix=".tmp", dir=folder)
    try:
        with open(descriptor, "wb") as f:
            f.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, folder / name)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        # Elsewhere than on POSIX a file that another process reads may not be replaced.
        if not (folder / name).exists():
            raise
