"""The reference engine: float64, plain NumPy, one line per equation."""

from __future__ import annotations

from refmiracle.engines.contract import Engine
from refmiracle.engines.numpy_engine import functions
from refmiracle.engines.operations import checked

ENGINE: Engine = checked(functions)
