"""The backend in JAX, written without refmiracle, passes every golden case."""

from __future__ import annotations

import numpy as np
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


def test_a_norm_of_what_has_no_variance_in_float64_is_no_number(backend):
    x = np.array([[[[1e200]]], [[[-1e200]]], [[[3.0]]], [[[-1.0]]]])
    inputs = {"x": x, "gain": np.zeros(4), "bias": np.ones(4), "groups": np.int64(2)}
    (y,) = backend.call("group_norm", inputs, "float64")
    np.testing.assert_array_equal(np.isnan(y.ravel()), [True, True, False, False])


def test_what_is_declared(backend):
    check_declarations(backend)


@pytest.mark.parametrize("module", ["jax_backend"])
def test_it_shares_no_code_with_refmiracle(module):
    check_imports(module)
