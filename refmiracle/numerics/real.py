"""Real numbers as they come from outside, for functions on arrays of any shape."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.errors import InputError
from refmiracle.files import first_line
from refmiracle.numerics.arrays import read_only
from refmiracle.numerics.whole import as_array

Array = NDArray[np.float64]

LARGEST_KL = 1e300  # nats; beyond, squares of what Mean-KL computes with may overflow


def one_of(**given: ArrayLike | None) -> tuple[str, ArrayLike]:
    """Return the one argument that is not None."""
    found = [(name, value) for name, value in given.items() if value is not None]
    if len(found) != 1:
        names = " and ".join(name for name, _ in found) or "none"
        raise InputError(f"{names} given; expected one of {', '.join(given)}")
    return found[0]


def real_numbers(name: str, values: ArrayLike) -> Array:
    """Return real numbers from outside as float64.

    Raises
    ------
    InputError
        If they are none.
    """
    array = as_array(name, values)
    if array.size and array.dtype.kind not in "iuf":
        raise InputError(f"{name} of {array.dtype}; expected real numbers")
    return array.astype(np.float64, copy=False)


def together(**arrays: Array) -> tuple[int, ...]:
    """Return the shape of arrays together.

    Raises
    ------
    InputError
        If they cannot be broadcast.
    """
    try:
        return np.broadcast_shapes(*(a.shape for a in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise InputError(f"the shapes do not go together: {shapes}") from None


def nats_of(name: str, given: Array) -> Array:
    """Return a divergence in nats.

    Raises
    ------
    InputError
        If it is not one.
    """
    with np.errstate(under="ignore"):
        nats = given * math.log(2.0) if name == "bits" else given
    if not np.all((nats >= 0.0) & (nats <= LARGEST_KL)):
        raise InputError(f"{name} is out of range; expected 0 to {LARGEST_KL:g} nats")
    return np.asarray(nats)


@contextlib.contextmanager
def representable(what: str) -> Iterator[None]:
    """Refuse results that float64 or the memory does not hold.

    What is infinite or NaN in the arguments is handed on, as IEEE 754 has it.

    Parameters
    ----------
    what : str
        What is computed within.

    Raises
    ------
    InputError
        If a finite number would be beyond float64, or an array beyond the memory.
    """
    try:
        with np.errstate(over="raise", under="ignore", invalid="ignore"):
            yield
    except FloatingPointError:
        largest = np.finfo(np.float64).max
        raise InputError(
            f"{what}: a number would be beyond {largest:.4g}, the largest of float64"
        ) from None
    except MemoryError as e:
        raise InputError(f"{what}: not enough memory: {first_line(e)}") from e


def own(array: Array) -> Array:
    """Return a read-only copy: what was given may be changed by whoever gave it."""
    return read_only(np.array(array, dtype=np.float64))
