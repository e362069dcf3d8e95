"""A test that passed is not run again, and one that was skipped or failed is."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import os
import pytest

@pytest.fixture
def breaks():
    yield
    assert "MENDED" in os.environ

@pytest.mark.parametrize("x", ["a b", "\\n", "\\u03bc", "::"])
def test_passes(x):
    pass

def test_fails():
    assert "MENDED" in os.environ

def test_breaks_behind(breaks):
    pass

def test_skipped():
    pytest.importorskip("json" if "MENDED" in os.environ else "no_such_library")
"""
CONFTEST = """
from passed import leave_out_passed, write_passed

def pytest_configure(config):
    write_passed(config)

def pytest_collection_modifyitems(config, items):
    leave_out_passed(config, items)
"""


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "workers"])
def test_only_what_has_not_passed_is_run(tmp_path, monkeypatch, workers):
    if workers:
        pytest.importorskip("xdist")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(TESTS)
    monkeypatch.setenv("TESTS_PASSED", str(tmp_path / "passed.txt"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)

    def run():
        plain = ["-p", "no:cacheprovider", "-p", "no:refmiracle", "--rootdir", str(tmp_path)]
        command = [sys.executable, "-m", "pytest", *plain, *workers, str(tmp_path)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.stdout.splitlines()[-1].strip("= ").rpartition(" in ")[0]

    assert run() == "1 failed, 5 passed, 1 skipped, 1 error"
    assert len((tmp_path / "passed.txt").read_text(encoding="utf-8").splitlines()) == 4
    monkeypatch.setenv("MENDED", "1")
    left_out = "" if workers else ", 4 deselected"  # workers count them, and tell nobody
    assert run() == f"3 passed{left_out}"
    assert len((tmp_path / "passed.txt").read_text(encoding="utf-8").splitlines()) == 7
