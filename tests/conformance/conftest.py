"""Fixtures of the conformance tests."""

import pytest
from conformance import c_program


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """The C99 backend."""
    return c_program.build(tmp_path_factory.mktemp("c"))
