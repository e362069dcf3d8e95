"""What the pytest plugin collects: one test for each case and precision."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from refmiracle.conformance.backends import PythonBackend, load_python_backend
from refmiracle.conformance.patience import DEADLINE, Patience
from refmiracle.conformance.runner import KNOWN, RED, SKIPPED, run_case, run_suite
from refmiracle.conformance.vectors import default_golden, load_golden
from refmiracle.errors import InputError


@functools.cache
def _load(name: str, deadline: float) -> PythonBackend:
    """Return the backend: one for all tests, for its missed deadlines count together."""
    return load_python_backend(name, Patience(deadline))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test its cases."""
    option = metafunc.config.getoption
    folder, deadline = option("--refmiracle-golden"), option("--refmiracle-deadline")
    try:
        files = load_golden(Path(folder) if folder else default_golden())
        patience = DEADLINE if deadline is None else deadline
        backend = _load(option("--refmiracle-backend"), patience)
    except InputError as e:
        raise pytest.Collector.CollectError(str(e)) from e
    if "case" in metafunc.fixturenames:
        cases = [(backend, file, case) for file in files for case in file.cases]
        metafunc.parametrize(("backend", "file", "case"), cases, ids=[c.id for *_, c in cases])
    else:
        metafunc.parametrize(("backend", "files"), [(backend, files)], ids=[backend.name])


def test_conformance(backend, file, case):  # type: ignore[no-untyped-def]
    """Hold the backend against one case, in each precision that it declares."""
    results = list(run_case(backend, file, case))
    red = [f"{r.dtype}: {r.message}" for r in results if r.status in RED]
    if red:
        pytest.fail("\n".join(red), pytrace=False)
    for status, verdict in ((KNOWN, pytest.xfail), (SKIPPED, pytest.skip)):
        if all(r.status == status for r in results):
            verdict(results[0].message)


def test_in_another_order(backend, files):  # type: ignore[no-untyped-def]
    """What is right is right again, behind other cases."""
    red = [f"{r.id} {r.dtype}: {r.message}" for r in run_suite(backend, files).results if r.behind]
    if red:
        pytest.fail("\n".join(red), pytrace=False)


def test_declarations(backend, files):  # type: ignore[no-untyped-def]
    """Every known failure and every bound of the backend's own is declared for a case."""
    assert not run_suite(backend, files, only=("none",)).unmatched
