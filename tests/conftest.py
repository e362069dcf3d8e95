"""What pytest gives to every test: the two engines, and random numbers with a fixed seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings

from refmiracle.engines import get_engine

# The same examples on every run, and no deadline: the first example may compile.
settings.register_profile("refmiracle", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("refmiracle")


@pytest.fixture(params=["numpy", "numba"])
def engine(request):
    return get_engine(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)
