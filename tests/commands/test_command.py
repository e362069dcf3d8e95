"""What the commands share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from refmiracle.commands import conformance, decode, evaluate, report, study, train
from refmiracle.commands.options import model_file

MODELS = Path(__file__).resolve().parents[2] / "data" / "models"


def test_the_name_of_a_shipped_model_is_enough(tmp_path, monkeypatch, capsys, few_images_folder):
    monkeypatch.chdir(tmp_path)
    assert decode.main(["lenet5-891.rmc", "--out", "weights.npz"]) == 0
    assert "431080 float32 weights in 8 tensors from 891 bytes" in capsys.readouterr().out
    assert evaluate.main(["lenet5-891.rmc", "--data", str(few_images_folder)]) == 0


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_file("lenet5-891.rmc").samefile(MODELS / "lenet5-891.rmc")
    Path("lenet5-891.rmc").write_bytes(b"mine")
    assert model_file("lenet5-891.rmc") == Path("lenet5-891.rmc")


@pytest.mark.parametrize("text", ["./lenet5-891.rmc", "other/lenet5-891.rmc", "lenet5-892.rmc"])
def test_anything_else_is_a_path(tmp_path, monkeypatch, capsys, text):
    monkeypatch.chdir(tmp_path)
    assert model_file(text) == Path(text)
    assert evaluate.main([text]) == 2
    assert "No such file" in capsys.readouterr().err


def test_a_model_is_not_decoded_over_itself(tmp_path, capsys):
    path = tmp_path / "model.rmc"
    path.write_bytes((MODELS / "lenet5-891.rmc").read_bytes())
    assert decode.main([str(path), "--out", str(path)]) == 2
    assert "it is the model itself" in capsys.readouterr().err
    assert path.read_bytes() == (MODELS / "lenet5-891.rmc").read_bytes()


@pytest.mark.parametrize("name", ["model.rmc", "checkpoint.npz", "metrics.jsonl", "summary.json"])
def test_a_page_does_not_take_the_place_of_its_run(tiny_run, tmp_path, capsys, name):
    out = tmp_path / "run"
    shutil.copytree(tiny_run, out)
    before = (out / name).read_bytes()
    assert report.main([str(out), "--out", str(out / name)]) == 2
    assert "itself; name another file with --out" in capsys.readouterr().err
    assert (out / name).read_bytes() == before


@pytest.mark.parametrize("command", [train, decode, study, report, evaluate, conformance])
def test_an_empty_path_is_refused(command, capsys):
    """As a shell makes one of a variable that is not set: it would be the current folder."""
    flag = {train: "--out", decode: "--out", study: "--out", report: "--out", evaluate: "--data"}
    given = {study: ["tails"], train: [], conformance: ["--backend", "x:y"]}.get(command, ["model"])
    with pytest.raises(SystemExit) as caught:
        command.main([*given, flag.get(command, "--json"), ""])
    assert caught.value.code == 2
    assert "it is empty; expected a path" in capsys.readouterr().err


def test_two_outputs_in_one_place_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    engine = "refmiracle.conformance.engine_backend:numpy_backend"
    outs = ["--json", "report", "--junit", str(tmp_path / "report")]
    assert conformance.main(["--backend", engine, *outs]) == 2
    assert "it is named for two outputs" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def run_with_output(output, folder):
    """Decode a model in a process of its own, which succeeds; return what it says of that."""
    command = [sys.executable, "-m", "refmiracle.decode", "lenet5-891.rmc", "--out", "weights.npz"]
    environment = {**os.environ, "PYTHONPATH": str(MODELS.parents[1])}
    run = subprocess.run(
        command, stdout=output, stderr=subprocess.PIPE, cwd=folder, env=environment, check=False
    )
    assert (folder / "weights.npz").stat().st_size > 1_700_000
    assert run.returncode == 0
    return run.stderr.decode()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_standard_output_is_one_line_and_no_failure(tmp_path):
    with open("/dev/full", "wb") as full:
        said = run_with_output(full, tmp_path)
    assert said == "refmiracle: error: standard output: No space left on device\n"


@pytest.mark.skipif(os.name == "nt", reason="pipes end otherwise")
def test_an_output_that_nobody_reads_ends_quietly(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    assert run_with_output(writing, tmp_path) == ""
    os.close(writing)
