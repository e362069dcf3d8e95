"""In a notebook: the README's example as it stands, the anatomy of a model, and fit's bar."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs.blocks import ROOT, blocks_of

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

FIT = """
import numpy as np
from refmiracle.layers import Dense, Flatten
run = refmiracle.fit(
    np.zeros((40, 4, 4)), np.arange(40) % 2, network=[Flatten(), Dense(2)], steps=6, groups=2,
    group_steps=4, batch_size=10, bits_per_block=4,
)
"""


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """What each cell has put out: text, by type."""
    first = next(b for b in blocks_of(Path(ROOT) / "README.md") if b.language == "python")
    sources = (first.text, "model", FIT, "run")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    folder = {"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}}
    patience = {"timeout": 600, "startup_timeout": 600, "iopub_timeout": 600}
    nbclient.NotebookClient(book, kernel_name="python3", resources=folder, **patience).execute()
    return [cell.outputs for cell in book.cells]


def test_a_model_shows_its_bytes(cells):
    (shown,) = cells[1]
    assert "Model(lenet5, 891 bytes" in shown.data["text/plain"]
    assert "every field" in shown.data["text/html"]


def test_fit_shows_a_bar(cells):
    pytest.importorskip("tqdm")
    assert any("100%" in output.get("text", "") or "data" in output for output in cells[2])


def test_a_run_says_how_it_went(cells):
    (shown,) = cells[3]
    assert shown.data["text/plain"].startswith("Run(")
