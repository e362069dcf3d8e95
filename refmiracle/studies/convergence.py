"""How fast Mean-KL and Mean-Var train, in steps and in seconds, and what encoding costs them.

arXiv 2307.07816 claims that Mean-KL trains twice as fast as Mean-Var and keeps its predictive
performance after compression.  Mean-Var is free to spend more than its budget while its penalty
grows, so an error is a result only where the whole network could be sent: where its KL is within
the budget.  Where it is first reached at any KL is reported too.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from refmiracle.drawing import Draw
from refmiracle.nn.evaluation import classes
from refmiracle.nn.networks import LENET5
from refmiracle.posterior.parameterizations import COMPARED
from refmiracle.studies.comparison import Comparison, FinishedRun, open_runs
from refmiracle.studies.convergence_figures import draw_curves, draw_ends
from refmiracle.studies.figures import NAMES
from refmiracle.studies.results import Claim, claim_above, paired, write_study
from refmiracle.studies.runs import attempt, removal_told, runs_folder
from refmiracle.studies.step_time import Timing, time_steps
from refmiracle.studies.subject import Subject, check_images
from refmiracle.training.data import Data, Split, load_split, split_validation
from refmiracle.training.metrics import read_metrics
from refmiracle.training.run import metrics_path
from refmiracle.training.settings import Settings

STUDY = "convergence"
TARGETS = (0.10, 0.05, 0.03, 0.025, 0.02, 0.0175, 0.015)
# Of other networks than LeNet-5, whose data may be harder.
OTHER_TARGETS = (0.70, 0.50, 0.40, 0.30, 0.20, 0.10, 0.05, 0.02)
WITHIN = 1.02  # of the budget: Mean-Var's penalties keep each block near it, not below it
# What an error is to be reached with, in words; and the units that its claims are made in.
CONDITIONS = {"within": "within the budget", "any": "at any KL"}
UNITS = {"within": ("steps", "seconds"), "any": ("steps",)}
WINDOW = 3  # lines of metrics, each the error of a single sample
LOOKS = 4  # such lines whose mean is the error of a posterior on the move
SAMPLES = 10
KL, VAR = COMPARED
Rows = list[dict[str, Any]]
Key = tuple[str, int, int]


@dataclass(frozen=True)
class Course:
    """What one run wrote down while it trained.

    Attributes
    ----------
    lines : list of dict
        Of metrics.jsonl, those of the training alone.
    budget : float
        Bits of all blocks together.
    """

    lines: Rows
    budget: float

    def steps_to(self, target: float, condition: str = "within") -> int | None:
        """Return the first step where the error is at most `target` under a condition on the KL.

        The error is the median of the last three lines, as each is of a single sample.
        """
        most = WITHIN * self.budget if condition == "within" else np.inf
        errors = [line["validation_error"] for line in self.lines]
        for i, line in enumerate(self.lines):
            error = np.median(errors[max(0, i + 1 - WINDOW) : i + 1])
            if error <= target and line["kl_bits"] <= most:
                return int(line["step"])
        return None


def read_course(run: FinishedRun, folder: Path) -> Course:
    """Read a run's metrics.

    Raises
    ------
    InputError
        If they are missing or damaged.
    """
    lines = read_metrics(metrics_path(folder))
    budget = run.settings.bits_per_block * run.settings.layout().blocks()
    return Course([line for line in lines if line["sent_bits"] == 0], budget)


def key_of(settings: Settings) -> Key:
    """Return what names a run: parameterization, steps and seed."""
    return settings.parameterization, settings.steps, settings.seed


def read_run(run: FinishedRun, folder: Path, validation: Split) -> tuple[Course, dict[str, Any]]:
    """Return a run's course and its row of ends.csv.

    Raises
    ------
    InputError
        If its metrics are missing or damaged.
    """
    with removal_told(folder):
        course = read_course(run, folder)
    return course, end_row(run, validation)


def posterior_error(run: FinishedRun, images: Split) -> float:
    """Return the mean error of ten samples of the posterior at the end of training, in [0, 1]."""
    noise = np.random.default_rng(run.settings.seed)
    q = run.posterior
    errors = []
    for _ in range(SAMPLES):
        w = q.mu + q.sigma * noise.standard_normal(len(q.mu))
        errors.append(np.mean(classes(run.logits(w, images.images)) != images.labels))
    return float(np.mean(errors))


def convergence(
    comparison: Comparison,
    data: Data,
    out: Path,
    executor: Executor,
    at_once: int | None = None,
) -> dict[str, Any]:
    """Train both parameterizations at each length with each seed, and compare their courses.

    Writes curves.csv, reached.csv, ends.csv, results.json and figures; see
    `results.write_study`.

    Parameters
    ----------
    comparison : Comparison
    data : Path or DataSet
        The images, or their folder.
    out : Path
        Folder of the studies.
    executor, at_once
        See `runs.run_tasks`.
    """
    everything = check_images(load_split(data, "train"), None, comparison.base)
    train, validation = split_validation(everything, comparison.base.validation)
    opened, failures = open_runs(
        STUDY, comparison, data, out, executor, at_once, comparison.lengths
    )
    tasks = {name: (run, runs_folder(out) / name, validation) for name, run in opened.items()}
    read, unread = attempt(read_run, tasks)
    failures |= unread
    courses = {key_of(opened[name].settings): course for name, (course, _) in read.items()}
    timing = time_steps(comparison, train) if read else None
    tables: dict[str, Rows] = {"curves": [], "reached": [], "ends": []}
    claims: list[Claim] = []
    figures: dict[str, Draw] = {}
    if timing is not None:
        tables["curves"] = curve_rows(courses, timing)
        tables["reached"] = reached_rows(courses, comparison, timing)
        tables["ends"] = [end for _, end in read.values()]
        claims = [*speed_claims(tables["reached"]), *end_claims(tables["ends"], tables["curves"])]
        figures = {
            "curves": lambda: draw_curves(tables["curves"], comparison.lengths[-1], WITHIN),
            "ends": lambda: draw_ends(tables["ends"]),
        }
    return write_study(
        out / STUDY,
        STUDY,
        comparison.to_dict(),
        claims,
        failures,
        tables,
        figures,
        more={"seconds_a_step": timing.to_dict() if timing else None},
        subject=Subject(comparison.base.network),
    )


def curve_rows(courses: Mapping[Key, Course], timing: Timing) -> Rows:
    """Return the lines of all runs as a table; seconds are steps times the median step's."""
    return [
        {
            "parameterization": parameterization,
            "length": length,
            "seed": seed,
            "step": line["step"],
            "seconds": line["step"] * timing.median(parameterization),
            "loss_nats": line["loss_nats"],
            "validation_error": line["validation_error"],
            "kl_bits": line["kl_bits"],
            "budget_bits": course.budget,
        }
        for (parameterization, length, seed), course in courses.items()
        for line in course.lines
    ]


