"""What the codes are given from outside beside Gaussians, looked at first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refmiracle.errors import InputError
from refmiracle.numerics.real import real_numbers
from refmiracle.numerics.whole import described

LARGEST_KL_BITS = 1000  # no search is so long, and 2^1024 is no float64
LARGEST_SAMPLE = 2**28  # numbers: 2 GiB as float64, whatever a message says of its sample


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
        If it is no tuple of one or two whole numbers, or of more than `LARGEST_SAMPLE` targets.
    """
    whole = isinstance(shape, tuple) and all(isinstance(n, int | np.integer) for n in shape)
    if not whole or any(isinstance(n, bool) for n in shape):
        raise InputError(f"a message for shape {described(shape)}; expected whole numbers")
    return check_shape(tuple(map(int, shape)))


def check_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of targets.

    Raises
    ------
    InputError
        If it is not (targets,) or (targets, dimensions), or they are more than `LARGEST_SAMPLE`.
    """
    if len(shape) not in (1, 2):
        raise InputError(f"targets of {len(shape)} axes; expected (targets,) or (targets, dims)")
    if math.prod(shape) > LARGEST_SAMPLE:
        raise InputError(
            f"targets of shape {shape} are {math.prod(shape)} numbers; at most {LARGEST_SAMPLE}"
            " are possible"
        )
    return shape
