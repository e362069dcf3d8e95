"""docs/CONFORMANCE.md says what is so."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
from conformance.faults import FAULTS
from conformance.faults_of_layers import OF_LAYERS
from conformance.faults_of_networks import OF_NETWORKS
from conformance.faults_of_updates import OF_UPDATES
from conformance.faults_of_writers import OF_WRITERS

from refmiracle.conformance.backends import PythonBackend
from refmiracle.conformance.operations import OPERATIONS
from refmiracle.conformance.runner import FAILED, PASSED, run_suite
from refmiracle.conformance.vectors import all_cases, default_golden, load_golden

DOCUMENT = (Path(__file__).parents[2] / "docs" / "CONFORMANCE.md").read_text(encoding="utf-8")


def test_the_table_lists_the_operations():
    rows = [line.split("|")[1:-1] for line in DOCUMENT.splitlines() if line.count("|") == 5]
    listed = {
        name.strip(" `"): (stage.strip(), tuple(inputs.split()), tuple(outputs.split()))
        for stage, name, inputs, outputs in rows[2:]
    }
    assert listed == {n: (o.stage, o.inputs, o.outputs) for n, o in OPERATIONS.items()}


def test_the_number_of_faults():
    assert f"plants {len(FAULTS)} faults" in DOCUMENT
    assert f"{len(OF_WRITERS)} in\n[`faults_of_writers.py`]" in DOCUMENT
    assert f"{len(OF_UPDATES)} in\n[`faults_of_updates.py`]" in DOCUMENT
    assert f"{len(OF_LAYERS)} more\nstand in [`faults_of_layers.py`]" in DOCUMENT
    assert f"{len(OF_NETWORKS)} in\n[`faults_of_networks.py`]" in DOCUMENT


def test_the_cases_that_are_named_are_there():
    ids = {case.id for case in all_cases(load_golden(default_golden()))}
    stages = "|".join({o.stage for o in OPERATIONS.values()})
    named = set(re.findall(rf"`((?:{stages})/[a-z0-9_]+/[a-z0-9-]+)`", DOCUMENT))
    assert len(named) > 20
    assert named <= ids


def test_the_first_backend_fails_where_the_document_says(capsys):
    (code,) = re.findall(r"```python\n(# my_backend.py.*?)```", DOCUMENT, flags=re.DOTALL)
    names: dict = {}
    exec(code, names)  # the example, as printed
    report = run_suite(PythonBackend(names["BACKEND"]), load_golden(default_golden()))
    judged = [r for r in report.results if r.status in (PASSED, FAILED)]
    assert {r.operation for r in judged} == {"gaussian_kl"}
    red = {r.id for r in judged if r.status == FAILED}
    assert red
    assert len(red) < len(judged)


def test_the_conversation_is_right():
    """KL = (1 + 1 - 1 - 0) / 2 at delta = 1, s = 1."""
    values = [
        np.frombuffer(base64.b64decode(text), dtype="<f8").tolist()
        for text in re.findall(r'"base64": "([^"]+)"', DOCUMENT)
    ]
    assert values == [[1.0], [0.0], [0.5]]
    hello = re.search(r'^< (\{"name".*\})$', DOCUMENT, flags=re.MULTILINE)
    assert hello is not None
    assert json.loads(hello[1])["operations"] == ["gaussian_kl"]
