"""Whole numbers as they come from outside: one rule for seeds, rows, indices and counts.

A whole number is an int, or a NumPy integer of any width, alone or as an array without axes.
Floats are refused also where they have no fraction, and so are booleans: what is cut off, or stands
for something else, makes other randomness, and nobody sees it.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.errors import InputError
from refmiracle.files import first_line

# Seeds, streams, rows and words of counters are 32-bit words (docs/SPEC.md, section 4).
WORD = 2**32
# The words of a row: the counter's first word numbers four at a time.
ROW_WORDS = 4 * WORD
INT64 = np.dtype(np.int64)
LONGEST = 40  # letters of a value that a message repeats
SMALLEST, BEYOND = -(2**63), 2**63


def whole_number(name: str, value: Any, low: int = 0, end: int = WORD) -> int:
    """Return a whole number from outside as an int.

    Parameters
    ----------
    name : str
        What the message calls it.
    value : int or integer scalar of NumPy
    low, end : int
        low <= value < end.

    Raises
    ------
    InputError
        If it is none, or out of range.
    """
    number = value if type(value) is int else _index(name, value, low, end)
    if not low <= number < end:
        raise InputError(f"{name} {number} is out of range; expected {low} to {end - 1}")
    return number


def _wanted(low: int, end: int) -> str:
    """Return what is expected in words; whatever an int64 holds is no range that helps."""
    return "" if (low, end) == (SMALLEST, BEYOND) else f" from {low} to {end - 1}"


def _index(name: str, value: Any, low: int, end: int) -> int:
    is_bool = isinstance(value, bool) or getattr(value, "dtype", None) == np.bool_
    try:
        if not is_bool:
            return operator.index(value)
    except TypeError:
        pass
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    kind = ", a float" if whole else ""
    raise InputError(
        f"{name} is {described(value)}{kind}; expected a whole number{_wanted(low, end)}"
    ) from None


def described(value: Any) -> str:
    """Return what a value is, in a few words of one line."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"of shape {value.shape}"
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def truth(name: str, value: Any) -> bool:
    """Return True or False from outside.

    Raises
    ------
    InputError
        If it is neither: the text "no" would be taken for a yes.
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} is {described(value)}; expected True or False")
    return bool(value)


def whole_numbers(
    name: str, values: ArrayLike, low: int = 0, end: int = WORD, dtype: np.dtype[Any] = INT64
) -> NDArray[Any]:
    """Return whole numbers from outside as an array; what has no elements may have any type.

    Parameters
    ----------
    name : str
        What the message calls them.
    values : array_like of int
    low, end : int
        low <= each value < end.
    dtype : dtype
        Of the result; it holds all numbers of the range.

    Returns
    -------
    ndarray of `dtype`

    Raises
    ------
    InputError
        If they are none, or one is out of range.
    """
    array = as_array(name, values)
    if array.size and array.dtype.kind not in "iu":
        raise InputError(f"{name} of {array.dtype}; expected whole numbers{_wanted(low, end)}")
    held = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
    if array.size and held is not None and not (low <= held.min and held.max < end):
        least, most = int(array.min()), int(array.max())
        if least < low or most >= end:
            raise InputError(
                f"{name}: {least if least < low else most} is out of range;"
                f" expected whole numbers from {low} to {end - 1}"
            )
    return array.astype(dtype, copy=False)


def as_array(name: str, values: ArrayLike) -> NDArray[Any]:
    """Return an array of NumPy itself, without a copy if it is one.

    Raises
    ------
    InputError
        If it has a mask, which would be lost, or rows of different lengths; or if somebody else's
        array, such as one on a GPU, does not give its numbers.
    """
    parts = values if isinstance(values, list | tuple) else ()
    if any(isinstance(a, np.ma.MaskedArray) for a in (values, *parts)):
        raise InputError(f"{name} has a mask; expected an array without one")
    try:
        return np.asarray(values)
    except MemoryError:
        raise
    except Exception as e:  # what has a method __array__ may raise anything
        ragged = parts and isinstance(e, ValueError)
        said = "its parts have different shapes" if ragged else first_line(e)
        raise InputError(f"{name} is no array: {said}") from None
