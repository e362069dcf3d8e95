"""Whatever is wrong with one run ends no study: it is a failure, and the others go on."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from tiny import TINY

from refmiracle.commands.study import STUDIES
from refmiracle.errors import InputError
from refmiracle.fileformat.container import read_model
from refmiracle.posterior.parameterizations import COMPARED
from refmiracle.studies import convergence as convergence_study
from refmiracle.studies import foreign, runs
from refmiracle.studies import rate_distortion as sweep_study
from refmiracle.studies.codes import CODES_PLANS, codes
from refmiracle.studies.comparison import open_runs
from refmiracle.studies.convergence import convergence
from refmiracle.studies.rate_distortion import Sweep, describe, rate_distortion
from refmiracle.studies.runs import attempt, finished_run
from refmiracle.studies.step_time import Timing
from refmiracle.studies.tails import tails
from refmiracle.training.data import default_folder, load_split
from refmiracle.training.settings import fingerprint

KL, VAR = COMPARED


@pytest.fixture
def plan(comparison):
    return replace(comparison, lengths=comparison.lengths[-1:], seeds=(0, 1))


@pytest.fixture
def studies(plan, study_folder, tmp_path):
    """A copy of the finished runs, for a test to damage."""
    for parameterization in COMPARED:
        for seed in plan.seeds:
            name = plan.run_name(parameterization, plan.lengths[-1], seed)
            shutil.copytree(study_folder / "runs" / name, tmp_path / "runs" / name)
    return tmp_path


@pytest.fixture
def broken(plan, studies):
    """The folder of the run that a test damages."""
    return studies / "runs" / plan.run_name(VAR, plan.lengths[-1], 1)


def no_posterior(folder):
    (folder / "posterior.npz").unlink()


def torn_posterior(folder):
    data = (folder / "posterior.npz").read_bytes()
    (folder / "posterior.npz").write_bytes(data[: len(data) // 2])


def posterior_of_another_run(folder):
    np.savez(folder / "posterior.npz", **dict.fromkeys(("mu", "sigma", "rho"), np.ones(3)))


def posterior_of_another_seed(folder):
    """Of a run of the same network, whose scales have gone another way."""
    with np.load(folder / "posterior.npz") as f:
        arrays = {n: f[n] for n in f.files}
    arrays["rho"][-1] *= 1.0 + 2.0**-10
    np.savez(folder / "posterior.npz", **arrays)


def posterior_of_nothing(folder):
    with np.load(folder / "posterior.npz") as f:
        np.savez(folder / "posterior.npz", **{n: np.zeros_like(f[n]) for n in f.files})


def model_of_other_settings(folder):
    """With a summary that says it is this one."""
    model, _ = read_model(folder / "model.rmc")
    other = replace(model, layout=replace(model.layout, seed=model.layout.seed + 1))
    (folder / "model.rmc").write_bytes(other.to_bytes())
    _, data = read_model(folder / "model.rmc")
    summary = json.loads((folder / "summary.json").read_text())
    summary["sha256"] = runs.hashlib.sha256(data).hexdigest()
    (folder / "summary.json").write_text(json.dumps(summary))


FAULTS = {
    no_posterior: "posterior.npz: it is no intact posterior",
    torn_posterior: "posterior.npz: it is no intact posterior",
    posterior_of_another_run: "posterior.npz: it is not of the run that made model.rmc",
    posterior_of_another_seed: "posterior.npz: it is not of the run that made model.rmc",
    posterior_of_nothing: "posterior.npz: it holds numbers that no posterior has",
    model_of_other_settings: "model.rmc: it has other settings than",
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", FAULTS, ids=lambda f: f.__name__)
def test_a_run_that_cannot_be_opened_is_a_failure(plan, studies, broken, damage):
    damage(broken)
    with ThreadPoolExecutor(1) as executor:
        opened, failures = open_runs("training", plan, default_folder(), studies, executor)
    assert failures.keys() == {broken.name}
    assert FAULTS[damage] in failures[broken.name]
    assert len(opened) == 3
    assert failures[broken.name].endswith(f"; remove {broken} to have the run made again")


def test_a_run_that_is_removed_is_made_again(plan, studies, broken):
    whole = (broken / "posterior.npz").read_bytes()
    shutil.rmtree(broken)
    with ThreadPoolExecutor(1) as executor:
        opened, failures = open_runs("training", plan, default_folder(), studies, executor)
    assert failures == {}
    assert len(opened) == 4
    assert (broken / "posterior.npz").read_bytes() == whole


def no_metrics(folder):
    (folder / "metrics.jsonl").unlink()


def metrics(line):
    def damage(folder):
        path = folder / "metrics.jsonl"
        path.write_text(path.read_text() + line + "\n")

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_posterior, "posterior.npz: it is no intact posterior"),
        (no_metrics, "metrics.jsonl: No such file"),
        (metrics('{"step": 1'), "is no intact JSON"),
        (metrics('{"step": 1}'), "does not hold the figures of a step"),
        (
            metrics(
                '{"step": 1, "phase": "train", "kl_bits": "many", "sent_bits": 0,'
                ' "loss_nats": 0, "validation_error": 0}'
            ),
            "does not hold the figures of a step",
        ),
    ],
)
def test_convergence_goes_on_without_a_run(plan, studies, broken, monkeypatch, damage, message):
    monkeypatch.setattr(convergence_study, "SAMPLES", 1)
    timing = Timing({KL: [1.0], VAR: [1.0]})
    monkeypatch.setattr(convergence_study, "time_steps", lambda comparison, train: timing)
    monkeypatch.setattr(convergence_study, "draw_curves", None)
    monkeypatch.setattr(convergence_study, "draw_ends", None)
    damage(broken)
    with ThreadPoolExecutor(1) as executor:
        results = convergence(plan, default_folder(), studies, executor)
    failure = results["failures"].pop(broken.name)
    assert message in failure
    assert failure.endswith(f"; remove {broken} to have the run made again")
    assert results["failures"].keys() == {"figure curves", "figure ends"}
    assert (studies / "convergence" / "ends.csv").read_text().count("\n") == 1 + 3


@pytest.mark.slow
def test_convergence_of_one_parameterization_alone_claims_nothing_of_the_other(
    plan, studies, monkeypatch
):
    monkeypatch.setattr(convergence_study, "SAMPLES", 1)
    timing = Timing({KL: [1.0], VAR: [1.0]})
    monkeypatch.setattr(convergence_study, "time_steps", lambda comparison, train: timing)
    for seed in plan.seeds:
        no_posterior(studies / "runs" / plan.run_name(VAR, plan.lengths[-1], seed))
    with ThreadPoolExecutor(1) as executor:
        results = convergence(plan, default_folder(), studies, executor)
    assert len(results["failures"]) == 2
    assert results["claims"] == []
    assert {"ends.csv", "curves.svg", "ends.svg"} <= set(results["files"])


def test_tails_go_on_without_a_run_that_cannot_be_measured(plan, studies, broken, monkeypatch):
    from refmiracle.studies import tails as study  # noqa: PLC0415 (the function has its name)

    measure = study.measure

    def fails(run):
        if (run.settings.parameterization, run.settings.seed) == (VAR, 1):
            raise RuntimeError("lost")
        return measure(run)

    monkeypatch.setattr(study, "measure", fails)
    monkeypatch.setattr(study, "draw", lambda paired_runs, tables: {})
    with ThreadPoolExecutor(1) as executor:
        results = tails(plan, default_folder(), studies, executor)
    assert results["failures"] == {broken.name: "RuntimeError: lost"}
    rows = (studies / "tails" / "bits.csv").read_text().splitlines()[1:]
    assert {row.split(",")[1] for row in rows} == {"0"}


@pytest.mark.parametrize("summary", ["[]", "7", "[" * 100_000, "without", "text"])
def test_a_damaged_summary_is_made_again(plan, studies, broken, summary):
    path = broken / "summary.json"
    whole = path.read_bytes()
    if summary in ("without", "text"):
        figures = json.loads(whole)
        figures["bytes"] = "many"
        if summary == "without":
            del figures["bytes"]
        summary = json.dumps(figures)
    path.write_text(summary)
    settings = plan.all_settings(fingerprint(load_split(default_folder(), "train")))[broken.name]
    assert finished_run(settings, broken) is None
    with ThreadPoolExecutor(1) as executor:
        opened, failures = open_runs("training", plan, default_folder(), studies, executor)
    assert failures == {}
    assert len(opened) == 4
    assert path.read_bytes() == whole


def test_a_point_that_cannot_be_tested_is_a_failure(tmp_path, monkeypatch):
    sweep = Sweep(TINY, bits=(3,), block_sizes=(60, 90))
    load = sweep_study.load

    def gone(path, **options):
        if "-60-" in str(path):
            raise OSError(5, "Input/output error", str(path))
        return load(path, **options)

    monkeypatch.setattr(sweep_study, "load", gone)
    monkeypatch.setattr(sweep_study, "frontier", lambda points: [p["name"] for p in points])
    with ThreadPoolExecutor(1) as executor:
        results = rate_distortion(sweep, default_folder(), tmp_path, executor)
    assert results["failures"].keys() == {"3bits-60-seed0"}
    assert [p["test_error"] is None for p in results["points"]] == [True, False]
    assert len(describe(results).splitlines()) == 3
    assert "frontier.svg" in results["files"]


def test_one_that_fails_stops_none():
    found, failures = attempt(int, {"a": ("1",), "b": ("x",), "c": ("3",)})
    assert found == {"a": 1, "c": 3}
    assert failures.keys() == {"b"}
    assert failures["b"].startswith("ValueError: invalid literal")


class Untouched:
    """An executor that is to get no work."""

    def submit(self, function, *arguments):
        pytest.fail("work has begun")


def run_study(name, plan, data, out):
    if name == "codes":
        return codes(CODES_PLANS["smoke"], out, Untouched())
    if name == "rate-distortion":
        return rate_distortion(Sweep(TINY, bits=(3,), block_sizes=(60,)), data, out, Untouched())
    return STUDIES[name][1](plan, data, out, Untouched())


@pytest.mark.parametrize("name", [*STUDIES, "rate-distortion", "codes"])
def test_results_that_cannot_be_written_are_told_before_the_work(plan, tmp_path, name):
    (tmp_path / name).write_text("in the way")
    with pytest.raises(InputError, match=f"{name}: cannot be made: "):
        run_study(name, plan, default_folder(), tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / name]


@pytest.mark.parametrize("name", ["pruning", "uncertainty", "rate-distortion"])
def test_test_images_that_are_missing_are_told_before_the_work(plan, tmp_path, name):
    data, out = tmp_path / "data", tmp_path / "study"
    data.mkdir()
    for path in default_folder().glob("train-*"):
        shutil.copy(path, data)
    with pytest.raises(InputError, match="there is no t10k-images"):
        run_study(name, plan, data, out)
    assert not out.exists()


def test_a_font_that_lacks_a_glyph_is_told_before_the_work(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "GLYPHS", "\U0010ffff")
    with pytest.raises(InputError, match="it has no glyph for U\\+10FFFF"):
        run_study("uncertainty", plan, default_folder(), tmp_path)
    assert not any(tmp_path.iterdir())
