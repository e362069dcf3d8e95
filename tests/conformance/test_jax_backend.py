"""The backend in JAX, written without refmiracle, passes every golden case."""

from __future__ import annotations

import pytest
from conformance.foreign import check_cases, check_declarations, check_imports, load


@pytest.fixture
def backend(monkeypatch):
    return load("jax", monkeypatch)


def test_every_case_passes(backend):
    check_cases(backend, order=None)


@pytest.mark.slow
@pytest.mark.minutes
def test_every_case_passes_when_it_is_posed_again(backend):
    check_cases(backend, order=1)


def test_what_is_declared(backend):
    check_declarations(backend)


@pytest.mark.parametrize("module", ["jax_backend"])
def test_it_shares_no_code_with_refmiracle(module):
    check_imports(module)
