from __future__ import annotations

import csv
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from refmiracle.errors import InputError
from refmiracle.figures import figures_of
from refmiracle.loading import load
from refmiracle.posterior.parameterizations import COMPARED
from refmiracle.studies import foreign, scores
from refmiracle.studies import uncertainty as study
from refmiracle.studies.comparison import open_run
from refmiracle.studies.results import FAILS, HOLDS
from refmiracle.studies.runs import finished_run, runs_folder
from refmiracle.studies.uncertainty import (
    averaging_claims,
    between_claims,
    measure,
    predictions,
    uncertainty,
)
from refmiracle.training.data import Split, default_folder, load_split
from refmiracle.training.run import model_path
from refmiracle.training.settings import fingerprint

KL, VAR = COMPARED
IMAGES = 2000
PREDICTORS = ["mean weights", "1 sample", "2 samples", "decoded file"]
SCORES = ("error", "log_likelihood", "calibration_error", "brier", "mean_entropy")
SETS = [*(f"rotated by {angle} degrees" for angle in (30, 60, 90, 180)), "foreign digits"]


@pytest.fixture(scope="module", autouse=True)
def few():
    """Few samples, and few images, changed or not."""

    def first(folder, name):
        split = load_split(folder, name)
        return Split(split.images[:IMAGES], split.labels[:IMAGES])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "SAMPLES", (1, 2))
        patch.setattr(study, "load_split", first)
        patch.setattr(foreign, "ROTATED", 50)
        patch.setattr(foreign, "COPIES", 2)
        yield


@pytest.fixture(scope="module")
def two_seeds(comparison):
    return replace(comparison, seeds=(0, 1))


@pytest.fixture(scope="module")
def measured():
    """What measure() found, by parameterization and seed."""
    return {}


@pytest.fixture(scope="module")
def written(two_seeds, study_folder, measured):
    def kept(run, data):
        key = run.settings.parameterization, run.settings.seed
        measured[key] = measure(run, data)
        return measured[key]

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as executor:
        patch.setattr(study, "measure", kept)
        results = uncertainty(two_seeds, default_folder(), study_folder, executor)
    tables = {}
    for name in study.TABLES:
        with open(study_folder / "uncertainty" / f"{name}.csv", newline="") as f:
            tables[name] = list(csv.DictReader(f))
    return results, tables


def run_of(comparison, study_folder, parameterization, seed):
    all_settings = comparison.all_settings(fingerprint(load_split(default_folder(), "train")))
    name = comparison.run_name(parameterization, comparison.lengths[-1], seed)
    folder = runs_folder(study_folder) / name
    return open_run(folder, finished_run(all_settings[name], folder)), folder


def test_all_is_written(written, study_folder):
    results, _ = written
    assert not results["failures"]
    wanted = {f"{n}.{s}" for n in ("scores", "reliability", "detection") for s in ("png", "svg")}
    wanted |= {
        "claims.md",
        "images.png",
        "images.svg",
        "scores.csv",
        "reliability.csv",
        "detection.csv",
    }
    assert set(results["files"]) == wanted
    for name in (*wanted, "results.json"):
        assert (study_folder / "uncertainty" / name).stat().st_size > 0
    assert len(results["claims"]) == 6
    assert all(np.isfinite(c["interval"]["estimate"]) for c in results["claims"])
    assert all(c["interval"]["count"] == 2 for c in results["claims"])


def test_tables_are_complete(written):
    _, tables = written
    runs = [(p, str(seed), name) for p, seed, name in product((KL, VAR), range(2), PREDICTORS)]
    for table, column, values in (
        ("scores", "score", SCORES),
        ("reliability", "bin", [str(b) for b in range(15)]),
        ("detection", "images", SETS),
    ):
        rows = tables[table]
        found = [(r["parameterization"], r["seed"], r["predictor"], r[column]) for r in rows]
        assert Counter(found) == Counter((*run, value) for run, value in product(runs, values))


def test_figures_are_in_their_ranges(written):
    _, tables = written
    for row in tables["scores"]:
        low, high = {
            "log_likelihood": (-100, 0),
            "brier": (0, 2),
            "mean_entropy": (0, np.log(10)),
        }.get(row["score"], (0, 1))
        assert low <= float(row["value"]) <= high
    for row in tables["detection"]:
        assert 0 <= float(row["auroc"]) <= 1
    images = Counter()
    for row in tables["reliability"]:
        images[row["parameterization"], row["seed"], row["predictor"]] += int(row["images"])
        assert (row["accuracy"] == "") == (row["images"] == "0")
        if row["confidence"]:
            assert float(row["lower"]) - 1e-6 <= float(row["confidence"])
            assert float(row["confidence"]) <= float(row["upper"]) + 1e-6
    assert set(images.values()) == {IMAGES}


