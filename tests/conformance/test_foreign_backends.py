"""The backends in PyTorch and JAX, written without refmiracle, pass every golden case."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from refmiracle.conformance.backends import load_python_backend
from refmiracle.conformance.operations import OPERATIONS
from refmiracle.conformance.runner import RED, run_suite
from refmiracle.conformance.vectors import default_golden, load_golden

FOLDER = Path(__file__).parents[2] / "tools" / "backends"
MODULES = {"torch": "torch_backend", "jax": "jax_backend"}
# The encoders of docs/CODES.md: what decodes a file is declared, whatever its code.
UNDECLARED = {"ordered_indices", "poisson_indices", "partition_messages", "variable_messages"}


@pytest.fixture(params=MODULES)
def backend(request, monkeypatch):
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    monkeypatch.syspath_prepend(FOLDER)
    return load_python_backend(f"{MODULES[request.param]}:BACKEND")


def test_every_case_passes(backend):
    report = run_suite(backend, load_golden(default_golden()))
    red = [f"{r.id} {r.dtype}: {r.message}" for r in report.results if r.status in RED]
    assert not red
    assert report.ok()
    assert report.count("passed") > len(report.results) // 2


def test_all_operations_but_encoders_are_declared(backend):
    assert {name for name in OPERATIONS if not backend.supports(name)} == UNDECLARED


def test_both_precisions_are_declared_and_no_bound_is_loosened(backend):
    assert set(backend.dtypes) == {"float64", "float32"}
    assert not backend.bounds


@pytest.mark.parametrize("module", [*MODULES.values(), "spec_layout", "spec_description"])
def test_they_share_no_code_with_refmiracle(module):
    tree = ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not [name for name in names if name.split(".")[0] == "refmiracle"]
