"""Libraries that only some work needs: the extras of refmiracle.

That one is found says little: its import may fail for a library of the system that is missing, and
a folder or a file of that name where Python was started is taken for it.  So it is imported, before
any work, and whatever is wrong is one line.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from refmiracle.errors import InputError

# Python looks for these in the current folder first.
CORE = ("llvmlite", "numba", "numpy", "scipy")
# What is installed under another name than it is imported by.
INSTALLED_AS = {"PIL": "pillow", "sklearn": "scikit-learn"}
_turn = threading.RLock()


class NotInstalledError(InputError):
    """A library is not there at all."""


def import_extra(
    module: str, extra: str, names: Sequence[str] = (), asked_by: str = "", reads: str = ""
) -> Any:
    """Import a library, or a module of it, that an extra brings.

    Parameters
    ----------
    module : str
        With its library: ``safetensors.numpy``.
    extra : str
        Of refmiracle, which installs the library.
    names : sequence of str
        What is used of the module; another module of the same name lacks it.
    asked_by : str
        The option that needs it, for the message.
    reads : str
        What the library reads of its surroundings while it is loaded, and may fail of.

    Raises
    ------
    NotInstalledError
        If the library is not installed.
    InputError
        If it is there but cannot be loaded, or something else is taken for it.
    """
    library = module.partition(".")[0]
    head = f"{asked_by}: " if asked_by else ""
    install = f'pip install "refmiracle[{extra}]"'
    try:
        with contextlib.nullcontext() if module in sys.modules else _unheard():
            _refuse_folder(importlib.import_module(library), library, install)
            found = importlib.import_module(module)
            missing = [name for name in names if not hasattr(found, name)]
    except InputError as e:
        raise InputError(f"{head}{e}") from None
    except ModuleNotFoundError as e:
        if e.name == library:
            raise NotInstalledError(f"{head}{library} is not installed; {install}") from None
        raise InputError(head + _describe(library, e, reads)) from e
    except (Exception, SystemExit) as e:  # whatever its modules raise; a script of its name exits
        raise InputError(head + _describe(library, e, reads)) from e
    if missing:
        raise InputError(head + _describe(library, f"{module} has no {missing[0]}", reads))
    return found


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Keep to itself what a library warns of or logs while it is loaded: it is not our user's.

    One thread at a time: a second one would take the silence for what it was like before.
    """
    with _turn:
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            logging.disable(before)


def _refuse_folder(library: ModuleType, name: str, install: str) -> None:
    """Refuse a folder without an ``__init__.py``: Python takes it where it finds nothing else.

    Raises
    ------
    InputError
        If the library is one.
    """
    if getattr(library, "__file__", None) is not None or not hasattr(library, "__path__"):
        return
    folder = next(iter(library.__path__), name)
    try:
        importlib.metadata.version(INSTALLED_AS.get(name, name))
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"{name} is not installed, and the folder {folder} is taken for it; {install}"
        ) from None
    raise InputError(f"the folder {folder} hides {name}; rename it, or start in another folder")


def _describe(library: str, problem: BaseException | str, reads: str) -> str:
    """Return in one line why a library that is there cannot be used, and what to do."""
    if isinstance(problem, BaseException):
        problem = f"{type(problem).__name__}: {problem}"
    reason = " ".join(problem.split())
    place = _place(library)
    if place is not None and place.parent == Path(os.getcwd()):
        return (
            f"{place} is taken for {library}, and is not it or cannot be loaded ({reason});"
            " rename it, or start in another folder"
        )
    where = f" from {place}" if place else ""
    mend = f"mend {reads}, or " if reads else ""
    return (
        f"{library} is installed but cannot be loaded{where} ({reason});"
        f" {mend}install it again: pip install --force-reinstall"
        f" {INSTALLED_AS.get(library, library)}"
    )


def hidden() -> str:
    """Return in words for which libraries files or folders of the current folder are taken.

    Python looks there first: a package named ``numpy`` is taken for NumPy.  Empty if none is.
    """
    here = Path(os.getcwd())
    package = Path(__file__).parent
    places = {name: _place(name) for name in CORE}  # one that failed is loaded no more
    for name, module in sys.modules.items():
        file = getattr(module, "__file__", None)
        if "." not in name and name != "__main__" and file:
            place = Path(os.path.abspath(file))
            places[name] = place.parent if place.stem == "__init__" else place
    return "; ".join(
        f"{place} is taken for {name}"
        for name, place in sorted(places.items())
        if place is not None and place.parent == here and place != package
    )


def _place(library: str) -> Path | None:
    """Return the file or folder that a library is loaded from, if Python tells."""
    try:
        spec = importlib.util.find_spec(library)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    place = Path(os.path.abspath(spec.origin))
    return place.parent if spec.submodule_search_locations is not None else place
