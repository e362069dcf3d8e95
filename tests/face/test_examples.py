"""The examples in the docstrings of the face run, and print what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect

import pytest

import refmiracle

HOMES = sorted({home.partition(":")[0] for home in refmiracle._HOMES.values()})


@pytest.mark.parametrize("home", HOMES)
def test_examples(home):
    module = importlib.import_module(f"refmiracle.{home}")
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert not failed


@pytest.mark.parametrize("name", refmiracle.__all__)
def test_every_function_has_an_example(name):
    found = getattr(refmiracle, name)
    if inspect.isfunction(found):
        assert doctest.DocTestFinder().find(found)[0].examples, name
