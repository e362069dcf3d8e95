"""The backend in JAX, written without refmiracle, passes every golden case."""

from __future__ import annotations

import pytest
from conformance.foreign import FOLDER, check_cases, check_declarations, check_imports

from refmiracle.conformance.backends import load_python_backend


@pytest.fixture
def backend(monkeypatch):
    pytest.importorskip("jax", reason="jax is not installed")
    monkeypatch.syspath_prepend(FOLDER)
    return load_python_backend("jax_backend:BACKEND")


def test_every_case_passes(backend):
    check_cases(backend, order=None)


@pytest.mark.slow
def test_every_case_passes_when_it_is_posed_again(backend):
    check_cases(backend, order=1)


def test_what_is_declared(backend):
    check_declarations(backend)


@pytest.mark.parametrize("module", ["jax_backend"])
def test_it_shares_no_code_with_refmiracle(module):
    check_imports(module)
