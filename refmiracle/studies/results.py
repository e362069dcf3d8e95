"""What a study leaves behind: tidy tables, claims with their verdicts, and figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike

from refmiracle.drawing import FORMATS, Draw, figure_bytes
from refmiracle.errors import InputError
from refmiracle.files import check_writable, write_atomically
from refmiracle.posterior.parameterizations import COMPARED
from refmiracle.studies.runs import tell_failure
from refmiracle.studies.subject import LENET5S, Subject

RESULTS = "results.json"
CONFIDENCE = 0.95
RESAMPLES = 9999
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
FAR = 1e100  # beyond all figures; infinities have no quantiles


@dataclass(frozen=True)
class Interval:
    """A figure and how sure we are of it.

    Attributes
    ----------
    estimate, low, high : float
        The median of the seeds, and a bootstrap interval (percentile, 95 %) for it; or a mean and
        two standard errors to each side of it, or three times what is no estimate.
    count : int
        How many seeds.
    """

    estimate: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        """Return estimate and interval as text."""
        return f"{self.estimate:.3g} [{self.low:.3g}, {self.high:.3g}]"


def interval(values: ArrayLike) -> Interval:
    """Return the median of some seeds' figures with its bootstrap interval.

    The interval has the confidence 95 % where there are many seeds; of five the percentile
    bootstrap reaches from the smallest to the largest, between which the median lies with 94 %.

    Parameters
    ----------
    values : array_like of float, shape (seeds,)
        One figure a seed; a paired comparison gives differences or ratios.
    """
    values = np.asarray(values, dtype=np.float64)
    estimate = float(np.median(values))
    if len(values) < 2 or np.all(values == values[0]):
        return Interval(estimate, estimate, estimate, len(values))
    found = scipy.stats.bootstrap(
        (values,),
        np.median,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return Interval(estimate, float(found.low), float(found.high), len(values))


@dataclass(frozen=True)
class Claim:
    """A claim that a study puts to the test.

    Attributes
    ----------
    name : str
    claim : str
        In words, with who claims it.
    figure : str
        What was measured, with its unit, and for which values the claim is true.
    interval : Interval
    verdict : str
        ``holds``, ``does not hold`` or ``undecided``.
    """

    name: str
    claim: str
    figure: str
    interval: Interval
    verdict: str


def claim_above(
    name: str,
    claim: str,
    figure: str,
    values: ArrayLike,
    bound: float,
    at_least: ArrayLike = False,
    at_most: ArrayLike = False,
    or_at: bool = False,
) -> Claim:
    """Return a claim that is true of figures above a bound.

    It holds if the whole interval lies above the bound, does not hold if the whole interval lies
    at or below it, and is undecided otherwise, or with fewer than three seeds.

    Parameters
    ----------
    name, claim, figure : str
    values : array_like of float, shape (seeds,)
    bound : float
    at_least, at_most : array_like of bool
        Where a measurement was cut short: a value may be larger than it is here, or smaller.  The
        claim is decided as if it were as large as can be, and as small.
    or_at : bool
        Whether the claim is true at the bound, too.
    """
    values, at_least, at_most = np.broadcast_arrays(np.asarray(values, float), at_least, at_most)
    found = interval(values)
    verdict = UNDECIDED
    least = interval(np.where(at_most, -FAR, values)).low
    most = interval(np.where(at_least, FAR, values)).high
    if found.count >= 3 and (least > bound or (or_at and least == bound)):
        verdict = HOLDS
    elif found.count >= 3 and (most < bound or (most == bound and not or_at)):
        verdict = FAILS
    figure = f"{figure}; true {'at or ' if or_at else ''}above {bound:g}"
    for cut, text in ((at_least, "at least"), (at_most, "at most")):
        if np.any(cut):
            figure += f"; {text} this for {np.count_nonzero(cut)} of {found.count} seeds"
    return Claim(name, claim, figure, found, verdict)


def paired(
    rows: Iterable[Mapping[str, Any]], value: str, **of: Any
) -> tuple[Sequence[float], Sequence[float]]:
    """Return a column of Mean-KL's rows and of Mean-Var's, for the seeds that have both."""
    found: dict[str, dict[int, float]] = {name: {} for name in COMPARED}
    for row in rows:
        if all(row[name] == wanted for name, wanted in of.items()):
            found[row["parameterization"]][row["seed"]] = row[value]
    ours, theirs = found.values()
    seeds = sorted(ours.keys() & theirs.keys())
    return [ours[s] for s in seeds], [theirs[s] for s in seeds]


def table_bytes(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows as a CSV file; floats with six significant digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {n: f"{v:.6g}" if isinstance(v, float) else v for n, v in row.items()},
        )
    return text.getvalue().encode()


def claims_table(claims: Sequence[Claim]) -> str:
    """Return claims as a table in Markdown."""
    lines = ["| claim | figure | value, 95 % interval | verdict |", "|---|---|---|---|"]
    for c in claims:
        cells = (c.claim, c.figure, str(c.interval), c.verdict)
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def prepare_study(out: Path) -> None:
    """Make the folder of a study, and see before any work that results can be written there.

    Raises
    ------
    InputError
        If it cannot be made, or its results.json not be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(f"{out}: cannot be made: {e.strerror or e}") from e
    check_writable(out / RESULTS)


