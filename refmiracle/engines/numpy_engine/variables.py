"""The codes of variables by their names: one node number for each variable (docs/CODES.md)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.engines.numpy_engine.a_star import encode_a_star
from refmiracle.engines.numpy_engine.gprs import (
    encode_gprs,
    encode_gprs_d,
    encode_gprs_s,
)
from refmiracle.engines.numpy_engine.grc import encode_grc, encode_grc_tree
from refmiracle.engines.numpy_engine.nodes import decoded_u
from refmiracle.engines.numpy_engine.orc_pfr import log_suprema
from refmiracle.engines.numpy_engine.posterior import gaussian_kl
from refmiracle.engines.numpy_engine.unimodal import Unimodal, gaussian_target
from refmiracle.errors import InputError
from refmiracle.numerics.limits import (
    LARGEST_GLOBAL_BITS,
    LARGEST_NODE,
    VARIABLE_REACH,
    WIDER,
    SearchError,
    check_targets,
    whole_bits,
)
from refmiracle.numerics.normal import normal_quantile
from refmiracle.numerics.whole import BEYOND, SMALLEST, whole_numbers

Array = NDArray[np.float64]

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
BOUNDED = "dad-star"  # of which the nodes below 2^bits are all there are
ENCODERS: dict[str, Callable[[Unimodal, int, int], int]] = {
    "as-star": lambda target, seed, row: encode_a_star(target, seed, row, "sample"),
    "ad-star": lambda target, seed, row: encode_a_star(target, seed, row, "dyadic"),
    "grc": encode_grc,
    "grc-s": lambda target, seed, row: encode_grc_tree(target, seed, row, "sample"),
    "grc-d": lambda target, seed, row: encode_grc_tree(target, seed, row, "dyadic"),
    "gprs": encode_gprs,
    "gprs-s": encode_gprs_s,
    "gprs-d": encode_gprs_d,
}


def tree_of(code: str) -> str:
    """Return the tree of a code of variables: ``none``, ``sample`` or ``dyadic``."""
    if code not in TREES:
        raise InputError(
            f"no code of variables is named {code!r}; expected one of {', '.join(TREES)}"
        )
    return TREES[code]


def check_variables(code: str, rows: ArrayLike, delta: Array, log_s: Array) -> None:
    """Refuse targets that a code cannot send, before any search.

    Parameters
    ----------
    code : str
        One of `TREES`.
    rows : array_like of int, shape (n,)
        Which variables they are.
    delta, log_s : ndarray of float64, shape (n,)

    Raises
    ------
    InputError
        If the code is unknown, a target is refused (`limits.check_targets`), or its search without
        a tree would take too many candidates.
    """
    tree = tree_of(code)
    check_targets(delta, log_s)
    if tree == "none":
        log_sup = log_suprema(delta, log_s, -VARIABLE_REACH, VARIABLE_REACH)
        wide = np.flatnonzero(log_sup > LARGEST_GLOBAL_BITS * math.log(2.0))
        if len(wide):
            raise refusal(code, rows, delta, log_s, int(wide[0]), WIDER)


def refusal(
    code: str, rows: ArrayLike, delta: Array, log_s: Array, i: int, reason: str
) -> InputError:
    """Return the error that says what the search for target i would need."""
    return InputError(
        f"{code} needs {reason} for the target of variable {np.asarray(rows)[i]}"
        f" (delta {delta[i]:.6g}, log s {log_s[i]:.6g})"
    )


def tree_bits(delta: Array, log_s: Array, oversampling: int) -> NDArray[np.int64]:
    """Return log2 of the node numbers that ``dad-star`` stays below, 1 to 62, of each target."""
    kl_bits = gaussian_kl(delta, log_s) / math.log(2.0)
    return np.clip(whole_bits(kl_bits) + oversampling, 1, 62).astype(np.int64)


def check_messages(code: str, rows: ArrayLike, messages: ArrayLike) -> NDArray[np.int64]:
    """Return messages, if all are numbers of nodes.

    Raises
    ------
    InputError
        If one is not.
    """
    messages = whole_numbers("messages", messages, SMALLEST, BEYOND)
    outside = np.flatnonzero((messages < 1) | (messages >= LARGEST_NODE))
    if len(outside):
        i = outside[0]
        raise InputError(
            f"{code}: variable {np.asarray(rows)[i]} has the message {messages[i]}; expected 1 to"
            " 2^62 - 1"
        )
    return messages


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
    if code != BOUNDED:
        return ENCODERS[code](target, seed, row)
    if bits is None or bits < 1:
        raise InputError(f"{code} got {bits} bits; expected at least 1")
    return encode_a_star(target, seed, row, "dyadic", min(2**bits, LARGEST_NODE))


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
    # + 0.0 makes 0 of -0, which would be kept as the same target.
    delta, log_s = (np.asarray(a, dtype=np.float64) + 0.0 for a in (delta, log_s))
    check_variables(code, rows, delta, log_s)
    rows = whole_numbers("rows", rows)
    bits = tree_bits(delta, log_s, oversampling).tolist()
    messages = np.empty(len(rows), dtype=np.int64)
    for i, (d, ls) in enumerate(zip(delta.tolist(), log_s.tolist(), strict=True)):
        try:
            target = gaussian_target(d, ls)
            messages[i] = encode_unimodal(code, target, seed, int(rows[i]), bits[i])
        except SearchError as e:
            raise refusal(code, rows, delta, log_s, i, e.reason) from None
    return messages


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
    tree, rows = tree_of(code), whole_numbers("rows", rows)
    u = decoded_u(tree, seed, rows, check_messages(code, rows, messages))
    return normal_quantile(u).astype(np.float32)
