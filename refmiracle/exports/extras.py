"""Libraries that only some formats need."""

from __future__ import annotations

import importlib
from typing import Any

from refmiracle.errors import InputError


def import_extra(module: str) -> Any:
    """Import a module of a library whose extra has the library's name.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        extra = module.partition(".")[0]
        raise InputError(f"{e.name} is not installed; pip install 'refmiracle[{extra}]'") from None
