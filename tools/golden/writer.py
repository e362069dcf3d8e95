"""Golden files in their canonical form: the same values give the same bytes.

Used by tools/make_golden.py; the reader is refmiracle.conformance.vectors, which shares no code
with it.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = "refmiracle-golden/1"
TOOL = "tools/make_golden.py"
LARGEST_INLINE = 2048
BOTH = ("float64", "float32")
# What tools of a later version add to an operation, behind all that was there before.
LATER: dict[str, list[Callable[[], list[dict[str, Any]]]]] = {}


def later(operation: str) -> Callable[[Callable[[], list[dict[str, Any]]]], Any]:
    """Register a function that returns more cases of an operation."""

    def register(function: Callable[[], list[dict[str, Any]]]) -> Any:
        LATER.setdefault(operation, []).append(function)
        return function

    return register


def single(values: Any) -> Any:
    """Round to float32 and return as float64.

    Inputs of cases that are posed in float32 too must be numbers that float32 holds; the answer
    is then right for both precisions.
    """
    return np.asarray(values, dtype=np.float64).astype(np.float32).astype(np.float64)


def number(x: Any) -> Any:
    """Return a JSON value: ints as they are, floats by their shortest repr, others as strings."""
    if isinstance(x, (bool, int)):
        return x
    if math.isnan(x):
        return "nan"
    if math.isinf(x):
        return "inf" if x > 0 else "-inf"
    return x


def make_case(
    identifier: str,
    inputs: dict[str, Any],
    outputs: dict[str, Any] | None = None,
    bounds: dict[str, Any] | None = None,
    *,
    dtypes: tuple[str, ...] = (),
    fault: str | None = None,
    gap: float | None = None,
    flags: tuple[str, ...] = (),
    note: str = "",
    since: str = "1.0",
) -> dict[str, Any]:
    """Return a case; arrays may be NumPy arrays, numbers, bytes or mpmath numbers made float.

    Parameters
    ----------
    identifier : str
        ``stage/operation/name``.
    inputs, outputs : dict
        In the order of the operation's arguments and results.
    bounds : dict
        Output -> bound for every precision ``{"exact": 0}``, or output -> precision -> bound.
    dtypes : tuple of str
        Working precisions that the case is posed in; empty where floats do not enter.
    fault : str, optional
        What is wrong with the inputs of a negative case, which has no outputs.
    gap : float, optional
        Between best and second, where an argmax is compared.
    """
    full = {
        name: bound if set(bound) & {"float64", "float32", "any"} else {"any": bound}
        for name, bound in (bounds or {}).items()
    }
    case = {
        "id": identifier,
        "since": since,
        "dtypes": list(dtypes),
        "inputs": inputs,
        "outputs": outputs or {},
        "bounds": full,
        "fault": fault,
        "gap": gap,
        "flags": list(flags),
        "note": note,
    }
    if fault is None and set(full) != set(case["outputs"]):  # type: ignore[arg-type]
        raise ValueError(f"{identifier}: every output needs a bound")
    return case


def as_array(value: Any) -> Any:
    """Return bytes as they are, and anything else as a NumPy array of a golden dtype."""
    if isinstance(value, bytes):
        return value
    array = np.asarray(value)
    if array.dtype == object:
        array = array.astype(np.float64)
    if array.dtype.kind == "i":
        array = array.astype(np.int64)
    return array


def write_array(value: Any, folder: Path, stem: str) -> dict[str, Any]:
    """Return the JSON object of an array; large ones go to a .npy file beside it."""
    array = as_array(value)
    if isinstance(array, bytes):
        return {"hex": array.hex()}
    if array.size > LARGEST_INLINE:
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(array))
        name = f"{stem}.npy"
        (folder / name).write_bytes(buffer.getvalue())
        return {"npy": name, "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "data": [number(x) for x in array.ravel().tolist()],
    }


def write_file(
    golden: Path,
    stage: str,
    operation: str,
    *,
    source: str,
    notes: dict[str, str],
    cases: list[dict[str, Any]],
) -> None:
    """Write ``golden/stage/operation.json`` and its .npy files.

    Raises
    ------
    ValueError
        If an id stands twice or is of another operation, or a flag has no note.
    """
    folder = golden / stage
    folder.mkdir(parents=True, exist_ok=True)
    cases = [*cases, *(case for more in LATER.get(operation, ()) for case in more())]
    ids = [c["id"] for c in cases]
    if len(set(ids)) != len(ids) or not all(i.startswith(f"{stage}/{operation}/") for i in ids):
        raise ValueError(f"{stage}/{operation}: ids must be unique and begin with it")
    unknown = {f for c in cases for f in c["flags"]} - set(notes)
    if unknown:
        raise ValueError(f"{stage}/{operation}: flags without a note: {sorted(unknown)}")
    for stale in folder.glob(f"{operation}.*.npy"):
        stale.unlink()
    written = []
    for case in cases:
        name = case["id"].rpartition("/")[2]
        parts = {
            part: {
                key: write_array(value, folder, f"{operation}.{name}.{key}")
                for key, value in case[part].items()
            }
            for part in ("inputs", "outputs")
        }
        kept = {k: v for k, v in {**case, **parts}.items() if v not in (None, "", [], {})}
        written.append({"dtypes": [], "inputs": {}, **kept})
    document = {
        "schema": SCHEMA,
        "operation": operation,
        "stage": stage,
        "source": source,
        "tool": TOOL,
        "notes": notes,
        "cases": [{k: c[k] for k in KEYS if k in c} for c in written],
    }
    text = render(document)
    (folder / f"{operation}.json").write_bytes(text.encode("ascii"))


KEYS = (
    "id",
    "since",
    "flags",
    "note",
    "fault",
    "gap",
    "dtypes",
    "inputs",
    "outputs",
    "bounds",
)


def render(document: dict[str, Any]) -> str:
    """Return JSON with one line for each input, output and bound: fit for reading and for diff."""
    head = {k: v for k, v in document.items() if k != "cases"}
    lines = ["{"]
    lines += [f" {json.dumps(k)}: {json.dumps(v)}," for k, v in head.items()]
    lines.append(' "cases": [')
    for n, case in enumerate(document["cases"]):
        fields = []
        for key, value in case.items():
            if key in ("inputs", "outputs", "bounds"):
                inner = ",\n".join(
                    f"    {json.dumps(k)}: {json.dumps(v, allow_nan=False)}"
                    for k, v in value.items()
                )
                fields.append(
                    f"   {json.dumps(key)}: {{\n{inner}\n   }}"
                    if inner
                    else f"   {json.dumps(key)}: {{}}"
                )
            else:
                fields.append(f"   {json.dumps(key)}: {json.dumps(value, allow_nan=False)}")
        comma = "," if n + 1 < len(document["cases"]) else ""
        lines.append("  {\n" + ",\n".join(fields) + "\n  }" + comma)
    lines += [" ]", "}", ""]
    return "\n".join(lines)