def reached_rows(courses: Mapping[Key, Course], comparison: Comparison, timing: Timing) -> Rows:
    """Return the steps and seconds to each target, for the runs of the greatest length.

    A target that is not reached has all steps of the training for its steps: the least that it can
    be.
    """
    rows = []
    targets = TARGETS if comparison.base.network == LENET5 else OTHER_TARGETS
    for (parameterization, length, seed), course in courses.items():
        if length != comparison.lengths[-1]:
            continue
        for target, condition in product(targets, CONDITIONS):
            steps = course.steps_to(target, condition)
            all_steps = max([length, *(line["step"] for line in course.lines)])
            least = all_steps if steps is None else steps
            rows.append(
                {
                    "parameterization": parameterization,
                    "seed": seed,
                    "target": target,
                    "kl": condition,
                    "reached": steps is not None,
                    "steps": least,
                    "seconds": least * timing.median(parameterization),
                }
            )
    return rows


def end_row(run: FinishedRun, validation: Split) -> dict[str, Any]:
    """Return a run's steps until it could be encoded, and the errors of posterior and file."""
    parameterization, length, seed = key_of(run.settings)
    return {
        "parameterization": parameterization,
        "length": length,
        "seed": seed,
        "training_steps": run.summary["steps"] - run.settings.encoding_steps(),
        "posterior_error": posterior_error(run, validation),
        "file_error": run.summary["validation_error"],
        "bytes": run.summary["bytes"],
    }


