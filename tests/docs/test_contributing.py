"""What CONTRIBUTING.md and the files beside it name is there: folders, tests, stages, links."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest
from docs.blocks import ROOT, blocks_of, commands_of
from docs.test_blocks import check_requirements

PAGE = ROOT / "CONTRIBUTING.md"
TEXT = PAGE.read_text(encoding="utf-8")
HOOKS = ROOT / ".pre-commit-config.yaml"
CI = ROOT / ".ci" / "run"
STAGES = re.search(r"^STAGES='(.*)'$", CI.read_text(encoding="utf-8"), re.MULTILINE)[1].split()
ROWS = re.findall(r"^\| (.+) \| `(python .+)` \|$", TEXT, re.MULTILINE)
FOLDERS = [path for row in ROWS for path in re.findall(r"`(.+?)`", row[0])]
COMMANDS = [row[1] for row in ROWS]
COMMANDS += [
    shlex.join(words)
    for block in blocks_of(PAGE)
    if block.language == "sh"
    for words, _ in commands_of(block.text)
]
# Prose: what begins with a folder of the repository, up to the end of the word; not what is built.
PATHS = re.findall(
    r"(?<![\w./])(?:\.ci|data|docs|refmiracle|tests|tools)/(?!_build)[\w./*]*[\w*]", TEXT
)
LINKS = re.compile(r"\]\(([^)#\s]+)")


def check_command(words):
    """Whether a command of the page names what is there."""
    if words[0] == ".ci/run":
        assert set(words[1:]) <= set(STAGES)
    elif words[:3] == ["python", "-m", "pytest"]:
        for path in (word for word in words[3:] if word.startswith("tests")):
            assert (ROOT / path).exists(), path
    elif words[:4] == ["python", "-m", "pip", "install"]:
        check_requirements(words[4:], PAGE.name)
    elif words[:3] != ["python", "-m", "sphinx"]:
        pytest.fail(f"{words}: no command that this test knows")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_name_what_is_there(command):
    check_command(shlex.split(command))


def test_every_folder_has_a_row():
    named = {path for folder in FOLDERS for path in ROOT.glob(folder)}
    assert named >= set((ROOT / "refmiracle").glob("*.py"))
    code = {path.parent for path in (ROOT / "refmiracle").rglob("*.py")} - {ROOT / "refmiracle"}
    for folder in code:
        inner = {path for path in folder.iterdir() if path in code}
        by_parts = inner and inner <= named
        assert by_parts or named & {folder, *folder.parents}, folder


def test_what_the_table_names_is_there():
    for folder in FOLDERS:
        assert list(ROOT.glob(folder)), folder


@pytest.mark.parametrize("path", sorted(set(PATHS)))
def test_paths_are_there(path):
    assert list(ROOT.glob(path)), path


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_links_lead_somewhere(page):
    links = LINKS.findall((ROOT / page).read_text(encoding="utf-8"))
    assert len(links) > 2
    for link in links:
        assert (ROOT / link).exists(), link


def test_hooks_are_stages_of_ci():
    (entry,) = re.findall(r"entry: (.*)", HOOKS.read_text(encoding="utf-8"))
    check_command(entry.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_no_such_stage():
    done = subprocess.run(
        ["bash", CI, "lint", "tides"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"(of {' '.join(STAGES)})" in done.stderr


def test_every_stage_is_a_function_that_ci_runs():
    script = CI.read_text(encoding="utf-8")
    whole = script.partition("\nothers() {")[2]
    apart = ("docs", "smoke", "coverage")
    for stage in STAGES:
        assert re.search(rf"^{stage}\(\) [({{]$", script, re.MULTILINE), stage
        # `docs` is a part of `long`, and `smoke` of `installed`; `coverage` is for a release.
        assert re.search(rf"\b{stage}$", whole, re.MULTILINE) or stage in apart, stage
