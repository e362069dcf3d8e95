"""Every command that takes --data takes it in every form, and the names of the classes travel."""

from __future__ import annotations

import html
import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
from tiny import TINY

from refmiracle.commands import evaluate, report, study, train
from refmiracle.commands.options import data_flags
from refmiracle.errors import InputError
from refmiracle.nn.layers import Conv2d, Dense, Flatten, MeanPool2d
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET5, network_text
from refmiracle.training.data import DataSet
from refmiracle.training.settings import PRESETS

RNG = np.random.default_rng(8)
NAMES = ["cat", "dog", "<b>owl</b>"]


def write_npz(path, shape, count=1200, labels=3, **more):
    arrays = {}
    for part, size in (("train", count), ("test", 60)):
        arrays[f"x_{part}"] = RNG.integers(0, 256, (size, *shape), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(size) % labels
    np.savez(path, **arrays, **more)
    return path


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("animals")
    return write_npz(folder / "animals.npz", (28, 28), classes=NAMES)


@pytest.fixture(scope="module")
def animals_run(tmp_path_factory, animals):
    out = tmp_path_factory.mktemp("animals") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "smoke", replace(TINY, preset="smoke"))
        assert train.main(["--preset", "smoke", "--data", str(animals), "--out", str(out)]) == 0
    return out


