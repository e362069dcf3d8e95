"""Finds where a source asks for names of a kind: compares, lists or looks them up.

A name may be the default of a setting, and be passed on.  What asks for it would have to be changed
for one more of its kind.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from pathlib import Path

import refmiracle

ROOT = Path(refmiracle.__file__).parent
TEMPLATES = sorted(ROOT.rglob("*.j2"))


def says(node, names, words):
    """Whether an expression is, or lists, a name: as a string, or by a word that stands for it."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(says(part, names, words) for part in node.elts)
    if isinstance(node, ast.Starred | ast.keyword):
        return says(node.value, names, words)
    if isinstance(node, ast.Attribute):
        return node.attr in words
    if isinstance(node, ast.Name):
        return node.id in words
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names


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


def questions(source: str, names: Collection[str], words: Collection[str]) -> list[str]:
    """Return the questions for names in a source, as they stand there.

    Parameters
    ----------
    source : str
    names : collection of str
        What may not be asked for.
    words : collection of str
        Identifiers that stand for a name, or for a kind: to ask for that is the same question.
    """
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if any(says(part, names, words) for part in asked_with(node))
    ]


def quoted_in(template: Path) -> set[str]:
    """Return all that stands in quotes in a template."""
    return set(re.findall(r"""["']([a-z-]+)["']""", template.read_text(encoding="utf-8")))
