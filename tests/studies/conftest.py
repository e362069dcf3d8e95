from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny import TINY

from refmiracle.posterior.parameterizations import COMPARED
from refmiracle.studies.comparison import Comparison, open_runs
from refmiracle.training.data import default_folder

COMPARISON = Comparison(
    "tiny", TINY, {"mean-kl": {}, "mean-var": {}}, lengths=(3, 5), seeds=(0, 1, 2)
)


@pytest.fixture(scope="session")
def comparison():
    return COMPARISON


@pytest.fixture(scope="module", autouse=True)
def of_small_mnist(small_mnist):
    """All studies here are of few images."""


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory, small_mnist):
    """Where the tiny comparison's runs at its longest training are finished."""
    out = tmp_path_factory.mktemp("studies")
    with ThreadPoolExecutor(1) as executor:
        open_runs("training", COMPARISON, default_folder(), out, executor)
    return out


@pytest.fixture(scope="module")
def run(study_folder):
    """One of them, of the first parameterization."""
    with ThreadPoolExecutor(1) as executor:
        runs, _ = open_runs("training", COMPARISON, default_folder(), study_folder, executor)
    return runs[COMPARISON.run_name(COMPARED[0], COMPARISON.lengths[-1], 0)]
