"""How well Mean-KL and Mean-Var know what they do not know.

arXiv 2307.07816 leaves Mean-KL apart from compression, as a posterior to predict with, to future
work.  Here the posterior at the end of training predicts by its means and by averages over its
samples, beside the one sample that the file holds.  The predictions are scored on the test images,
and their entropy has to tell these from images of a kind that training did not show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from refmiracle.drawing import Draw
from refmiracle.posterior.parameterizations import COMPARED
from refmiracle.studies import scores
from refmiracle.studies.comparison import Comparison, FinishedRun, open_runs
from refmiracle.studies.figures import NAMES
from refmiracle.studies.foreign import (
    FOREIGN,
    Pixels,
    changed_images,
    foreign_digits,
    has_foreign,
)
from refmiracle.studies.results import Claim, claim_above, paired, write_study
from refmiracle.studies.runs import run_tasks
from refmiracle.studies.subject import Subject
from refmiracle.studies.uncertainty_figures import (
    draw_detection,
    draw_images,
    draw_reliability,
    draw_scores,
)
from refmiracle.training.data import Data, check_split, load_split

STUDY = "uncertainty"
TABLES = ("scores", "reliability", "detection")
SAMPLES = (1, 10, 100)  # of the posterior, averaged
MEANS, FILE = "mean weights", "decoded file"
Rows = list[dict[str, Any]]


def predictor_names() -> list[str]:
    """Return the names of the predictors, in the order of the tables and figures."""
    averages = [f"{count} sample{'s' if count > 1 else ''}" for count in SAMPLES]
    return [MEANS, *averages, FILE]


def predictions(run: FinishedRun, pixels: Pixels) -> Iterator[tuple[str, scores.Array]]:
    """Yield each predictor's name and log p, shape (classes, images).

    The samples are mu + sigma eps, their eps from numpy's generator seeded by the run's seed:
    the same for both parameterizations, and fixed, though other versions of numpy may draw
    others.  10 samples contain the 1, and 100 the 10.

    Parameters
    ----------
    run : FinishedRun
    pixels : ndarray of uint8, shape (images, channels, height, width)
        One channel has no axis.
    """
    q, noise = run.posterior, np.random.default_rng(run.settings.seed)

    def log_p(variables: scores.Array) -> scores.Array:
        return scores.log_probabilities(run.logits(variables, pixels))

    samples = (log_p(q.mu + q.sigma * noise.standard_normal(len(q.mu))) for _ in range(SAMPLES[-1]))
    names = predictor_names()
    yield MEANS, log_p(q.mu)
    yield from zip(names[1:-1], scores.averages(samples, SAMPLES), strict=True)
    yield FILE, log_p(run.decoded)


def measure(run: FinishedRun, data: Data) -> dict[str, Rows]:
    """Return the rows of one run for each table: scores, reliability and detection.

    Parameters
    ----------
    run : FinishedRun
    data : Path or DataSet
        Folder of the images.
    """
    test = load_split(data, "t10k")
    changed = changed_images(test.images)
    pixels = np.concatenate([test.images, *changed.values()])
    ends = np.cumsum([len(test.images), *(len(images) for images in changed.values())])
    tables: dict[str, Rows] = {table: [] for table in TABLES}
    for predictor, log_p in predictions(run, pixels):
        of = {
            "parameterization": run.settings.parameterization,
            "seed": run.settings.seed,
            "predictor": predictor,
        }
        plain, *others = np.split(scores.entropy(log_p), ends[:-1])
        bins = scores.reliability(log_p[:, : ends[0]], test.labels)
        values = score_values(log_p[:, : ends[0]], test.labels, bins)
        tables["scores"] += [{**of, "score": s, "value": v} for s, v in values.items()]
        tables["reliability"] += [{**of, **row} for row in reliability_rows(bins)]
        for name, entropy in zip(changed, others, strict=True):
            auroc, mean = scores.auroc(plain, entropy), float(np.mean(entropy))
            tables["detection"].append({**of, "images": name, "auroc": auroc, "mean_entropy": mean})
    return tables


def score_values(log_p: scores.Array, labels: Pixels, bins: scores.Reliability) -> dict[str, float]:
    """Return the scores by name, and the mean entropy: what that of changed images stands beside.

    Parameters
    ----------
    log_p : ndarray, shape (classes, images)
    labels : ndarray of uint8, shape (images,)
    bins : scores.Reliability
        Of the same.
    """
    return {
        "error": scores.error(log_p, labels),
        "log_likelihood": scores.log_likelihood(log_p, labels),
        "calibration_error": bins.calibration_error(),
        "brier": scores.brier(log_p, labels),
        "mean_entropy": float(np.mean(scores.entropy(log_p))),
    }


def reliability_rows(bins: scores.Reliability) -> Rows:
    """Return a row a bin; confidence and accuracy are None where it is empty."""
    count = len(bins.images)
    return [
        {
            "bin": number,
            "lower": number / count,
            "upper": (number + 1) / count,
            "images": int(bins.images[number]),
            "confidence": float(bins.confidence[number]) if bins.images[number] else None,
            "accuracy": float(bins.accuracy[number]) if bins.images[number] else None,
        }
        for number in range(count)
    ]


def uncertainty(
    comparison: Comparison,
    data: Data,
    out: Path,
    executor: Executor,
    at_once: int | None = None,
) -> dict[str, Any]:
    """Train both parameterizations with each seed, and score their predictive probabilities.

    Writes scores.csv, reliability.csv, detection.csv, results.json and figures; see
    `results.write_study`.

    Parameters
    ----------
    comparison : Comparison
        Of which the longest training counts.
    data : Path or DataSet
        The images, or their folder.
    out : Path
        Folder of the studies.
    executor, at_once
        See `runs.run_tasks`.

    Raises
    ------
    InputError
        If a setting is out of range, or the folder holds runs of other settings.
    """
    test = check_split(load_split(data, "t10k"), comparison.base.layout().network, open_choice=True)
    notes: tuple[str, ...] = ()
    if has_foreign(test.images):
        foreign_digits(1)  # a font that lacks a glyph is known before the work
    else:
        notes = (f"{FOREIGN} left out: they are grey images of 28x28",)
    runs, failures = open_runs(STUDY, comparison, data, out, executor, at_once)
    tasks = {name: (run, data) for name, run in runs.items()}
    measured: dict[str, dict[str, Rows]] = {}
    failures |= run_tasks(executor, measure, tasks, measured.__setitem__, at_once)
    # In the order of the plan, as runs come back in any; comparisons are paired.
    steps = comparison.lengths[-1]
    pairs = [[comparison.run_name(p, steps, s) for p in COMPARED] for s in comparison.seeds]
    whole = [name for pair in pairs if measured.keys() >= set(pair) for name in pair]
    tables = {table: [row for name in whole for row in measured[name][table]] for table in TABLES}
    claims: list[Claim] = []
    figures: dict[str, Draw] = {}
    if whole:
        claims = between_claims(tables) + averaging_claims(tables["scores"])
        figures = draw(tables, test.images)
    return write_study(
        out / STUDY,
        STUDY,
        {**comparison.to_dict(), "samples": SAMPLES, "bins": scores.BINS},
        claims,
        failures,
        tables,
        figures,
        subject=Subject(comparison.base.network, notes),
    )


def draw(tables: Mapping[str, Rows], test: Pixels) -> dict[str, Draw]:
    """Return what draws each figure, by name."""
    predictors = predictor_names()
    shown = [MEANS, predictors[-2], FILE]
    return {
        "scores": lambda: draw_scores(tables["scores"], predictors),
        "reliability": lambda: draw_reliability(tables["reliability"], shown, scores.BINS),
        "detection": lambda: draw_detection(tables["detection"], predictors),
        "images": lambda: draw_images({"test images": test, **changed_images(test)}),
    }


def between_claims(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Claim]:
    """Return the claims that Mean-KL's averages of samples are better than Mean-Var's."""
    average = predictor_names()[-2]
    compared = (
        ("log-likelihood", "log_likelihood", 1, "nats per image"),
        ("calibration error", "calibration_error", -1, "probability"),
        ("Brier score", "brier", -1, "squared probability"),
    )
    columns = [
        (what, sign, unit, paired(tables["scores"], "value", predictor=average, score=score))
        for what, score, sign, unit in compared
    ]
    foreign = paired(tables["detection"], "auroc", predictor=average, images=FOREIGN)
    if foreign[0]:
        columns.append((f"detection of {FOREIGN}", 1, "AUROC", foreign))
    difference = {1: "Mean-KL's minus Mean-Var's", -1: "Mean-Var's minus Mean-KL's"}
    return [
        claim_above(
            f"better {what}",
            f"Mean-KL's {what}, averaging {average}, is better than Mean-Var's"
            " (asked by arXiv 2307.07816 as future work)",
            f"{difference[sign]}, {unit}",
            sign * np.subtract(ours, theirs),
            0.0,
        )
        for what, sign, unit, (ours, theirs) in columns
    ]


def averaging_claims(rows: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Return the claims that averages of samples predict better than the one in the file."""
    average = predictor_names()[-2]
    many = paired(rows, "value", predictor=average, score="log_likelihood")
    one = paired(rows, "value", predictor=FILE, score="log_likelihood")
    return [
        claim_above(
            f"averaging samples beats the decoded file, {NAMES[name]}",
            f"{NAMES[name]}: averaging {average} of the posterior predicts better than the"
            " decoded file",
            "log-likelihood of the average minus that of the file, nats per image",
            np.subtract(many[column], one[column]),
            0.0,
        )
        for column, name in enumerate(COMPARED)
    ]
