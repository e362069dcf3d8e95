"""The models that ship: each is what its summary says, and can be asked for by its command."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from refmiracle.commands import train
from refmiracle.commands.networks import given_network
from refmiracle.figures import figures_of, size_of
from refmiracle.fileformat.envelope import is_update
from refmiracle.loading import load
from refmiracle.studies.drift import drifted
from refmiracle.studies.scenes import TEST_SEED
from refmiracle.training.choosing import choose_settings
from refmiracle.training.data import default_folder, load_split
from refmiracle.training.settings import settings_from_dict

MODELS = Path(__file__).resolve().parent.parent / "data" / "models"
PATHS = sorted(MODELS.glob("*.rmc"))
README = (MODELS / "README.md").read_text(encoding="utf-8")
COMMANDS = dict(
    re.findall(r"^\| `(\S+)\.rmc` \| `python -m refmiracle\.train ([^`]*)`", README, re.M)
)


BASE = "lenet5-1551"
UPDATES = [p for p in PATHS if is_update(p.read_bytes())]


@pytest.fixture(scope="module")
def test_images():
    """The test images, as they are and as updates see them."""
    test = load_split(default_folder(), "t10k")
    turned = drifted(test.images, "rotation", 25.0, TEST_SEED)
    return {False: test, True: replace(test, images=turned)}


def test_there_are_not_too_many():
    of_cifar = [p for p in PATHS if p.stem.startswith("resnet8")]
    assert 4 <= len(PATHS) - len(of_cifar) <= 12
    assert 1 <= len(of_cifar) <= 4
    assert {p.stem for p in PATHS} == {p.stem for p in MODELS.glob("*.json")} == COMMANDS.keys()


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_the_summary_is_what_is_measured(path, test_images):
    """In bytes alone where its images are not here, as CIFAR-10 is not."""
    summary = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    model = load(path, base=BASE if path in UPDATES else None)
    images = test_images[path in UPDATES]
    here = model.network.input == images.input_shape()
    assert here == (not path.stem.startswith("resnet8"))
    figures = figures_of(model, images) if here else size_of(model)
    assert {name: summary[name] for name in figures} == figures


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_the_command_gives_the_config(path):
    settings = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["config"]
    arguments = train.build_parser().parse_args(shlex.split(COMMANDS[path.stem]))
    given = {name: getattr(arguments, name, None) for name in train.SETTINGS}
    given = {name: value for name, value in given.items() if value is not None}
    if "network" in given:
        given["network"] = given_network(given["network"])
    if path in UPDATES:
        assert [path.stem for path in arguments.base] == [BASE]
        given["base"] = load(BASE).chain
    assert choose_settings(given, settings["data"], None) == settings_from_dict(settings)


def test_updates_are_the_shorter_and_the_better():
    """Half of the digits that the base gets wrong in one packet at the slowest, most in another."""
    for path, limit, share in zip(UPDATES, (222, 51), (0.25, 0.5), strict=True):
        summary = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert summary["bytes"] <= limit
        assert summary["test_error"] < share * summary["base_test_error"]


@pytest.mark.parametrize(
    ("name", "error", "pages"),
    [
        ("resnet8-49088", 0.16, ["docs/CIFAR.md"]),
        ("resnet8-24-48205", 0.1415, ["docs/CIFAR.md", "README.md"]),
        ("resnet8-24112", 0.1785, ["docs/CIFAR.md", "README.md"]),
    ],
)
def test_half_of_the_bytes_of_mlperf_tiny(name, error, pages):
    """And pages say what was measured."""
    summary = json.loads((MODELS / f"{name}.json").read_text(encoding="utf-8"))
    said = f"{100 * summary['test_error']:.2f} %"
    assert said in README
    for page in pages:
        assert said in (MODELS.parents[1] / page).read_text(encoding="utf-8")
    assert summary["bytes"] <= 98_496 / 2
    assert summary["test_error"] <= error
    assert summary["test_images"] == 10_000


@pytest.mark.parametrize(("size", "error"), [(1140, 0.0096), (1694, 0.0082), (3107, 0.0069)])
def test_the_published_line_is_beaten_without_augmentation(size, error):
    """Both in bytes and in test error: MIRACLE's best and the public .mrcl files."""
    summaries = [json.loads(p.read_text(encoding="utf-8")) for p in MODELS.glob("*.json")]
    plain = [s for s in summaries if s["config"]["shift"] == 0 and "base" not in s]
    assert any(s["bytes"] <= size and s["test_error"] <= error for s in plain)
