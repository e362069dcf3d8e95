"""The scales rho of the coding distribution P = N(nu, rho^2): one for each tensor.

They are rounded to what is sent and used as such in training and encoding, so that what the
decoder multiplies by is what the posterior was trained with, and decoding needs no exp.  A model
sends them as float16.  An update sends a byte, the *level*: a power of 2^(1/4) times the scale
that the root of its chain has for the tensor, or 0 for a tensor that is not coded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMALLEST = float(np.finfo(np.float16).smallest_normal)
LARGEST = float(np.finfo(np.float16).max)

UNCODED = 0
SAME = 128  # the level of the root's own scale
HIGHEST = 255
STEPS = 4  # levels from a scale to its double
# 2^(j/4), j from 0 to 3, correctly rounded to float64.
ROOTS = np.array(
    [float.fromhex(f"0x1.{d}p0") for d in ("0", "306fe0a31b715", "6a09e667f3bcd", "ae89f995ad3ad")]
)


def quantise_scales(log_rho: ArrayLike) -> NDArray[np.float16]:
    """Return rho = exp(log rho) rounded to float16, kept within its normal numbers."""
    log_rho = np.asarray(log_rho, dtype=np.float64)
    rho = np.exp(np.clip(log_rho, np.log(SMALLEST), np.log(LARGEST)))
    return np.clip(rho, SMALLEST, LARGEST).astype(np.float16)


def scales_of_levels(levels: ArrayLike, root: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return rho = root 2^((level - 128) / 4), rounded to float64 and then to float32.

    Parameters
    ----------
    levels : array_like of int, shape (tensors,)
        0 gives the scale 0.
    root : ndarray of float16, shape (tensors,)
        The scales of the model at the root of the chain.
    """
    levels = np.asarray(levels, dtype=np.int64)
    doublings, quarters = np.divmod(levels - SAME, STEPS)
    # Before NumPy 2, Windows has this of 32-bit exponents alone.
    doublings = doublings.astype(np.int32)
    rho = np.ldexp(root.astype(np.float64) * ROOTS[quarters], doublings).astype(np.float32)
    return np.where(levels == UNCODED, np.float32(0), rho)


def quantise_levels(log_rho: ArrayLike, root: NDArray[np.float16]) -> NDArray[np.uint8]:
    """Return the levels, from 1 to 255, whose scales are nearest to exp(log rho) as a ratio."""
    ratio = np.asarray(log_rho, dtype=np.float64) - np.log(root.astype(np.float64))
    level = np.rint(SAME + STEPS * ratio / np.log(2.0))
    return np.clip(level, UNCODED + 1, HIGHEST).astype(np.uint8)


class Scales(Protocol):
    """How the scales of a file are sent."""

    def quantise(self, log_rho: ArrayLike) -> NDArray[Any]:
        """Return what is sent for rho = exp(log rho), shape (tensors,)."""

    def values(self, sent: NDArray[Any]) -> NDArray[np.float32]:
        """Return the scales that were sent."""


class Halves:
    """The scales of a model: float16 each."""

    def quantise(self, log_rho: ArrayLike) -> NDArray[np.float16]:
        """Return `quantise_scales`."""
        return quantise_scales(log_rho)

    def values(self, sent: NDArray[Any]) -> NDArray[np.float32]:
        """Return them in float32."""
        return sent.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Levels:
    """The scales of an update: a level each.

    Parameters
    ----------
    root : ndarray of float16, shape (tensors,)
        Those of the model at the root of its chain.
    coded : tuple of bool
        Whether each tensor is coded; the others have level 0.
    """

    root: NDArray[np.float16]
    coded: tuple[bool, ...]

    def quantise(self, log_rho: ArrayLike) -> NDArray[np.uint8]:
        """Return `quantise_levels` of the tensors that are coded."""
        return np.where(self.coded, quantise_levels(log_rho, self.root), np.uint8(UNCODED))

    def values(self, sent: NDArray[Any]) -> NDArray[np.float32]:
        """Return `scales_of_levels`."""
        return scales_of_levels(sent, self.root)
