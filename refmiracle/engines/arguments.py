"""What a function of the contract may be given, made plain: one kind of argument a class.

Compiled code looks at no bounds, and is compiled anew for each type and order in memory that it
meets; plain NumPy takes nearly anything, and may make something else of it.  So arrays arrive in C
order, in the processor's byte order, in one type, writable, and in shapes that go together; numbers
are whole where they have to be.  What does not mean the same to every engine is refused in one line
that names the argument.

In a shape each name stands for one length throughout a call; those in capitals may be 0.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np

from refmiracle.errors import InputError
from refmiracle.numerics.whole import BEYOND, WORD, as_array, whole_number, whole_numbers

# Lengths by name, and numbers that lengths depend on.
Sizes = dict[Any, Any]
ANY, SAME, LEADING = ("any",), ("same",), "..."
DOUBLE, BYTE, INT64 = np.dtype(np.float64), np.dtype(np.uint8), np.dtype(np.int64)


@functools.cache
def _dims(text: str) -> tuple[Any, ...]:
    """Return the axes of a shape: names, and lengths that are fixed."""
    return tuple(int(part) if part.isdigit() else part for part in text.split())


def _plain(array: Any, dtype: Any) -> Any:
    return np.require(array, dtype, ["C", "A", "W"])


def _fit(name: str, array: Any, text: str, sizes: Sizes) -> Any:
    """Return an array of the shape that its axes and the arrays before it ask for.

    ``same`` is any shape, the same in all arrays of a call and in the results; ``any`` is any.
    """
    shape = array.shape
    dims = axes_of = _dims(text)
    if sizes.get(dims) == shape:  # as that of an array before it
        return array
    if dims == ANY:
        sizes["any"] = array.size
        return array
    if dims == SAME:
        if sizes.setdefault("same", shape) != shape:
            raise InputError(f"{name} of shape {shape}; expected {sizes['same']}")
        return array if shape else array.reshape(1)
    if dims[0] == LEADING:  # any number of axes before these
        dims = (*(f"Axis {n}" for n in range(len(shape) - len(dims) + 1)), *dims[1:])
    fits = len(shape) == len(dims)
    for length, dim in zip(shape, dims, strict=False):
        if type(dim) is int:
            fits = fits and length == dim
        else:
            fits = fits and (length > 0 or dim[0].isupper())
            fits = fits and sizes.setdefault(dim, length) == length
    if not fits:
        known = sizes if len(shape) in (0, len(dims)) else {}
        axes = ", ".join(str(known.get(d, d)) for d in dims) + "," * (len(dims) == 1)
        raise InputError(f"{name} of shape {shape or '(), one number'}; expected ({axes})")
    sizes[axes_of] = shape
    return array


@dataclass(frozen=True)
class Record:
    """An argument that is a named tuple, of which each field is an `Argument`.

    Attributes
    ----------
    name : str
    kind : type
        The class of the tuple.
    """

    name: str
    kind: Any

    def fields(self, value: Any) -> tuple[Any, ...]:
        """Return the fields of what a call has."""
        try:
            return tuple(self.kind(*value))
        except TypeError:
            expected = f"{self.kind.__name__}({', '.join(self.kind._fields)})"
            raise InputError(f"{self.name}: expected {expected}") from None


@dataclass(frozen=True)
class Argument:
    """One argument of a function, or one field of a record.

    Attributes
    ----------
    name : str
    default : object, optional
    of : Record, optional
        What it is a field of.
    """

    name: str
    default: Any = inspect.Parameter.empty
    of: Record | None = None

    def late(self) -> bool:
        """Return whether the argument's range depends on those behind it."""
        return False

    def early(self) -> bool:
        """Return whether those before it may depend on it."""
        return False

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return the value as the engine, whose floats are `own`, takes it."""
        return value


@dataclass(frozen=True)
class Floats(Argument):
    """Real numbers; of the engine's own precision, or `double` in every engine."""

    shape: str = ""
    double: bool = False

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return the array."""
        return _fit(self.name, self.plain(value, own), self.shape, sizes)

    def plain(self, value: Any, own: np.dtype[Any]) -> Any:
        """Return the array, whatever its shape."""
        dtype = DOUBLE if self.double else own
        if type(value) is np.ndarray and value.dtype == dtype and value.flags.carray:
            return value
        array = as_array(self.name, value)
        if array.size and array.dtype.kind not in "iufb":
            raise InputError(f"{self.name} of {array.dtype}; expected real numbers")
        with np.errstate(over="ignore"):
            return _plain(array, dtype)


@dataclass(frozen=True)
class Maybe(Floats):
    """What there may be beside the rest, such as what a distribution lies around; else None."""

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return the array, or None."""
        return None if value is None else super().take(value, sizes, own)


@dataclass(frozen=True)
class Grouped(Floats):
    """Feature maps whose channels fall into ``groups``, which leaves ``fan`` in each."""

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return the array."""
        array = super().take(value, sizes, own)
        sizes["fan"] = _share(self.name, array, "channels", sizes)
        return array


def _share(name: str, array: Any, what: str, sizes: Sizes) -> int:
    """Return how many of something of an array each group has."""
    count, groups = sizes[what], sizes["groups"]
    if count % groups:
        raise InputError(
            f"{name} of shape {array.shape}: groups {groups} do not divide {count} {what}"
        )
    return int(count // groups)


@dataclass(frozen=True)
class Kernel(Floats):
    """A kernel that is passed over ``height width`` with its zeros around, for ``rows columns``.

    The zeros are fewer than the kernel is long, or a number could ask for any amount of memory.
    """

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return the array."""
        array = super().take(value, sizes, own)
        _share(self.name, array, "units", sizes)
        around = 2 * sizes["padding"]
        padding, shape = sizes["padding"], array.shape
        if padding >= max(sizes["kh"], sizes["kw"], 1):
            raise InputError(f"padding {padding} is no less than the sides of w, of shape {shape}")
        rows = sizes["height"] + around - sizes["kh"]
        columns = sizes["width"] + around - sizes["kw"]
        if min(rows, columns) < 0:
            raise InputError(
                f"{self.name} of shape {array.shape} is larger than what it is passed over,"
                f" {sizes['height'] + around} by {sizes['width'] + around}"
            )
        stride = sizes["stride"]
        sizes["rows"], sizes["columns"] = rows // stride + 1, columns // stride + 1
        return array


