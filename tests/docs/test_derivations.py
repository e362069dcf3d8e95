"""Each gradient stands beside its derivation, and each equation that the code cites is there."""

from __future__ import annotations

import ast
import importlib
import re

import pytest
from docs.blocks import ROOT, blocks_of

PAGE = ROOT / "docs" / "derivations.md"
ENGINE = ROOT / "refmiracle" / "engines" / "numpy_engine"
NUMERICS = ROOT / "refmiracle" / "numerics"
# What has no gradient in its name and computes one, or the function that is differentiated.
ALSO = {
    "adam_step", "conv2d", "ds_dx", "gaussian_kl", "log_s", "log_weights", "maxpool2d", "mean_kl",
    "mean_kl_forward", "mean_var_forward", "relu", "dense", "expand_hash", "select_indices",
    "softmax_cross_entropy", "mean_pool2d", "group_norm",
}  # fmt: skip
CITED = re.compile(r"\b[Ee]quations? ([^.:;]*?) of docs/derivations\.md")
NUMBER = re.compile(r"\((\d+[a-z]?)\)")


def functions(folder):
    """Return the files of a folder's public functions by the functions' names."""
    return {
        node.name: path
        for path in folder.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def included():
    """Return (file, name) of each function that the page shows."""
    shown = set()
    for block in blocks_of(PAGE):
        if block.language.startswith("{literalinclude}"):
            path = (PAGE.parent / block.language.split()[1]).resolve()
            name = re.search(r":pyobject: (.+)", block.text)[1].strip()
            shown.add((path, name))
    return shown


def test_every_gradient_stands_beside_its_derivation():
    found = functions(ENGINE) | functions(NUMERICS)
    wanted = {name for name in found if name.endswith("_backward")} | ALSO
    assert len(wanted) >= 22
    assert wanted <= found.keys()
    assert {(found[name], name) for name in wanted} <= included()


def test_what_is_included_is_there():
    for path, name in included():
        module = importlib.import_module(
            path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        )
        target = module
        for part in name.split("."):
            target = getattr(target, part)
        assert callable(target), (path, name)


def numbers_of_page():
    tags = re.findall(r"\\tag\{(\w+)\}", PAGE.read_text(encoding="utf-8"))
    assert len(tags) == len(set(tags)), "two equations have the same number"
    return set(tags)


SOURCES = sorted((ROOT / "refmiracle").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_cited_equations_are_there(path):
    text = " ".join(path.read_text(encoding="utf-8").split())
    for cited in CITED.findall(text):
        numbers = NUMBER.findall(cited)
        assert numbers, f"{path}: {cited}"
        assert set(numbers) <= numbers_of_page(), f"{path}: {cited}"


def test_gradients_cite_their_equations():
    for name, path in functions(ENGINE).items():
        if name.endswith("_backward") and not name.startswith(("relu", "maxpool2d")):
            source = path.read_text(encoding="utf-8").partition(f"def {name}(")[2]
            assert CITED.search(source.partition("\ndef ")[0]), name
