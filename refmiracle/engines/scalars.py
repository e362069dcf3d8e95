"""What a function of the contract may be given that is no array: numbers, names, True or False."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refmiracle.engines.arguments import Argument, Sizes
from refmiracle.errors import InputError
from refmiracle.numerics.whole import WORD, described, whole_number

REAL = (float, int, np.floating, np.integer)


@dataclass(frozen=True)
class Number(Argument):
    """A whole number, low <= number < end; others may have as many elements."""

    low: int = 0
    end: int = WORD

    def early(self) -> bool:
        """Return that it depends on no other."""
        return True

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return the int."""
        sizes[self.name] = whole_number(self.name, value, self.low, self.end)
        return sizes[self.name]


@dataclass(frozen=True)
class Real(Argument):
    """A real number."""

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return the float."""
        plain = value[()] if isinstance(value, np.ndarray) and value.shape == () else value
        try:
            if isinstance(plain, REAL) and not isinstance(plain, bool):
                return float(plain)
        except OverflowError:  # an int beyond all floats
            pass
        raise InputError(f"{self.name} is {described(value)}; expected a real number")


@dataclass(frozen=True)
class Reals(Argument):
    """As many real numbers as `count` says."""

    count: int = 2

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return the floats."""
        numbers = list(value) if isinstance(value, list | tuple | np.ndarray) else []
        if len(numbers) != self.count:
            raise InputError(
                f"{self.name} is {described(value)}; expected {self.count} real numbers"
            )
        return tuple(Real(self.name).take(number, sizes, own) for number in numbers)


@dataclass(frozen=True)
class Truth(Argument):
    """True or False."""

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return the bool."""
        if not isinstance(value, bool | np.bool_):
            raise InputError(f"{self.name} is {described(value)}; expected True or False")
        return bool(value)


@dataclass(frozen=True)
class Text(Argument):
    """A name."""

    def take(self, value: Any, sizes: Sizes, own: np.dtype[Any]) -> Any:
        """Return the str."""
        if not isinstance(value, str):
            raise InputError(f"{self.name} is {described(value)}; expected a name")
        return str(value)
