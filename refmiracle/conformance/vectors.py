"""Golden files as Python objects: JSON for structure and small arrays, .npy for large ones."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import refmiracle
from refmiracle.conformance.bounds import split_bound
from refmiracle.conformance.operations import OPERATIONS
from refmiracle.errors import InputError
from refmiracle.files import first_line

SCHEMA = "refmiracle-golden/1"
# The flow from bits to predictions: the first stage that fails is the cause of those behind it.
STAGES = (
    "bits",
    "numerics",
    "posterior",
    "layers",
    "coding",
    "network",
    "optimiser",
    "trajectory",
    "files",
    "predictions",
)
DTYPES = ("bool", "uint8", "uint16", "uint32", "int64", "float32", "float64")
WORKING_DTYPES = ("float64", "float32")

Value = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One question to a backend, and its answer.

    Attributes
    ----------
    id : str
        ``stage/operation/name``; never reused or renamed.
    since : str
        Version of the vectors that brought it.
    dtypes : tuple of str
        The working precisions that the case is posed in; empty if floats do not enter.
    inputs, outputs : dict of str to ndarray
        By name, in the order of the operation's arguments and results.
    bounds : dict
        For each output, for each working precision (or "any"), one kind and its value; see
        `refmiracle.conformance.bounds`.
    fault : str or None
        What is wrong with the inputs of a negative case: the backend must refuse them.
    gap : float or None
        Between the best and the second candidate, where an argmax is compared.
    flags : tuple of str
        What makes the case hard; the file's notes explain them.
    note : str
    """

    id: str
    since: str
    dtypes: tuple[str, ...]
    inputs: dict[str, Value]
    outputs: dict[str, Value]
    bounds: dict[str, dict[str, dict[str, float]]]
    fault: str | None
    gap: float | None
    flags: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class VectorFile:
    """The cases of one operation.

    Attributes
    ----------
    operation, stage : str
    source, tool : str
        Where the answers come from, and what wrote them down.
    notes : dict of str to str
        What each flag means.
    cases : tuple of Case
    path : Path
    """

    operation: str
    stage: str
    source: str
    tool: str
    notes: dict[str, str]
    cases: tuple[Case, ...]
    path: Path


def default_golden() -> Path:
    """Return the vectors that the project carries: in the wheel, or beside the package."""
    package = Path(refmiracle.__file__).parent
    inside = package / "data" / "golden" / "v1"
    return inside if inside.is_dir() else package.parent / "data" / "golden" / "v1"


def decode_array(value: Any, folder: Path) -> Value:
    """Return the array that a golden file writes as an object.

    ``{"dtype", "shape", "data"}`` lists the elements in C order, non-finite ones as the strings
    "nan", "inf" and "-inf"; ``{"hex"}`` is a string of bytes; ``{"npy", "sha256"}`` names a file
    beside it.

    Raises
    ------
    InputError
        If it is none of these, or its parts disagree.
    """
    if not isinstance(value, dict):
        raise InputError(f"an array is an object, not {value!r:.40}")
    if set(value) == {"hex"}:
        return np.frombuffer(bytes.fromhex(value["hex"]), dtype=np.uint8)
    if set(value) == {"npy", "sha256"}:
        return _load_npy(folder / Path(value["npy"]).name, value["sha256"])
    if set(value) != {"dtype", "shape", "data"} or value["dtype"] not in DTYPES:
        raise InputError(f"an array has dtype, shape and data, not {sorted(value)}")
    if len(value["data"]) != math.prod(value["shape"]):
        raise InputError(f"{len(value['data'])} elements do not fill the shape {value['shape']}")
    floats = value["dtype"].startswith("float")
    data = [float(x) for x in value["data"]] if floats else value["data"]
    return np.array(data, dtype=value["dtype"]).reshape(value["shape"])


def _load_npy(path: Path, sha256: str) -> Value:
    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise InputError(f"{path.name} is not the file that was written: its SHA-256 differs")
        array: Value = np.load(path, allow_pickle=False)
    except OSError as e:
        raise InputError(f"{path.name}: {e.strerror or e}") from e
    return array


