"""That the numba engine computes the same bits whether its code was compiled or was loaded."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from numba.core.registry import CPUDispatcher

from refmiracle.engines import numba_engine

MODULES = [
    importlib.import_module(f"{numba_engine.__name__}.{m.name}")
    for m in pkgutil.iter_modules(numba_engine.__path__)
]
COMPILED = {
    f"{f.py_func.__module__.split('.')[-1]}.{f.py_func.__name__}": f
    for module in MODULES
    for f in vars(module).values()
    if isinstance(f, CPUDispatcher)
}


def test_compiled_functions_are_found():
    assert {
        "steps._mean_kl_step",
        "normals.fill_normals",
        "shard_kernels.load_images",
    } <= COMPILED.keys()


@pytest.mark.parametrize("name", COMPILED)
def test_what_may_round_in_two_ways_is_never_called(name):
    """It is inlined; only functions that round in one way may be symbols of their own."""
    options = COMPILED[name].targetoptions
    assert options.get("forceinline") or options["fastmath"] is False


@pytest.mark.parametrize("name", COMPILED)
def test_every_function_is_cached_and_lets_threads_run(name):
    assert COMPILED[name].targetoptions["nogil"]
    assert COMPILED[name]._cache.cache_path
