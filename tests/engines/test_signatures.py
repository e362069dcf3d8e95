"""Both engines have the functions of the contract, and nothing else, with its very arguments.

mypy sees most of this; not what a default is, nor an argument too many that has one.
"""

from __future__ import annotations

import inspect
from typing import get_type_hints

import pytest
from contract_calls import arguments

from refmiracle.engines import get_engine
from refmiracle.engines.arguments import Record
from refmiracle.engines.contract import Engine
from refmiracle.engines.numba_engine import functions as numba_functions
from refmiracle.engines.numpy_engine import functions as numpy_functions
from refmiracle.engines.operations import OPERATIONS, in_records, parts_of
from refmiracle.errors import InputError

MODULES = {"numpy": numpy_functions, "numba": numba_functions}
RECORDS = {
    name: [(part, count) for part, count in parts_of(taken) if isinstance(part, Record)]
    for name, taken in OPERATIONS.items()
}
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


def test_records_are_those_of_the_contract():
    """Field by field, in their order."""
    for name, records in RECORDS.items():
        hints = get_type_hints(CONTRACT[name])
        kinds = {n: kind for n, kind in hints.items() if hasattr(kind, "_fields")}
        assert kinds == {record.name: record.kind for record, _ in records}
        for record, count in records:
            fields = [a for a in OPERATIONS[name] if a.of == record]
            assert tuple(a.name for a in fields) == record.kind._fields
            assert len(fields) == count
            defaults = {a.name: a.default for a in fields if a.default is not a.__class__.default}
            assert defaults == record.kind._field_defaults


@pytest.mark.parametrize("name", [name for name, records in RECORDS.items() if records])
def test_what_is_no_such_record_is_refused_in_one_line(engine, name):
    for wrong in (None, 3.0, (), [1], "ab", range(99)):
        for at, (part, _) in enumerate(parts_of(OPERATIONS[name])):
            if isinstance(part, Record):
                values = [*in_records(parts_of(OPERATIONS[name]), arguments(name, engine.dtype))]
                values[at] = wrong
                with pytest.raises(InputError) as caught:
                    getattr(engine, name)(*values)
                fields = ", ".join(part.kind._fields)
                expected = f"{name}: {part.name}: expected {part.kind.__name__}({fields})"
                assert str(caught.value) == expected
