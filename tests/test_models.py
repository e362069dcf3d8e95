"""The models that ship: each is what its summary says, and can be asked for by its command."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from refmiracle.commands import train
from refmiracle.figures import figures_of
from refmiracle.loading import load
from refmiracle.training.config import Config, config_from_dict
from refmiracle.training.data import default_folder, load_split
from refmiracle.training.settings import choose_config

MODELS = Path(__file__).resolve().parent.parent / "data" / "models"
PATHS = sorted(MODELS.glob("*.rmc"))
README = (MODELS / "README.md").read_text(encoding="utf-8")
COMMANDS = dict(
    re.findall(r"^\| `(\S+)\.rmc` \| `python -m refmiracle\.train ([^`]*)`", README, re.M)
)


@pytest.fixture(scope="module")
def test_images():
    return load_split(default_folder(), "t10k")


def test_there_are_not_too_many():
    assert 4 <= len(PATHS) <= 10
    assert {p.stem for p in PATHS} == {p.stem for p in MODELS.glob("*.json")} == COMMANDS.keys()


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_the_summary_is_what_is_measured(path, test_images):
    summary = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    figures = figures_of(load(path), test_images)
    assert {name: summary[name] for name in figures} == figures


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_the_command_gives_the_config(path):
    config = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["config"]
    arguments = vars(train.build_parser().parse_args(shlex.split(COMMANDS[path.stem])))
    given = {f.name: arguments.get(f.name) for f in fields(Config)}
    given = {name: value for name, value in given.items() if value is not None}
    assert choose_config(given, config["data"], None) == config_from_dict(config)


@pytest.mark.parametrize(("size", "error"), [(1140, 0.0096), (1694, 0.0082), (3107, 0.0069)])
def test_the_published_line_is_beaten_without_augmentation(size, error):
    """Both in bytes and in test error: MIRACLE's best and the public .mrcl files."""
    summaries = [json.loads(p.read_text(encoding="utf-8")) for p in MODELS.glob("*.json")]
    plain = [s for s in summaries if s["config"]["shift"] == 0]
    assert any(s["bytes"] <= size and s["test_error"] <= error for s in plain)
