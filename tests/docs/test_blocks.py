"""Every fenced block of README.md and docs/ is run, or stands in a table here with its reason."""

from __future__ import annotations

import argparse
import configparser
import json
import re
import runpy
import sys
from pathlib import Path

import pytest
from docs.blocks import ROOT, blocks_of, commands_of, run_python
from packaging.requirements import InvalidRequirement, Requirement

from refmiracle.start import COMMANDS
from refmiracle.start import main as refmiracle_main

BUILT = ROOT / "docs" / "_build"
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if BUILT not in path.parents
]
# Output, or what a reader would see; nothing to run.
OUTPUT = {"", "text"}
# Directives of MyST that hold no code of their own.
DIRECTIVES = {
    "{admonition}", "{command-options}", "{dropdown}", "{eval-rst}", "{hint}", "{important}",
    "{include}", "{literalinclude}", "{note}", "{seealso}", "{tip}", "{toctree}", "{warning}",
}  # fmt: skip
# Cells of the lessons: the build of the documentation runs them (test_site.py), and an
# exception in one ends it.
CELLS = {"{code-cell}"}
# Pages whose blocks need more than the extra "test".
NEEDS = {
    "docs/FRONTIER.md": ("matplotlib",),
    "docs/guide/evaluate.md": ("jinja2", "matplotlib"),
    "docs/guide/scikit-learn.md": ("sklearn",),
    "docs/guide/export.md": ("jax", "onnx", "onnxruntime", "safetensors", "torch"),
}
# Commands that are not run, and why; that their own parsers take the arguments is checked.
NOT_RUN = {
    r"python -m refmiracle\.bench": "minutes, and alone: .ci/run has --quick",
    r"python -m refmiracle\.study .*--dask": "needs a cluster: the tests of studies have one",
    r"python tools/make_golden\.py": "minutes, and PyTorch: tests/conformance makes them again",
    r"python tools/figures/scan_formulas\.py": "minutes of mpmath: tests/engines has a small grid",
    r"python tools/peers/read_mrcl\.py": "needs sobol_seq and files without a licence",
    r"python tools/figures/(try_settings|averaged_courses|constructions)\.py": "trains for minutes",
    r"python -m pytest": "that is what runs here; tests/conformance runs the plugin",
    r"python -m sphinx": "test_site.py builds the pages, and .ci/run does",
    r"python -m notebook": "waits for a browser; the lessons run when the pages are built",
}
# These take longer than all others: they run with -m slow.
LONG = r"python -m refmiracle\.(report|study)"
# What makes a command shorter that would take a minute.
SHORTER = {"conformance": ["--case", "numerics/gaussian_kl"]}


class ParsedError(Exception):
    """A command's arguments have been accepted."""


def languages_of(language: str) -> tuple[str, ...]:
    return tuple(language.split())[:1] or ("",)


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_of_an_unknown_language(page):
    known = OUTPUT | DIRECTIVES | CELLS | {"python", "sh", "json"}
    for block in blocks_of(ROOT / page):
        assert languages_of(block.language)[0] in known, f"{page}:{block.line}: {block.language}"


def runnable(page: str) -> bool:
    return any(block.language in ("python", "sh", "json") for block in blocks_of(ROOT / page))


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)])
def test_blocks_run(page, clone, capsys, monkeypatch):
    run_page(page, capsys, monkeypatch, long=False)


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.parametrize("page", ["docs/FRONTIER.md", "docs/guide/evaluate.md"])
def test_blocks_run_with_the_long_ones(page, clone, capsys, monkeypatch):
    run_page(page, capsys, monkeypatch, long=True)


def run_page(page, capsys, monkeypatch, long):
    for module in NEEDS.get(page, ()):
        pytest.importorskip(module)
    # A module of its own, as dataclasses and pickles want it.
    namespace = {"__name__": "__main__"}
    for block in blocks_of(ROOT / page):
        where = f"{page}:{block.line}"
        if block.language == "json":
            json.loads(block.text)
        elif block.language == "python":
            named = re.match(r"# (\w+\.py)\n", block.text)
            if named:
                Path(named[1]).write_text(block.text, encoding="utf-8")
            run_python(block.text, where, namespace)
        elif block.language == "sh":
            for words, comment in commands_of(block.text):
                run_command(words, comment, where, capsys, monkeypatch, long)


