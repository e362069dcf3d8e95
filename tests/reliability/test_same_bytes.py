"""One seed, one file, whatever the number of threads and the surroundings: RELIABILITY.md, 5.

tests/nn/test_network.py and tests/commands/test_train.py compare one and two threads; here are
all codes, both parameterizations, more threads than there are cores, and other surroundings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "same_bytes.py"
SURROUNDINGS = {
    "LC_ALL": "tr_TR.UTF-8",
    "LANG": "C",
    "PYTHONHASHSEED": "1234",
    "TZ": "Pacific/Kiritimati",
    "PYTHONUTF8": "0",
    "OMP_NUM_THREADS": "2",
}


def digests(world, folder, **environment):
    """Run the script elsewhere and otherwise."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(world)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def one_thread(world):
    return digests(world, world, NUMBA_NUM_THREADS="1", PYTHONHASHSEED="0", TZ="UTC")


def test_two_threads_in_other_surroundings(world, one_thread, tmp_path):
    found = digests(world, tmp_path, NUMBA_NUM_THREADS="2", **SURROUNDINGS)
    assert found == one_thread
    assert len(found) == 15


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.parametrize("threads", ["2", "3", "5", "8"])
def test_more_threads(world, one_thread, threads):
    assert digests(world, world, NUMBA_NUM_THREADS=threads) == one_thread


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_other_surroundings(world, one_thread, tmp_path, name):
    value = {name: SURROUNDINGS[name]}
    assert digests(world, tmp_path, NUMBA_NUM_THREADS="2", **value) == one_thread
