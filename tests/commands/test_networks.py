"""Any network through the same code: train, stop, resume, evaluate, decode, report."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from tiny import TINY

from refmiracle.codec.container import parse_model
from refmiracle.commands import decode, evaluate, report, train
from refmiracle.nn.contract import Tensor, Weightless
from refmiracle.nn.layers import Dense, Flatten
from refmiracle.nn.network import Network
from refmiracle.nn.networks import NETWORKS
from refmiracle.training.config import PRESETS, config_from_dict


@dataclass(frozen=True)
class AveragePool(Weightless):
    """The mean of each 4x4 window: a layer that no engine knows."""

    word = "average"

    def output(self, shape):
        c, h, w = shape
        return c, h // 4, w // 4

    def spec(self, shape):
        return ("average-pool",)

    def forward(self, engine, weights, x):
        c, h, w, batch = x.shape
        return x.reshape(c, h // 4, 4, w // 4, 4, batch).mean(axis=(2, 4)), x.shape

    def backward(self, engine, weights, kept, dy, need_dx):
        return (np.kron(dy, np.ones((1, 4, 4, 1))) / 16 if need_dx else None), {}


@dataclass(frozen=True)
class Gain:
    """A factor for each pixel: a layer with weights and without a bias."""

    word = "gain"

    def output(self, shape):
        return shape

    def spec(self, shape):
        return ("gain", *shape)

    def tensors(self, shape):
        return (Tensor("weight", shape, 1),)

    def forward(self, engine, weights, x):
        return x * weights["weight"][..., None], x

    def backward(self, engine, weights, kept, dy, need_dx):
        return dy * weights["weight"][..., None], {"weight": (dy * kept).sum(axis=-1)}


POOLED = Network(
    "pooled", 200, (1, 28, 28), 10, (AveragePool(), Gain(), Flatten(), Dense(10)), (1, 1, 1)
)


@pytest.fixture
def tiny(monkeypatch, few_images):
    """The smoke preset, made tiny, measured on few images."""
    monkeypatch.setitem(PRESETS, "smoke", replace(TINY, preset="smoke", validation=100))
    load = train.load_split
    monkeypatch.setattr(
        train, "load_split", lambda path, name: few_images if name == "t10k" else load(path, name)
    )


def whole_way(tmp_path, few_images_folder, capsys, network, engine):
    """Train, evaluate and decode with both engines; return summary and model."""
    out = tmp_path / "run"
    flags = ["--preset", "smoke", "--network", network, "--engine", engine, "--steps", "2"]
    assert train.main([*flags, "--out", str(out)]) == 0
    capsys.readouterr()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["network"] == summary["config"]["network"] == network
    files = []
    for other in ("numpy", "numba"):
        flags = [str(out / "model.rmc"), "--engine", other]
        assert evaluate.main([*flags, "--data", str(few_images_folder), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["test_error"] == summary["test_error"]
        path = tmp_path / f"{other}.npz"
        assert decode.main([*flags, "--out", str(path)]) == 0
        capsys.readouterr()
        files.append(path.read_bytes())
    assert files[0] == files[1]
    return summary, parse_model((out / "model.rmc").read_bytes())


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("network", ["lenet-300-100", "pooled"])
def test_the_whole_way(tmp_path, tiny, monkeypatch, few_images_folder, capsys, network, engine):
    """One more entry in the list of networks, and a layer that no engine knows, are enough."""
    monkeypatch.setitem(NETWORKS, "pooled", POOLED)
    summary, model = whole_way(tmp_path, few_images_folder, capsys, network, engine)
    assert model.layout.network is NETWORKS[network]
    assert model.layout.factors == NETWORKS[network].hash_factors
    assert summary["ratio"] == 4 * NETWORKS[network].count() / summary["bytes"]


def test_the_first_layer_that_is_no_picture_is_said(tmp_path, tiny, monkeypatch, few_images_folder):
    monkeypatch.setitem(NETWORKS, "pooled", POOLED)
    out = tmp_path / "run"
    assert train.main(["--preset", "smoke", "--network", "pooled", "--out", str(out)]) == 0
    assert report.main([str(out), "--data", str(few_images_folder)]) == 0
    assert "no weights that could be seen as a picture" in (out / "report.html").read_text(
        encoding="utf-8"
    )


def test_a_network_whose_layers_do_not_fit_is_one_line(tmp_path, tiny, monkeypatch, capsys):
    layers = AveragePool(), Dense(10)
    wrong = replace(POOLED, name="wrong", layers=layers, hash_factors=(1, 1))
    monkeypatch.setitem(NETWORKS, "wrong", wrong)
    out = tmp_path / "run"
    assert train.main(["--preset", "smoke", "--network", "wrong", "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "network wrong: layer 1, Dense(outputs=10), does not take" in line
    assert not out.exists()


def test_settings_of_a_run_before_there_were_networks_are_lenet5s():
    old = TINY.to_dict()
    del old["network"]
    assert config_from_dict(old) == TINY


def test_resuming_with_another_network_is_refused(tmp_path, dense_run, capsys):
    before = (dense_run / "checkpoint.npz").read_bytes()
    flags = ["--resume", "--network", "lenet5", "--out", str(dense_run)]
    assert train.main(flags) == 2
    assert "--network lenet5: the run to resume was started with lenet-300-100" in (
        capsys.readouterr().err
    )
    assert (dense_run / "checkpoint.npz").read_bytes() == before