def speed_claims(reached: Rows) -> list[Claim]:
    """Return the claims on steps and seconds, for each target that most runs of both reach."""
    claims = []
    targets = dict.fromkeys(row["target"] for row in reached)
    for (condition, text), target in product(CONDITIONS.items(), targets):
        of = {"target": target, "kl": condition}
        if not all(np.mean(c or [0]) > 0.5 for c in paired(reached, "reached", **of)):
            continue
        for unit in UNITS[condition]:
            ours, theirs = paired(reached, unit, **of)
            ratios = np.divide(theirs, ours)
            too_few = np.logical_not(paired(reached, "reached", **of))
            for times, bound in (("twice as fast", 2.0), ("faster", 1.0)):
                claims.append(
                    claim_above(
                        f"{times} to {target:.2%} {text} in {unit}",
                        f"Mean-KL trains {times} as measured in {unit} to a validation error of"
                        f" {target:.2%} {text} (twice: arXiv 2307.07816, abstract)",
                        f"Mean-Var's {unit} over Mean-KL's",
                        ratios,
                        bound,
                        at_least=too_few[1],
                        at_most=too_few[0],
                    )
                )
    return claims


def last_looks(curves: Rows, length: int) -> Rows:
    """Return the error of each training of a length at its planned end, within the budget.

    It is the mean of the last `LOOKS` lines until then.
    """
    errors: dict[tuple[str, int], list[float]] = {}
    for row in curves:
        within = row["kl_bits"] <= WITHIN * row["budget_bits"]
        if row["length"] == length and row["step"] <= length and within:
            run = row["parameterization"], row["seed"]
            errors.setdefault(run, []).append(row["validation_error"])
    return [
        {"parameterization": name, "seed": seed, "error": float(np.mean(found[-LOOKS:]))}
        for (name, seed), found in errors.items()
    ]


def planned_claims(ends: Rows, curves: Rows, length: int) -> list[Claim]:
    """Return the claims on trainings that were planned for so many steps.

    Mean-Var trains on after these until its blocks are within their budgets, for as many steps
    again at most: so posteriors are compared at equal steps, and before they are encoded.
    """
    ours, theirs = paired(ends, "training_steps", length=length)
    if not ours:
        return []
    planned = f"of trainings planned for {length} steps"
    ready = claim_above(
        f"ready in half the steps, of {length}",
        f"planned for {length} steps, Mean-KL can be encoded after half as many steps as"
        " Mean-Var, which trains on until every block is within its budget",
        "Mean-Var's steps before encoding over Mean-KL's",
        np.divide(theirs, ours),
        2.0,
        at_least=np.greater_equal(theirs, 2 * length),
        or_at=True,
    )
    errors = {
        f"posterior after {length} steps": paired(last_looks(curves, length), "error"),
        f"posterior before it is encoded, {planned},": paired(
            ends, "posterior_error", length=length
        ),
        f"file, {planned},": paired(ends, "file_error", length=length),
    }
    return [
        ready,
        *(
            claim_above(
                f"lower error of the {what.removesuffix(',')}",
                f"the error of Mean-KL's {what} is lower than that of Mean-Var's",
                "Mean-Var's validation error minus Mean-KL's, percentage points",
                100 * np.subtract(b, a),
                0.0,
            )
            for what, (a, b) in errors.items()
            if a
        ),
    ]


def end_claims(ends: Rows, curves: Rows) -> list[Claim]:
    """Return the claims on the steps and errors of each length, and on what encoding costs."""
    lengths = sorted({row["length"] for row in ends})
    claims = [claim for length in lengths for claim in planned_claims(ends, curves, length)]
    for name, column in ((KL, 0), (VAR, 1)):
        samples = paired(ends, "posterior_error", length=lengths[-1])[column]
        files = paired(ends, "file_error", length=lengths[-1])[column]
        if not samples:
            continue
        claims.append(
            claim_above(
                f"{NAMES[name]} keeps its performance",
                f"{NAMES[name]} keeps its predictive performance after compression"
                " (Mean-KL: arXiv 2307.07816, abstract)",
                "validation error of posterior samples minus that of the file, percentage points",
                100 * np.subtract(samples, files),
                -0.1,
            )
        )
    return claims
