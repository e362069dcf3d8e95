"""Pose the cases to a backend and judge the answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.conformance.backends import Backend, BrokenError, RefusedError, legible
from refmiracle.conformance.bounds import Comparison, compare
from refmiracle.conformance.operations import OPERATIONS
from refmiracle.conformance.order import ORDER, Question, in_another_order
from refmiracle.conformance.patience import NOT_POSED, LateError
from refmiracle.conformance.vectors import Case, VectorFile
from refmiracle.training.progress import Silence

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
KNOWN, UNEXPECTED = "known failure", "unexpected pass"
RED = (FAILED, UNEXPECTED)


@dataclass(frozen=True)
class Result:
    """The verdict on one case in one precision.

    Attributes
    ----------
    id, operation, stage : str
    dtype : str
        Working precision; "" where floats do not enter.
    status : str
        passed, failed, skipped, known failure, unexpected pass.
    message : str
        What is wrong, or why the case was skipped.
    worst : Comparison or None
        The output that comes closest to its bound, or exceeds it most.
    overridden : bool
        Whether the backend set a bound of its own.
    seconds : float
    behind : str
        The case before it, where only its answer when it was posed again is wrong.
    """

    id: str
    operation: str
    stage: str
    dtype: str
    status: str
    message: str = ""
    worst: Comparison | None = None
    overridden: bool = False
    seconds: float = 0.0
    behind: str = ""


@dataclass
class Report:
    """All verdicts on a backend.

    Attributes
    ----------
    backend, version : str
    deadline : float
        Seconds that the backend had for each answer; infinite: any number.
    order : int or None
        Seed of the order in which the cases were posed again; None: they were not.
    only : tuple of str
        What was asked for; all if empty.
    posed_again : int
        How many questions were posed in that order.
    results : list of Result
    unmatched : dict of str to str
        Known failures and bounds that were declared for ids that are not there.
    sources : dict of str to str
        Where the vectors of each operation come from.
    """

    backend: str
    version: str
    deadline: float
    order: int | None = ORDER
    only: tuple[str, ...] = ()
    posed_again: int = 0
    results: list[Result] = field(default_factory=list)
    unmatched: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def ok(self) -> bool:
        """Tell whether nothing failed, passed unexpectedly or was declared in vain."""
        return not self.unmatched and all(r.status not in RED for r in self.results)

    def count(self, status: str) -> int:
        """Return the number of results of a status."""
        return sum(r.status == status for r in self.results)


def prepare_inputs(case: Case, dtype: str) -> dict[str, NDArray[Any]]:
    """Return the inputs of a case with its floats in the working precision."""
    if not dtype:
        return case.inputs
    return {
        name: value.astype(dtype) if value.dtype.kind == "f" else value
        for name, value in case.inputs.items()
    }


def ask(
    backend: Backend, operation: str, case: Case, dtype: str
) -> tuple[Sequence[NDArray[Any]] | None, str]:
    """Return the results, if there are any, and what is wrong with having them or none."""
    try:
        got = backend.call(operation, prepare_inputs(case, dtype), dtype)
    except RefusedError as e:
        return None, "" if case.fault is not None else f"refused: {legible(e)}"
    except (BrokenError, LateError) as e:
        return None, str(e) if isinstance(e, LateError) else f"broken: {legible(e)}"
    if case.fault is not None:
        return None, f"accepted inputs whose fault is: {case.fault}"
    names = OPERATIONS[operation].outputs
    if len(got) != len(names):
        return None, f"{len(got)} results, expected {len(names)}: {', '.join(names)}"
    return got, ""


def judge(
    backend: Backend, operation: str, case: Case, dtype: str, got: Sequence[NDArray[Any]]
) -> tuple[str, Comparison | None]:
    """Return what is wrong with the results, and the worst comparison."""
    own = backend.bounds.get(case.id, {})
    worst, message = None, ""
    for name, value in zip(OPERATIONS[operation].outputs, got, strict=True):
        if name not in case.outputs:
            continue
        bounds: dict[str, Any] = {**case.bounds[name], **own.get(name, {})}
        bound = bounds[dtype] if dtype in bounds else bounds["any"]
        found = compare(value, case.outputs[name], bound, dtype)
        if not found.ok and not message:
            message = f"{name} {found.detail}"
        if worst is None or tightness(found) > tightness(worst):
            worst = found
    return message, worst


def pose(
    backend: Backend, operation: str, case: Case, dtype: str
) -> tuple[Sequence[NDArray[Any]] | None, str, Comparison | None]:
    """Return the results if there are any, what is wrong, and the worst comparison."""
    got, message = ask(backend, operation, case, dtype)
    if got is None:
        return None, message, None
    return got, *judge(backend, operation, case, dtype, got)


def tightness(comparison: Comparison) -> float:
    """Return the error as a part of its bound; above 1 is wrong."""
    if comparison.error <= 0.0:
        return 0.0
    return comparison.error / comparison.bound if comparison.bound > 0.0 else float("inf")


def run_case(backend: Backend, file: VectorFile, case: Case) -> Iterator[Result]:
    """Yield the verdict on a case in each precision that it is posed in."""
    for dtype in case.dtypes or ("",):
        start = (case.id, file.operation, file.stage, dtype)
        if not backend.supports(file.operation):
            yield Result(*start, SKIPPED, f"{file.operation} is not declared")
            continue
        if dtype and dtype not in backend.dtypes:
            yield Result(*start, SKIPPED, f"{dtype} is not declared")
            continue
        began = time.perf_counter()
        _, message, worst = pose(backend, file.operation, case, dtype)
        right = not message
        status = PASSED if right else FAILED
        if case.id in backend.known_failures:
            status = UNEXPECTED if right else KNOWN
            reason = backend.known_failures[case.id]
            message = f"declared as a known failure: {reason}" if right else reason
        yield Result(
            *start,
            status,
            message,
            worst,
            overridden=case.id in backend.bounds,
            seconds=time.perf_counter() - began,
        )


@dataclass(frozen=True)
class Posed:
    """A question that was answered right, and the arrays of its answer."""

    place: int
    operation: str
    case: Case
    dtype: str
    got: Sequence[NDArray[Any]]


def run_again(
    backend: Backend, families: Iterable[list[Question]], report: Report, bar: Any
) -> None:
    """Pose what was right again, family by family; what is wrong now has failed.

    The wider precision comes behind the narrower one, so that an answer that was kept for either
    and given for both shows.  Each answer is looked at once more when the next has come: an array
    that the backend uses again is another by then.  A backend that has been given up keeps its
    verdicts.
    """
    places = {(r.id, r.dtype): i for i, r in enumerate(report.results)}
    before = report.results[-1].id if report.results else ""
    last: Posed | None = None

    def fail(place: int, said: str, worst: Comparison | None) -> None:
        report.results[place] = replace(
            report.results[place], status=FAILED, message=said, worst=worst, behind=before
        )

    for family in families:
        for dtype in reversed(family[0][1].dtypes or ("",)):
            for file, case in family:
                place = places[case.id, dtype]
                if report.results[place].status != PASSED:
                    continue
                got, message, worst = pose(backend, file.operation, case, dtype)
                if message.startswith(NOT_POSED):  # the deadlines that it missed have failed
                    return
                report.posed_again += 1
                order = f"(order {report.order})"
                if last is not None:
                    changed, by = judge(backend, last.operation, last.case, last.dtype, last.got)
                    if changed:
                        said = f"its answer changed when {case.id} was posed {order}: {changed}"
                        fail(last.place, said, by)
                if message:
                    fail(place, f"posed again behind {before} {order}: {message}", worst)
                before, last = case.id, None
                if got is not None and not message:
                    last = Posed(place, file.operation, case, dtype, got)
        bar.update()


def run_suite(
    backend: Backend,
    files: Iterable[VectorFile],
    only: tuple[str, ...] = (),
    make_bar: Callable[[int], Any] = lambda total: Silence(),
    order: int | None = ORDER,
) -> Report:
    """Pose all cases, or those whose id is or begins with one of `only`, in stage order.

    Then pose them again in an order drawn from a seed, each behind one that shares all inputs but
    one with it.

    Parameters
    ----------
    backend : Backend
    files : iterable of VectorFile
    only : tuple of str
    make_bar : function
        Of the number of steps; returns a progress bar.
    order : int, optional
        The seed; None: once is enough.
    """
    files = list(files)
    report = Report(backend.name, backend.version, backend.patience.deadline, order, only)
    ids = {case.id for file in files for case in file.cases}
    report.unmatched = {
        **{i: "known failure" for i in backend.known_failures if i not in ids},
        **{i: "bound" for i in backend.bounds if i not in ids},
    }
    report.sources = {file.operation: file.source for file in files}
    wanted = [
        (file, case)
        for file in files
        for case in file.cases
        if not only or any(case.id == o or case.id.startswith(f"{o}/") for o in only)
    ]
    families = [] if order is None else in_another_order(wanted, order)
    bar = make_bar(len(wanted) + len(families))
    with np.errstate(all="ignore"):
        for file, case in wanted:
            bar.set_postfix_str(case.id)
            report.results += run_case(backend, file, case)
            bar.update()
        bar.set_postfix_str("in another order")
        run_again(backend, families, report, bar)
    bar.close()
    return report
