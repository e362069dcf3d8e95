"""What is asked of the backends in PyTorch and JAX, each in a module of its own: they take long."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from refmiracle.conformance.backends import load_python_backend
from refmiracle.conformance.operations import OPERATIONS
from refmiracle.conformance.runner import RED, run_suite
from refmiracle.conformance.vectors import default_golden, load_golden

FOLDER = Path(__file__).parents[2] / "tools" / "backends"
# The encoders of docs/CODES.md: what decodes a file is declared, whatever its code.
UNDECLARED = {
    *("ordered_indices", "poisson_indices", "partition_messages", "variable_messages"),
    *("compose_file", "best_indices"),
}


def load(word, monkeypatch):
    """Return the backend in a framework, or skip where it is not installed."""
    pytest.importorskip(word, reason=f"{word} is not installed")
    monkeypatch.syspath_prepend(FOLDER)
    return load_python_backend(f"{word}_backend:BACKEND")


def check_cases(backend, order):
    report = run_suite(backend, load_golden(default_golden()), order=order)
    red = [f"{r.id} {r.dtype}: {r.message}" for r in report.results if r.status in RED]
    assert not red
    assert report.ok()
    assert report.count("passed") > len(report.results) // 2


def check_declarations(backend):
    """All operations but encoders, both precisions, and no bound loosened."""
    assert {name for name in OPERATIONS if not backend.supports(name)} == UNDECLARED
    assert set(backend.dtypes) == {"float64", "float32"}
    assert not backend.bounds


def check_imports(module):
    """None of refmiracle."""
    tree = ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not [name for name in names if name.split(".")[0] == "refmiracle"]
