from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from refmiracle.figures import figures_of
from refmiracle.loading import load
from refmiracle.posterior.parameterizations import COMPARED
from refmiracle.studies import pruning as study
from refmiracle.studies.pruning import ORDERS, area_rows, make_claims, pruned, pruning, scores
from refmiracle.studies.results import FAILS, HOLDS
from refmiracle.training.data import Split, default_folder, load_split
from refmiracle.training.run import model_path

KL, VAR = COMPARED


def test_of_each_group_the_smallest_go():
    values = np.array([5.0, 1.0, 4.0, 0.0, 3.0, 2.0, 9.0])
    assert pruned(values, [slice(0, 7)], 0.4).nonzero()[0].tolist() == [1, 3, 5]
    alike = pruned(values, [slice(0, 3), slice(3, 6)], 1 / 3)
    assert alike.nonzero()[0].tolist() == [1, 3]
    assert not pruned(values, [slice(0, 7)], 0.0).any()
    assert pruned(values, [slice(2, 4)], 1.0).nonzero()[0].tolist() == [2, 3]


def test_scopes_cover_what_they_say(run):
    scopes = study.scopes(run)
    assert list(scopes) == ["global", "uniform", "conv1", "conv2", "dense1", "dense2"]
    count = len(run.decoded)
    for name, size in (("global", count), ("uniform", count), ("conv1", 500), ("dense2", 5000)):
        assert pruned(run.decoded, scopes[name], 1.0).sum() == size


def test_orders_are_of_what_they_say(run):
    q = run.posterior
    assert np.array_equal(scores(run, "|w|"), np.abs(run.decoded))
    assert np.allclose(scores(run, "|w|/rho") * q.rho, np.abs(run.decoded))
    assert np.allclose(scores(run, "|mu|/sigma") * q.sigma, np.abs(q.mu))
    assert np.array_equal(scores(run, "random"), scores(run, "random"))
    other = replace(run, settings=replace(run.settings, seed=9))
    assert not np.array_equal(scores(run, "random"), scores(other, "random"))
    ranks = [tuple(np.argsort(scores(run, order))[:50]) for order in ORDERS]
    assert len(set(ranks)) == len(ORDERS)


def curve(parameterization, seed, errors):
    return [
        {
            "parameterization": parameterization,
            "seed": seed,
            "scope": "global",
            "order": "|w|",
            "fraction": fraction,
            "test_error": error,
        }
        for fraction, error in errors
    ]


def test_area_and_rise_by_hand():
    (row,) = area_rows(curve(KL, 0, [(0.5, 0.3), (0.0, 0.1), (0.8, 0.3)]))
    assert row["area"] == pytest.approx((0.5 * 0.2 + 0.3 * 0.3) / 0.8)
    assert row["rise"] == pytest.approx(row["area"] - 0.1)


def test_a_low_error_is_no_robustness():
    """Mean-KL begins lower and rises faster: its area is smaller, its rise is not."""
    rows = [
        row
        for seed in range(5)
        for p, errors in ((KL, [(0.0, 0.1), (1.0, 0.5)]), (VAR, [(0.0, 0.3), (1.0, 0.4)]))
        for row in curve(p, seed, errors)
    ]
    claims = {c.name: c for c in make_claims(area_rows(rows))}
    assert claims["error, smallest |w|"].verdict == HOLDS
    assert claims["error, smallest |w|"].interval.estimate == pytest.approx(5.0)
    assert claims["rise of the error, smallest |w|"].verdict == FAILS


@pytest.mark.slow
def test_the_whole_study(comparison, study_folder, monkeypatch):
    monkeypatch.setattr(study, "FRACTIONS", (0.0, 0.9))
    test = load_split(default_folder(), "t10k")
    few = Split(test.images[:500], test.labels[:500])
    monkeypatch.setattr(study, "load_split", lambda folder, name: few)
    broken = comparison.run_name(VAR, comparison.lengths[-1], 2)
    prune_run = study.prune_run

    def fail_once(run, data):
        if (run.settings.parameterization, run.settings.seed) == (VAR, 2):
            raise RuntimeError("lost")
        return prune_run(run, data)

    monkeypatch.setattr(study, "prune_run", fail_once)
    with ThreadPoolExecutor(1) as executor:
        results = pruning(comparison, default_folder(), study_folder, executor)
    assert results["failures"] == {broken: "RuntimeError: lost"}
    assert {"curves.csv", "areas.csv", "curves.svg", "layers.png"} <= set(results["files"])
    for name in results["files"]:
        assert (study_folder / "pruning" / name).stat().st_size > 0
    with open(study_folder / "pruning" / "curves.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 5 * 6 * len(ORDERS) * 2
    path = model_path(study_folder / "runs" / comparison.run_name(KL, comparison.lengths[-1], 1))
    error = figures_of(load(path), few)["test_error"]
    whole = [
        float(r["test_error"])
        for r in rows
        if r["parameterization"] == KL and r["seed"] == "1" and r["fraction"] == "0"
    ]
    assert len(whole) == 6 * len(ORDERS)
    assert np.allclose(whole, error, atol=2.1e-3)  # shared units round otherwise
    assert {c["interval"]["count"] for c in results["claims"]} == {2}
