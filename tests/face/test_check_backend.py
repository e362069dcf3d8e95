"""A backend is checked from Python: results to look into, and raised where that is asked for."""

from __future__ import annotations

import math

import pytest

import refmiracle
from refmiracle.conformance.check import BackendError
from refmiracle.conformance.engine_backend import numpy_backend
from refmiracle.engines.numpy_engine import posterior


class Right:
    name, version, dtypes = "right", "1", ("float64",)

    @staticmethod
    def gaussian_kl(delta, log_s):
        return posterior.gaussian_kl(delta, log_s)


class Wrong(Right):
    name = "wrong"

    @staticmethod
    def gaussian_kl(delta, log_s):
        return posterior.gaussian_kl(delta, log_s) / math.log(2.0)


class Known(Wrong):
    known_failures = {"numerics/gaussian_kl/mean-alone": "in bits"}  # noqa: RUF012


PART = "numerics/gaussian_kl"


def test_a_right_backend():
    check = refmiracle.check_backend(Right, raise_on_failure=True, cases=PART)
    assert check.ok
    assert check
    assert check.failures == check.known_failures == ()
    assert {r.operation for r in check.passed} == {"gaussian_kl"}
    assert {r.dtype for r in check.skipped} >= {"float32"}
    assert len(check.passed) + len(check.skipped) == len(check.report.results)
    assert check.complaint() == ""
    assert repr(check) == (
        f"<BackendCheck: {len(check.passed)} passed, {len(check.skipped)} skipped; right 1;"
        f" deadline of a case: 60 s; {check.report.posed_again} posed again in order 1>"
    )


def test_a_wrong_backend():
    check = refmiracle.check_backend(Wrong(), cases=[PART])
    assert not check.ok
    assert not check
    assert check.failures[0].id.startswith(PART)
    assert (
        f"{len(check.failures)} of {len(check.report.results)} results failed" in check.complaint()
    )
    assert check.failures[0].id in check.complaint()
    with pytest.raises(
        BackendError, match=r"wrong 1: .* results failed, the first numerics/"
    ) as caught:
        check.raise_if_failed()
    assert caught.value.check is check
    assert isinstance(caught.value, refmiracle.CheckError)
    assert "\n" not in str(caught.value)
    with pytest.raises(BackendError):
        refmiracle.check_backend(Wrong, True, cases=PART)


def test_known_failures_are_results_of_their_own():
    check = refmiracle.check_backend(Known, cases="numerics/gaussian_kl/mean-alone")
    assert check.ok
    assert [r.message for r in check.known_failures] == ["in bits"]


def test_what_is_declared_in_vain():
    class Vain(Right):
        known_failures = {"numerics/nothing": "none"}  # noqa: RUF012

    check = refmiracle.check_backend(Vain, cases=PART)
    assert check.unmatched == {"numerics/nothing": "known failure"}
    with pytest.raises(BackendError, match="numerics/nothing: a known failure is declared for no"):
        check.raise_if_failed()


def test_a_place(tmp_path, monkeypatch):
    (tmp_path / "my_kl.py").write_text(
        "from face.test_check_backend import Wrong as BACKEND\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    check = refmiracle.check_backend("my_kl:BACKEND", cases=PART)
    assert check.failures
    assert (
        f"python -m refmiracle.conformance --backend my_kl:BACKEND --case {PART}" in check.table()
    )
    assert check.to_json()["counts"]["failed"] == len(check.failures)


def test_a_function_that_makes_one():
    check = refmiracle.check_backend(numpy_backend, cases="posterior/mean_kl", order=None)
    assert check.ok
    assert len(check.passed) >= 30
    assert check.report.posed_again == 0


def test_other_vectors_and_no_deadline(tmp_path):
    with pytest.raises(refmiracle.InputError, match="golden"):
        refmiracle.check_backend(Right, golden=tmp_path / "golden")
    check = refmiracle.check_backend(Right, cases=PART, deadline=math.inf)
    assert "deadline of a case: none" in repr(check)


def broken():
    raise OSError("no accelerator")


@pytest.mark.parametrize(
    ("backend", "settings", "said"),
    [
        (object(), {}, "the backend has no attribute name, version, dtypes"),
        ("nonsense", {}, "backend nonsense: expected module:object"),
        ("nonsense:BACKEND", {}, "backend nonsense:BACKEND: ModuleNotFoundError"),
        (broken, {}, "backend <function broken.*: OSError: no accelerator"),
        (Right, {"cases": "numerics/kl"}, "cases: numerics/kl: there is no such case"),
        (Right, {"cases": [1]}, r"cases are \[1\]; expected their ids"),
        (Right, {"deadline": 0}, "a deadline of 0 s; expected more than 0"),
        (Right, {"deadline": "1 s"}, "deadline is '1 s'; expected seconds"),
        (Right, {"order": 0.5}, "order is 0.5; expected a whole number"),
    ],
)
def test_refused(backend, settings, said):
    with pytest.raises(refmiracle.InputError, match=said) as caught:
        refmiracle.check_backend(backend, **settings)
    assert "\n" not in str(caught.value)
