"""Layer 1: two engines, one contract (`refmiracle.engines.contract.Engine`).

``numpy`` is the reference: float64, one line per equation.  ``numba`` is fast: float32, compiled.
"""

from __future__ import annotations

import importlib

from refmiracle.engines.contract import Engine
from refmiracle.errors import InputError

ENGINES = {
    "numba": "refmiracle.engines.numba_engine",
    "numpy": "refmiracle.engines.numpy_engine",
}


def get_engine(name: str) -> Engine:
    """Load an engine by its name; numba is imported only here.

    Raises
    ------
    InputError
        If there is no engine of that name.
    """
    if name not in ENGINES:
        raise InputError(f"engine {name!r} is unknown; expected one of {', '.join(ENGINES)}")
    engine: Engine = importlib.import_module(ENGINES[name]).ENGINE
    return engine
