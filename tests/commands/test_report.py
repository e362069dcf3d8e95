from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from refmiracle.commands import report
from refmiracle.files import quoted
from refmiracle.start import main as refmiracle_main


@pytest.fixture
def copied(tiny_run, tmp_path):
    """A finished tiny run that a test may damage."""
    return shutil.copytree(tiny_run, tmp_path / "run")


def command(run, data, *more):
    return [str(run), "--data", str(data), *more]


def test_the_page_is_written(copied, few_images_folder, tmp_path, capsys):
    assert refmiracle_main(["report", *command(copied, few_images_folder)]) == 0
    page = (copied / "report.html").read_bytes()
    assert page.startswith(b"<!DOCTYPE html>")
    assert str(copied / "report.html") in capsys.readouterr().out
    out = tmp_path / "elsewhere.html"
    assert report.main(command(copied, few_images_folder, "--out", str(out))) == 0
    assert out.read_bytes() == page


def unfinished(run):
    (run / "summary.json").unlink()
    (run / "model.rmc").unlink()


def older(run):
    (run / "posterior.npz").unlink()


def empty(run):
    (run / "summary.json").unlink()
    (run / "checkpoint.npz").unlink()


def no_metrics(run):
    (run / "metrics.jsonl").unlink()


def no_model(run):
    (run / "model.rmc").unlink()


def torn(name):
    def tear(run):
        data = (run / name).read_bytes()
        (run / name).write_bytes(data[: len(data) // 2])

    return tear


def strange(name, text):
    return lambda run: (run / name).write_text(text)


def without(figure):
    def change(run):
        path = run / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        kept = [{name: v for name, v in line.items() if name != figure} for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    return change


def changed_summary(**change):
    def write(run):
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps({**summary, **change}))

    return write


def changed_network(run):
    config = json.loads((run / "summary.json").read_text())["config"]
    changed_summary(config={**config, "network": 3})(run)


def other_model(run):
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "sha256": "0" * 64}))


def other_version(run):
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "config": {"new": 1}}))


def other_posterior(run):
    np.savez(run / "posterior.npz", **dict.fromkeys(("mu", "sigma", "rho"), np.ones(3)))


def posterior_of_nothing(run):
    with np.load(run / "posterior.npz") as f:
        np.savez(run / "posterior.npz", **{n: np.zeros_like(f[n]) for n in f.files})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (unfinished, "the run is not finished; go on with it by python -m refmiracle.train"),
        (older, "an older version of refmiracle trained this run; train it again"),
        (empty, "summary.json: No such file"),
        (no_metrics, "metrics.jsonl: No such file"),
        (no_model, "model.rmc: No such file"),
        (shutil.rmtree, "there is no such folder"),
        (torn("model.rmc"), "model.rmc: the checksum is"),
        (torn("summary.json"), "summary.json: it is no intact JSON"),
        (torn("posterior.npz"), "posterior.npz: it is no intact posterior"),
        (torn("metrics.jsonl"), "metrics.jsonl: line 1 is no intact JSON"),
        (strange("metrics.jsonl", ""), "metrics.jsonl: it is empty"),
        (strange("metrics.jsonl", '{"step": 1}'), "line 1 does not hold the figures of a step"),
        (without("rate"), "line 1 does not hold the figures of a step"),
        (without("seconds"), "line 1 does not hold the figures of a step"),
        (changed_summary(steps=10), "metrics.jsonl: it ends at step 11; the run of"),
        (strange("summary.json", "[]"), "it does not hold the figures of a run"),
        (changed_summary(ratio=None), "it does not hold the figures of a run"),
        (changed_summary(train_seconds="x"), "it does not hold the figures of a run"),
        (changed_summary(validation_error="x"), "it does not hold the figures of a run"),
        (changed_network, "its network is 3; expected a text"),
        (strange("summary.json", "[" * 100_000), "summary.json: it is no intact JSON"),
        (other_model, "model.rmc: it is not the file that"),
        (other_version, "its settings are not those of this version of refmiracle"),
        (other_posterior, "posterior.npz: it is not of the run that made model.rmc"),
        (posterior_of_nothing, "posterior.npz: it holds numbers that no posterior has"),
    ],
)
def test_what_is_wrong_with_a_run_is_one_line(copied, few_images_folder, capsys, damage, message):
    damage(copied)
    assert report.main(command(copied, few_images_folder)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (copied / "report.html").exists()


def test_no_images(copied, tmp_path, capsys):
    assert report.main(command(copied, tmp_path)) == 2
    assert "there is no t10k-images-idx3-ubyte" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_missing_extras_are_named(copied, few_images_folder, monkeypatch, capsys, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert report.main(command(copied, few_images_folder)) == 2
    error = capsys.readouterr().err
    assert f'{module} is not installed; pip install "refmiracle[report]"' in error


def test_what_a_run_has_written_is_not_written_over(copied, few_images_folder, capsys):
    for name, said in (("checkpoint.npz", "checkpoint.npz"), ("model.rmc", "the model")):
        out = copied / name
        assert report.main(command(copied, few_images_folder, "--out", str(out))) == 2
        assert f"{name}: it is {said} itself" in capsys.readouterr().err


def test_the_command_that_goes_on_is_quoted(copied, few_images_folder, capsys):
    folder = copied.rename(copied.parent / "a run")
    unfinished(folder)
    assert report.main(command(folder, few_images_folder)) == 2
    assert f"--resume --out {quoted(folder)}" in capsys.readouterr().err
    assert quoted(folder) != str(folder)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="names are no bytes there")
def test_a_folder_whose_name_is_no_text(tiny_run, tmp_path, few_images_folder, capsys):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/l\xe4ufe"))
    shutil.copytree(tiny_run, folder)
    assert report.main([str(folder), "--data", str(few_images_folder)]) == 0
    assert r"l\udce4ufe" in (folder / "report.html").read_text(encoding="utf-8")


def test_where_the_page_cannot_be_written_nothing_is_measured(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "build_page", None)
    out = tmp_path / "missing" / "page.html"
    assert report.main([str(tiny_run), "--out", str(out)]) == 2