def test_the_names_are_in_the_summary_and_on_the_page(animals, animals_run, capsys):
    summary = json.loads((animals_run / "summary.json").read_text())
    assert summary["classes"] == NAMES
    assert summary["test_images"] == 60
    model = str(animals_run / "model.rmc")
    assert evaluate.main([model, "--data", str(animals), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test_error"] == summary["test_error"]
    out = animals_run.parent / "report.html"
    flags = ["--data", str(animals), "--out", str(out)]
    assert report.main([str(animals_run), *flags]) == 0
    page = out.read_text(encoding="utf-8")
    assert "(0 cat, 1 dog, 2 &lt;b&gt;owl&lt;/b&gt;, 3 3, 4 4," in page
    assert "<b>owl</b>" not in page
    assert "<b>cat</b> taken for <b>" in page
    assert "MNIST's" not in page


def test_a_report_asks_for_the_data(animals_run, capsys):
    assert report.main([str(animals_run)]) == 2
    assert "trained on other images; name them by --data" in capsys.readouterr().err


TAKES = "(channels, height, width); lenet5 takes 1x28x28"


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [
        ((32, 32, 3), 10, f"images of 3x32x32 {TAKES}"),
        ((8, 9), 10, f"images of 1x8x9 {TAKES}"),
    ],
)
def test_data_that_the_network_does_not_take_is_told_before_the_work(
    tmp_path, animals_run, capsys, shape, classes, message
):
    data = str(write_npz(tmp_path / "d.npz", shape, labels=classes))
    out = tmp_path / "out"
    flags = ["--data", data, "--out", str(out)]
    calls = [
        (train, ["--preset", "smoke", *flags]),
        (evaluate, [str(animals_run / "model.rmc"), "--data", data]),
        (report, [str(animals_run), "--data", data, "--out", f"{out}.html"]),
        (study, ["rate-distortion", "--preset", "smoke", *flags]),
        (study, ["pruning", "--preset", "smoke", *flags]),
        (study, ["convergence", "--preset", "smoke", *flags]),
    ]
    for command, arguments in calls:
        assert command.main(arguments) == 2
        error = capsys.readouterr().err
        assert error == f"refmiracle: error: {message}\n"
    assert [p.name for p in tmp_path.iterdir()] == ["d.npz"]


def test_more_classes_than_the_network_tells_apart(tmp_path, animals_run, capsys):
    data = ["--data", str(write_npz(tmp_path / "d.npz", (28, 28), labels=11))]
    told = "refmiracle: error: label 10; lenet5 tells 10 classes apart, from 0"
    out = ["--out", str(tmp_path / "out")]
    other = "; expected as many, or --network lenet5:11"
    studies = ("rate-distortion", "pruning", "convergence", "uncertainty")
    for command, arguments, hint in (
        (train, ["--preset", "smoke"], other),
        (evaluate, [str(animals_run / "model.rmc")], ""),
        (report, [str(animals_run)], ""),
        *((study, [name, "--preset", "smoke"], other) for name in studies),
    ):
        own = [] if command is evaluate else out
        assert command.main([*arguments, *data, *own]) == 2
        assert capsys.readouterr().err == f"{told}{hint}\n"
    assert [p.name for p in tmp_path.iterdir()] == ["d.npz"]


def test_flags_name_the_same_data_again():
    parser = train.build_parser()
    for flags, expected in (
        ([], ""),
        (["--data", "a b"], " --data 'a b'"),
        (
            ["--data", "x", "--transposed", "no", "--labels-from", "0"],
            " --data x --transposed no --labels-from 0",
        ),
        (["--data", "x", "--channels", "last"], " --data x --channels last"),
    ):
        arguments = parser.parse_args(flags)
        assert data_flags(arguments) == expected


def test_options_reach_the_reader(tmp_path, monkeypatch, capsys):
    seen = []

    def load(data, name):
        seen.append((data, name))
        raise InputError("seen")

    for command in (train, evaluate, report):
        monkeypatch.setattr(command, "load_split", load)
    flags = ["--data", "x", "--transposed", "yes", "--labels-from", "1"]
    flags += ["--channels", "first"]
    assert train.main(flags) == 2
    assert evaluate.main(["lenet5-1551.rmc", *flags]) == 2
    given = DataSet(train.Path("x"), True, 1, "first")
    assert seen == [(given, name) for name in ("train", "t10k")]
    assert capsys.readouterr().err == "refmiracle: error: seen\n" * 2


COLOURS = """
from refmiracle.nn.layers import Conv2d, Dense, Flatten, GroupNorm, MeanPool2d, Relu
from refmiracle.nn.network import Network
from refmiracle.nn.tree import Residual

NETWORK = Network("colours", 0, (3, 8, 9), 3, (
    *(Conv2d(4, kernel=3, padding=1), GroupNorm(2), Relu()),
    Residual((Conv2d(6, kernel=3, stride=2, padding=1),), (Conv2d(6, kernel=1, stride=2),)),
    *(MeanPool2d(), Flatten(), Dense(3)),
))
"""


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_a_network_of_another_shape_the_whole_way(tmp_path, monkeypatch, capsys, engine):
    """Colour images of 8x9 in three classes: train, go on, evaluate and report."""
    monkeypatch.setitem(PRESETS, "smoke", replace(TINY, preset="smoke"))
    (tmp_path / "own.py").write_text(COLOURS)
    data, out = str(write_npz(tmp_path / "d.npz", (8, 9, 3), classes=NAMES)), tmp_path / "run"
    flags = ["--preset", "smoke", "--network", f"{tmp_path}/own.py:NETWORK", "--shift", "1"]
    flags += ["--engine", engine, "--data", data, "--out", str(out), "--parameterization"]
    assert train.main([*flags, "mean-var"]) == 0
    assert train.main(["--resume", "--data", data, "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["network"].startswith("description:03080903")
    assert summary["classes"] == NAMES
    capsys.readouterr()
    assert evaluate.main([str(out / "model.rmc"), "--data", data, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test_error"] == summary["test_error"]
    assert report.main([str(out), "--data", data, "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (
        "4 units of the first layer, 3\N{MULTIPLICATION SIGN}3 weights each for red, green" in page
    )
    assert "These settings have no flag" not in page
    command = html.unescape(page.partition("<pre><code>")[2].partition("</code>")[0])
    words = shlex.split(command)[3:]
    assert words[words.index("--network") + 1].startswith("description:0308")
    again = str(tmp_path / "again")
    assert train.main([*words[:-1], again, "--steps", "5"]) == 0
    assert (tmp_path / "again" / "model.rmc").read_bytes() == (out / "model.rmc").read_bytes()
    model = str(out / "model.rmc")
    assert evaluate.main([model]) == 2  # MNIST
    assert "takes 3x8x9" in capsys.readouterr().err


def test_lenet5_with_as_many_outputs_as_there_are_classes(tmp_path, monkeypatch, capsys):
    """Told of before any work, and then trained, resumed and evaluated by what the file says."""
    monkeypatch.setitem(PRESETS, "smoke", replace(TINY, preset="smoke"))
    data, out = str(write_npz(tmp_path / "d.npz", (28, 28), labels=47)), tmp_path / "run"
    flags = ["--preset", "smoke", "--data", data, "--out", str(out)]
    assert train.main(flags) == 2
    assert "expected as many, or --network lenet5:47" in capsys.readouterr().err
    assert not out.exists()
    assert train.main([*flags, "--network", "lenet5:47"]) == 0
    assert train.main([*flags, "--network", "lenet5:47", "--resume"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert len(summary["classes"]) == 47
    assert summary["config"]["hash_factors"] == list(LENET5.hash_factors)
    capsys.readouterr()
    assert evaluate.main([str(out / "model.rmc"), "--data", data, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test_error"] == summary["test_error"]
    more = str(write_npz(tmp_path / "more.npz", (28, 28), labels=48))
    assert evaluate.main([str(out / "model.rmc"), "--data", more]) == 2
    assert "--network" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "layers", "said"),
    [
        ((1, 2, 2), (Conv2d(300, kernel=1), MeanPool2d(), Flatten(), Dense(3)), "60 units"),
        (
            (2, 3, 4),
            (Flatten(), Dense(3)),
            "3\N{MULTIPLICATION SIGN}4 weights each, their mean over",
        ),
        ((1, 1, 1), (Flatten(), Dense(3)), "3 units of the first layer"),
    ],
)
def test_a_report_on_many_units_and_on_few_variables(tmp_path, monkeypatch, shape, layers, said):
    """More units than are shown, fewer variables than the preset's blocks have."""
    monkeypatch.setitem(PRESETS, "smoke", replace(TINY, preset="smoke"))
    count, *image = shape
    axes = image if count == 1 else (count, *image)
    arrays = {}
    for part, size in (("train", 80), ("test", 20)):
        arrays[f"x_{part}"] = RNG.integers(0, 256, (size, *axes), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(size) % 3
    data, out = str(tmp_path / "d.npz"), str(tmp_path / "run")
    np.savez(data, **arrays)
    text = network_text(Network("own", 0, shape, 3, layers))
    flags = ["--preset", "smoke", "--network", text, "--engine", "numpy", "--validation", "20"]
    assert train.main([*flags, "--data", data, "--out", out]) == 0
    assert report.main([out, "--data", data, "--engine", "numpy"]) == 0
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert said in page
    assert "--block-size" not in page.partition("<pre><code>")[2].partition("</code>")[0]


@pytest.mark.parametrize(("image", "farthest"), [((1, 9), 0), ((1, 1), 0), ((5, 7), 2)])
def test_no_image_is_moved_out_of_itself(tmp_path, capsys, image, farthest):
    text = network_text(Network("own", 0, (1, *image), 3, (Flatten(), Dense(3))))
    data = str(write_npz(tmp_path / "d.npz", image))
    flags = ["--preset", "smoke", "--data", data, "--network", text, "--out", str(tmp_path / "o")]
    assert train.main([*flags, "--shift", str(farthest + 1)]) == 2
    said = f"--shift {farthest + 1} is out of range; expected 0 to {farthest}"
    assert said in capsys.readouterr().err