def _parse_case(raw: dict[str, Any], folder: Path) -> Case:
    return Case(
        id=raw["id"],
        since=raw["since"],
        dtypes=tuple(raw["dtypes"]),
        inputs={k: decode_array(v, folder) for k, v in raw["inputs"].items()},
        outputs={k: decode_array(v, folder) for k, v in raw.get("outputs", {}).items()},
        bounds=raw.get("bounds", {}),
        fault=raw.get("fault"),
        gap=raw.get("gap"),
        flags=tuple(raw.get("flags", ())),
        note=raw.get("note", ""),
    )


def check_case(case: Case, operation: str) -> None:
    """Hold a case against its operation, so that what runs it need not.

    Raises
    ------
    InputError
        If it is not what the operation takes and gives, or an output lacks a bound.
    """
    if not isinstance(case.id, str):
        raise InputError(f"the id {case.id!r:.40} is no string")
    known = OPERATIONS[operation]
    if tuple(case.inputs) != known.inputs:
        raise InputError(f"{case.id}: the inputs of {operation} are {', '.join(known.inputs)}")
    if not set(case.dtypes) <= set(WORKING_DTYPES):
        raise InputError(f"{case.id}: dtypes may hold {', '.join(WORKING_DTYPES)}")
    if not set(case.outputs) <= set(known.outputs) or not (case.outputs or case.fault):
        raise InputError(f"{case.id}: the outputs of {operation} are {', '.join(known.outputs)}")
    for name in case.outputs:
        bounds = case.bounds.get(name, {})
        for dtype in case.dtypes or ("any",):
            if dtype not in bounds and "any" not in bounds:
                raise InputError(f"{case.id}: there is no bound for {name} in {dtype}")
        for bound in bounds.values():
            split_bound(bound)


def load_file(path: Path) -> VectorFile:
    """Read one golden file.

    Raises
    ------
    InputError
        If it cannot be read or is not of this schema; the message names it.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != SCHEMA:
            raise InputError(f"schema {raw['schema']!r}; expected {SCHEMA!r}")
        if raw["stage"] not in STAGES:
            raise InputError(f"stage {raw['stage']!r}; expected one of {', '.join(STAGES)}")
        if raw["operation"] not in OPERATIONS:
            raise InputError(f"operation {raw['operation']!r} is unknown")
        cases = tuple(_parse_case(c, path.parent) for c in raw["cases"])
        for case in cases:
            check_case(case, raw["operation"])
        return VectorFile(
            operation=raw["operation"],
            stage=raw["stage"],
            source=raw["source"],
            tool=raw["tool"],
            notes=raw["notes"],
            cases=cases,
            path=path,
        )
    except InputError as e:
        raise InputError(f"{path}: {e}") from e
    except OSError as e:
        raise InputError(f"{path}: {e.strerror or e}") from e
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise InputError(
            f"{path}: it is no golden file ({type(e).__name__}: {first_line(e)})"
        ) from e


def load_golden(folder: Path) -> list[VectorFile]:
    """Read all golden files of a folder, in the order of the stages.

    Raises
    ------
    InputError
        If there is no such folder, it has none, one is damaged, or an id stands twice.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder of golden files")
    files = [load_file(p) for p in sorted(folder.rglob("*.json")) if p.name != "schema.json"]
    if not files:
        raise InputError(f"{folder}: there are no golden files (*.json)")
    seen: set[str] = set()
    for case in all_cases(files):
        if case.id in seen:
            raise InputError(f"{folder}: the id {case.id} stands twice")
        seen.add(case.id)
    return sorted(files, key=lambda f: (STAGES.index(f.stage), f.operation))


def all_cases(files: Iterable[VectorFile]) -> list[Case]:
    """Return the cases of several files."""
    return [case for f in files for case in f.cases]


def check_wanted(files: Iterable[VectorFile], only: Iterable[str], asked_by: str) -> None:
    """Refuse the names of cases that are not there.

    Parameters
    ----------
    files : iterable of VectorFile
    only : iterable of str
        Ids, or what stands before a slash in some.
    asked_by : str
        What the message calls them.

    Raises
    ------
    InputError
        If one names no case.
    """
    ids = [case.id for case in all_cases(files)]
    for wanted in only:
        if not any(i == wanted or i.startswith(f"{wanted}/") for i in ids):
            raise InputError(f"{asked_by} {wanted}: there is no such case")