@dataclass(frozen=True)
class Tiled(Floats):
    """Feature maps that windows of ``height width`` are laid on."""

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return the array."""
        array = super().take(value, sizes, own)
        _, rows, columns, _ = array.shape
        if sizes["height"] > rows or sizes["width"] > columns:
            raise InputError(
                f"{self.name} of shape {array.shape} has no window of"
                f" {sizes['height']} by {sizes['width']}"
            )
        return array


@dataclass(frozen=True)
class Filled(Floats):
    """An array that the call fills or updates: it has to be plain, and no other's memory."""

    def plain(self, value: Any, own: np.dtype[Any]) -> Any:
        """Return the array, whatever its shape."""
        dtype = DOUBLE if self.double else own
        if not (type(value) is np.ndarray and value.dtype == dtype and value.flags.carray):
            found = type(value).__name__
            if isinstance(value, np.ndarray):
                found = f"{value.dtype}{'' if value.flags.writeable else ', read-only'}"
                found += "" if value.flags.c_contiguous else ", not in C order"
            raise InputError(
                f"{self.name} is filled in place, but is {found}; expected an array of {dtype} in"
                " C order that can be written to"
            )
        return value


@dataclass(frozen=True)
class Moments(Argument):
    """Two pairs of arrays that are updated: Adam's (m, v)."""

    shape: str = ""

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return them as tuples."""
        try:
            (a, b), (c, d) = value
        except (TypeError, ValueError):
            raise InputError(f"{self.name}: expected two pairs of arrays") from None
        one = Filled(self.name, shape=self.shape)
        a, b, c, d = (one.take(array, sizes, own) for array in (a, b, c, d))
        return (a, b), (c, d)


@dataclass(frozen=True)
class Listed(Argument):
    """Arrays of one axis, of these lengths, one after the other."""

    lengths: tuple[int, ...] = ()

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return a list of them."""
        if not isinstance(value, list | tuple) or len(value) != len(self.lengths):
            raise InputError(f"{self.name}: expected {len(self.lengths)} arrays")
        one = Floats(self.name)
        return [
            _fit(self.name, one.plain(array, own), str(n), sizes)
            for n, array in zip(self.lengths, value, strict=True)
        ]


@dataclass(frozen=True)
class Whole(Argument):
    """Whole numbers, low <= number < end; `end` may name a length of this call."""

    shape: str = ""
    low: int = 0
    end: int | str = WORD
    dtype: Any = INT64

    def late(self) -> bool:
        """Return whether the end is not known yet."""
        return isinstance(self.end, str)

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return the array."""
        end = sizes[self.end] if isinstance(self.end, str) else self.end
        array = self._known(value, end)
        if array is None:
            array = whole_numbers(self.name, value, self.low, end, self.dtype)
            array = _plain(array, self.dtype)
        return _fit(self.name, array, self.shape, sizes)

    def _known(self, value: Any, end: int) -> Any:
        """Return a plain array whose numbers are in range, found in one pass; else None."""
        if type(value) is not np.ndarray or value.dtype != self.dtype or not value.flags.carray:
            return None
        if value.dtype == BYTE:
            return value if end > 255 or not value.size or value.max() < end else None
        # As numbers without a sign, negative ones are the largest.
        signless = value.view(np.uint64)
        return value if not self.low and (not value.size or signless.max() < end) else None


@dataclass(frozen=True)
class Pixels(Whole):
    """Images with or without an axis of channels behind the first."""

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return the array."""
        if np.ndim(value) != 4:
            return super().take(value, sizes, own)
        batch, *places = self.shape.split()
        with_channels = Whole(
            self.name, shape=" ".join([batch, "channels", *places]), end=self.end, dtype=self.dtype
        )
        return with_channels.take(value, sizes, own)


@dataclass(frozen=True)
class Flags(Argument):
    """Booleans."""

    shape: str = ""

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return the array."""
        array = as_array(self.name, value)
        if array.dtype.kind != "b":
            raise InputError(f"{self.name} of {array.dtype}; expected True or False")
        array = _plain(array, None)
        return _fit(self.name, array, self.shape, sizes)


@dataclass(frozen=True)
class Pooled(Argument):
    """The shape of what was pooled to maps of `shape`.

    By windows of ``height width``, where the call has such arguments, else of 2 by 2.
    """

    shape: str = "channels Rows Columns N"

    def late(self) -> bool:
        """Return that it needs these."""
        return True

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return the four lengths."""
        expected = [sizes[name] for name in _dims(self.shape)]
        shape = [whole_number(self.name, n, 0, BEYOND) for n in as_array(self.name, value).ravel()]
        height, width = sizes.get("height", 2), sizes.get("width", 2)
        if len(shape) != 4 or expected != [
            shape[0],
            shape[1] // height,
            shape[2] // width,
            shape[3],
        ]:
            raise InputError(
                f"{self.name} {tuple(shape)} is not one that is pooled to {tuple(expected)}"
            )
        return tuple(shape)
