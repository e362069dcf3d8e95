"""The files of docs/interactive: data.js is what its tool writes, and nothing is fetched."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from refmiracle.conformance.programs import encode_value

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


def test_the_fuzzer_finds_the_scripts():
    """The decoder of the page by node, as tools/fuzz/fuzz.py calls it."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node")
    model = np.frombuffer((ROOT / "data" / "models" / "lenet5-598-late.rmc").read_bytes(), np.uint8)
    lines = [
        json.dumps({"operation": "read_container", "inputs": {"data": encode_value(data)}})
        for data in (model, model[1:])
    ]
    program = [node, str(ROOT / "tools" / "fuzz" / "fuzz_decoder.js")]
    done = subprocess.run(
        program, input="\n".join(lines), capture_output=True, text=True, check=True
    )
    right, wrong = map(json.loads, done.stdout.splitlines())
    assert right == {"outputs": {}}
    assert "it does not begin with the letters RMC" in wrong["error"]
