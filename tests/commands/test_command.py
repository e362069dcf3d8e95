"""What the commands share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from refmiracle.commands import decode, evaluate
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
