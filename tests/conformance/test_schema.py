"""The golden files keep the rules of their format."""

import hashlib
import json
import re
import zlib

import jsonschema
import numpy as np
import pytest

from refmiracle.conformance.bounds import KINDS
from refmiracle.conformance.operations import OPERATIONS
from refmiracle.conformance.vectors import (
    DTYPES,
    SCHEMA,
    STAGES,
    WORKING_DTYPES,
    default_golden,
    load_file,
)

GOLDEN = default_golden()
LARGEST_TOTAL = 4_000_000
LARGEST_INLINE = 2048
# Operations whose answers hang on an argmax.
ARGMAX = {
    "select_indices",
    "ordered_indices",
    "poisson_indices",
    "partition_messages",
    "variable_messages",
    "encode_model",
    "predict",
}

PATHS = sorted(p for p in GOLDEN.rglob("*.json") if p.name != "schema.json")
FORMAT = json.loads((GOLDEN / "schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(FORMAT)


def name_of(path):
    return path.relative_to(GOLDEN).with_suffix("").as_posix()


@pytest.fixture(params=PATHS, ids=name_of)
def path(request):
    return request.param


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(FORMAT)


def test_the_schema_lists_what_the_reader_knows():
    assert FORMAT["properties"]["schema"]["const"] == SCHEMA
    assert FORMAT["properties"]["stage"]["enum"] == list(STAGES)
    definitions = FORMAT["$defs"]
    inline = definitions["array"]["oneOf"][0]["properties"]
    assert inline["dtype"]["enum"] == list(DTYPES)
    assert inline["data"]["maxItems"] == LARGEST_INLINE
    assert list(definitions["bound"]["properties"]) == list(KINDS)
    dtypes = definitions["case"]["properties"]["dtypes"]["items"]["enum"]
    assert dtypes == list(WORKING_DTYPES)


def test_each_file_follows_the_schema(path):
    errors = [
        f"{e.json_path}: {e.message:.200}"
        for e in VALIDATOR.iter_errors(json.loads(path.read_text()))
    ]
    assert not errors, errors[:5]


def valid_document():
    array = {"dtype": "float64", "shape": [2], "data": [1.5, "-inf"]}
    case = {
        "id": "layers/relu/name",
        "since": "1.0",
        "dtypes": ["float64"],
        "inputs": {"x": array},
        "outputs": {"y": array},
        "bounds": {"y": {"any": {"exact": 0}}},
    }
    return {
        "schema": SCHEMA,
        "operation": "relu",
        "stage": "layers",
        "source": "hand",
        "tool": "hand",
        "notes": {},
        "cases": [case],
    }


def test_the_schema_takes_a_small_document():
    VALIDATOR.validate(valid_document())


def change(*keys, to=None):
    """A change that sets the value at the end of keys, or removes it if `to` is None."""

    def apply(document):
        target = document
        for key in keys[:-1]:
            target = target[key]
        if to is None:
            del target[keys[-1]]
        else:
            target[keys[-1]] = to

    return apply


@pytest.mark.parametrize(
    "spoil",
    [
        change("schema", to="refmiracle-golden/2"),
        change("stage", to="elsewhere"),
        change("source"),
        change("colour", to="blue"),
        change("cases", to=[]),
        change("cases", 0, "id", to="relu"),
        change("cases", 0, "since"),
        change("cases", 0, "colour", to="blue"),
        change("cases", 0, "outputs"),
        change("cases", 0, "bounds"),
        change("cases", 0, "fault", to="a fault, but with outputs"),
        change("cases", 0, "dtypes", 0, to="float16"),
        change("cases", 0, "gap", to=-1),
        change("cases", 0, "inputs", "x", "dtype", to="float16"),
        change("cases", 0, "inputs", "x", "data", 0, to="1.5"),
        change("cases", 0, "inputs", "x", "shape"),
        change("cases", 0, "inputs", "x", to={"hex": "0"}),
        change("cases", 0, "inputs", "x", to={"npy": "../x.npy", "sha256": "0" * 64}),
        change("cases", 0, "bounds", "y", to={"exact": 0}),
        change("cases", 0, "bounds", "y", "any", to={"relative": 0.1, "ulp": 1}),
        change("cases", 0, "bounds", "y", "any", to={"about": 1}),
        change("cases", 0, "bounds", "y", "float64", to={"exact": 0}),
    ],
)
def test_the_schema_refuses_what_is_wrong(spoil):
    document = valid_document()
    spoil(document)
    assert not VALIDATOR.is_valid(document)


def test_all_is_small_enough_to_travel_with_the_package():
    """As a wheel and a clone have them, which compress them."""
    files = [p.read_bytes() for p in GOLDEN.rglob("*") if p.is_file()]
    assert sum(len(zlib.compress(data)) for data in files) <= LARGEST_TOTAL


def test_each_file_is_named_by_its_stage_and_operation(path):
    raw = json.loads(path.read_text())
    assert name_of(path) == f"{raw['stage']}/{raw['operation']}"
    assert OPERATIONS[raw["operation"]].stage == raw["stage"]


def test_every_operation_has_cases():
    assert {path.stem for path in PATHS} == set(OPERATIONS)


def test_ids_are_unique_and_begin_with_stage_and_operation():
    ids = []
    for path in PATHS:
        own = [case["id"] for case in json.loads(path.read_text())["cases"]]
        assert all(i.startswith(f"{name_of(path)}/") for i in own), path
        ids += own
    assert len(set(ids)) == len(ids)


def test_flags_have_notes_and_notes_have_flags(path):
    file = load_file(path)
    assert {flag for case in file.cases for flag in case.flags} == set(file.notes)


def test_arguments_and_results_stand_in_the_order_of_the_operation(path):
    operation = OPERATIONS[path.stem]
    for case in load_file(path).cases:
        assert tuple(case.inputs) == operation.inputs, case.id
        if case.fault is None:
            assert set(case.outputs) <= set(operation.outputs), case.id
            order = [operation.outputs.index(name) for name in case.outputs]
            assert order == sorted(order), case.id


def test_each_output_has_a_bound_in_each_precision(path):
    for case in load_file(path).cases:
        assert set(case.bounds) == set(case.outputs), case.id
        for bound in case.bounds.values():
            assert set(bound) in ({"any"}, set(case.dtypes)), case.id


def test_inputs_of_float32_cases_are_float32_numbers(path):
    for case in load_file(path).cases:
        floats = {n: v for n, v in case.inputs.items() if v.dtype.kind == "f"}
        if "float32" in case.dtypes and case.fault is None:
            for name, value in floats.items():
                with np.errstate(over="ignore"):
                    narrow = value.astype(np.float32).astype(value.dtype)
                assert np.array_equal(narrow, value, equal_nan=True), (case.id, name)


def test_cases_that_compare_an_argmax_tell_its_gap():
    posed = 0
    for path in PATHS:
        if path.stem in ARGMAX:
            for case in load_file(path).cases:
                assert case.fault is not None or (case.gap or 0.0) > 0.0, case.id
                posed += 1
    assert posed


def test_arrays_are_inline_or_beside_by_their_size(path):
    for case in json.loads(path.read_text())["cases"]:
        for array in [*case["inputs"].values(), *case.get("outputs", {}).values()]:
            if "npy" in array:
                file = path.parent / array["npy"]
                assert hashlib.sha256(file.read_bytes()).hexdigest() == array["sha256"]
                loaded = np.load(file, allow_pickle=False)
                assert loaded.size > LARGEST_INLINE and str(loaded.dtype) in DTYPES
                assert loaded.dtype.byteorder in "=|" and loaded.flags.c_contiguous


def test_no_npy_file_is_left_over():
    named = set()
    for path in PATHS:
        found = re.findall(r'"npy": "([^"]+)"', path.read_text())
        named |= {path.parent / name for name in found}
    assert named == set(GOLDEN.rglob("*.npy"))
