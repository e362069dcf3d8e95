"""Any network through the same code: train, stop, resume, evaluate, decode, report."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np
import pytest
from oracles import run_python
from tiny import TINY

from refmiracle import given as known
from refmiracle.commands import decode, evaluate, report, train
from refmiracle.commands.networks import given_network
from refmiracle.errors import InputError
from refmiracle.fileformat.container import parse_model
from refmiracle.nn import networks
from refmiracle.nn.contract import Tensor, Weightless
from refmiracle.nn.layers import Conv2d, Dense, Flatten
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET_300_100, NETWORKS, network_text
from refmiracle.studies.runs import train_one
from refmiracle.training.choosing import check_settings
from refmiracle.training.data import default_folder
from refmiracle.training.settings import PRESETS, settings_from_dict


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
    "pooled", 200, (1, 28, 28), 10, (AveragePool(), Gain(), Flatten(), Dense(10)), (7, 1, 1)
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
    assert settings_from_dict(old) == TINY


def test_resuming_with_another_network_is_refused(tmp_path, dense_run, capsys):
    before = (dense_run / "checkpoint.npz").read_bytes()
    flags = ["--resume", "--network", "lenet5", "--out", str(dense_run)]
    assert train.main(flags) == 2
    assert "--network lenet5: the run to resume was started with lenet-300-100" in (
        capsys.readouterr().err
    )
    assert (dense_run / "checkpoint.npz").read_bytes() == before


# --- networks that are given as values

OWN = """
from refmiracle.nn.layers import Conv2d, Dense, Flatten, GroupNorm, MeanPool2d, Relu
from refmiracle.nn.network import Network
from refmiracle.nn.tree import Residual

LAYERS = (
    *(Conv2d(4, kernel=3, stride=3), GroupNorm(2), Relu()),
    *(Residual((Conv2d(4, kernel=3, padding=1, groups=4), Relu())), MeanPool2d(3)),
    *(Flatten(), Dense(10)),
)
NETWORK = Network("own", 0, (1, 28, 28), 10, LAYERS)
NUMBERED = Network("numbered", 231, (1, 28, 28), 10, LAYERS)
WRONG = Network("wrong", 0, (1, 28, 28), 10, LAYERS[:-1])
TEXT = "NETWORK"


def __getattr__(name):
    if name == "EXITS":
        raise SystemExit(3)
    if name == "RAISES":
        raise OSError("asked for RAISES")
    raise AttributeError(name)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file with networks, and a list of networks that is as before afterwards."""
    path = tmp_path / "own_networks.py"
    path.write_text(OWN)
    monkeypatch.setattr(networks, "NETWORKS", dict(NETWORKS))
    monkeypatch.setattr(known, "NETWORKS", networks.NETWORKS)
    return path


@pytest.mark.parametrize("name", ["NETWORK", "NUMBERED"])
def test_a_network_of_a_file(tmp_path, tiny, own, few_images_folder, capsys, name):
    out = tmp_path / "run"
    flags = ["--preset", "smoke", "--network", f"{own}:{name}", "--steps", "2"]
    assert train.main([*flags, "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    model = parse_model((out / "model.rmc").read_bytes())
    assert model.layout.network == given_network(f"{own}:{name}")
    assert summary["network"] == summary["config"]["network"] == network_text(model.layout.network)
    assert settings_from_dict(summary["config"]).layout() == model.layout
    for flags in ([], ["--engine", "numpy"]):
        path = str(out / "model.rmc")
        capsys.readouterr()
        assert evaluate.main([path, "--data", str(few_images_folder), "--json", *flags]) == 0
        assert json.loads(capsys.readouterr().out)["bytes"] == summary["bytes"]
    assert report.main([str(out), "--data", str(few_images_folder)]) == 0
    assert train.main(["--resume", "--network", f"{own}:{name}", "--out", str(out)]) == 0


@pytest.mark.slow
def test_a_described_network_needs_no_file_afterwards(tmp_path, tiny, own, few_images_folder):
    """Neither to go on with the run, nor to read its file, in a process that never saw it."""
    out = tmp_path / "run"
    flags = ["--preset", "smoke", "--network", f"{own}:NETWORK", "--steps", "2"]
    assert train.main([*flags, "--out", str(out)]) == 0
    own.unlink()
    code = f"""
