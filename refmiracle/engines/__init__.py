"""Layer 1: two engines, one contract (`refmiracle.engines.contract.Engine`).

``numpy`` is the reference: float64, one line per equation.  ``numba`` is fast: float32, compiled.
"""

from __future__ import annotations

import importlib
import os
import threading
import warnings
from functools import cache

from refmiracle.engines.contract import Engine
from refmiracle.errors import InputError, named
from refmiracle.extras import hidden
from refmiracle.files import first_line

ENGINES = {
    "numba": "refmiracle.engines.numba_engine",
    "numpy": "refmiracle.engines.numpy_engine",
}
# Python's filters of warnings are one for all threads.
_LOADING = threading.Lock()


def get_engine(name: str) -> Engine:
    """Load an engine by its name; numba is imported only here.

    Raises
    ------
    InputError
        If there is no engine of that name, or what it is made with cannot be loaded.
    """
    if not isinstance(name, str) or name not in ENGINES:
        raise InputError(f"engine {name!r} is unknown; expected one of {', '.join(ENGINES)}")
    try:
        engine: Engine = _load(name)
    except InputError:
        raise
    # llvmlite without its library, numba's own words on its settings, a script of its name, ...
    except (Exception, SystemExit) as e:
        others = ", ".join(f"{named('engine')} {other}" for other in ENGINES if other != name)
        reason = f"{first_line(e)}{'; ' if hidden() else ''}{hidden()}"
        told = ", ".join(f"{k}={v}" for k, v in os.environ.items() if k.startswith("NUMBA_"))
        raise InputError(
            f"engine {name} cannot be loaded ({reason}{'; set: ' if told else ''}{told});"
            f" mend that, or use {others}"
        ) from e
    return engine


@cache
def _load(name: str) -> Engine:
    """Import an engine; what numba says of a setting that it cannot read is an error."""
    with _LOADING, warnings.catch_warnings():
        warnings.filterwarnings("error", "Environment variable", RuntimeWarning)
        engine: Engine = importlib.import_module(ENGINES[name]).ENGINE
    return engine
