"""The suite bites: every planted fault is caught, by a case of the operation that has it."""

from __future__ import annotations

import numpy as np
import pytest
from conformance.faults import FAULTS, Fault, node_samples, spoil
from conformance.faults_of_layers import OF_LAYERS
from conformance.faults_of_networks import OF_NETWORKS
from conformance.faults_of_updates import OF_UPDATES
from conformance.faults_of_writers import OF_WRITERS
from conformance.unseen_faults import FREE, UNSEEN

from refmiracle.conformance.backends import PythonBackend
from refmiracle.conformance.engine_backend import numba_backend, numpy_backend
from refmiracle.conformance.operations import OPERATIONS
from refmiracle.conformance.runner import FAILED, SKIPPED, run_case, run_suite
from refmiracle.conformance.vectors import default_golden, load_golden

# What a fault says that is out of date: it calls, or patches, what is not there any more.
GONE = "AttributeError", "ImportError", "ModuleNotFoundError", "NameError", "TypeError"
NOT_PLANTED = tuple(f"refused: {error}" for error in GONE)


@pytest.fixture(scope="module")
def golden():
    return load_golden(default_golden())


@pytest.mark.parametrize("stage", sorted({o.stage for o in OPERATIONS.values()}))
@pytest.mark.parametrize("make", [numpy_backend, numba_backend])
def test_both_engines_pass_every_case(golden, make, stage):
    report = run_suite(PythonBackend(make()), [file for file in golden if file.stage == stage])
    red = [(r.id, r.dtype, r.message) for r in report.results if r.status == FAILED]
    assert report.ok(), red
    # Nothing is skipped but what is posed in the other precision.
    assert {r.message for r in report.results if r.status == SKIPPED} <= {
        "float32 is not declared",
        "float64 is not declared",
    }


def test_the_fast_engine_codes_variables_in_float64(golden):
    """It is declared for float32, but these cases are posed in float64 alone."""
    backend = PythonBackend(numba_backend())
    backend.dtypes = ("float64",)
    files = [f for f in golden if f.operation == "variable_messages"]
    report = run_suite(backend, files)
    assert report.ok(), [(r.id, r.message) for r in report.results if r.status == FAILED]
    assert report.count(SKIPPED) == 0


def test_every_operation_has_cases(golden):
    assert {file.operation for file in golden} == set(OPERATIONS)
    for file in golden:
        operation = OPERATIONS[file.operation]
        assert file.stage == operation.stage
        for case in file.cases:
            assert tuple(case.inputs) == operation.inputs, case.id
            if case.fault is None:
                assert set(case.outputs) <= set(operation.outputs), case.id


def test_there_are_enough_faults_of_all_stages():
    assert len(FAULTS) >= 50
    assert len({f.name for f in FAULTS}) == len(FAULTS)
    stages = {OPERATIONS[f.operation].stage for f in FAULTS}
    assert stages == {o.stage for o in OPERATIONS.values()}


def test_there_are_unseen_faults_of_all_operations():
    # Some operations are younger than they are.
    known = [
        *OF_LAYERS,
        *OF_WRITERS,
        *OF_UPDATES,
        *(f for f in FAULTS if f.operation.endswith("_around")),
    ]
    younger = {"describe_file", "loss_and_grads_general"} | {f.operation for f in known}
    assert {f.operation for f in UNSEEN} == set(OPERATIONS) - younger
    every = [*FAULTS, *OF_LAYERS, *OF_NETWORKS, *OF_WRITERS, *OF_UPDATES, *UNSEEN]
    assert len({f.name for f in every}) == len(every)


def catches(golden, planted):
    """Tell whether a case that a fault names catches it: posed once, or else by the whole suite."""
    files = [f for f in golden if f.operation == planted.operation]
    posed = [(f, c) for f in files for c in f.cases if planted.caught_by in c.id]
    backend = PythonBackend(spoil(planted))
    with np.errstate(all="ignore"):
        once = (r for file, case in posed for r in run_case(backend, file, case))
        said = next((r.message for r in once if r.status == FAILED), None)
        if said is not None:
            assert not said.startswith(NOT_PLANTED), said
            return True
        ids = tuple(case.id for _, case in posed)
        return not run_suite(PythonBackend(spoil(planted)), files, ids).ok()


@pytest.mark.parametrize(
    "planted",
    [
        f
        for f in [*FAULTS, *OF_LAYERS, *OF_NETWORKS, *OF_WRITERS, *OF_UPDATES, *UNSEEN]
        if f.name not in FREE
    ],
    ids=lambda f: f.name,
)
def test_fault_is_caught(golden, planted):
    assert catches(golden, planted), planted.caught_by


def test_the_samples_that_faults_change_are_right_without_one(golden):
    """Else whatever is wrong with them would catch the faults, and not what was planted."""
    unchanged = PythonBackend(spoil(Fault("unchanged", "variable_samples", "", node_samples)))
    report = run_suite(unchanged, [f for f in golden if f.operation == "variable_samples"])
    assert report.ok(), [(r.id, r.message) for r in report.results if r.status == FAILED]


@pytest.mark.parametrize("name", FREE)
def test_what_is_left_to_a_port_is_not_held_against_it(golden, name):
    (planted,) = (f for f in UNSEEN if f.name == name)
    files = [f for f in golden if f.operation == planted.operation]
    assert run_suite(PythonBackend(spoil(planted)), files).ok()
