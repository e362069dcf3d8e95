"""What the relative entropy codes refuse, so that no search goes on for ever (docs/CODES.md)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.errors import InputError

LARGEST_KL_BITS = 40
LARGEST_SEARCH_BITS = 26  # log2 of the candidates that a search for a block may need
LARGEST_PARTITION_BITS = 24  # log2 of the bins of space partitioning
LARGEST_GLOBAL_BITS = 22  # the same for a variable, without a tree
LARGEST_TREE = 2**20  # nodes that a search of a tree may visit
LARGEST_NODE = 2**62
LARGEST_SEARCH = 2**LARGEST_SEARCH_BITS
# Why a search for a variable ends without a message: what it would need.
WIDER = f"more than 2^{LARGEST_GLOBAL_BITS} candidates"
LONGER = f"more than 2^{LARGEST_SEARCH_BITS} candidates"
LARGER = f"more than {LARGEST_TREE} nodes of the tree"
DEEPER = "a node number of 2^62 or more"
MORE = "a region that is left to search"
LAST_U = 1.0 - 2.0**-53  # the largest uniform that has a sample: the quantile of 1 is infinite
# A KL that is computed from float32 means and variances is a part of this off.
KL_ROUNDING = 2.0**-20
# Bounds on log r are raised by this, so that rounding does not stop a search too early.
ROUNDING = 1e-9
# Beyond these P has no mass that its samples show: codes of variables, and the codebook.
VARIABLE_REACH, CODEBOOK_REACH = 8.25, 6.338
# Q may have no more than OUTSIDE of its mass beyond SUPPORT standard deviations of P.
SUPPORT, OUTSIDE = 8.0, 1e-6
# Minimal random coding takes the nearest of its candidates, as long as they can be told apart.
FARTHEST = 2**20
# The number of standard deviations above which a normal has the mass OUTSIDE.
_FAR = 4.753424308822899


class SearchError(InputError):
    """A search for a variable has come to its end without a message.

    Attributes
    ----------
    reason : str
        What it would need.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the search for a target needs {reason}")
        self.reason = reason


def check_targets(delta: ArrayLike, log_s: ArrayLike) -> None:
    """Refuse whitened Gaussian targets that no code can send.

    Parameters
    ----------
    delta, log_s : array_like of float, shape (targets,) or (targets, dimensions)
        Q = N(delta, s), P = N(0, 1).

    Raises
    ------
    InputError
        If a target is not finite, is wider than P (then q / p has no mode), has a KL above 40
        bits, or has mass where P has none.
    """
    delta, log_s = np.asarray(delta, dtype=np.float64), np.asarray(log_s, dtype=np.float64)
    if not (np.all(np.isfinite(delta)) and np.all(np.isfinite(log_s))):
        raise InputError("a target's mean or variance is not finite")
    if np.any(log_s > 0.0):
        worst = float(np.max(log_s))
        raise InputError(
            f"a target has the log variance ratio {worst:.3g}; expected at most 0, as a wider"
            " target has no mode over P"
        )
    sigma = np.exp(0.5 * log_s)
    with np.errstate(over="ignore"):
        kl = 0.5 * (delta**2 + np.expm1(log_s) - log_s)
    bits = (kl.sum(axis=-1) if kl.ndim > 1 else kl) / math.log(2)
    if np.any(bits > LARGEST_KL_BITS):
        raise InputError(
            f"a target has a KL of {np.max(bits):.1f} bits; at most {LARGEST_KL_BITS} are possible"
        )
    if np.any(np.abs(delta) + _FAR * sigma > SUPPORT):
        raise InputError(
            f"a target's mean is {np.max(np.abs(delta)):.3g} standard deviations of P out, where P"
            f" has no samples; all but {OUTSIDE:g} of a target must lie within {SUPPORT:g}"
        )


def check_weighable(delta: ArrayLike, log_s: ArrayLike) -> None:
    """Refuse whitened targets for which log q / p of a candidate would not be finite.

    Minimal random coding sends any others; without a word an argmax would name candidate 0.

    Raises
    ------
    InputError
        If a target is not finite, so narrow that log q / p is not, or so far out that float64 has
        no digits left for what z adds to it.
    """
    delta, log_s = np.asarray(delta, dtype=np.float64), np.asarray(log_s, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        far = np.sum((np.abs(delta) + 10.0) ** 2 * np.exp(-log_s), axis=-1, keepdims=True)
    if not np.all(np.isfinite(far) & np.isfinite(log_s)):
        raise InputError("a target's mean or variance is not finite, or log q / p would not be")
    if np.any(np.abs(delta) > FARTHEST):
        raise InputError(
            f"a target's mean is {np.max(np.abs(delta)):.3g} standard deviations of P out; at most"
            f" {FARTHEST} are possible"
        )


def whole_bits(kl_bits: ArrayLike) -> NDArray[np.float64]:
    """Return KLs in bits, rounded up: but not by what only rounding has put above a whole number.

    A target that was made to have 8 bits has 8, whichever way its KL is computed again.
    """
    return np.ceil(np.asarray(kl_bits, dtype=np.float64) * (1.0 - KL_ROUNDING))
