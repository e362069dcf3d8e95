from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest

import numpy as np
import pytest

from refmiracle.posterior.parameterizations import COMPARED
from refmiracle.studies import convergence as study
from refmiracle.studies.comparison import COMPARISONS
from refmiracle.studies.convergence import (
    Course,
    convergence,
    end_claims,
    reached_rows,
    speed_claims,
)
from refmiracle.studies.results import FAILS, HOLDS, UNDECIDED, paired
from refmiracle.studies.step_time import Timing
from refmiracle.training.data import default_folder

KL, VAR = COMPARED


def line(step, error, kl):
    return {"step": step, "validation_error": error, "kl_bits": kl}


def test_an_error_counts_where_the_network_could_be_sent():
    lines = [
        line(10 * i, e, kl)
        for i, (e, kl) in enumerate(
            [(0.5, 900), (0.01, 900), (0.01, 900), (0.01, 102), (0.2, 100), (0.3, 100), (0.01, 100)]
        )
    ]
    course = Course(lines, budget=100.0)
    assert course.steps_to(0.05) == 30  # within 1.02 of the budget there, and not before
    assert course.steps_to(0.05, "any") == 20  # the median of three lines
    assert course.steps_to(0.005) is None
    assert Course(lines[4:], 100.0).steps_to(0.25) == 40
    assert Course(lines[:3], 100.0).steps_to(0.5) is None


def test_the_error_is_the_median_of_three_lines():
    lucky = Course([line(i, e, 1.0) for i, e in enumerate([0.4, 0.4, 0.1, 0.4, 0.1])], 1.0)
    assert lucky.steps_to(0.1) == 4


def test_seeds_are_paired():
    rows = [
        {"parameterization": KL, "seed": 1, "x": 1.0, "at": 3},
        {"parameterization": KL, "seed": 0, "x": 2.0, "at": 3},
        {"parameterization": VAR, "seed": 0, "x": 5.0, "at": 3},
        {"parameterization": VAR, "seed": 1, "x": 7.0, "at": 4},
    ]
    assert paired(rows, "x", at=3) == ([2.0], [5.0])
    assert paired(rows, "x", at=5) == ([], [])


def reached(ratio, kl="within"):
    return [
        {
            "parameterization": p,
            "seed": seed,
            "target": 0.05,
            "kl": kl,
            "reached": True,
            "steps": 100 * f,
            "seconds": 100 * f,
        }
        for seed in range(5)
        for p, f in ((KL, 1.0), (VAR, ratio + 0.01 * seed))
    ]


@pytest.mark.parametrize(
    ("ratio", "twice", "faster"),
    [(2.5, HOLDS, HOLDS), (1.5, FAILS, HOLDS), (0.5, FAILS, FAILS), (1.98, UNDECIDED, HOLDS)],
)
def test_verdicts_on_speed(ratio, twice, faster):
    claims = speed_claims(reached(ratio))
    assert [c.verdict for c in claims] == [twice, faster, twice, faster]
    assert all(c.interval.low <= ratio + 0.02 <= c.interval.high for c in claims)
    at_any_kl = speed_claims(reached(ratio, "any"))
    assert [c.verdict for c in at_any_kl] == [twice, faster]
    assert all("at any KL in steps" in c.name for c in at_any_kl)


def test_a_target_that_few_reach_is_no_claim():
    rows = [{**row, "reached": row["parameterization"] == KL} for row in reached(2.0)]
    assert speed_claims(rows) == []


def test_where_a_target_was_not_reached_in_time_its_steps_are_the_least():
    """Of 5 seeds 2 were cut short: they may be on the other side of any bound."""

    def claims(ratio, who):
        rows = reached(ratio)
        for row in rows:
            row["reached"] = row["parameterization"] != who or row["seed"] >= 2
        return {c.name.split(" to ")[0]: c for c in speed_claims(rows) if "steps" in c.name}

    ahead = claims(2.5, KL)["twice as fast"]
    assert ahead.verdict == UNDECIDED
    assert ahead.figure.endswith("; true above 2; at most this for 2 of 5 seeds")
    assert claims(2.5, VAR)["twice as fast"].verdict == HOLDS
    behind = claims(0.5, VAR)["faster"]
    assert behind.verdict == UNDECIDED
    assert behind.figure.endswith("; true above 1; at least this for 2 of 5 seeds")
    assert claims(0.5, KL)["faster"].verdict == FAILS


def end(p, seed, e, steps):
    return {
        "parameterization": p,
        "seed": seed,
        "length": 10,
        "training_steps": steps,
        "posterior_error": e + 0.0001 * seed,
        "file_error": e - 0.002,
    }


def curve(p, seed, errors, kl_bits=()):
    of = {"parameterization": p, "seed": seed, "length": 10, "budget_bits": 100.0}
    return [
        {**of, "step": 2 * i, "validation_error": e, "kl_bits": kl}
        for i, (e, kl) in enumerate(zip_longest(errors, kl_bits, fillvalue=100.0), start=1)
    ]