@pytest.mark.parametrize("parameterization", COMPARED)
def test_the_decoded_file_is_the_file(written, comparison, study_folder, parameterization):
    _, tables = written
    run, folder = run_of(comparison, study_folder, parameterization, 1)
    test = study.load_split(default_folder(), "t10k")
    file = figures_of(load(model_path(folder), engine=run.settings.engine), test)["test_error"]
    (row,) = (
        r
        for r in tables["scores"]
        if (r["parameterization"], r["seed"]) == (parameterization, "1")
        and (r["predictor"], r["score"]) == ("decoded file", "error")
    )
    # The two passes sum in another order: an image or two may fall on the other side.
    assert abs(float(row["value"]) - file) <= 2 / len(test.images)


def test_a_prediction_averages_samples_of_the_posterior(comparison, study_folder):
    run, _ = run_of(comparison, study_folder, KL, 2)
    pixels = load_split(default_folder(), "t10k").images[:40]
    found = dict(predictions(run, pixels))
    assert list(found) == PREDICTORS
    q = run.posterior
    eps = np.random.default_rng(2).standard_normal((2, len(q.mu)))
    p = [np.exp(scores.log_probabilities(run.logits(q.mu + q.sigma * e, pixels))) for e in eps]
    assert np.allclose(np.exp(found["1 sample"]), p[0])
    assert np.allclose(np.exp(found["2 samples"]), np.mean(p, axis=0))
    means = scores.log_probabilities(run.logits(q.mu, pixels))
    assert np.array_equal(found["mean weights"], means)


def test_a_run_that_cannot_be_measured_is_reported(
    written, measured, two_seeds, study_folder, monkeypatch, tmp_path
):
    (tmp_path / "runs").symlink_to(study_folder / "runs")

    def failing(run, data):
        key = run.settings.parameterization, run.settings.seed
        if key == (VAR, 1):
            raise InputError("it is lost")
        return measured[key]

    monkeypatch.setattr(study, "measure", failing)
    monkeypatch.setattr(study, "draw", lambda tables, test: {})
    with ThreadPoolExecutor(1) as executor:
        results = uncertainty(two_seeds, default_folder(), tmp_path, executor)
    assert list(results["failures"].values()) == ["it is lost"]
    assert "scores.csv" in results["files"]
    with open(tmp_path / "uncertainty" / "scores.csv", newline="") as f:
        assert {row["seed"] for row in csv.DictReader(f)} == {"0"}


def test_without_a_pair_there_are_failures_alone(two_seeds, study_folder, monkeypatch, tmp_path):
    (tmp_path / "runs").symlink_to(study_folder / "runs")

    def failing(run, data):
        raise InputError("it is lost")

    monkeypatch.setattr(study, "measure", failing)
    with ThreadPoolExecutor(1) as executor:
        results = uncertainty(two_seeds, default_folder(), tmp_path, executor)
    assert len(results["failures"]) == 4
    assert results["files"] == results["claims"] == []


def test_claims_are_signed_so_that_better_is_above():
    """Mean-KL is better by all scores, and averages are worse than the file."""
    better = {"log_likelihood": 1, "calibration_error": -1, "brier": -1}
    rows = [
        {
            "parameterization": p,
            "seed": seed,
            "predictor": predictor,
            "score": score,
            "value": sign * (0.3 * (p == KL) + 0.1 * (predictor == "decoded file") + 0.01 * seed),
        }
        for p, seed, predictor in product((KL, VAR), range(5), PREDICTORS)
        for score, sign in better.items()
    ]
    detection = [
        {
            "parameterization": p,
            "seed": seed,
            "predictor": "2 samples",
            "images": "foreign digits",
            "auroc": 0.8 + 0.1 * (p == KL),
        }
        for p, seed in product((KL, VAR), range(5))
    ]
    found = between_claims({"scores": rows, "detection": detection})
    assert [c.verdict for c in found] == [HOLDS] * 4
    assert [c.interval.estimate for c in found] == pytest.approx([0.3, 0.3, 0.3, 0.1])
    found = averaging_claims(rows)
    assert [c.verdict for c in found] == [FAILS] * 2
    assert [c.interval.estimate for c in found] == pytest.approx([-0.1, -0.1])
