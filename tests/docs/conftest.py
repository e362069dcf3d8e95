"""Everything that makes the commands of the pages take seconds: tiny presets, few images."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
from docs.blocks import ROOT
from tiny import TINY

from refmiracle import run as face
from refmiracle.commands import evaluate, report, train
from refmiracle.exports.layers import EXPORTS
from refmiracle.nn.networks import NETWORKS
from refmiracle.studies.codes import CODES_PLANS
from refmiracle.studies.comparison import COMPARISONS, Comparison
from refmiracle.studies.rate_distortion import SWEEPS, Sweep
from refmiracle.training.data import Split, load_split

# What a reader finds in the folder where he types: a clone.
CLONE = ("data", "docs", "tests", "tools")
MOST_IMAGES = {"train": 2000, "t10k": 300}
# 2^14 candidates take no time, so files have the size that the pages say for 14 bits.
LIMITS = {"steps": 5, "groups": 4, "group_steps": 2, "batch_size": 32, "validation": 500}
LARGEST_BITS = 14

# For pages that run the reader's own backend.
MY_BACKEND = """\
from refmiracle.conformance.engine_backend import numpy_backend

BACKEND = numpy_backend()
"""
# What starts it: a "#!" takes no path with a space in it.
MY_START = f"""\
#!/bin/sh
exec {shlex.quote(sys.executable)} "$0.py" "$@"
"""
MY_PROGRAM = """\
import base64, json, sys
import numpy as np
from refmiracle.engines.numpy_engine.posterior import gaussian_kl

for line in sys.stdin:
    request = json.loads(line)
    if request["operation"] == "hello":
        answer = {"name": "mine", "version": "1", "operations": ["gaussian_kl"],
                  "dtypes": ["float64"]}
    else:
        delta, log_s = (
            np.frombuffer(base64.b64decode(request["inputs"][name]["base64"])).reshape(
                request["inputs"][name]["shape"])
            for name in ("delta", "log_s"))
        kl = gaussian_kl(delta, log_s)
        answer = {"outputs": {"kl": {"dtype": "float64", "shape": kl.shape,
                  "base64": base64.b64encode(kl.tobytes()).decode()}}}
    print(json.dumps(answer), flush=True)
"""


@lru_cache(maxsize=8)
def few_images(folder: Path, name: str) -> Split:
    """Return the first images of a split."""
    return load_split(folder, name).part(slice(MOST_IMAGES[name]))


def shrink(settings):
    """Return settings that train in a moment, otherwise as they are."""
    limits = {name: min(getattr(settings, name), most) for name, most in LIMITS.items()}
    bits = min(settings.bits_per_block, LARGEST_BITS)
    return replace(settings, bits_per_block=bits, **limits)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder that looks like a clone, in which every command is quick; it is the current one."""
    for name in CLONE:
        os.symlink(ROOT / name, tmp_path / name)
    (tmp_path / "my_backend.py").write_text(MY_BACKEND, encoding="utf-8")
    program = tmp_path / "my_program"
    program.write_text(MY_START, encoding="utf-8")
    program.with_suffix(".py").write_text(MY_PROGRAM, encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    # Other tests have backends of that name too.
    monkeypatch.delitem(sys.modules, "my_backend", raising=False)
    choose = face.choose_settings
    monkeypatch.setattr(face, "choose_settings", lambda *given: shrink(choose(*given)))
    for command in (evaluate, report, train):
        monkeypatch.setattr(command, "load_split", few_images)
    sweep = Sweep(TINY, bits=(3,), block_sizes=(60, 90))
    comparison = Comparison("tiny", TINY, {"mean-kl": {}, "mean-var": {}}, (3, 5), seeds=(0,))
    for plans, plan in (
        (SWEEPS, sweep),
        (COMPARISONS, comparison),
        (CODES_PLANS, CODES_PLANS["smoke"]),
    ):
        for preset in plans:
            monkeypatch.setitem(plans, preset, plan)
    tables = NETWORKS, EXPORTS  # pages put networks and layers of their own into them
    before = [dict(table) for table in tables]
    yield tmp_path
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)
    few_images.cache_clear()
    sys.modules.pop("my_backend", None)
