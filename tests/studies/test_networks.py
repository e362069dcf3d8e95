"""Studies of other networks than LeNet-5, on images of their own: what they say and leave out."""

from __future__ import annotations

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from tiny import TINY

from refmiracle.commands import study as command
from refmiracle.commands.networks import given_network
from refmiracle.engines import get_engine
from refmiracle.layers import Conv2d, Dense, Flatten, MaxPool2d, MeanPool2d
from refmiracle.nn.network import Network
from refmiracle.nn.networks import DS_CNN, LENET5, LENET_300_100, RESNET8, VGG8
from refmiracle.studies import foreign, pruning, step_time, tails, uncertainty
from refmiracle.studies.comparison import COMPARISONS, Comparison
from refmiracle.studies.convergence import OTHER_TARGETS, convergence
from refmiracle.studies.rate_distortion import SWEEPS, Sweep, rate_distortion
from refmiracle.studies.subject import Subject, about, prefix_of
from refmiracle.studies.views import Side, first_dense

OWN = """
from refmiracle import Network
from refmiracle.layers import Conv2d, Dense, Flatten, GroupNorm, MeanPool2d, Relu, Residual
from refmiracle.nn.contract import Weightless

class Same(Weightless):
    word = "same"
    def output(self, shape): return shape
    def spec(self, shape): return ("same",)
    def forward(self, engine, weights, x): return x, None
    def backward(self, engine, weights, kept, dy, need_dx): return dy, {}

LAYERS = (
    Conv2d(5, kernel=(3, 2), stride=2, padding=1), GroupNorm(1), Relu(),
    Residual((Conv2d(5, kernel=3, padding=1, groups=5), Relu())), MeanPool2d(),
    Flatten(), Dense(3),
)
COLOURS = Network("colours/$a$", 0, (3, 6, 8), 3, LAYERS)
NUMBERED = Network("numbered", 233, (3, 6, 8), 3, LAYERS)
ODD = Network("odd", 234, (3, 6, 8), 3, (Same(), *LAYERS))
"""


