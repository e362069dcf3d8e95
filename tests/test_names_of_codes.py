"""A code is asked what it is and does, never what it is called: that only `rec` and engines know.

A name may be the default of a setting, and be passed on.  What compares, lists or looks up names
would have to be changed for a new code.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import refmiracle
from refmiracle.rec import block_codes, code, codes, variable_codes
from refmiracle.rec.codes import CODES

ROOT = Path(refmiracle.__file__).parent
KNOWS = ("rec", "engines")
MODULES = [p for p in sorted(ROOT.rglob("*.py")) if p.relative_to(ROOT).parts[0] not in KNOWS]
TEMPLATES = sorted(ROOT.rglob("*.j2"))


def is_a_code(value):
    """Whether it is a code's name, or a kind of code: to ask for that is the same question."""
    return value in CODES if isinstance(value, str) else isinstance(value, type(code.Code))


WORDS = {
    word
    for module in (block_codes, variable_codes, codes)
    for word, value in vars(module).items()
    if is_a_code(value) and value is not code.Code
}


def says(node):
    """Whether an expression is, or lists, the name of a code."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(map(says, node.elts))
    if isinstance(node, ast.Starred | ast.keyword):
        return says(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr in WORDS
    if isinstance(node, ast.Name):
        return node.id in WORDS
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in CODES


def asked_with(node):
    """What a node of a syntax tree compares with, looks up, lists or gives another name."""
    match node:
        case ast.Compare():
            found = [node.left, *node.comparators]
        case ast.Subscript(slice=expression) | ast.MatchValue(value=expression):
            found = [expression]
        case ast.Dict():
            found = [key for key in node.keys if key is not None]
        case ast.Tuple() | ast.List() | ast.Set():
            found = node.elts
        case ast.Assign(value=ast.Constant()):
            found = [node.value]
        case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, kinds]):
            found = [kinds]
        case ast.Call(func=ast.Attribute(), args=[first, *_]):  # names.get(MRC), name.startswith
            found = [first]
        case _:
            found = []
    return found


def questions(source):
    """The questions for the names of codes in a source, as they stand there."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if any(map(says, asked_with(node)))
    ]


@pytest.mark.parametrize(
    "source",
    [
        'config.code == "mrc"',
        "MRC != code",
        "code in (Other, 'sp-pfr')",
        "codes.MRC is code",
        "FEW = 'grc', 'grc-s'",
        "{MRC: 1}.get(code)",
        "sizes[MRC]",
        "sizes.get('orc')",
        "MINE = 'orc'",
        "match code:\n    case 'orc':\n        pass",
        "isinstance(code, SpacePartitioning)",
        "isinstance(code, block_codes.CodeOfRows)",
    ],
)
def test_every_way_to_ask_is_found(source):
    assert questions(source)


@pytest.mark.parametrize(
    "source",
    [
        "class Config:\n    code: str = MRC",
        "def encode(code: str = 'gprs-d'): pass",
        "given.get('code', MRC)",
        "LATER = {'code': MRC}",
        "replace(config, code=MRC)",
        "isinstance(code, Code)",
        "code.of == VARIABLE",
        "'codes' == study",
    ],
)
def test_defaults_are_no_question(source):
    assert not questions(source)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_asks_for_the_name_of_a_code(path):
    assert not questions(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_asks_for_the_name_of_a_code(path):
    quoted = re.findall(r"""["']([a-z-]+)["']""", path.read_text(encoding="utf-8"))
    assert not CODES.keys() & set(quoted)


def test_all_modules_are_looked_at():
    """A list of modules that is empty would pass every test above."""
    tops = {path.relative_to(ROOT).parts[0] for path in MODULES}
    assert tops >= {"codec", "training", "studies", "reports", "conformance", "figures.py"}
    assert {"MRC", "MinimalRandomCoding", "CodeOfVariables"} <= WORDS
    assert TEMPLATES
