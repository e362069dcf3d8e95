"""All relative entropy codes behind one interface (docs/CODES.md defines each).

`encode` and `decode` take Gaussian targets and coding distributions as they are;
`encode_blocks` and `decode_blocks` are the same for the whitened blocks of a compressed model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.engines import get_engine
from refmiracle.engines.contract import Array, Engine
from refmiracle.errors import InputError
from refmiracle.numerics.limits import LARGEST_NODE, LARGEST_PARTITION_BITS, LARGEST_SEARCH_BITS
from refmiracle.numerics.whole import BEYOND, SMALLEST, WORD, as_array, whole_number, whole_numbers
from refmiracle.rec import minimal_random_coding
from refmiracle.rec.gaussians import Gaussian, whitened
from refmiracle.rec.given import kl_of, shape_of
from refmiracle.rec.lengths import log_geometric_bits, theta_of_kl

BLOCK, VARIABLE = "block", "variable"
MRC, ORC, PFR, SP_PFR = "mrc", "orc", "pfr", "sp-pfr"
LARGEST_OVERSAMPLING = 63


@dataclass(frozen=True)
class Code:
    """What a code is.

    Attributes
    ----------
    name : str
    number : int
        In the header of a file (docs/SPEC.md, section 2.1).
    exact : bool
        Whether the sample has the law Q, or one near it.
    of : str
        ``block``: one integer for each block; ``variable``: one for each variable.
    tree : str or None
        How nodes split their region: ``none``, ``sample`` or ``dyadic``; None for block codes.
    source : str

    Examples
    --------
    >>> from refmiracle import codes
    >>> code = codes.describe("pfr")
    >>> code.number, code.exact, code.of
    (2, True, 'block')
    """

    name: str
    number: int
    exact: bool
    of: str
    tree: str | None
    source: str


CODES = {
    code.name: code
    for code in (
        Code(MRC, 0, False, BLOCK, None, "minimal random coding, arXiv 1810.00440"),
        Code(ORC, 1, False, BLOCK, None, "ordered random coding, arXiv 2110.12805"),
        Code(PFR, 2, True, BLOCK, None, "global A* coding, arXiv 2201.12857"),
        Code(SP_PFR, 3, True, BLOCK, None, "space partitioning, arXiv 2405.12203"),
        Code("as-star", 4, True, VARIABLE, "sample", "A* coding, arXiv 2201.12857"),
        Code("ad-star", 5, True, VARIABLE, "dyadic", "A* coding, arXiv 2201.12857"),
        Code("dad-star", 6, False, VARIABLE, "dyadic", "A* coding, arXiv 2201.12857"),
        Code("grc", 7, True, VARIABLE, "none", "greedy rejection, arXiv 2304.10407, 2309.15746"),
        Code("grc-s", 8, True, VARIABLE, "sample", "greedy rejection, arXiv 2309.15746"),
        Code("grc-d", 9, True, VARIABLE, "dyadic", "greedy rejection, arXiv 2309.15746"),
        Code("gprs", 10, True, VARIABLE, "none", "greedy Poisson, arXiv 2305.15313"),
        Code("gprs-s", 11, True, VARIABLE, "sample", "greedy Poisson, arXiv 2305.15313"),
        Code("gprs-d", 12, True, VARIABLE, "dyadic", "greedy Poisson, arXiv 2305.15313"),
    )
}


@dataclass(frozen=True, eq=False)
class Message:
    """What the sender sends, and what the receiver must know besides the seed.

    Attributes
    ----------
    code : str
    integers : ndarray of int64, shape (targets, 1) or (targets, dimensions)
        One for each target, or one for each variable of it.
    block_bits : int
        log2 of the candidates (`mrc`, `orc`) or of the bins (`sp-pfr`); 0 for other codes.
    oversampling : int
        How many of the bits (or, for `dad-star`, of the depth) are above the KL.
    shape : tuple of int
        Of the sample.

    Examples
    --------
    What was sent as plain integers is a message again:

    >>> from refmiracle import codes
    >>> sent = codes.encode(([0.5], [0.5]), (0.0, 1.0), seed=3, code="mrc", bits=4).integers
    >>> message = codes.Message("mrc", sent, block_bits=4, oversampling=0, shape=(1,))
    >>> codes.decode(message, (0.0, 1.0), seed=3).shape
    (1,)
    """

    code: str
    integers: NDArray[np.int64]
    block_bits: int
    oversampling: int
    shape: tuple[int, ...]

    def bits(self, kl_bits: float) -> NDArray[np.float64]:
        """Return the length of the message of each target in bits, shape (targets,).

        Minimal random coding sends `block_bits` each.  The other integers are coded by the
        log-geometric law with the theta that suits the mean KL; `rec.lengths.mean_bits_bound`
        says what theory expects.

        Parameters
        ----------
        kl_bits : float
            Mean KL of what one integer sends, a block or a variable, in bits.

        Raises
        ------
        InputError
            If that is no number from 0 to 1000.
        """
        kl_bits = kl_of(kl_bits)
        if self.code == MRC:
            return np.full(len(self.integers), float(self.block_bits))
        raw = raw_bits(self.code, self.block_bits)
        # Space partitioning: n counts candidates of one bin, about 1 + r 2^-K of them, and the
        # floor of log2 n is about half a bit below it.
        left = max(0.0, math.log2(1.0 + 2.0 ** (kl_bits - raw)) - 0.5) if raw else kl_bits
        n = to_positive(self.code, self.integers) >> raw
        return raw + log_geometric_bits(n, theta_of_kl(left)).sum(axis=1)


def find_code(name: str) -> Code:
    """Return a code by its name.

    Raises
    ------
    InputError
        If there is no such code.
    """
    if not isinstance(name, str) or name not in CODES:
        raise InputError(f"code {name!r} is unknown; expected one of {', '.join(CODES)}")
    return CODES[name]


def encode(
    target: Gaussian,
    coding: Gaussian,
    seed: int,
    code: str = "gprs-d",
    *,
    bits: int | None = None,
    oversampling: int = 0,
    engine: str = "numba",
) -> Message:
    """Encode one sample of each target.

    Parameters
    ----------
    target, coding : Gaussian
        Q and P of the same shape; target t draws from its own randomness.
    seed : int
        Shared with the receiver; 0 <= seed < 2**32.
    code : str
        One of `CODES`.
    bits : int, optional
        log2 of the candidates (`mrc`, `orc`) or bins (`sp-pfr`, 0 to 24).  By default
        max(1, ceil(KL)) + oversampling for the former, of the target with the largest KL, and
        the mean KL, rounded, for the latter.
    oversampling : int
        Bits above the KL, for `mrc`, `orc` and `dad-star`.
    engine : str

    Raises
    ------
    InputError
        If the code, a target or a number is not possible (docs/CODES.md, section 2).
    """
    seed = whole_number("the seed", seed)
    oversampling = whole_number("oversampling", oversampling, end=LARGEST_OVERSAMPLING + 1)
    kind, loaded = find_code(code), get_engine(engine)
    delta, log_s, shape = whitened(target, coding)
    kl = loaded.gaussian_kl(delta, log_s).sum(axis=1) / math.log(2)
    bits = _default_bits(code, kl, oversampling) if bits is None else bits
    _check_bits(code, bits)
    integers = encode_blocks(
        loaded, code, seed, bits, np.arange(len(delta)), delta, log_s, oversampling=oversampling
    )
    own_bits = bits if kind.name in (MRC, ORC, SP_PFR) else 0
    return Message(code, integers, own_bits, oversampling, shape)


def decode(
    message: Message, coding: Gaussian, seed: int, *, engine: str = "numba"
) -> NDArray[np.float64]:
    """Return the samples that a message names, in the shape of the targets.

    The whitened float32 samples are the same bits for every engine.

    Raises
    ------
    InputError
        If a number is out of range, an integer names no candidate, or shapes do not go together.
    """
    seed = whole_number("the seed", seed)
    code, bits, shape = message.code, message.block_bits, shape_of(message.shape)
    _check_bits(code, bits)
    targets, dimension = (*shape, 1, 1)[:2]
    integers = as_array("integers", message.integers)
    fits = integers.shape == (targets, integers_per_block(code, dimension))
    if not (fits and targets * dimension and bits >= 0):
        raise InputError(
            f"integers of shape {integers.shape} and {bits} bits for a sample of shape {shape}"
        )
    check_messages(code, bits, integers)
    z = decode_blocks(get_engine(engine), code, seed, bits, np.arange(targets), integers, dimension)
    sample = z.astype(np.float64).reshape(shape)
    if whitened(Gaussian(sample, np.ones(())), coding)[2] != shape:
        raise InputError(f"the coding distribution is not one of shape {shape}")
    return np.asarray(coding.mean + coding.sigma * sample)


def encode_blocks(
    engine: Engine,
    code: str,
    seed: int,
    bits: int,
    blocks: ArrayLike,
    delta: Array,
    log_s: Array,
    selection: str = "sample",
    oversampling: int = 0,
) -> NDArray[np.int64]:
    """Return the integers that are sent for whitened blocks.

    Parameters
    ----------
    engine : Engine
    code : str
        One of `CODES`.
    seed, bits : int
        `bits` is that of `mrc`, `orc` and `sp-pfr`; others do without.
    blocks : array_like of int, shape (R,)
        The blocks' numbers in the file; the row of a variable is block * block_size + position.
    delta, log_s : ndarray, shape (R, block_size)
        (mean of Q - mean of P) / sigma of P, and log(sigma_Q^2 / sigma_P^2).
    selection : str
        How `mrc` chooses; see `minimal_random_coding.encode`.
    oversampling : int
        Of `dad-star`.

    Returns
    -------
    ndarray of int64, shape (R, 1) for codes of blocks, (R, block_size) for codes of variables

    Raises
    ------
    InputError
        If a target is refused (docs/CODES.md, section 2), or arrays do not go together.
    """
    delta, log_s = as_array("delta", delta), as_array("log_s", log_s)
    if not (delta.ndim == 2 and delta.shape == log_s.shape and len(delta) == np.size(blocks)):
        raise InputError(
            f"{np.size(blocks)} blocks, delta {delta.shape} and log s {log_s.shape} do not go"
            " together"
        )
    if code == MRC:
        sent = minimal_random_coding.encode(engine, seed, bits, blocks, delta, log_s, selection)
    elif code == ORC:
        sent = engine.ordered_indices(seed, bits, blocks, delta, log_s)
    elif code == PFR:
        sent = engine.poisson_indices(seed, blocks, delta, log_s)
    elif code == SP_PFR:
        sent = engine.partition_messages(seed, bits, blocks, delta, log_s)
    else:
        rows = variable_rows(blocks, delta.shape[1])
        sent = engine.variable_messages(
            code, seed, rows.ravel(), delta.ravel(), log_s.ravel(), oversampling
        )
    return sent.reshape(len(delta), integers_per_block(code, delta.shape[1]))


def decode_blocks(
    engine: Engine,
    code: str,
    seed: int,
    bits: int,
    blocks: ArrayLike,
    messages: ArrayLike,
    dimension: int,
) -> NDArray[np.float32]:
    """Return the whitened samples that messages of `encode_blocks` name.

    Parameters
    ----------
    messages : array_like of int, shape (R, 1) or (R, dimension)
    dimension : int
        The block size.

    Returns
    -------
    ndarray of float32, shape (R, dimension)
        The same bits for every engine.

    Raises
    ------
    InputError
        If a message names no candidate, or arrays do not go together.
    """
    messages = whole_numbers("messages", messages, SMALLEST, BEYOND)
    expected = np.size(blocks), integers_per_block(code, dimension)
    if messages.shape != expected:
        raise InputError(f"messages of shape {messages.shape}; expected {expected}")
    if code in (MRC, ORC, PFR):  # all three name rows of the codebook
        return minimal_random_coding.decode(engine, seed, messages[:, 0], dimension)
    if code == SP_PFR:
        return engine.partition_rows(seed, bits, blocks, messages[:, 0], dimension)
    rows = variable_rows(blocks, dimension)
    z = engine.variable_samples(code, seed, rows.ravel(), messages.ravel())
    return z.reshape(len(messages), dimension)


def variable_rows(blocks: ArrayLike, dimension: int) -> NDArray[np.int64]:
    """Return the rows of randomness of the variables of blocks, shape (R, dimension)."""
    rows = whole_numbers("blocks", blocks)[:, None] * dimension + np.arange(dimension)
    if rows.size and rows.max() >= WORD:
        raise InputError(f"variable {rows.max()} has no randomness; expected numbers below 2^32")
    return rows


def integers_per_block(code: str, dimension: int) -> int:
    """Return how many integers send a block of so many variables."""
    return dimension if find_code(code).of == VARIABLE else 1


def raw_bits(code: str, bits: int) -> int:
    """Return how many low bits of each message are sent plainly: the bin of space partitioning."""
    return bits if code == SP_PFR else 0


def to_positive(code: str, messages: ArrayLike) -> NDArray[np.int64]:
    """Return messages as the integers that are entropy-coded: row k of the codebook is k + 1."""
    return whole_numbers("messages", messages, SMALLEST, BEYOND) + (code in (ORC, PFR))


def from_positive(code: str, integers: ArrayLike) -> NDArray[np.int64]:
    """Return the messages of entropy-coded integers; undoes `to_positive`."""
    return whole_numbers("integers", integers, SMALLEST, BEYOND) - (code in (ORC, PFR))


def check_messages(code: str, bits: int, messages: ArrayLike) -> None:
    """Refuse messages that name no candidate.

    Raises
    ------
    InputError
        If one is out of the range of its code.
    """
    ranges = {
        MRC: (0, 1 << bits),
        ORC: (0, 1 << bits),
        PFR: (0, WORD),
        SP_PFR: (1 << bits, WORD << bits),
    }
    low, high = ranges.get(code, (1, LARGEST_NODE))
    messages = np.asarray(messages)
    if messages.size and messages.dtype.kind not in "iu":
        raise InputError(f"messages of {messages.dtype}; expected integers")
    outside = (messages < low) | (messages >= high)
    if outside.any():
        raise InputError(
            f"{messages[outside].flat[0]} is no message of the code {code}; expected"
            f" {low} to {high - 1}"
        )


def _default_bits(code: str, kl_bits: Array, oversampling: int) -> int:
    if not (len(kl_bits) and np.all(np.isfinite(kl_bits))):
        return 1 + oversampling  # the engines say what is wrong with such targets
    if code == SP_PFR:
        return min(round(float(kl_bits.mean())), LARGEST_PARTITION_BITS)
    return max(1, math.ceil(kl_bits.max())) + oversampling


def _check_bits(code: str, bits: int) -> None:
    largest = {MRC: LARGEST_SEARCH_BITS, ORC: LARGEST_SEARCH_BITS, SP_PFR: LARGEST_PARTITION_BITS}
    bits = whole_number("bits", bits, SMALLEST, BEYOND)
    if find_code(code).name in largest and not 0 <= bits <= largest[code]:
        raise InputError(f"{bits} bits for the code {code}; expected 0 to {largest[code]}")