def run_command(words, comment, where, capsys, monkeypatch, long):
    line = " ".join(words)
    if words[:4] == ["python", "-m", "pip", "install"]:
        check_requirements(words[4:], where)
        return
    not_run = any(re.match(pattern, line) for pattern in NOT_RUN)
    if not_run or (re.match(LONG, line) and not long):
        check_arguments(words, where, monkeypatch)
        return
    name, arguments = command_of(words, where)
    capsys.readouterr()
    try:
        code = refmiracle_main([name, *arguments, *SHORTER.get(name, [])])
    except SystemExit as e:  # --help
        code = e.code
    printed = capsys.readouterr()
    assert code == 0, f"{where}: {line}: exit code {code}\n{printed.err}"
    stated = re.match(r"[\d,]+ bytes$", comment)
    if stated:
        assert comment.replace(",", "") in printed.out, f"{where}: {line}: {printed.out}"


def command_of(words, where):
    """Return a command of refmiracle and its arguments."""
    if words[:2] == ["python", "-m"] and words[2].startswith("refmiracle."):
        name, arguments = words[2].removeprefix("refmiracle."), words[3:]
    elif words[0] == "refmiracle":
        name, arguments = words[1], words[2:]
    else:
        pytest.fail(f"{where}: {' '.join(words)}: no command that the tests know how to run")
    assert name in COMMANDS, f"{where}: {name}"
    return name, arguments


def check_requirements(words, where):
    """Check that pip install names extras that there are, or requirements that can be read."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = set(setup["options.extras_require"])
    for word in words:
        if word in ("-e", "."):
            continue
        try:
            requirement = Requirement(word.replace(".[", "refmiracle[", 1))
        except InvalidRequirement as e:
            pytest.fail(f"{where}: pip install {word}: {e}")
        if requirement.name == "refmiracle":
            assert requirement.extras <= extras, f"{where}: {requirement.extras - extras}"


def check_arguments(words, where, monkeypatch):
    """Check that a command's own parser takes its arguments, without running it."""
    if words[1] == "-m" and words[2] in ("notebook", "pytest", "sphinx"):
        return

    def parse_only(parse):
        def parsed(parser, *given, **named):
            parse(parser, *given, **named)
            raise ParsedError

        return parsed

    with monkeypatch.context() as patch:
        for name in ("parse_args", "parse_intermixed_args"):
            parse = getattr(argparse.ArgumentParser, name)
            patch.setattr(argparse.ArgumentParser, name, parse_only(parse))
        try:
            if words[1] == "-m":
                name, arguments = command_of(words, where)
                refmiracle_main([name, *arguments])
            else:
                patch.setattr(sys, "argv", words[1:])
                patch.syspath_prepend(str(Path(words[1]).resolve().parent))
                runpy.run_path(words[1], run_name="__main__")
        except ParsedError:
            return
        except (SystemExit, ImportError) as e:
            pytest.fail(f"{where}: {' '.join(words)}: {e}")
    pytest.fail(f"{where}: {' '.join(words)}: it has no parser")


def test_the_table_has_no_row_without_a_command():
    lines = [
        " ".join(words)
        for page in PAGES
        for block in blocks_of(ROOT / page)
        if block.language == "sh"
        for words, _ in commands_of(block.text)
    ]
    for pattern in NOT_RUN:
        assert any(re.match(pattern, line) for line in lines), pattern


def test_the_first_backend_of_the_conformance_page_fails_as_it_says(clone):
    blocks = blocks_of(ROOT / "docs/CONFORMANCE.md")
    (block,) = (b for b in blocks if b.language == "python" and "class Backend" in b.text)
    Path("first_backend.py").write_text(block.text, encoding="utf-8")
    command = ["conformance", "--backend", "first_backend:BACKEND"]
    assert refmiracle_main([*command, "--case", "numerics/gaussian_kl"]) == 1
