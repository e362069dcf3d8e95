"""The face is a table: each name of it is loaded where it is asked for, and stays what it is."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest
from oracles import run_python

import refmiracle
from refmiracle.start import COMMANDS

# What `python -m refmiracle.NAME` starts; `bench` and `conformance` are packages.
STARTED = {*COMMANDS, "start", "__main__"}


def test_the_table_is_the_list_of_names():
    assert sorted(refmiracle._HOMES) == sorted(refmiracle.__all__)
    assert sorted(set(refmiracle.__all__)) == sorted(refmiracle.__all__)


@pytest.mark.parametrize("name", refmiracle.__all__)
def test_each_name_is_found_and_no_command(name):
    assert getattr(refmiracle, name) is getattr(refmiracle, name)
    assert name in dir(refmiracle)
    assert name not in STARTED


def test_a_name_that_is_none():
    with pytest.raises(AttributeError, match="module 'refmiracle' has no attribute 'nonsense'"):
        refmiracle.nonsense  # noqa: B018


def test_every_command_has_a_module_that_starts_it():
    modules = {m.name for m in pkgutil.iter_modules([str(Path(refmiracle.__file__).parent)])}
    assert modules >= STARTED


def test_names_stay_what_they_are_whatever_is_imported():
    """Importing a module binds it in its package: in either order no name is taken from us."""
    said = run_python(
        f"""
import importlib
import refmiracle
before = {{name: getattr(refmiracle, name) for name in refmiracle.__all__}}
for name in {sorted(STARTED)}:
    importlib.import_module(f"refmiracle.{{name}}")
    if name in {sorted(COMMANDS)}:
        importlib.import_module(f"refmiracle.commands.{{name}}")
assert all(getattr(refmiracle, name) is found for name, found in before.items())
for name in before:
    vars(refmiracle).pop(name)
assert all(getattr(refmiracle, name) is found for name, found in before.items())
print("all stay")
"""
    )
    assert said.split() == ["all", "stay"]
