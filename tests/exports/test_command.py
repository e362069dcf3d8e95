"""The command: files, the line that it prints, and what it refuses."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
from oracles import run_python

from refmiracle.codes.table import CODES, MRC
from refmiracle.commands import decode, export
from refmiracle.engines import get_engine
from refmiracle.exports.formats import FORMATS, metadata_of
from refmiracle.fileformat.container import read_model
from refmiracle.fileformat.model import decode_model
from refmiracle.nn.networks import LENET5, LENET_300_100
from refmiracle.start import main as refmiracle_main

SUFFIXES = {"npz": ".npz", "safetensors": ".safetensors", "onnx": ".onnx", "torch": ".pt"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The folder that each test runs in."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def assert_refused(arguments, here, capsys):
    """Return the one line that the command says; it has left nothing behind."""
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert export.main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
    return error


def test_all_formats_are_here():
    assert {name: f.suffix for name, f in FORMATS.items()} == SUFFIXES


@pytest.mark.parametrize("engine", ["numba", "numpy"])
@pytest.mark.parametrize("name", SUFFIXES)
def test_a_file_beside_the_line_that_tells_of_it(name, engine, shipped_path, here, capsys):
    if name != "npz":
        pytest.importorskip(name)
    arguments = [str(shipped_path), "--to", name, "--engine", engine]
    assert refmiracle_main(["export", *arguments]) == 0
    path = here / f"lenet5-1551{SUFFIXES[name]}"
    assert list(here.iterdir()) == [path]
    data = path.read_bytes()
    assert capsys.readouterr().out == (
        f"{path.name}: {len(data)} bytes, lenet5 as {name}, 431080 float32 weights in 8 tensors"
        " from 1551 bytes\n"
    )
    model, rmc = read_model(shipped_path)
    weights = decode_model(model, get_engine("numba"))
    assert data == FORMATS[name].to_bytes(LENET5, weights, metadata_of(LENET5, rmc))
    assert export.main([*arguments, "--out", "other.bin"]) == 0
    assert (here / "other.bin").read_bytes() == data


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("network", [LENET5, LENET_300_100], ids=lambda n: n.name)
def test_npz_is_what_decode_writes_for_all_codes(network, code, make_file, here):
    path = make_file(network, code)
    assert export.main([str(path), "--to", "npz"]) == 0
    assert decode.main([str(path), "--out", "decoded.npz"]) == 0
    assert (here / "own.npz").read_bytes() == (here / "decoded.npz").read_bytes()
    with np.load(here / "own.npz") as f:
        assert {n: f[n].shape for n in f.files} == {t.name: t.shape for t in network.tensors()}


@pytest.mark.parametrize("name", SUFFIXES)
def test_a_second_network_needs_no_change(name, make_file, here, capsys):
    if name != "npz":
        pytest.importorskip(name)
    assert export.main([str(make_file(LENET_300_100, MRC)), "--to", name]) == 0
    assert f"lenet-300-100 as {name}, 266610 float32 weights in 6" in capsys.readouterr().out


def test_safetensors_says_which_file_it_is_of(shipped_path, here):
    pytest.importorskip("safetensors")
    assert export.main([str(shipped_path), "--to", "safetensors"]) == 0
    data = (here / "lenet5-1551.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    summary = json.loads(shipped_path.with_suffix(".json").read_text(encoding="utf-8"))
    assert header["__metadata__"]["rmc_sha256"] == summary["sha256"]


# --- refusals


@pytest.mark.parametrize("content", [None, b"", b"not a model", b"RMC\x01" + bytes(100)])
def test_bad_models_are_one_line(content, here, capsys):
    if content is not None:
        (here / "model.rmc").write_bytes(content)
    assert "model.rmc: " in assert_refused(["model.rmc", "--to", "npz"], here, capsys)


@pytest.mark.parametrize("out", ["absent/w.npz", ".", "w" * 300])
def test_what_cannot_be_written_is_one_line(out, shipped_path, here, capsys):
    arguments = [str(shipped_path), "--to", "npz", "--out", out]
    assert "cannot be written" in assert_refused(arguments, here, capsys)


@pytest.mark.parametrize("arguments", [["model.npz"], ["model.npz", "--out", "./model.npz"]])
def test_the_model_is_not_overwritten(arguments, shipped_path, here, capsys):
    shutil.copy(shipped_path, here / "model.npz")
    error = assert_refused([*arguments, "--to", "npz"], here, capsys)
    assert "model.npz: it is the model itself; name another file with --out" in error


@pytest.mark.parametrize("name", ["safetensors", "onnx", "torch"])
def test_a_missing_library_is_one_line(name, shipped_path, here, monkeypatch, capsys):
    for module in (name, f"{name}.numpy"):
        monkeypatch.setitem(sys.modules, module, None)
    error = assert_refused([str(shipped_path), "--to", name], here, capsys)
    assert f'{name} is not installed; pip install "refmiracle[{name}]"' in error


@pytest.mark.parametrize("format_arguments", [["--to", "keras"], []])
def test_an_unknown_format_is_wrong_usage(format_arguments, shipped_path, here, capsys):
    with pytest.raises(SystemExit) as caught:
        export.main([str(shipped_path), *format_arguments])
    assert caught.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("refmiracle export: error: ")
    assert "--to" in error
    assert list(here.iterdir()) == []


def test_libraries_are_loaded_only_when_asked_for(shipped_path):
    code = f"""
import sys
from refmiracle.commands import export
assert export.main([{str(shipped_path)!r}, "--to", "npz"]) == 0
print(*sys.modules)
"""
    loaded = set(run_python(code).split())
    assert "refmiracle.commands.export" in loaded
    assert not loaded & {"onnx", "safetensors", "torch"}
