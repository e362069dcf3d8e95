"""What the glossary says of the derivations and the code is there."""

from __future__ import annotations

import itertools
import re

import pytest
from docs.blocks import ROOT

PAGE = ROOT / "docs" / "glossary.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| term")
]
CODE = re.compile(r"\[`(\w+)`\]\((\S+)\)")


def test_a_table_has_no_gap():
    """Behind an empty line rows are no table any more, but text with bars."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for before, line in itertools.pairwise(lines):
        assert before.strip() or not line.startswith("|") or line.startswith("| term")


def test_a_term_has_one_row():
    terms = [row[0] for row in ROWS]
    assert len(terms) == len(set(terms)) > 40


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_name_is_in_the_file(row):
    name, path = CODE.fullmatch(row[-1]).groups()
    source = (PAGE.parent / path).read_text(encoding="utf-8")
    # A function or class, a field, a constant, an argument, a member.
    stands = rf"\b(def|class) {name}\b|\b{name}\b *[:=,)]"
    assert re.search(stands, source)


def test_equations_and_sections_are_there():
    docs = {name: (PAGE.parent / f"{name}.md").read_text("utf-8") for name in ("SPEC", "CODES")}
    derived = (PAGE.parent / "derivations.md").read_text(encoding="utf-8")
    for row in ROWS:
        defined = re.sub(r"MIRACLE, \w+ [\d.]+", "", row[-2])
        for number in re.findall(r"\((\d+[a-z]?)\)", defined):
            assert rf"\tag{{{number}}}" in derived, row
        for name, numbers in re.findall(r"(SPEC|CODES) ((?:[\d.]+(?:, )?)+)", defined):
            for number in numbers.rstrip(", ").split(", "):
                assert re.search(rf"^##+ {re.escape(number)}\.? ", docs[name], re.MULTILINE), row
