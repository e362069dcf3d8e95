"""Examples of Hypothesis are the same on every run, whatever a worker has loaded before."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

FULL_OF_CONSTANTS = Path(__file__).resolve().parent.parent / "tools" / "figures" / "scan_grids.py"


def drawn():
    examples = []

    @given(st.lists(st.floats(0.0, 10.0), min_size=20))
    def draw(numbers):
        examples.append(numbers)

    draw()
    return examples


def test_constants_of_loaded_modules_are_no_examples(monkeypatch):
    before = drawn()
    spec = importlib.util.spec_from_file_location("not_loaded_before", FULL_OF_CONSTANTS)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "not_loaded_before", module)
    spec.loader.exec_module(module)
    assert drawn() == before
