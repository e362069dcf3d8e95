"""How error falls as a file grows: a sweep over bits and block sizes, and its frontier.

A file's size follows from its settings; its error is measured on the validation images.  Only
the files on the frontier, which the validation error has chosen, meet the test set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refmiracle.figures import figures_of
from refmiracle.loading import load
from refmiracle.studies.figures import draw_frontier
from refmiracle.studies.results import prepare_study, write_study
from refmiracle.studies.runs import attempt, runs_folder, train_all
from refmiracle.studies.subject import Subject, check_images, prefix_of
from refmiracle.training.choosing import check_settings
from refmiracle.training.data import Data, Split, load_split
from refmiracle.training.run import model_path
from refmiracle.training.settings import BEST, PRESETS, Settings, fingerprint

STUDY = "rate-distortion"
OF_POINTS = ("bits_per_block", "block_size", "seed")  # of the settings, what each has of its own
COLUMNS = (
    "name",
    "bits_per_block",
    "block_size",
    "seed",
    "bytes",
    "validation_error",
    "test_error",
    "on_frontier",
    "steps",
    "train_seconds",
    "sha256",
)


@dataclass(frozen=True)
class Sweep:
    """Every combination of bits, block sizes and seeds, trained alike.

    Attributes
    ----------
    base : Settings
        All settings that the sweep does not vary.
    bits, block_sizes, seeds : tuple of int
    """

    base: Settings
    bits: tuple[int, ...]
    block_sizes: tuple[int, ...]
    seeds: tuple[int, ...] = (0,)

    def all_settings(self, data: str) -> dict[str, Settings]:
        """Return the settings of each point by name; `data` is the fingerprint of the images.

        Raises
        ------
        InputError
            If a point's settings are out of range.
        """
        prefix = prefix_of(self.base.network)
        return {
            f"{prefix}{bits}bits-{size}-seed{seed}": check_settings(
                replace(self.base, bits_per_block=bits, block_size=size, seed=seed, data=data)
            )
            for bits in self.bits
            for size in self.block_sizes
            for seed in self.seeds
        }


SWEEPS = {
    "smoke": Sweep(PRESETS["smoke"], (10, 14), (30, 60)),
    "default": Sweep(
        replace(BEST, steps=10_000, groups=100, group_steps=40),
        (10, 14, 18),
        (16, 24, 36, 54),
    ),
    "paper": Sweep(PRESETS["paper"], (10, 14, 18), (16, 20, 24, 30, 36, 44, 54), (0, 1, 2)),
}


def frontier(points: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the points that no other beats in both bytes and validation error.

    In order of size; of equal points the first.
    """
    best, names = float("inf"), []
    for point in sorted(points, key=lambda p: (p["bytes"], p["validation_error"])):
        if point["validation_error"] < best:
            best = point["validation_error"]
            names.append(point["name"])
    return names


def measure_file(path: Path, engine: str, test: Split) -> dict[str, Any]:
    """Return the size and the test error of a .rmc file."""
    return figures_of(load(path, engine=engine), test)


def add_frontier(
    points: Sequence[dict[str, Any]], runs: Path, engine: str, test: Split
) -> tuple[list[str], dict[str, str]]:
    """Say of each point whether it is on the frontier, and of those that are the test error.

    Returns
    -------
    best : list of str
        The names of those that are.
    failures : dict of str to str
        By name, why one of them could not be tested.
    """
    best = frontier(points)
    tasks = {name: (model_path(runs / name), engine, test) for name in best}
    tested, failures = attempt(measure_file, tasks)
    for point in points:
        name = point["name"]
        point["on_frontier"] = name in best
        point["test_error"] = tested[name]["test_error"] if name in tested else None
    return best, failures


def rate_distortion(
    sweep: Sweep, data: Data, out: Path, executor: Executor, at_once: int | None = None
) -> dict[str, Any]:
    """Run a sweep and write points.csv, results.json, frontier.png and frontier.svg.

    Points that are finished in `out` are not run again.  See `results.write_study`.

    Parameters
    ----------
    sweep : Sweep
    data : Path or DataSet
    out : Path
    executor : concurrent.futures.Executor
    at_once : int, optional
        How many points to hand to the executor at a time; all by default.

    Returns
    -------
    dict
        What results.json holds: points, frontier (names), failures (name to reason).

    Raises
    ------
    InputError
        If a setting is out of range, the network does not take the images or they are too few, or
        `out` holds points of other settings.
    """
    train, test = load_split(data, "train"), load_split(data, "t10k")
    all_settings = sweep.all_settings(fingerprint(check_images(train, test, sweep.base)))
    prepare_study(out / STUDY)
    summaries, failures = train_all(all_settings, data, runs_folder(out), executor, at_once)
    points = [{"name": name, **summary} for name, summary in summaries.items()]
    best, untested = add_frontier(points, runs_folder(out), sweep.base.engine, test)
    failures |= untested
    table = [{name: point[name] for name in COLUMNS} for point in points]
    return write_study(
        out / STUDY,
        STUDY,
        {
            **{n: v for n, v in sweep.base.to_dict().items() if n not in OF_POINTS},
            **{"bits": sweep.bits, "block_sizes": sweep.block_sizes, "seeds": sweep.seeds},
        },
        claims=[],
        failures=failures,
        tables={"points": table},
        figures={"frontier": lambda: draw_frontier(points)} if points else {},
        more={"points": table, "frontier": best},
        subject=Subject(sweep.base.network),
    )


def describe(results: Mapping[str, Any]) -> str:
    """Return the frontier as lines of text."""
    points = {point["name"]: point for point in results["points"]}
    wide = max([20, *map(len, points)])
    lines = [f"{'frontier':<{wide}} {'bytes':>6} {'validation':>11} {'test':>7}"]
    for name in results["frontier"]:
        p = points[name]
        test = "" if p["test_error"] is None else f"{p['test_error']:.2%}"
        lines.append(f"{name:<{wide}} {p['bytes']:>6} {p['validation_error']:>11.2%} {test:>7}")
    return "\n".join(lines)
