"""Imports run only downwards through the layers, and importing the package loads nothing heavy."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from import_graph import LAYERS, MODULES, STACK, imports, own_parts, part_of
from oracles import run_python

import refmiracle
from refmiracle.start import COMMANDS

LONGEST_MODULE = 400


def test_the_walker_sees_every_kind_of_import():
    source = """
import refmiracle.fileformat.bits
from refmiracle import errors, __version__
def f():
    from refmiracle.training import trainer
if TYPE_CHECKING:
    from refmiracle import bench
"""
    assert own_parts(source) == {"fileformat", "errors", "", "training"}


def test_all_layers_are_found():
    """A list of modules that is empty would pass every test below."""
    assert {m.split(".")[0] for m in MODULES} >= {
        "numerics",
        "engines",
        "nn",
        "codes",
        "fileformat",
    }


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module):
    part = part_of(module)
    assert part in LAYERS, "give the new module a layer"
    for imported in own_parts(MODULES[module].read_text(encoding="utf-8")):
        assert LAYERS[imported] <= LAYERS[part], f"{module} imports {imported}"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_what_starts_a_command_or_the_face(module):
    """Who imports `refmiracle.train` binds that name; the face would import all below it."""
    found = imports(MODULES[module].read_text(encoding="utf-8"))
    started = {f"refmiracle.{name}" for name in COMMANDS if f"{name}.__main__" not in MODULES}
    assert not {".".join(name.split(".")[:2]) for name in found} & started
    values = {name for name, home in refmiracle._HOMES.items() if ":" in home}
    assert not found & {f"refmiracle.{name}" for name in values}


@pytest.mark.parametrize("module", STACK[0][1])
def test_the_bottom_imports_only_errors(module):
    assert own_parts(MODULES[module].read_text(encoding="utf-8")) <= {"errors"}


def test_the_table_has_no_part_that_is_gone():
    assert {part_of(module) for module in MODULES} == LAYERS.keys()


def test_the_page_has_the_order_of_the_table():
    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"Imports run one way: (.*?) < commands\.", " ".join(page.split()))
    groups = [[LAYERS[name] for name in re.findall("`(.*?)`", part)] for part in said.split("<")]
    assert len(groups) == 7
    for lower, upper in itertools.pairwise(groups):
        assert max(lower) < min(upper)


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_short(module):
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import refmiracle", {"numba", "scipy", "numpy"}),
        ("from refmiracle.engines import get_engine; get_engine('numpy')", {"numba", "scipy"}),
        ("from refmiracle import budget, codes, mean_kl; mean_kl(0.0, 1.0)", {"numba", "scipy"}),
        ("import refmiracle.commands.study", {"numba", "scipy.stats", "scipy.ndimage"}),
    ],
)
def test_what_importing_does_not_load(statement, absent):
    loaded = set(run_python(f"{statement}; import sys; print(*sys.modules)").split())
    assert "refmiracle" in loaded
    assert not loaded & absent


def test_packages_and_pages_name_their_layer():
    texts = {path: path.read_text(encoding="utf-8") for path in MODULES.values()}
    pages = MODULES[""].parents[1] / "docs" / "api"
    texts |= {path: path.read_text(encoding="utf-8") for path in pages.glob("*.md")}
    found = {
        (path.parent.name if path.stem == "__init__" else path.stem, path.name): int(layer)
        for path, text in texts.items()
        for layer in re.findall(r"^(?:\"\"\")?Layer (\d+)[:,]", text, re.M)
    }
    assert len(found) > 15
    layers = {name: LAYERS[name[0].replace("_", "")] for name in found}  # mean_kl.md is of meankl
    assert found == layers
