"""What the suite asks of a backend, and the way to one that is a Python object.

A Python backend is any object with `name`, `version`, `dtypes` and one callable for each
operation that it has.  Arguments are NumPy arrays in the order of the operation; results may be
anything that NumPy takes by the array or DLPack protocol.  Optional attributes: `known_failures`
(id to reason) and `bounds` (id to output to precision to bound), both of which the report shows.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from refmiracle.conformance.bounds import split_bound
from refmiracle.conformance.operations import OPERATIONS
from refmiracle.conformance.patience import LateError, Patience
from refmiracle.errors import InputError
from refmiracle.files import first_line

Arrays = list[NDArray[Any]]

# What a backend says of itself: what it must, and what it may.
REQUIRED = ("name", "version", "dtypes")
OPTIONAL = ("known_failures", "bounds")
LONGEST_MESSAGE = 300


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
    bounds: dict[str, dict[str, dict[str, Any]]]
    patience: Patience

    def supports(self, operation: str) -> bool:
        """Tell whether the backend declares an operation."""

    def call(self, operation: str, inputs: dict[str, NDArray[Any]], dtype: str) -> Arrays:
        """Return the results of an operation.

        Raises
        ------
        RefusedError, BrokenError, LateError
        """

    def close(self) -> None:
        """Let go of what the backend holds."""


def legible(value: Any) -> str:
    """Return what a backend says as one line that every report can hold."""
    text = str(value)
    if len(text) > LONGEST_MESSAGE:
        text = f"{text[:LONGEST_MESSAGE]} ..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Introduced:
    """What a backend says of itself, checked before anything is asked.

    Parameters
    ----------
    said : mapping
        `REQUIRED`, and of `OPTIONAL` what there is.
    operations : iterable of str
        What it can be asked.
    patience : Patience

    Raises
    ------
    InputError
        If something is missing or is not what it should be.
    """

    def __init__(
        self, said: Mapping[str, Any], operations: Iterable[str], patience: Patience
    ) -> None:
        missing = [a for a in REQUIRED if a not in said]
        if missing:
            raise InputError(f"the backend has no attribute {', '.join(missing)}")
        self.name, self.version = legible(said["name"]), legible(said["version"])
        self.dtypes: Sequence[str] = names("dtypes", said["dtypes"])
        reasons = mapping("known_failures", said.get("known_failures", {}), "id to reason")
        self.known_failures = {legible(i): legible(r) for i, r in reasons.items()}
        self.bounds: dict[str, dict[str, dict[str, Any]]] = {}
        for case, outputs in mapping("bounds", said.get("bounds", {}), "id to output").items():
            for output, bounds in mapping("bounds", outputs, "output to precision").items():
                for bound in mapping("bounds", bounds, "precision to bound").values():
                    split_bound(bound)
                self.bounds.setdefault(legible(case), {})[output] = dict(bounds)
        self.operations = set(operations) & set(OPERATIONS)
        if not self.operations:
            raise InputError(f"the backend {self.name} offers none of the operations")
        self.patience = patience

    def supports(self, operation: str) -> bool:
        """Tell whether the backend declares an operation."""
        return operation in self.operations


def names(attribute: str, value: Any) -> tuple[str, ...]:
    """Return a list of names that a backend gives.

    Raises
    ------
    InputError
        If it is none.
    """
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise InputError(f"the backend's {attribute} are {legible(repr(value))}; expected a list")
    return tuple(legible(v) for v in value)


def mapping(attribute: str, value: Any, what: str) -> Mapping[Any, Any]:
    """Return a mapping that a backend gives.

    Raises
    ------
    InputError
        If it is none.
    """
    if not isinstance(value, Mapping):
        raise InputError(
            f"the backend's {attribute} hold {legible(repr(value))}; expected a mapping of {what}"
        )
    return value


def to_numpy(value: Any) -> NDArray[Any]:
    """Return a result as a NumPy array, by the array protocol or by DLPack."""
    if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    return np.asarray(value)


class PythonBackend(Introduced):
    """An object that offers operations as callables.

    Raises
    ------
    InputError
        If it does not say what it must, or offers no operation.
    """

    def __init__(self, target: Any, patience: Patience | None = None) -> None:
        said = {a: getattr(target, a) for a in REQUIRED + OPTIONAL if hasattr(target, a)}
        operations = [o for o in OPERATIONS if callable(getattr(target, o, None))]
        super().__init__(said, operations, patience or Patience())
        self.target = target

    def call(self, operation: str, inputs: dict[str, NDArray[Any]], dtype: str) -> Arrays:
        """Call it; an ordinary exception is a refusal."""
        arguments = [value.copy() for value in inputs.values()]

        def answer() -> Arrays:
            with np.errstate(all="ignore"):  # NumPy's setting is one of each thread
                results = getattr(self.target, operation)(*arguments)
                if not isinstance(results, (tuple, list)):
                    results = (results,)
                return [to_numpy(r) for r in results]

        try:
            return self.patience.ask(answer)
        except LateError:
            raise
        except (MemoryError, RecursionError, SystemError, SystemExit) as e:
            raise BrokenError(f"{type(e).__name__}: {e}") from e
        except Exception as e:  # whatever a backend raises is its way to refuse
            raise RefusedError(f"{type(e).__name__}: {e}") from e

    def close(self) -> None:
        """Let its thread end."""
        self.patience.close()


def load_python_backend(
    name: str, patience: Patience | None = None, asked_by: str = "--backend"
) -> PythonBackend:
    """Load ``module:object``; an object that is a class or function is called for the backend.

    Parameters
    ----------
    name : str
    patience : Patience, optional
    asked_by : str
        What messages call the name.

    Raises
    ------
    InputError
        If there is no such thing, or it is not there within the deadline.
    """
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise InputError(f"{asked_by} {name}: expected module:object")
    patience = patience or Patience()

    def found() -> PythonBackend:
        return PythonBackend(made(getattr(importlib.import_module(module), attribute)), patience)

    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        return patience.ask(found)
    except (InputError, LateError) as e:
        raise InputError(f"{asked_by} {name}: {e}") from e
    except (Exception, SystemExit) as e:  # whatever a module does while it is imported
        raise InputError(f"{asked_by} {name}: {type(e).__name__}: {legible(first_line(e))}") from e
    finally:
        with contextlib.suppress(ValueError):  # the module may have put folders before it
            sys.path.remove(here)


def made(target: Any) -> Any:
    """Return a backend; what is a class or a function is called for it."""
    return target() if isinstance(target, type) or inspect.isroutine(target) else target
