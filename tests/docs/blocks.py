"""The fenced blocks of a Markdown page, and how those of Python and of a shell are run."""

from __future__ import annotations

import ast
import io
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^ *(`{3,}|~{3,}) *([^`]*)$")
# A comment that states numbers, after a colon or alone: "# in bits: 5.9", "# 891 0.0098".
STATED = re.compile(r"# (?:.*: )?(\d[\d.]*(?: \d[\d.]*)*)$")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language (or directive), its text, and the line that it begins at."""

    language: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, those within blocks not included."""
    blocks: list[Block] = []
    fence, language, text, first = "", "", "", 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        found = FENCE.match(line)
        if fence and line.strip() == fence:
            blocks.append(Block(language, text, first))
            fence = ""
        elif fence:
            text += line + "\n"
        elif found:
            fence, language, text, first = found[1], found[2].strip(), "", number
    assert not fence, f"{page}:{first}: a block without an end"
    return blocks


def commands_of(text: str) -> Iterator[tuple[list[str], str]]:
    """Yield the words of each command of a shell block, and the comment at the end of its line."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        comment = line.rpartition("# ")[2].strip() if " # " in line else ""
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            yield words[:end], comment
            words = words[end + 1 :]


def run_python(text: str, name: str, namespace: dict[str, object]) -> None:
    """Run a block statement by statement; what comments state of an expression must be so."""
    lines = text.splitlines()
    for statement in ast.parse(text, name).body:
        printed = io.StringIO()
        if not isinstance(statement, ast.Expr):
            exec(compile(ast.Module([statement], []), name, "exec"), namespace)
            continue
        with redirect_stdout(printed):
            value = eval(compile(ast.Expression(statement.value), name, "eval"), namespace)
        print(printed.getvalue(), end="")
        stated = STATED.search(lines[statement.end_lineno - 1])
        if stated:
            check_stated(stated[1].split(), printed.getvalue() or str(value), name)


def check_stated(stated: list[str], found: str, name: str) -> None:
    """Compare numbers that a page states with those found, to the digits that it states."""
    numbers = [float(n) for n in NUMBER.findall(found)]
    assert len(numbers) == len(stated), f"{name}: states {stated}, found {found!r}"
    for text, number in zip(stated, numbers, strict=True):
        digits = len(text.partition(".")[2])
        assert abs(number - float(text)) <= 0.501 * 10**-digits, f"{name}: {text}, found {number}"
