"""What the codes are given from outside beside Gaussians, looked at first."""

from __future__ import annotations

from typing import Any

from refmiracle.errors import InputError
from refmiracle.numerics.real import real_numbers
from refmiracle.numerics.whole import described

LARGEST_KL_BITS = 1000  # no search is so long, and 2^1024 is no float64


def kl_of(kl_bits: Any) -> float:
    """Return a divergence in bits.

    Raises
    ------
    InputError
        If it is no number from 0 to `LARGEST_KL_BITS`.
    """
    number = real_numbers("kl_bits", kl_bits)
    if number.ndim or not 0.0 <= number <= LARGEST_KL_BITS:
        raise InputError(
            f"kl_bits is {described(kl_bits)}; expected a number from 0 to {LARGEST_KL_BITS}"
        )
    return float(number)


def shape_of(shape: Any) -> tuple[int, ...]:
    """Return the shape of the targets that a message is for.

    Raises
    ------
    InputError
        If it is no tuple of whole numbers.
    """
    if not isinstance(shape, tuple) or not all(isinstance(n, int) for n in shape):
        raise InputError(f"a message for shape {described(shape)}; expected whole numbers")
    return shape
