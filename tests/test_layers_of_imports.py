"""Imports run only downwards through the layers, and importing the package loads nothing heavy."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from oracles import run_python

import refmiracle
from refmiracle.start import COMMANDS

ROOT = Path(refmiracle.__file__).parent
LONGEST_MODULE = 400

# The bottom stands below all layers: what it holds, everyone may import.
BOTTOM = -1
LAYERS = {
    "": BOTTOM,
    "errors": BOTTOM,
    "files": BOTTOM,
    "streams": BOTTOM,
    "extras": BOTTOM,
    "processors": BOTTOM,
    "numerics": 0,
    "engines": 1,
    "nn": 2,
    "rec": 2,
    "posterior": 2,
    "budgets": 2,
    "meankl": 2,
    "codes": 2,
    "codec": 3,
    "training": 4,
    "exports": 4,
    "layers": 5,
    "given": 5,
    "figures": 5,
    "decoded": 5,
    "fitting": 5,
    "loading": 5,
    "model": 5,
    "run": 5,
    "sklearn": 6,
    "drawing": 5,
    "studies": 6,
    "reports": 6,
    "bench": 6,
    "conformance": 6,
    "commands": 7,
    "start": 8,
    "train": 8,
    "evaluate": 8,
    "decode": 8,
    "export": 8,
    "report": 8,
    "study": 8,
    "__main__": 8,
}
# What starts a package's own command stands above it.
STARTS = ("bench.__main__", "conformance.__main__")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").strip("."): path
    for path in sorted(ROOT.rglob("*.py"))
}


def walk_run(tree):
    """All nodes of a module but what only type checkers read: `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from walk_run(node)


def imports(source):
    """Full names of all that a module imports, at its top or within a function."""
    names = set()
    for node in walk_run(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_parts(source):
    """First parts below the package ("codec", "errors", ...) of what a module imports of it."""
    own = {name.partition(".")[2] for name in imports(source) if name.split(".")[0] == "refmiracle"}
    # `from refmiracle import __version__` takes a name, not a module: it is the package's own.
    tops = {name.split(".")[0] for name in own}
    known = {module.split(".")[0] for module in MODULES}
    return {top if top in known else "" for top in tops}


def test_the_walker_sees_every_kind_of_import():
    source = """
import refmiracle.codec.bits
from refmiracle import errors, __version__
def f():
    from refmiracle.training import trainer
if TYPE_CHECKING:
    from refmiracle import bench
"""
    assert own_parts(source) == {"codec", "errors", "", "training"}


def test_all_layers_are_found():
    """A list of modules that is empty would pass every test below."""
    assert {m.split(".")[0] for m in MODULES} >= {"numerics", "engines", "nn", "rec", "codec"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module):
    part = "__main__" if module in STARTS else module.split(".")[0]
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


@pytest.mark.parametrize("module", ["", "errors", "files", "streams", "extras", "processors"])
def test_the_bottom_imports_only_errors(module):
    assert own_parts(MODULES[module].read_text(encoding="utf-8")) <= {"errors"}


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
