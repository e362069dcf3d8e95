"""The versions of docs/support.md are those of setup.cfg; a release is known in all places."""

from __future__ import annotations

import configparser
import re

from docs.blocks import ROOT

import refmiracle

PAGE = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def test_the_oldest_versions():
    table = dict(re.findall(r"^\| (\w+) \| ([\d.]+) \|", PAGE, re.MULTILINE))
    wanted = SETUP["options"]["install_requires"] + SETUP["options"]["python_requires"]
    oldest = re.findall(r"(\w*) ?>= ?([\d.]+)", wanted)
    assert {name.lower(): number for name, number in table.items()} == {
        name or "python": number for name, number in oldest
    }


def test_the_newest_python():
    (newest,) = re.findall(r"^\| Python \| [\d.]+ \| ([\d.]+) \|", PAGE, re.MULTILINE)
    known = re.findall(r"Python :: 3\.(\d+)", SETUP["metadata"]["classifiers"])
    assert newest == f"3.{max(map(int, known))}"


def test_the_citation_has_the_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {refmiracle.__version__}\n" in citation


def test_the_changelog_has_the_version():
    """A release has its date there; what comes after one stands above it."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    if ".dev" not in refmiracle.__version__:
        assert re.fullmatch(rf"\[{refmiracle.__version__}\] - \d{{4}}-\d\d-\d\d", headings[1])