from pathlib import Path
from refmiracle.commands import decode
from refmiracle.training.state import load_checkpoint
settings, state = load_checkpoint(Path({str(out / "checkpoint.npz")!r}))
print(len(settings.network.layers), state.step)
assert decode.main([{str(out / "model.rmc")!r}, "--out", {str(tmp_path / "w.npz")!r}]) == 0
"""
    assert run_python(code).split()[0] == "7"
    with np.load(tmp_path / "w.npz") as weights:
        assert "stage1.body.conv1.weight" in weights.files
    text = json.loads((out / "summary.json").read_text())["network"]
    assert text.startswith("description:")
    assert train.main(["--resume", "--network", text, "--out", str(out)]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lenet6", "network 'lenet6' is unknown; expected one of lenet5,"),
        (
            "mine.py",
            "--network takes a name, NAME:CLASSES, FILE.py:OBJECT, MODULE:OBJECT or"
            " description:HEX",
        ),
        ("FILE:TEXT", "TEXT is no Network there"),
        ("FILE:NOTHING", "NOTHING is no Network there"),
        ("FILE:WRONG", "network wrong: it ends with shape"),
        ("nowhere.py:NETWORK", "nowhere.py cannot be loaded: FileNotFoundError"),
        ("no.such.module:NETWORK", "no.such.module cannot be loaded: ModuleNotFoundError"),
        ("FILE:EXITS", "cannot be loaded: SystemExit: 3"),
        ("FILE:RAISES", "cannot be loaded: OSError: asked for RAISES"),
        ("description:00", "network 'description:00': the file ends within"),
    ],
)
def test_what_is_no_network_is_one_line(tmp_path, own, capsys, text, message):
    out = tmp_path / "run"
    text = text.replace("FILE", str(own))
    assert train.main(["--preset", "smoke", "--network", text, "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not out.exists()


def test_a_number_that_is_taken_is_refused(own):
    assert given_network(f"{own}:NUMBERED").number == 231
    assert given_network(f"{own}:NUMBERED") == networks.NETWORKS["numbered"]
    own.write_text(OWN.replace('Network("numbered", 231', 'Network("another", 231'))
    with pytest.raises(InputError, match="number 231 is already numbered's"):
        given_network(f"{own}:NUMBERED")
    own.write_text(OWN.replace('Network("numbered", 231', 'Network("lenet5", 231'))
    with pytest.raises(InputError, match="there is another network named lenet5"):
        given_network(f"{own}:NUMBERED")


def test_a_file_finds_what_stands_beside_it(tmp_path, own):
    (tmp_path / "own_widths.py").write_text("WIDTH = 4")
    own.write_text(f"from own_widths import WIDTH\n{OWN.replace('Conv2d(4', 'Conv2d(WIDTH')}")
    before = list(sys.path)
    assert given_network(f"{own}:NETWORK").layers[0] == Conv2d(4, kernel=3, stride=3)
    assert sys.path == before


def test_a_module_in_the_current_folder(own, monkeypatch):
    monkeypatch.chdir(own.parent)
    assert given_network("own_networks:NETWORK") == given_network(f"{own}:NETWORK")


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 232])
def test_another_process_knows_the_network_from_the_settings(tmp_path, number):
    """No table of this process is looked into: the settings has the whole network."""
    network = replace(LENET_300_100, name="elsewhere", number=number, hash_factors=())
    factors = tuple(int(np.prod(t.shape)) for t in network.tensors())
    own = {"network": network, "hash_factors": factors, "block_size": 2, "validation": 100}
    settings = check_settings(replace(TINY, **own))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        files = pool.submit(train_one, settings, default_folder(), tmp_path / "run").result()
    model = parse_model(files["model.rmc"], network)
    assert model.layout.network == network
    assert json.loads(files["summary.json"])["config"]["network"] == network_text(network)
