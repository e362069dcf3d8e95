"""The codes of variables by their names: one node number for each variable (docs/CODES.md)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.engines.numpy_engine.astar import encode_a_star
from refmiracle.engines.numpy_engine.greedy import encode_greedy, encode_greedy_tree
from refmiracle.engines.numpy_engine.nodes import decoded_u
from refmiracle.engines.numpy_engine.poisson import (
    encode_poisson,
    encode_poisson_dyadic,
    encode_poisson_sample,
)
from refmiracle.engines.numpy_engine.posterior import gaussian_kl
from refmiracle.engines.numpy_engine.unimodal import Unimodal, gaussian_target
from refmiracle.errors import InputError
from refmiracle.numerics.limits import LARGEST_GLOBAL_BITS, LARGEST_NODE, check_targets
from refmiracle.numerics.normal import normal_quantile

# The tree of each code; a decoder needs no more.
TREES = {
    "as-star": "sample",
    "ad-star": "dyadic",
    "dad-star": "dyadic",
    "grc": "none",
    "grc-s": "sample",
    "grc-d": "dyadic",
    "gprs": "none",
    "gprs-s": "sample",
    "gprs-d": "dyadic",
}
ENCODERS: dict[str, Callable[[Unimodal, int, int], int]] = {
    "as-star": lambda target, seed, row: encode_a_star(target, seed, row, "sample"),
    "ad-star": lambda target, seed, row: encode_a_star(target, seed, row, "dyadic"),
    "grc": encode_greedy,
    "grc-s": lambda target, seed, row: encode_greedy_tree(target, seed, row, "sample"),
    "grc-d": lambda target, seed, row: encode_greedy_tree(target, seed, row, "dyadic"),
    "gprs": encode_poisson,
    "gprs-s": encode_poisson_sample,
    "gprs-d": encode_poisson_dyadic,
}


def tree_of(code: str) -> str:
    """Return the tree of a code of variables: ``none``, ``sample`` or ``dyadic``."""
    if code not in TREES:
        raise InputError(
            f"no code of variables is named {code}; expected one of {', '.join(TREES)}"
        )
    return TREES[code]


def _checked_rows(rows: ArrayLike) -> list[int]:
    """Return rows as integers, if they are numbers of rows."""
    numbers = np.asarray(rows).tolist()
    if numbers and not (min(numbers) >= 0 and max(numbers) < 2**32):
        raise InputError("a variable's number is out of range; expected 0 to 2^32 - 1")
    return numbers


def encode_unimodal(
    code: str, target: Unimodal, seed: int, row: int, bits: int | None = None
) -> int:
    """Return the node number that sends a sample of a target.

    Parameters
    ----------
    code : str
        One of `TREES`.
    target : Unimodal
        Any density ratio with one mode over any coding distribution.
    seed : int
        0 <= seed < 2**32.
    row : int
        The variable's number, 0 <= row < 2**32.
    bits : int, optional
        Of ``dad-star``, which needs it: nodes are below 2^bits.

    Returns
    -------
    int
        1 <= node < 2**62

    Raises
    ------
    InputError
        If the code is unknown or the search is too long (docs/CODES.md, section 2).
    """
    log2_sup = float(target.log_ratio(target.mode)) / math.log(2.0)
    if not math.isfinite(log2_sup):
        raise InputError(f"log r is {log2_sup} at the mode of a target; expected a finite number")
    if tree_of(code) == "none" and log2_sup > LARGEST_GLOBAL_BITS:
        raise InputError(
            f"{code} would try some 2^{log2_sup:.1f} candidates for a target;"
            f" at most 2^{LARGEST_GLOBAL_BITS} are possible"
        )
    if code != "dad-star":
        return ENCODERS[code](target, seed, row)
    if bits is None or bits < 1:
        raise InputError(f"dad-star got {bits} bits; expected at least 1")
    return encode_a_star(target, seed, row, "dyadic", min(2**bits, LARGEST_NODE))


def decode_unimodal(
    code: str, p_quantile: Callable[[float], float], seed: int, row: int, message: int
) -> float:
    """Return the sample x that a node number names.

    Parameters
    ----------
    code : str
    p_quantile : u -> x
        Of the coding distribution; the target is not needed.
    seed, row : int
    message : int

    Raises
    ------
    InputError
        If the code is unknown or the message is no node's number.
    """
    return float(p_quantile(decoded_u(tree_of(code), seed, [row], [message])[0]))


def variable_messages(
    code: str, seed: int, rows: ArrayLike, delta: ArrayLike, log_s: ArrayLike, oversampling: int = 0
) -> NDArray[np.int64]:
    """Return the node number of each variable's sample of Q = N(delta, s) over P = N(0, 1).

    Parameters
    ----------
    code : str
        One of `TREES`.
    seed : int
        0 <= seed < 2**32.
    rows : array_like of int, shape (n,)
        The variables' numbers, 0 <= row < 2**32: each draws from its own row of the stream
        CANDIDATES, so that it does not matter which others are coded with it.
    delta, log_s : array_like of float, shape (n,)
        Whitened means, and log variance ratios in nats.
    oversampling : int
        Of ``dad-star``: bits beyond ceil(KL in bits).

    Returns
    -------
    ndarray of int64, shape (n,)
        1 <= node < 2**62

    Raises
    ------
    InputError
        If a target cannot be sent, or the search for its sample is too long (docs/CODES.md,
        section 2).
    """
    delta, log_s = np.asarray(delta, dtype=np.float64), np.asarray(log_s, dtype=np.float64)
    tree_of(code)
    check_targets(delta, log_s)
    rows = _checked_rows(rows)
    bits = np.maximum(1, np.ceil(gaussian_kl(delta, log_s) / math.log(2.0)) + oversampling)
    return np.array(
        [
            encode_unimodal(code, gaussian_target(d, ls), seed, row, int(b))
            for row, d, ls, b in zip(rows, delta.tolist(), log_s.tolist(), bits, strict=True)
        ],
        dtype=np.int64,
    )


def variable_samples(
    code: str, seed: int, rows: ArrayLike, messages: ArrayLike
) -> NDArray[np.float32]:
    """Return the whitened samples that node numbers name, the same bits everywhere.

    Parameters
    ----------
    code : str
        Only its tree matters.
    seed : int
    rows, messages : array_like of int, shape (n,)

    Returns
    -------
    ndarray of float32, shape (n,)

    Raises
    ------
    InputError
        If the code is unknown or a message is no node's number.
    """
    u = decoded_u(tree_of(code), seed, _checked_rows(rows), messages)
    return normal_quantile(u).astype(np.float32)
