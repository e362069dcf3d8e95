"""The verdicts as a table on the terminal, as JSON, JUnit XML and Markdown."""

from __future__ import annotations

import platform
from typing import Any
from xml.etree import ElementTree

import numpy as np

import refmiracle
from refmiracle.conformance.patience import NOT_POSED
from refmiracle.conformance.runner import (
    FAILED,
    KNOWN,
    PASSED,
    RED,
    SKIPPED,
    UNEXPECTED,
    Report,
    Result,
    tightness,
)
from refmiracle.conformance.vectors import STAGES

STATUSES = (PASSED, FAILED, SKIPPED, KNOWN, UNEXPECTED)
HEADINGS = ("stage", "operation", *STATUSES[:3], "known", "worst error / bound")


def repeat_command(target: str, result: Result, only: tuple[str, ...] = ()) -> str:
    """Return the command that poses one case again; all that was posed if others are needed."""
    cases = only if result.behind else (result.id,)
    return " ".join([f"python -m refmiracle.conformance {target}", *(f"--case {c}" for c in cases)])


def rows(report: Report) -> list[tuple[str, ...]]:
    """Return a line of figures for each operation, in stage order."""
    operations = dict.fromkeys((r.stage, r.operation) for r in report.results)
    lines = []
    for stage, operation in sorted(operations, key=lambda so: STAGES.index(so[0])):
        own = [r for r in report.results if r.operation == operation]
        counts = [str(sum(r.status == s for r in own)) for s in STATUSES[:3]]
        known = sum(r.status in (KNOWN, UNEXPECTED) for r in own)
        lines.append((stage, operation, *counts, str(known), worst_of(own)))
    return lines


def worst_of(results: list[Result]) -> str:
    """Return the comparison that comes closest to its bound, or exceeds it most."""
    judged = [r.worst for r in results if r.worst is not None]
    if not judged:
        return ""
    worst = max(judged, key=tightness)
    if worst.kind == "exact":
        return "exact" if worst.ok else "differs"
    return f"{worst.error:.1e} / {worst.bound:.1e} {worst.kind}"


def summary_line(report: Report) -> str:
    """Return the closing line: how many of each status."""
    counts = ", ".join(f"{report.count(s)} {s}" for s in STATUSES if report.count(s))
    deadline = f"{report.deadline:g} s" if np.isfinite(report.deadline) else "none"
    again = f"{report.posed_again} posed again in order {report.order}"
    if report.order is None:
        again = "none posed again"
    return (
        f"{counts or 'no case'}; {report.backend} {report.version}; deadline of a case: {deadline};"
        f" {again}"
    )


def complaints(report: Report, target: str) -> list[str]:
    """Return what is wrong, first stage first, each with the command that repeats it."""
    lines = []
    red = [r for r in report.results if r.status in RED]
    not_posed = [r for r in red if r.message.startswith(NOT_POSED)]
    for result in [r for r in red if not r.message.startswith(NOT_POSED)] + not_posed[:1]:
        precision = f" ({result.dtype})" if result.dtype else ""
        lines.append(f"{result.status}: {result.id}{precision}: {result.message}")
        lines.append(f"    {repeat_command(target, result, report.only)}")
    if not_posed[1:]:
        lines.append(f"{FAILED}: {len(not_posed) - 1} more, {NOT_POSED} for the same reason")
    for identifier, what in report.unmatched.items():
        lines.append(f"unmatched: a {what} is declared for {identifier}, which is no case")
    return lines


def overrides(report: Report) -> list[str]:
    """Return the cases for which the backend set a bound of its own."""
    ids = dict.fromkeys(r.id for r in report.results if r.overridden)
    return [f"bound overridden by the backend: {i}" for i in ids]


def first_red_stage(report: Report) -> str | None:
    """Return the first stage with a failure: the place to look first."""
    red = [r.stage for r in report.results if r.status in RED]
    return min(red, key=STAGES.index) if red else None


def to_text(report: Report, target: str) -> str:
    """Return the table, the complaints, the overrides and the closing line."""
    lines = [HEADINGS, *rows(report)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    table = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    red = first_red_stage(report)
    hint = [f"look first at the stage {red}"] if red else []
    parts = [*table, "", *complaints(report, target), *overrides(report), *hint]
    return "\n".join([line.rstrip() for line in parts] + [summary_line(report)])


def to_json(report: Report, target: str) -> dict[str, Any]:
    """Return everything, for machines."""
    return {
        "backend": report.backend,
        "version": report.version,
        "refmiracle": refmiracle.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "deadline_seconds": report.deadline if np.isfinite(report.deadline) else None,
        "order": report.order,
        "posed_again": report.posed_again,
        "ok": report.ok(),
        "counts": {s: report.count(s) for s in STATUSES},
        "unmatched": report.unmatched,
        "sources": report.sources,
        "results": [_result_to_json(r, target, report.only) for r in report.results],
    }


def _result_to_json(result: Result, target: str, only: tuple[str, ...]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "id": result.id,
        "stage": result.stage,
        "operation": result.operation,
        "dtype": result.dtype,
        "status": result.status,
        "message": result.message,
        "overridden": result.overridden,
        "seconds": round(result.seconds, 4),
    }
    if result.worst is not None:
        error = result.worst.error
        out |= {
            "kind": result.worst.kind,
            "bound": result.worst.bound,
            "error": error if np.isfinite(error) else "inf",
        }
    if result.status in RED:
        out["repeat"] = repeat_command(target, result, only)
    if result.behind:
        out["behind"] = result.behind
    return out


def to_junit(report: Report) -> str:
    """Return JUnit XML: a test case for each result, where a known failure counts as skipped.

    What was declared for no case is one more, an error.
    """
    suite = ElementTree.Element(
        "testsuite",
        name=f"refmiracle conformance of {report.backend}",
        tests=str(len(report.results) + len(report.unmatched)),
        failures=str(sum(r.status in RED for r in report.results)),
        skipped=str(report.count(SKIPPED) + report.count(KNOWN)),
        errors=str(len(report.unmatched)),
    )
    deadline = f"{report.deadline:g}"
    properties = ElementTree.SubElement(suite, "properties")
    ElementTree.SubElement(properties, "property", name="deadline_seconds", value=deadline)
    if report.order is not None:
        ElementTree.SubElement(properties, "property", name="order", value=str(report.order))
    for r in report.results:
        name = f"{r.id}[{r.dtype}]" if r.dtype else r.id
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"{r.stage}.{r.operation}",
            name=name,
            time=f"{r.seconds:.4f}",
        )
        if r.status in RED:
            ElementTree.SubElement(case, "failure", type=r.status, message=r.message)
        elif r.status in (SKIPPED, KNOWN):
            ElementTree.SubElement(case, "skipped", message=f"{r.status}: {r.message}")
    for identifier, what in report.unmatched.items():
        case = ElementTree.SubElement(suite, "testcase", classname="unmatched", name=identifier)
        ElementTree.SubElement(case, "error", message=f"{what} declared for no case")
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def to_markdown(report: Report, target: str) -> str:
    """Return the table and the complaints as Markdown."""
    lines = [f"# Conformance of {report.backend} {report.version}", "", summary_line(report), ""]
    lines += [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows(report)]
    problems = [*complaints(report, target), *overrides(report)]
    if problems:
        lines += ["", "```", *problems, "```"]
    return "\n".join(lines) + "\n"
