"""The layers of the package, and what each part of it imports.

tools/figures/draw_layers.py draws them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import refmiracle

ROOT = Path(refmiracle.__file__).parent
# The bottom stands below all layers: what it holds, everyone may import.
BOTTOM = -1
# From the bottom up: what a layer is, and its parts, the folders and modules of the package.
STACK: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("for everyone", ("", "errors", "files", "streams", "extras", "processors")),
    ("numbers", ("numerics",)),
    ("mathematics", ("engines",)),
    ("networks, blocks, codes", ("nn", "posterior", "codes", "budgets", "meankl")),
    ("files", ("fileformat",)),
    ("training, other formats", ("exports", "training")),
    (
        "models and runs",
        ("layers", "given", "figures", "decoded", "fitting", "loading", "model", "run", "drawing"),
    ),
    ("what looks at them", ("sklearn", "studies", "reports", "bench", "conformance")),
    ("command line", ("commands",)),
    (
        "starts",
        ("start", "train", "evaluate", "decode", "export", "report", "study", "__main__"),
    ),
)
LAYERS = {part: layer for layer, (_, parts) in enumerate(STACK, BOTTOM) for part in parts}
# What starts a package's own command stands above it.
STARTS = ("bench.__main__", "conformance.__main__")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").strip("."): path
    for path in sorted(ROOT.rglob("*.py"))
}


def part_of(module: str) -> str:
    """Return the part that a module belongs to."""
    return "__main__" if module in STARTS else module.partition(".")[0]


def walk_run(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes of a module but what only type checkers read: `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from walk_run(node)


def imports(source: str) -> set[str]:
    """Return the full names of all that a module imports, at its top or within a function."""
    names = set()
    for node in walk_run(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_parts(source: str) -> set[str]:
    """Return the parts of the package that a module imports."""
    own = {name.partition(".")[2] for name in imports(source) if name.split(".")[0] == "refmiracle"}
    # `from refmiracle import __version__` takes a name, not a module: it is the package's own.
    tops = {name.split(".")[0] for name in own}
    known = {module.split(".")[0] for module in MODULES}
    return {top if top in known else "" for top in tops}


def imported_parts() -> dict[str, set[str]]:
    """Return all parts, and what other parts each of them imports."""
    found: dict[str, set[str]] = {part: set() for part in LAYERS}
    for module, path in MODULES.items():
        found[part_of(module)] |= own_parts(path.read_text(encoding="utf-8"))
    return {part: imported - {part} for part, imported in found.items()}
