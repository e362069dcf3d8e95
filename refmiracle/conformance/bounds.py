"""How far an answer may lie from the golden one.

Kinds, one for each output and precision of a case::

    exact     the same values and shape; floats bit for bit, but for the sign of zero and NaN's bits
    ulp       at most so many units in the last place of the working precision, each element
    relative  |got - want| <= value |want|, element by element
    scaled    |got - want| <= value max |want|: for sums, whose rounding follows the largest terms
    absolute  |got - want| <= value: for sums that cancel to nothing, whose terms the bound knows
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.errors import InputError

KINDS = ("exact", "ulp", "relative", "scaled", "absolute")


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes
    ----------
    ok : bool
    error, bound : float
        In the kind's own measure; error is infinite where shapes or non-finite values differ.
    kind : str
    detail : str
        The worst element: its index, what was got and what was wanted; or what else is wrong.
    """

    ok: bool
    error: float
    bound: float
    kind: str
    detail: str


def split_bound(bound: Any) -> tuple[str, float]:
    """Return the kind of a bound and its value.

    Raises
    ------
    InputError
        If it is not exactly one known kind with a finite number.
    """
    if isinstance(bound, dict) and len(bound) == 1:
        ((kind, limit),) = bound.items()
        if kind in KINDS and isinstance(limit, (int, float)) and math.isfinite(limit):
            return kind, limit
    raise InputError(f"{bound!r:.60} is no bound; expected one of {', '.join(KINDS)}, and a number")


def compare(got: Any, want: NDArray[Any], bound: dict[str, float], dtype: str) -> Comparison:
    """Hold an output against the golden one.

    Parameters
    ----------
    got : array_like
    want : ndarray
    bound : dict
        One kind and its value, such as ``{"relative": 1e-12}``; ``{"exact": 0}``.
    dtype : str
        The working precision, which gives the unit in the last place.
    """
    kind, limit = split_bound(bound)
    got = np.asarray(got)
    if got.shape != want.shape:
        detail = f"shape {got.shape}, expected {want.shape}"
        return Comparison(False, np.inf, limit, kind, detail)
    if got.size == 0:
        return Comparison(True, 0.0, limit, kind, "")
    if got.dtype.kind not in "biuf":
        return Comparison(False, np.inf, limit, kind, f"dtype {got.dtype} is not numeric")
    errors = _errors(got, want, kind, dtype)
    worst = np.unravel_index(int(np.argmax(errors)), errors.shape)
    place = [int(i) for i in worst]
    detail = f"at {place}: got {got[worst]!r}, expected {want[worst]!r}"
    error = float(errors[worst])
    return Comparison(error <= limit, error, limit, kind, detail)


def _errors(got: NDArray[Any], want: NDArray[Any], kind: str, dtype: str) -> NDArray[np.float64]:
    """Return the error of each element; infinite where only one is finite."""
    if got.dtype.kind != "f" and want.dtype.kind != "f":
        same = got == want
        return np.where(same, 0.0, np.inf if kind == "exact" else 1.0)
    wide_got, wide_want = got.astype(np.longdouble), want.astype(np.longdouble)
    same = (wide_got == wide_want) | (np.isnan(wide_got) & np.isnan(wide_want))
    if kind == "exact":
        return np.where(same, 0.0, np.inf)
    finite = np.isfinite(wide_got) & np.isfinite(wide_want)
    with np.errstate(all="ignore"):
        distance = np.abs(wide_got - wide_want)
        if kind == "ulp":
            scale = np.spacing(np.abs(want).astype(dtype)).astype(np.longdouble)
        elif kind == "relative":
            scale = np.abs(wide_want)
        elif kind == "absolute":
            scale = np.ones_like(distance)
        else:
            scale = np.full_like(distance, np.abs(wide_want[finite]).max(initial=0.0))
        errors = np.where(scale > 0, distance / np.where(scale > 0, scale, 1), np.inf)
    return np.where(same, 0.0, np.where(finite, errors, np.inf)).astype(np.float64)
