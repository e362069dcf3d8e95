from __future__ import annotations

import csv
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from refmiracle.posterior.parameterizations import COMPARED
from refmiracle.studies import tails as study
from refmiracle.studies.comparison import by_pairs, open_runs
from refmiracle.studies.results import FAILS, HOLDS
from refmiracle.studies.tails import (
    dense_of_places,
    gini,
    make_claims,
    moment_rows,
    position_bits,
    quantile_rows,
    tail_index,
    tails,
)
from refmiracle.studies.tails_figures import over_pixels
from refmiracle.training.data import default_folder

KL, VAR = COMPARED


@pytest.mark.parametrize("alpha", [1.0, 2.5, 8.0])
def test_tail_index_of_pareto_laws(alpha):
    """Symmetric about 0, with P(|X| > x) = x^-alpha above 1."""
    p = (np.arange(200_000) + 0.5) / 200_000
    x = (1 - p) ** (-1 / alpha)
    assert tail_index(np.concatenate([x, -x])) == pytest.approx(alpha, rel=0.02)


def test_heavier_tails_have_a_smaller_index(rng):
    normal, laplace = rng.standard_normal(50_000), rng.laplace(size=50_000)
    assert tail_index(laplace) < tail_index(normal)
    assert tail_index(3 * laplace + 7) == pytest.approx(tail_index(laplace), rel=1e-6)


def test_gini_by_hand():
    assert gini([1, 1, 1, 1]) == 0.0
    assert gini([0, 0, 0, 1]) == 0.75
    assert gini([1, 3]) == pytest.approx(0.25)


def test_the_bits_are_the_budget(run):
    budget = run.settings.bits_per_block * run.settings.layout().blocks()
    assert run.posterior.kl_bits().sum() == pytest.approx(budget, rel=1e-5)
    bits = study.bit_rows(run)
    assert sum(row["bits"] for row in bits) == pytest.approx(budget, rel=1e-5)
    assert sum(row["share"] for row in bits) == pytest.approx(1.0)
    assert sum(row["variables"] for row in bits) == len(run.decoded)


def test_the_maps_have_the_bits_of_the_layer(run):
    layer = dense_of_places(run.settings)
    places = position_bits(run, layer)
    assert layer.path == "dense1"
    assert places.shape == (4, 4)
    assert places.sum() == pytest.approx(run.posterior.kl_bits()[run.layers()["dense1"]].sum())
    pixels = over_pixels(places, layer.sides)
    assert pixels.sum() == pytest.approx(places.sum())
    one = np.zeros((4, 4))
    one[3, 0] = 256.0
    assert np.all(over_pixels(one, layer.sides)[12:, :16] == 1.0)
    assert over_pixels(one, layer.sides).sum() == 256.0


def test_moments_are_of_the_layer_and_quantity(run):
    made = replace(run, decoded=np.random.default_rng(0).laplace(size=len(run.decoded)))
    rows = {(r["layer"], r["quantity"], r["statistic"]): r["value"] for r in moment_rows(made)}
    assert rows["all", "w", "excess kurtosis"] == pytest.approx(3.0, abs=0.6)
    part = made.layers()["conv2"]
    assert rows["conv2", "w", "mean"] == pytest.approx(made.decoded[part].mean())
    ratio = made.posterior.mu[part] / made.posterior.rho[part]
    assert rows["conv2", "mu/rho", "95 % quantile"] == pytest.approx(np.quantile(ratio, 0.95))


def test_a_normal_gives_a_straight_line(run):
    normal = np.random.default_rng(1).standard_normal(len(run.decoded))
    made = replace(run, decoded=5 + 2 * run.posterior.rho * normal)
    rows = [r for r in quantile_rows(made) if (r["quantity"], r["layer"]) == ("w/rho", "dense1")]
    shifted = [r["quantile"] - r["normal"] for r in rows]
    assert len(rows) == len(study.PROBABILITIES)
    assert np.abs(shifted).max() < 0.15


def test_claims_know_which_is_heavier():
    def row(parameterization, seed, quantity, statistic, value):
        layer = "all"
        return locals()

    rows = [
        row(p, seed, quantity, statistic, value + 0.01 * seed * value)
        for seed in range(5)
        for quantity in ("mu/rho", "w/rho", "KL, bits")
        for statistic, values in (
            ("excess kurtosis", (6.0, 3.0)),
            ("tail index", (5.0, 4.0)),
            ("Gini coefficient", (0.5, 0.6)),
        )
        for p, value in zip((KL, VAR), values, strict=True)
        if (statistic == "Gini coefficient") == (quantity == "KL, bits")
    ]
    claims = make_claims(rows)
    assert [c.verdict for c in claims] == [HOLDS, FAILS, HOLDS, FAILS, FAILS]


@pytest.mark.slow
def test_the_whole_study(comparison, study_folder):
    with ThreadPoolExecutor(1) as executor:
        results = tails(comparison, default_folder(), study_folder, executor)
    assert not results["failures"]
    drawn = ("densities", "quantile-quantile", "bits", "pixels", "filters")
    tables = ("moments", "intervals", "quantiles", "bits")
    wanted = [f"{n}.{s}" for n in drawn for s in ("png", "svg")] + [f"{n}.csv" for n in tables]
    wanted.append("claims.md")
    assert sorted(results["files"]) == sorted(wanted)
    folder = study_folder / "tails"
    assert json.loads((folder / "results.json").read_text()) == results
    for name in wanted:
        assert (folder / name).stat().st_size > 0
    with open(folder / "moments.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 6 * (5 * 8 * 11 + 1)
    assert {row["parameterization"] for row in rows} == {KL, VAR}
    with open(folder / "intervals.csv", newline="") as f:
        intervals = list(csv.DictReader(f))
    assert len(intervals) == 5 * 8 * 2 * 2
    for row in intervals:
        assert float(row["low"]) <= float(row["median"]) <= float(row["high"])
    assert len(results["claims"]) == 5
    assert {c["interval"]["count"] for c in results["claims"]} == {3}


def test_a_run_that_cannot_be_opened_leaves_its_seed_out(comparison, study_folder, tmp_path):
    for folder in (study_folder / "runs").iterdir():
        if folder.is_dir() and folder.name.endswith(("0", "1")):
            (tmp_path / "runs").mkdir(exist_ok=True)
            shutil.copytree(folder, tmp_path / "runs" / folder.name)
    plan = replace(comparison, seeds=(0, 1))
    broken = plan.run_name(VAR, plan.lengths[-1], 1)
    (tmp_path / "runs" / broken / "posterior.npz").write_bytes(b"no such thing")
    with ThreadPoolExecutor(1) as executor:
        runs, failures = open_runs(study.STUDY, plan, default_folder(), tmp_path, executor)
    assert failures.keys() == {broken}
    assert "it is no intact posterior" in failures[broken]
    assert {p: list(of) for p, of in by_pairs(runs).items()} == {KL: [0], VAR: [0]}
