"""Write the tutorial as Jupyter notebooks: ``python tools/make_notebooks.py``.

docs/tutorial/*.md become docs/tutorial/notebooks/*.ipynb: the same cells without outputs. The same
lessons give the same bytes: cells are numbered instead of named at random, and only metadata that
Jupyter needs are kept. Needs ``pip install jupytext``.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import jupytext

from refmiracle.files import write_atomically

LESSONS = Path(__file__).resolve().parent.parent / "docs" / "tutorial"
NOTEBOOKS = "notebooks"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LINK = re.compile(r"\]\(([^)\s]+)\)")


def find_lessons(folder: Path = LESSONS) -> list[Path]:
    """Return the lessons in order: all pages whose name begins with a number."""
    return sorted(folder.glob("[0-9]*.md"))


def moved_link(target: str) -> str:
    """Return a link of a lesson as its notebook needs it, one folder further down.

    Other lessons become their notebooks; addresses stay.
    """
    if "://" in target or target.startswith("#"):
        return target
    if "/" not in target and target.endswith(".md"):
        return target.removesuffix(".md") + ".ipynb"
    return f"../{target}"


def notebook_bytes(lesson: Path) -> bytes:
    """Return the notebook of a lesson."""
    read = jupytext.reads(lesson.read_text(encoding="utf-8"), fmt="md:myst")
    cells = []
    for number, cell in enumerate(read.cells):
        source = cell.source
        if cell.cell_type == "markdown":
            source = LINK.sub(lambda link: f"]({moved_link(link[1])})", source)
        made = {
            "cell_type": cell.cell_type,
            "id": f"cell-{number:02d}",
            "metadata": {},
            "source": source.splitlines(keepends=True),
        }
        if cell.cell_type == "code":
            made |= {"execution_count": None, "outputs": []}
            if "hide-cell" in cell.metadata.get("tags", ()):
                # JupyterLab folds the cell, as the pages do.
                made["metadata"] = {"jupyter": {"source_hidden": True}, "tags": ["hide-cell"]}
        cells.append(made)
    notebook = {
        "cells": cells,
        "metadata": {"kernelspec": KERNEL, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)
    return (text + "\n").encode()


def main() -> None:
    """Write all notebooks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=LESSONS / NOTEBOOKS, help="the folder")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for lesson in find_lessons():
        write_atomically(out / f"{lesson.stem}.ipynb", notebook_bytes(lesson))
        print(out / f"{lesson.stem}.ipynb")


if __name__ == "__main__":
    main()