def write_study(
    out: Path,
    name: str,
    settings: Mapping[str, Any],
    claims: Sequence[Claim],
    failures: Mapping[str, str],
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    figures: Mapping[str, Draw],
    more: Mapping[str, Any] | None = None,
    subject: Subject = LENET5S,
) -> dict[str, Any]:
    """Write what a study found to a folder; return what its results.json holds.

    Beside results.json there is each table as CSV, each figure as PNG and SVG, and the claims as
    a table in Markdown; each names the network, unless it is LeNet-5.  The figures come last, and
    results.json names what was written: a table or figure that cannot be is a failure, ``table
    NAME`` or ``figure NAME``, told on standard error, and costs nothing else.

    Parameters
    ----------
    out : Path
        A folder, made if it is not there.
    name : str
        Of the study.
    settings : mapping
        What was run.
    claims : sequence of Claim
    failures : mapping of str to str
        By run, why it failed.
    tables : mapping of name to rows
        All rows of a table have the same columns.
    figures : mapping of name to function
        Each draws a figure and returns it.
    more : mapping, optional
        What else results.json is to hold.
    subject : Subject
    """
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "study": name,
        **subject.said(),
        "settings": dict(settings),
        "claims": [asdict(claim) for claim in claims],
        "failures": dict(failures),
        **(more or {}),
        "files": [],
    }
    for table, rows in tables.items():
        if rows:
            part = partial(_table_files, table, subject.named(rows))
            _write_part(out, results, f"table {table}", part)
    if claims:
        text = (subject.heading() + claims_table(claims)).encode()
        _write_part(out, results, "table claims", lambda: {"claims.md": text})
    written = _write_results(out, results)
    for figure, draw in figures.items():
        part = partial(_figure_files, figure, subject.drawn(draw))
        _write_part(out, results, f"figure {figure}", part)
    return _write_results(out, results) if figures else written


def _write_part(
    out: Path, results: dict[str, Any], part: str, make: Callable[[], Mapping[str, bytes]]
) -> None:
    """Write files, by name, and count them in; what they fail of costs nothing else."""
    try:
        for name, data in make().items():
            write_atomically(out / name, data)
            results["files"].append(name)
    except Exception as e:  # whatever one fails of, the others are written
        results["failures"][part] = tell_failure(part, e)


def _table_files(table: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    return {f"{table}.csv": table_bytes(list(rows[0]), rows)}


def _figure_files(figure: str, draw: Draw) -> dict[str, bytes]:
    names = (f"{figure}.{suffix}" for suffix in FORMATS)
    return dict(zip(names, figure_bytes(draw), strict=True))


def _write_results(out: Path, results: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps({**results, "files": sorted(results["files"])}, indent=2)
    write_atomically(out / RESULTS, (text + "\n").encode())
    return dict(json.loads(text))


def describe_claims(results: Mapping[str, Any]) -> str:
    """Return the claims and their verdicts as lines of text."""
    lines = []
    for claim in results["claims"]:
        found = Interval(**claim["interval"])
        lines.append(f"{claim['verdict']}: {claim['claim']}\n    {claim['figure']}: {found}")
    return "\n".join(lines)
