"""The tutorial: each lesson has its parts, its links resolve, and its notebook is made from it."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext")
pytest.importorskip("markdown_it")  # with which jupytext reads MyST

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "make_notebooks.py"
LESSONS = sorted((ROOT / "docs" / "tutorial").glob("[0-9]*.md"))
NOTEBOOKS = sorted((ROOT / "docs" / "tutorial" / "notebooks").glob("*.ipynb"))
# Seconds, on a machine that does much else.
PATIENCE = {"timeout": 600, "startup_timeout": 600, "iopub_timeout": 600}
LINK = re.compile(r"\]\(([^)\s]+)\)")
TABLE_LINK = re.compile(r"^\| \[([^\]]+)\]\(([^)]+)\)", re.MULTILINE)


def name(path):
    return path.stem


@pytest.fixture(params=LESSONS, ids=name)
def lesson(request):
    return request.param


@pytest.fixture
def cells(lesson):
    return jupytext.reads(lesson.read_text(encoding="utf-8"), fmt="md:myst").cells


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("make_notebooks", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_solution(cell):
    return cell.cell_type == "code" and "hide-cell" in cell.metadata.get("tags", ())


def text_of_markdown(path):
    """The text of a page or notebook without its code, in which brackets are no links."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


# --- lessons


def test_there_are_eight():
    assert [path.name[:2] for path in LESSONS] == ["01", "02", "03", "04", "05", "06", "07", "08"]


def test_the_index_names_all_in_order():
    index = (ROOT / "docs" / "tutorial" / "index.md").read_text(encoding="utf-8")
    titles = [re.search(r"^# (.*)$", path.read_text("utf-8"), re.MULTILINE)[1] for path in LESSONS]
    assert TABLE_LINK.findall(index) == [
        (title, path.name) for title, path in zip(titles, LESSONS, strict=True)
    ]
    toctree = index.split("```{toctree}")[1].split("```")[0].split()
    assert [word for word in toctree if word[0].isdigit() and "-" in word] == [
        path.stem for path in LESSONS
    ]


def test_each_figure_has_labelled_axes_and_words_for_who_cannot_see_it(cells):
    figures = [c for c in cells if c.cell_type == "code" and "plt.show()" in c.source]
    assert 1 <= len(figures) <= 2
    for cell in figures:
        assert len(cell.metadata["mystnb"]["image"]["alt"]) > 40
        assert "xlabel=" in cell.source or "imshow" in cell.source


def test_an_exercise_and_its_hidden_solution_which_is_checked(cells):
    headings = [c.cell_type == "markdown" and "## Exercise" in c.source for c in cells]
    assert sum(headings) == 1
    asked = headings.index(True)
    assert len(cells[asked].source.split("## Exercise")[1]) > 100
    solution = cells[asked + 1]
    assert is_solution(solution)
    assert sum(map(is_solution, cells)) == 1
    statements = ast.walk(ast.parse(solution.source))
    assert sum(isinstance(node, ast.Assert) for node in statements) >= 1


def test_what_the_text_says_is_asserted_in_the_cells_too(cells):
    code = [c.source for c in cells if c.cell_type == "code" and not is_solution(c)]
    assert sum("assert " in source for source in code) >= 2


def test_sources_are_named(lesson):
    text = lesson.read_text(encoding="utf-8")
    assert "## References" in text
    assert "(../derivations.md)" in text


# --- links


@pytest.mark.parametrize(
    "page", [*LESSONS, ROOT / "docs" / "tutorial" / "index.md", *NOTEBOOKS], ids=lambda p: p.name
)
def test_links_resolve(page):
    targets = LINK.findall(text_of_markdown(page))
    assert targets
    for target in targets:
        if target.startswith("https://"):
            assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", target)
        else:
            assert (page.parent / target).is_file(), target


def test_notebooks_lead_to_notebooks(tool):
    assert tool.moved_link("05-mean-kl.md") == "05-mean-kl.ipynb"
    assert tool.moved_link("../SPEC.md") == "../../SPEC.md"
    assert tool.moved_link("https://arxiv.org/abs/1810.00440").startswith("https://")
    assert tool.moved_link("#exercise") == "#exercise"


# --- notebooks


def test_every_lesson_has_its_notebook_and_no_other_is_there():
    assert list(map(name, NOTEBOOKS)) == list(map(name, LESSONS))


def test_the_notebook_is_what_the_tool_makes(lesson, tool):
    path = lesson.parent / "notebooks" / f"{lesson.stem}.ipynb"
    assert path.read_bytes() == tool.notebook_bytes(lesson), "run tools/make_notebooks.py"


def test_the_command_writes_the_same(tmp_path):
    subprocess.run([sys.executable, TOOL, "--out", tmp_path / "new"], check=True)
    written = sorted((tmp_path / "new").iterdir())
    assert [p.read_bytes() for p in written] == [p.read_bytes() for p in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_the_notebook_is_valid_and_without_outputs(path):
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    solutions = [c for c in notebook.cells if is_solution(c)]
    assert [c.metadata.jupyter.source_hidden for c in solutions] == [True]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_the_notebook_runs(path, monkeypatch):
    """Its asserts hold, the solution's among them; and every figure is drawn."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    for library in ("ipykernel", "matplotlib"):
        pytest.importorskip(library)
    # A plain kernel would draw with whatever the caller's environment names.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, resources={"metadata": {"path": str(path.parent)}}, **PATIENCE
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code" and "plt.show()" in cell.source:
            assert any("image/png" in o.get("data", {}) for o in cell.outputs)


@pytest.mark.slow
def test_a_wrong_solution_is_found():
    """The client that runs them stops at an assert that fails."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    (solution,) = (c for c in notebook.cells if is_solution(c))
    right = "farthest = math.sqrt(2 * 2 * math.log(2))"
    assert right in solution.source
    solution.source = solution.source.replace(right, "farthest = math.sqrt(2 * 2)")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="AssertionError"):
        nbclient.NotebookClient(notebook, **PATIENCE).execute()
