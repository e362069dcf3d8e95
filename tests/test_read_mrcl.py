"""The reader of the public .mrcl files, on files of the same format that are made here."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from refmiracle.nn.networks import LENET5

TOOL = Path(__file__).resolve().parent.parent / "tools" / "peers" / "read_mrcl.py"
LOG_RHO = np.linspace(-3.0, -1.0, 8).astype(">f4")


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("read_mrcl", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mrcl(blocks, rng):
    """A file with random indices of 10 bits, its bits put together as text."""
    indices = rng.integers(0, 1024, blocks)
    bits = "".join(f"{index:010b}" for index in indices)
    bits += "0" * (-len(bits) % 8)
    return indices, LOG_RHO.tobytes() + int(bits, 2).to_bytes(len(bits) // 8, "big")


@pytest.mark.parametrize(("block_size", "size"), [(30, 1140), (20, 1694)])
def test_reads_what_was_written(tmp_path, tool, rng, block_size, size):
    path = tmp_path / "model.mrcl"
    indices, data = mrcl(-(-26_580 // block_size), rng)
    assert len(data) == size  # of the public files
    path.write_bytes(data)
    log_rho, read = tool.read_file(path)
    assert np.array_equal(read, indices)
    assert np.array_equal(log_rho, LOG_RHO.astype(np.float64))
    assert tool.block_size_of(path, len(read)) == block_size


def test_weights_are_scaled_candidates_shared_along_the_outputs(tmp_path, tool, rng):
    pytest.importorskip("sobol_seq", reason="sobol_seq is not installed")
    path = tmp_path / "model.mrcl"
    path.write_bytes(mrcl(886, rng)[1])
    weights = tool.decode(path)
    assert {n: w.shape for n, w in weights.items()} == {t.name: t.shape for t in LENET5.tensors()}
    shared = weights["dense1.weight"].reshape(800, 10, 50)
    assert np.all(shared == shared[:, :, :1])
    assert np.all(weights["conv2.weight"][..., 0::2] == weights["conv2.weight"][..., 1::2])
    for number in (0, 2, 4, 6):  # Sobol points are uniform: the normals have variance 1
        w = weights[LENET5.tensors()[number].name] / math.exp(LOG_RHO[number])
        assert abs(w.std() - 1) < 0.15


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "cannot be read"),
        (b"", "expected eight float32 and the indices"),
        (bytes(32), "expected eight float32 and the indices"),
        (bytes(33), "0 indices do not make a LeNet-5"),
        (bytes(1000), "774 indices do not make a LeNet-5"),
        (bytes(300), "214 indices do not make a LeNet-5"),
    ],
)
def test_other_files_are_one_clear_line(tmp_path, tool, data, message, monkeypatch, capsys):
    path = tmp_path / "model.mrcl"
    if data is not None:
        path.write_bytes(data)
    monkeypatch.setattr(sys, "argv", [str(TOOL), str(path)])
    assert tool.main() == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert str(path) in said
