"""The fast engine: float32, compiled by numba, on all cores.

Same contract as the reference; what each function computes is said there, how it is made fast
here.  The modules are untyped because numba compiles their functions for the types it meets.

Compiled code is kept for the next start, as long as nothing that it is made of changes: see
`compiling`.
"""

from __future__ import annotations

from refmiracle.engines.contract import Engine
from refmiracle.engines.numba_engine import functions
from refmiracle.engines.operations import checked

ENGINE: Engine = checked(functions)
