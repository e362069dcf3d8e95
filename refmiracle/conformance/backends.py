"""Two ways to reach a backend: a Python object, or a program that speaks JSON lines.

A Python backend is any object with `name`, `version`, `dtypes` and one callable for each
operation that it has.  Arguments are NumPy arrays in the order of the operation; results may be
anything that NumPy takes by the array or DLPack protocol.  Optional attributes: `known_failures`
(id to reason) and `bounds` (id to output to bound), both of which the report shows.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import inspect
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from refmiracle.conformance.operations import OPERATIONS
from refmiracle.errors import InputError

Arrays = list[NDArray[Any]]


class RefusedError(Exception):
    """A backend's answer to inputs that it takes for wrong."""


class BrokenError(Exception):
    """A backend gave no answer at all: it crashed, or its answer cannot be read."""


class Backend(Protocol):
    """What the runner asks of either kind."""

    name: str
    version: str
    dtypes: Sequence[str]
    known_failures: dict[str, str]
    bounds: dict[str, dict[str, dict[str, float]]]

    def supports(self, operation: str) -> bool:
        """Tell whether the backend declares an operation."""

    def call(self, operation: str, inputs: dict[str, NDArray[Any]], dtype: str) -> Arrays:
        """Return the results of an operation; raise `RefusedError` or `BrokenError`."""

    def close(self) -> None:
        """Let go of what the backend holds."""


def to_numpy(value: Any) -> NDArray[Any]:
    """Return a result as a NumPy array, by the array protocol or by DLPack."""
    if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    return np.asarray(value)


class PythonBackend:
    """An object that offers operations as callables.

    Raises
    ------
    InputError
        If it lacks `name`, `version` or `dtypes`, or offers no operation.
    """

    def __init__(self, target: Any) -> None:
        missing = [a for a in ("name", "version", "dtypes") if not hasattr(target, a)]
        if missing:
            raise InputError(f"the backend has no attribute {', '.join(missing)}")
        self.target = target
        self.name, self.version = str(target.name), str(target.version)
        self.dtypes: Sequence[str] = tuple(target.dtypes)
        self.known_failures = dict(getattr(target, "known_failures", {}))
        self.bounds = dict(getattr(target, "bounds", {}))
        if not any(self.supports(operation) for operation in OPERATIONS):
            raise InputError(f"the backend {self.name} offers none of the operations")

    def supports(self, operation: str) -> bool:
        """Tell whether the object has a callable of that name."""
        return callable(getattr(self.target, operation, None))

    def call(self, operation: str, inputs: dict[str, NDArray[Any]], dtype: str) -> Arrays:
        """Call it; an ordinary exception is a refusal."""
        arguments = [value.copy() for value in inputs.values()]
        try:
            results = getattr(self.target, operation)(*arguments)
            if not isinstance(results, (tuple, list)):
                results = (results,)
            return [to_numpy(r) for r in results]
        except (MemoryError, RecursionError, SystemError) as e:
            raise BrokenError(f"{type(e).__name__}: {e}") from e
        except Exception as e:  # whatever a backend raises is its way to refuse
            raise RefusedError(f"{type(e).__name__}: {e}") from e

    def close(self) -> None:
        """Do nothing."""


def load_python_backend(name: str) -> PythonBackend:
    """Load ``module:object``; an object that is a class or function is called for the backend.

    Raises
    ------
    InputError
        If there is no such thing.
    """
    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise InputError(f"--backend {name}: expected module:object")
    sys.path.insert(0, os.getcwd())
    try:
        target = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as e:
        raise InputError(f"--backend {name}: {e}") from e
    finally:
        sys.path.pop(0)
    made = isinstance(target, type) or inspect.isroutine(target)
    return PythonBackend(target() if made else target)


def encode_value(array: NDArray[Any]) -> dict[str, Any]:
    """Return an array as the protocol writes it: little-endian bytes in base64."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "base64": base64.b64encode(little.tobytes()).decode("ascii"),
    }


def decode_value(value: dict[str, Any]) -> NDArray[Any]:
    """Return the array that `encode_value` wrote."""
    dtype = np.dtype(value["dtype"]).newbyteorder("<")
    flat = np.frombuffer(base64.b64decode(value["base64"], validate=True), dtype=dtype)
    return flat.reshape(value["shape"]).astype(np.dtype(value["dtype"]))


class CommandBackend:
    """A program that answers a line of JSON on standard input with one on standard output.

    Raises
    ------
    InputError
        If it cannot be started or does not introduce itself.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        try:
            self.process = subprocess.Popen(
                shlex.split(command, posix=os.name != "nt"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
        except (OSError, ValueError) as e:
            raise InputError(f"--command {command}: cannot be started: {e}") from e
        try:
            hello = self._ask({"operation": "hello"})
            self.name, self.version = str(hello["name"]), str(hello["version"])
            self.operations = set(hello["operations"])
            self.dtypes: Sequence[str] = tuple(hello["dtypes"])
            self.known_failures = dict(hello.get("known_failures", {}))
            self.bounds = dict(hello.get("bounds", {}))
        except (BrokenError, KeyError, TypeError, ValueError) as e:
            self.close()
            raise InputError(f"--command {command}: no answer to hello ({e})") from e

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError as e:
            raise BrokenError(f"the program has gone: {e}") from e
        if not line:
            raise BrokenError(f"the program ended with exit code {self.process.wait()}")
        try:
            answer = json.loads(line)
        except ValueError as e:
            raise BrokenError(f"the answer is no JSON: {line[:80]!r}") from e
        if not isinstance(answer, dict):
            raise BrokenError(f"the answer is no JSON object: {line[:80]!r}")
        return answer

    def supports(self, operation: str) -> bool:
        """Tell whether the program named the operation in its hello."""
        return operation in self.operations

    def call(self, operation: str, inputs: dict[str, NDArray[Any]], dtype: str) -> Arrays:
        """Ask the program; ``{"error": ...}`` is a refusal."""
        answer = self._ask(
            {
                "operation": operation,
                "dtype": dtype,
                "inputs": {name: encode_value(value) for name, value in inputs.items()},
            }
        )
        if "error" in answer:
            raise RefusedError(str(answer["error"]))
        try:
            return [decode_value(answer["outputs"][n]) for n in OPERATIONS[operation].outputs]
        except (KeyError, TypeError, ValueError) as e:
            raise BrokenError(f"the answer lacks an output or has a malformed one ({e})") from e

    def close(self) -> None:
        """Close the program's input and wait for it, or end it."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):  # it may have gone already
                self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