def images_of(folder):
    """Colour images of 6x8 pixels in three classes, in one file."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 260), ("test", 40)):
        labels = rng.integers(0, 3, count)
        images = rng.integers(0, 90, (count, 6, 8, 3), dtype=np.uint8)
        images[np.arange(count), :, :, labels] += 120
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    np.savez(folder / "colours.npz", **arrays)
    return folder / "colours.npz"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return images_of(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    path = tmp_path_factory.mktemp("networks") / "mine.py"
    path.write_text(OWN)
    base = about(replace(TINY, block_size=30), given_network(f"{path}:COLOURS"), 60)
    tuned = {"mean-kl": {}, "mean-var": {}}
    return Comparison("tiny", base, tuned, lengths=(3, 5), seeds=(0, 1))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")


def rows_of(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def check(results, out, title="colours/$a$: images of 3x6x8 in 3 classes"):
    """Nothing failed, and every table, figure and list of claims names the network."""
    folder = out / results["study"]
    assert results["failures"] == {}
    assert results["network"] == "colours/$a$"
    assert json.loads((folder / "results.json").read_text()) == results
    for name in results["files"]:
        if name.endswith(".csv"):
            rows = rows_of(folder / name)
            assert rows
            assert {row["network"] for row in rows} == {"colours/$a$"}
        elif name.endswith(".svg"):
            assert f"<!-- {title} -->" in (folder / name).read_text()
    if "claims.md" in results["files"]:
        assert (folder / "claims.md").read_text().startswith(f"{title}\n\n| claim |")
    runs = {path.name for path in (out / "runs").iterdir()}
    assert all(name.startswith("colours--a--") for name in runs)


@pytest.mark.slow
def test_tails(plan, data, out):
    with ThreadPoolExecutor(1) as executor:
        results = tails.tails(plan, data, out, executor)
    check(results, out)
    left_out, pixels = results["notes"]
    assert left_out == "fewer than 20 variables have no tail: dense1 left out"
    assert pixels.startswith("figure pixels left out: there is no dense layer")
    assert {"filters.png", "densities.png", "bits.png"} <= set(results["files"])
    assert not {"pixels.png", "pixels.svg"} & set(results["files"])
    layers = {row["layer"] for row in rows_of(out / "tails" / "moments.csv")}
    assert layers == {"conv1", "stage1.body.conv1", "all"}
    bits = rows_of(out / "tails" / "bits.csv")
    assert {row["tensor"] for row in bits} == {t.name for t in plan.base.network.tensors()}


@pytest.mark.slow
def test_pruning(plan, data, out, monkeypatch):
    monkeypatch.setattr(pruning, "FRACTIONS", (0.0, 0.5, 1.0))
    with ThreadPoolExecutor(1) as executor:
        results = pruning.pruning(plan, data, out, executor)
    check(results, out)
    rows = rows_of(out / "pruning" / "curves.csv")
    scopes = {"global", "uniform", "conv1", "stage1.body.conv1", "dense1"}
    assert {row["scope"] for row in rows} == scopes
    # With nothing left all logits are alike, and the answer is the first class.
    errors = {
        row["test_error"] for row in rows if row["scope"] == "global" and row["fraction"] == "1"
    }
    labels = np.load(data)["y_test"]
    assert {float(e) for e in errors} == {np.mean(labels != 0)}


@pytest.mark.slow
def test_uncertainty(plan, data, out, monkeypatch):
    monkeypatch.setattr(uncertainty, "SAMPLES", (1, 2))
    with ThreadPoolExecutor(1) as executor:
        results = uncertainty.uncertainty(plan, data, out, executor)
    check(results, out)
    assert results["notes"] == ["foreign digits left out: they are grey images of 28x28"]
    sets = {row["images"] for row in rows_of(out / "uncertainty" / "detection.csv")}
    assert sets == {f"rotated by {angle} degrees" for angle in foreign.ANGLES}
    assert not any("foreign" in claim["name"] for claim in results["claims"])
    assert len(results["claims"]) == 5


def test_convergence(plan, data, out, monkeypatch):
    monkeypatch.setattr(step_time, "ROUNDS", 2)
    with ThreadPoolExecutor(1) as executor:
        results = convergence(plan, data, out, executor)
    check(results, out)
    targets = {float(row["target"]) for row in rows_of(out / "convergence" / "reached.csv")}
    assert targets == set(OTHER_TARGETS)


def test_rate_distortion(plan, data, out):
    with ThreadPoolExecutor(1) as executor:
        results = rate_distortion(Sweep(plan.base, (3,), (20, 40)), data, out, executor)
    check(results, out)
    assert "colours--a--3bits-20-seed0" in command.describe(results)


# --- by the command, in other processes


@pytest.fixture
def mine(tmp_path, monkeypatch):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    monkeypatch.setitem(SWEEPS, "smoke", Sweep(TINY, bits=(3,), block_sizes=(20,)))
    monkeypatch.setitem(
        COMPARISONS,
        "smoke",
        Comparison("tiny", TINY, {"mean-kl": {}, "mean-var": {}}, lengths=(3,), seeds=(0,)),
    )
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["COLOURS", "NUMBERED"])
def test_a_network_of_a_file_trains_in_other_processes(tmp_path, mine, data, name, capsys):
    """Again after the runs have lost their ends: the network of a checkpoint is known there too."""
    flags = ["--network", f"{mine}:{name}", "--data", str(data), "--validation", "60"]
    flags += ["--preset", "smoke", "--workers", "1", "--out", str(tmp_path / "out")]
    assert command.main(["rate-distortion", *flags]) == 0
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    assert folder.name == ("colours--a--" if name == "COLOURS" else "numbered-") + "3bits-20-seed0"
    before = (folder / "model.rmc").read_bytes()
    for lost in ("summary.json", "model.rmc"):
        (folder / lost).unlink()
    assert command.main(["rate-distortion", *flags]) == 0
    assert (folder / "model.rmc").read_bytes() == before
    assert folder.name in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--network", "resnet8"], "images of 3x6x8 (channels, height, width); resnet8 takes 3x32"),
        ([], "images of 3x6x8 (channels, height, width); lenet5 takes 1x28x28"),
        (["--network", "lenet6"], "network 'lenet6' is unknown; expected one of lenet5"),
        (
            ["--network", "COLOURS"],
            "260 training images are too few; expected at least 1000, of wh",
        ),
        (["--network", "COLOURS", "--validation", "0"], "--validation 0 is out of range; expected"),
        (["--network", "COLOURS", "--validation", "10", "--bits", "30"], "--bits-per-block 30 is"),
        (
            ["--network", "COLOURS", "--validation", "10", "--block-sizes", "999"],
            "--block-size 999",
        ),
    ],
)
def test_what_cannot_be_studied_is_one_line_before_any_work(
    tmp_path, mine, data, capsys, flags, message
):
    flags = [f"{mine}:COLOURS" if flag == "COLOURS" else flag for flag in flags]
    out = tmp_path / "out"
    common = ["--preset", "smoke", "--data", str(data), "--out", str(out)]
    names = (
        ["rate-distortion"]
        if set(flags) & {"--bits", "--block-sizes"}
        else ["rate-distortion", *command.STUDIES]
    )
    for name in names:
        assert command.main([name, *common, *flags]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert not out.exists()


def test_layers_of_ones_own_do_not_travel(tmp_path, mine, data, capsys):
    flags = ["--network", f"{mine}:ODD", "--data", str(data), "--preset", "smoke"]
    assert command.main(["tails", *flags, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "a study trains in processes that know networks as files describe them; " in line
    assert line.endswith("is of a kind that a file cannot describe")


# --- what the figures say of a network


def test_lenet5_has_no_word_for_itself():
    subject = Subject()
    rows = [{"a": 1}]
    assert subject.named(rows) is rows
    assert (subject.title(), subject.said(), subject.heading()) == ("", {}, "")
    assert subject.drawn(max) is max
    assert prefix_of(LENET5) == ""
    assert about(TINY, None, None) is TINY
    assert about(TINY, LENET5, None) is TINY
    assert tails.notes_of(TINY) == ()


def test_a_small_network_has_small_blocks():
    network = Network("small", 0, (1, 2, 2), 2, (Flatten(), Dense(2)))
    assert about(TINY, network, None).block_size == network.count() == 10


@pytest.mark.parametrize("network", [LENET_300_100, VGG8, RESNET8, DS_CNN])
def test_what_is_left_out_of_the_networks_that_ship(network):
    notes = tails.notes_of(about(TINY, network, None))
    assert [note.split(" left out")[0] for note in notes] == {
        "lenet-300-100": ["figure filters"],
        "vgg8": [],
        "resnet8": ["figure pixels"],
        "ds-cnn": ["figure pixels"],
    }[network.name]


def map_of(network, image):
    """What the layers before `Flatten` make of an image, with ones for all weights."""
    engine, x = get_engine("numpy"), image[..., None]
    weights = {t.name: np.ones(t.shape) for t in network.tensors()}
    for placed in network.placed[:-2]:
        x, _ = placed.forward(engine, weights, x)
    return x[0, ..., 0]


def test_views_are_those_that_the_layers_have():
    """A place's value changes with a row, or a column, of ones just where it sees it."""
    layers = (
        Conv2d(1, kernel=(3, 2), stride=2, padding=1),
        *(MaxPool2d(), Conv2d(1, kernel=2), MeanPool2d(2), Flatten(), Dense(2)),
    )
    network = Network("views", 0, (1, 29, 20), 2, layers)
    dark = np.zeros((1, 29, 20))
    for axis, side in enumerate(first_dense(network).sides):
        seen = []
        for pixel in range(side.pixels):
            image = dark.copy()
            np.moveaxis(image, axis + 1, 0)[pixel] = 1.0
            changed = map_of(network, image) != map_of(network, dark)
            seen.append(changed.any(axis=1 - axis))
        assert np.shape(seen) == (side.pixels, side.places)
        for place, of_place in enumerate(np.transpose(seen)):
            pixels = np.arange(side.pixels)[side.seen(place)]
            assert np.array_equal(np.flatnonzero(of_place), pixels)


def test_the_view_of_lenet5():
    layer = first_dense(LENET5)
    assert (layer.path, layer.channels) == ("dense1", 50)
    assert layer.sides == (Side(28, 4, 16, 4),) * 2