def test_claims_at_the_end_are_differences_in_points():
    runs = [(p, e, seed) for seed in range(5) for p, e in ((KL, 0.02), (VAR, 0.03))]
    rows = [end(p, seed, e, 10 if p == KL else 15 + seed) for p, e, seed in runs]
    curves = [c for p, e, seed in runs for c in curve(p, seed, [0.9, e, e, e, 2 * e, 0.5])]
    claims = {c.name: c for c in end_claims(rows, curves)}
    planned = "of trainings planned for 10 steps"
    file = claims[f"lower error of the file, {planned}"]
    assert np.isclose(file.interval.estimate, 1.0)
    assert file.claim == f"the error of Mean-KL's file, {planned}, is lower than that of Mean-Var's"
    sent = claims[f"lower error of the posterior before it is encoded, {planned}"]
    assert np.isclose(sent.interval.estimate, 1.0)
    ready = claims["ready in half the steps, of 10"]
    assert ready.verdict == FAILS
    assert np.isclose(ready.interval.estimate, 1.7)
    kept = claims["Mean-KL keeps its performance"]
    assert np.isclose(kept.interval.estimate, 0.22)
    assert kept.verdict == HOLDS
    # Of the last four looks until the planned step; the one at step 12 is past it.
    after = claims["lower error of the posterior after 10 steps"]
    assert np.isclose(after.interval.estimate, 1.25)


def test_looks_above_the_budget_are_no_result():
    """Of the four until step 8 the third is at 1.03 times the budget."""
    runs = [(KL, seed, [0.1] * 4, []) for seed in range(3)]
    runs += [(VAR, seed, [0.2, 0.2, 0.01, 0.2], [100, 102, 103, 100]) for seed in range(3)]
    ends = [end(p, seed, 0.02, 10) for p, seed, *_ in runs]
    claims = {c.name: c for c in end_claims(ends, [c for run in runs for c in curve(*run)])}
    after = claims["lower error of the posterior after 10 steps"]
    assert np.isclose(after.interval.estimate, 10.0)
    assert after.verdict == HOLDS


def test_what_is_not_reached_is_not_reached_in_all_the_steps_of_its_training():
    """Mean-Var's may have twice the planned steps."""
    courses = {
        (KL, 5000, 0): Course([line(i, 0.5, 1.0) for i in (2480, 4960)], 1.0),
        (VAR, 5000, 0): Course([line(i, 0.5, 1.0) for i in (4960, 9920)], 1.0),
    }
    comparison = COMPARISONS["default"]
    assert comparison.lengths[-1] == 5000
    rows = reached_rows(courses, comparison, Timing({KL: np.ones(1), VAR: np.ones(1)}))
    assert not any(row["reached"] for row in rows)
    assert {(row["parameterization"], row["steps"]) for row in rows} == {(KL, 5000), (VAR, 9920)}


@pytest.mark.parametrize(("last", "verdict"), [(20, HOLDS), (19, UNDECIDED)])
def test_trainings_that_were_stopped_had_twice_the_steps_or_more(last, verdict):
    lengths = [20] * 4 + [last]
    runs = [(p, i, s) for i, steps in enumerate(lengths) for p, s in ((KL, 10), (VAR, steps))]
    ends = [end(p, seed, 0.02, steps) for p, seed, steps in runs]
    curves = [c for p, seed, _ in runs for c in curve(p, seed, [0.1])]
    ready = end_claims(ends, curves)[0]
    assert ready.verdict == verdict
    cut = lengths.count(20)
    assert ready.figure.endswith(f"; true at or above 2; at least this for {cut} of 5 seeds")


def test_the_whole_study(comparison, study_folder, monkeypatch):
    monkeypatch.setattr(study, "SAMPLES", 2)
    (study_folder / "runs").mkdir(exist_ok=True)
    in_the_way = study_folder / "runs" / comparison.run_name(KL, 3, 0)
    in_the_way.write_text("in the way")
    with ThreadPoolExecutor(1) as executor:
        results = convergence(comparison, default_folder(), study_folder, executor)
    assert results["failures"].keys() == {in_the_way.name}
    for name in (*results["files"], "results.json"):
        assert (study_folder / "convergence" / name).stat().st_size > 0
    assert {f"{n}.csv" for n in ("curves", "reached", "ends")} <= set(results["files"])
    with open(study_folder / "convergence" / "ends.csv", newline="") as f:
        ends = list(csv.DictReader(f))
    assert len(ends) == 2 * 2 * 3 - 1
    for row in ends:
        assert 0 < float(row["posterior_error"]) < 1
        assert 0 < float(row["file_error"]) < 1
    assert results["seconds_a_step"]["ratio"] > 0
    names = [c["name"].split(",")[0] for c in results["claims"]]
    assert "lower error of the file" in names
    assert "NaN" not in (study_folder / "convergence" / "results.json").read_text()
