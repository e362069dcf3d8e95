"""Both engines have the functions of the contract, and nothing else, with its very arguments.

mypy sees less: of functions without types it knows how many arguments they take, and no names.
"""

from __future__ import annotations

import inspect

import pytest

from refmiracle.engines import get_engine
from refmiracle.engines.contract import Engine
from refmiracle.engines.numba_engine import functions as numba_functions
from refmiracle.engines.numpy_engine import functions as numpy_functions
from refmiracle.engines.operations import OPERATIONS

MODULES = {"numpy": numpy_functions, "numba": numba_functions}
CONTRACT = {n: f for n, f in vars(Engine).items() if inspect.isfunction(f) and n[0] != "_"}


def shape_of(function):
    """The names of a function's arguments in their order, and their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters if p.name != "self"]


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("function", CONTRACT)
def test_a_function_takes_what_the_contract_says(name, function):
    wanted = shape_of(CONTRACT[function])
    assert shape_of(getattr(MODULES[name], function)) == wanted
    if function in OPERATIONS:
        assert shape_of(getattr(get_engine(name), function)) == wanted


@pytest.mark.parametrize("name", MODULES)
def test_an_engine_has_nothing_beside_the_contract(name):
    members = CONTRACT.keys() | {"name", "dtype"}
    assert vars(get_engine(name)).keys() == members
    defined = {n for n, f in vars(MODULES[name]).items() if inspect.isroutine(f)}
    assert defined == CONTRACT.keys()
    assert get_engine(name).name == MODULES[name].name == name
