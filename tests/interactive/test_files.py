"""The files of docs/interactive: data.js is what its tool writes, and nothing is fetched."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "interactive"
TOOL = ROOT / "tools" / "make_interactive_data.py"
SCRIPTS = sorted(FOLDER.glob("*.js"))
LONGEST = 250


def test_the_data_are_what_the_tool_writes():
    spec = importlib.util.spec_from_file_location(TOOL.stem, TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.build() == (FOLDER / "data.js").read_bytes()


def test_the_page_names_each_script_once():
    named = re.findall(
        r'<script src="([^"]+)"></script>', (FOLDER / "index.html").read_text("utf-8")
    )
    assert sorted(named) == [path.name for path in SCRIPTS]


def test_no_two_scripts_define_the_same_name():
    """Classic scripts share one scope: of two functions the later one would take the place."""
    defines = re.compile(r"^(?:async )?(?:function\*?|const|let|class) ([\w$]+)", re.M)
    names = [name for path in SCRIPTS for name in defines.findall(path.read_text("utf-8"))]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_are_small_classic_and_ask_for_nothing(path):
    text = path.read_text("utf-8")
    lines = text.splitlines()
    assert len(lines) < LONGEST
    assert lines[0].startswith("// ")
    assert '"use strict";' in lines
    assert path.stem == "data" or max(map(len, lines)) <= 100
    assert not re.findall(r"^\s*(?:import|export)\b|\bfetch\(|XMLHttpRequest|WebSocket", text, re.M)
    links = re.findall(r"https?://[^\"'\s]+", text)
    assert set(links) <= {"http://www.w3.org/2000/svg"}
