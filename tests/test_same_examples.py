"""Examples of Hypothesis are the same on every run, whatever a worker has loaded before."""

from __future__ import annotations

import importlib.util
import sys

from hypothesis import given
from hypothesis import strategies as st


def drawn():
    examples = []

    @given(st.floats(0.0, 1.0), st.integers(0, 10**6))
    def draw(share, number):
        examples.append((share, number))

    draw()
    return examples


def test_constants_of_loaded_modules_are_no_examples(tmp_path, monkeypatch):
    before = drawn()
    path = tmp_path / "full_of_constants.py"
    path.write_text("\n".join(f"({n / 997}, {n * 31})" for n in range(900)), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    assert drawn() == before
