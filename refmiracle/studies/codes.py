"""All relative entropy codes beside each other: length, truth and speed (docs/CODES.md).

The targets are Gaussians: over the KL with half of it from the mean, and at one KL over D_inf,
the log2 of the supremum of q / p, by moving the KL to the mean.  Codes of blocks send a block of
one target, and blocks of several.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refmiracle.codes.table import CODES, find_code
from refmiracle.studies.codes_claims import Rows, add_critical, make_claims
from refmiracle.studies.codes_figures import draw
from refmiracle.studies.codes_measures import measure, skipped_row, time_codes
from refmiracle.studies.codes_points import BLOCKS, BY_D_INF, BY_KL, Point, Variant, point_of_d_inf
from refmiracle.studies.results import prepare_study, write_study
from refmiracle.studies.runs import run_tasks

STUDY = "codes"
REFERENCE_BITS = 5.0  # the KL at which D_inf is varied


@dataclass(frozen=True)
class CodesPlan:
    """What to measure.

    Attributes
    ----------
    engine : str
    codes : tuple of str
    kl_bits : tuple of float
        Half of it from the mean.
    d_inf_bits : tuple of float
        At 5 bits of KL; besides these there is the least, with the mean 0.
    places : tuple of int
        Block sizes of the codes of blocks; the others have one.
    oversampling : tuple of int
        Bits beyond ceil(KL) of the codes that are not exact.
    samples, fewest : int
        Targets to send at a point, and at least where candidates are limited.
    candidates : int
        To look at for a code at a point, about.
    search_bits : float
        log2 of the search for one target above which a point is skipped.
    rounds : int
    call_seconds : float
        How long one of the calls that are timed is to take.
    seed : int
    """

    engine: str
    kl_bits: tuple[float, ...]
    d_inf_bits: tuple[float, ...]
    samples: int
    fewest: int
    candidates: int
    search_bits: float
    rounds: int
    call_seconds: float
    codes: tuple[str, ...] = tuple(CODES)
    places: tuple[int, ...] = (1, 8)
    oversampling: tuple[int, ...] = (0, 4)
    seed: int = 0

    def variants(self) -> list[Variant]:
        """Return the codes, each that is not exact with each oversampling."""
        return [
            Variant(code, t)
            for code in self.codes
            for t in ((0,) if find_code(code).exact else self.oversampling)
        ]

    def points(self) -> list[Point]:
        """Return all targets; those of several places are for the codes of blocks."""
        least = Point(BY_D_INF, REFERENCE_BITS, 0.0)
        moved = [point_of_d_inf(REFERENCE_BITS, d) for d in self.d_inf_bits]
        halves = [Point(BY_KL, kl, 0.5, places) for places in self.places for kl in self.kl_bits]
        return [*halves, least, *moved]

    def grid(self) -> list[tuple[Variant, Point]]:
        """Return which code is run at which point."""
        return [
            (variant, point)
            for variant in self.variants()
            for point in self.points()
            if point.places == 1 or variant.group == BLOCKS
        ]

    def count(self, variant: Variant, point: Point) -> int:
        """Return how many targets to send."""
        affordable = self.candidates / 2.0 ** variant.search_bits(point)
        return int(min(self.samples, max(self.fewest, affordable)))


_KL_BITS = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 14.0, 20.0)
_D_INF_BITS = (6.0, 7.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0)
CODES_PLANS = {
    "smoke": CodesPlan("numba", (5.0,), (), 300, 50, 2**18, 12.0, 3, 0.002, oversampling=(4,)),
    "default": CodesPlan("numba", _KL_BITS, _D_INF_BITS, 5000, 100, 2**26, 21.0, 9, 0.02),
    "paper": CodesPlan("numba", _KL_BITS, _D_INF_BITS, 30_000, 200, 2**29, 24.0, 15, 0.05),
}


def codes(
    plan: CodesPlan, out: Path, executor: Executor, at_once: int | None = None
) -> dict[str, Any]:
    """Measure all codes at all points, then time those that worked; write what was found.

    Writes points.csv, times.csv, results.json and figures; see `results.write_study`.

    Parameters
    ----------
    plan : CodesPlan
    out : Path
        Folder of the studies.
    executor, at_once
        See `runs.run_tasks`.
    """
    rows: dict[str, dict[str, Any]] = {}
    tasks: dict[str, tuple[Any, ...]] = {}
    grid = {f"{variant.name} at {point.name}": (variant, point) for variant, point in plan.grid()}
    for name, (variant, point) in grid.items():
        reason = variant.reason_to_skip(point, plan.search_bits)
        if reason:
            rows[name] = skipped_row(variant, point, reason)
        else:
            count = plan.count(variant, point)
            tasks[name] = (plan.engine, variant, point, plan.seed, count)
    prepare_study(out / STUDY)
    failures = run_tasks(executor, measure, tasks, rows.__setitem__, at_once)
    points = [rows[name] for name in grid if name in rows]
    add_critical(points)
    times, untimed = time_all(plan, [grid[name] for name in tasks if name in rows], executor)
    failures |= untimed
    return write_study(
        out / STUDY,
        STUDY,
        asdict(plan),
        make_claims(plan.variants(), points),
        failures,
        {"points": points, "times": times},
        draw(plan.variants(), points, times),
    )


def time_all(
    plan: CodesPlan, worked: Iterable[tuple[Variant, Point]], executor: Executor
) -> tuple[Rows, dict[str, str]]:
    """Time the codes that worked, those of a point beside each other.

    Returns
    -------
    rows : list of dict
        Of times.csv.
    failures : dict of str to str
        By point, why it could not be timed.
    """
    timed: dict[Point, list[Variant]] = {}
    for variant, point in worked:
        timed.setdefault(point, []).append(variant)
    tasks = {
        f"times at {point.name}": (plan.engine, some, point, plan.rounds, plan.call_seconds)
        for point, some in timed.items()
    }
    found: dict[str, Rows] = {}
    # One at a time: two on one machine would slow each other.
    failures = run_tasks(executor, time_codes, tasks, found.__setitem__, 1)
    return [row for name in tasks if name in found for row in found[name]], failures
