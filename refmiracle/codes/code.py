"""What a relative entropy code is: all that is asked of one, whatever its kind.

Each kind is a subclass, which says how it encodes and decodes, what its messages may be, and where
else it differs; `codes.table` has the table of all codes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.codes.given import kl_of
from refmiracle.codes.lengths import log_geometric_bits, log_geometric_mean_bits, theta_of_kl
from refmiracle.engines.contract import Array, Engine
from refmiracle.errors import InputError
from refmiracle.numerics.limits import whole_bits
from refmiracle.numerics.whole import BEYOND, SMALLEST, as_array, whole_number, whole_numbers

BLOCK, VARIABLE = "block", "variable"
LARGEST_BLOCK = 2**32 - 1  # variables, whatever a code can do


class Shared(NamedTuple):
    """What both sides have of some blocks: see `Code.encode_blocks`."""

    engine: Engine
    seed: int
    bits: int
    blocks: ArrayLike


@dataclass(frozen=True)
class Code(ABC):
    """What a code is.

    Attributes
    ----------
    name : str
    number : int
        In the header of a file (docs/SPEC.md, section 2.1).
    exact : bool
        Whether the sample has the law Q, or one near it.
    source : str
    tree : str or None
        How nodes split their region: ``none``, ``sample`` or ``dyadic``; None for codes of blocks.
    constant : float or None
        Of `mean_bits_bound`, where a source states it.
    of : str
        ``block``: one message for each block; ``variable``: one for each variable.
    log_factor : int
        Its mean length is KL + log_factor log2(KL + 1) + O(1).
    fixed_length : bool
        Whether a message is one of 2**bits candidates, sent as an index of so many bits; the
        messages of others are entropy-coded.
    selections : tuple of str
        Which candidates it can be told to send; the first is what it does unless told.
    takes_wider : bool
        Whether a target may be wider than P.
    shares_codebook : bool
        Whether all blocks of a seed have the same candidates.
    largest_bits : int or None
        Of the candidates or bins of a block; None: it does without.
    largest_kl_bits : float
        Of a block, beyond which its search may not end.
    largest_block : int
        Variables of a network's block, beyond which the same is to be feared: in many variables
        D_inf is far above the KL.

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
    source: str
    tree: str | None = None
    constant: float | None = None

    of: ClassVar[str] = BLOCK
    log_factor: ClassVar[int] = 1
    fixed_length: ClassVar[bool] = False
    selections: ClassVar[tuple[str, ...]] = ("sample",)
    takes_wider: ClassVar[bool] = False
    shares_codebook: ClassVar[bool] = False
    largest_bits: ClassVar[int | None] = None
    largest_kl_bits: ClassVar[float] = math.inf
    largest_block: ClassVar[int] = LARGEST_BLOCK

    def encode_blocks(
        self,
        engine: Engine,
        seed: int,
        bits: int,
        blocks: ArrayLike,
        delta: Array,
        log_s: Array,
        selection: str = "sample",
        oversampling: int = 0,
    ) -> NDArray[np.int64]:
        """Return the messages of whitened blocks.

        Parameters
        ----------
        engine : Engine
        seed, bits : int
            Codes without `largest_bits` do without `bits`.
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
        shared = Shared(engine, seed, bits, blocks)
        messages = self._encode(shared, delta, log_s, selection, oversampling)
        return messages.reshape(len(delta), self.messages_per_block(delta.shape[1]))

    def decode_blocks(
        self,
        engine: Engine,
        seed: int,
        bits: int,
        blocks: ArrayLike,
        messages: ArrayLike,
        dimension: int,
    ) -> NDArray[np.float32]:
        """Return the whitened samples that messages of `encode_blocks` name.

        Parameters
        ----------
        engine, seed, bits, blocks
            As `encode_blocks` had them.
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
        expected = np.size(blocks), self.messages_per_block(dimension)
        if messages.shape != expected:
            raise InputError(f"messages of shape {messages.shape}; expected {expected}")
        return self._decode(Shared(engine, seed, bits, blocks), messages, dimension)

    @abstractmethod
    def _encode(
        self, shared: Shared, delta: Array, log_s: Array, selection: str, oversampling: int
    ) -> NDArray[np.int64]:
        """Return the messages of `encode_blocks` in any shape."""

    @abstractmethod
    def _decode(
        self, shared: Shared, messages: NDArray[np.int64], dimension: int
    ) -> NDArray[np.float32]:
        """Return the samples of `decode_blocks`."""

    @abstractmethod
    def message_range(self, bits: int) -> tuple[int, int]:
        """Return the smallest message, and the number above the largest."""

    def check_messages(self, bits: int, messages: ArrayLike) -> None:
        """Refuse messages that name no candidate.

        Raises
        ------
        InputError
            If one is out of the range of its code.
        """
        low, high = self.message_range(bits)
        messages = np.asarray(messages)
        if messages.size and messages.dtype.kind not in "iu":
            raise InputError(f"messages of {messages.dtype}; expected integers")
        outside = (messages < low) | (messages >= high)
        if outside.any():
            raise InputError(
                f"{messages[outside].flat[0]} is no message of the code {self.name}; expected"
                f" {low} to {high - 1}"
            )

    def check_bits(self, bits: int) -> int:
        """Return bits from outside as an int, if the code can have them.

        Raises
        ------
        InputError
            If they are no whole number, or out of range.
        """
        if self.largest_bits is None:
            return whole_number("bits", bits, SMALLEST, BEYOND)
        return whole_number(f"bits (code {self.name})", bits, 0, self.largest_bits + 1)

    def default_bits(self, kl_bits: Array, oversampling: int = 0) -> int:
        """Return the bits that suit blocks of these KLs: all candidates that the largest needs."""
        return max(1, int(whole_bits(np.max(kl_bits)))) + oversampling

    def search_bits(self, bits: int, places: int, kl_bits: float, d_inf_bits: float) -> float:
        """Return log2 of about how much is looked at for one target of so many places.

        D_inf is log2 of the supremum of q / p: what a search tries that nothing guides.
        """
        return d_inf_bits

    def messages_per_block(self, dimension: int) -> int:
        """Return how many messages send a block of so many variables."""
        return dimension if self.of == VARIABLE else 1

    def message_count(self, blocks: int, variables: int) -> int:
        """Return how many messages a file of so many blocks and variables holds."""
        return variables if self.of == VARIABLE else blocks

    def raw_bits(self, bits: int) -> int:
        """Return how many low bits of each message are sent plainly."""
        return 0

    def to_positive(self, messages: ArrayLike) -> NDArray[np.int64]:
        """Return messages as the integers that are entropy-coded, 1 or more."""
        return whole_numbers("messages", messages, SMALLEST, BEYOND)

    def from_positive(self, integers: ArrayLike) -> NDArray[np.int64]:
        """Return the messages of entropy-coded integers; undoes `to_positive`."""
        return whole_numbers("integers", integers, SMALLEST, BEYOND)

    def left_bits(self, kl_bits: float, bits: int) -> float:
        """Return what is left of a KL for the part of a message that is not sent plainly."""
        return kl_bits

    def message_bits(
        self, messages: NDArray[np.int64], bits: int, kl_bits: float
    ) -> NDArray[np.float64]:
        """Return the length of the message of each target, see `codes.Message.bits`."""
        raw, left = self.raw_bits(bits), self.left_bits(kl_bits, bits)
        if raw:  # the floor of log2 of what is left is about half a bit below it
            left = max(0.0, left - 0.5)
        n = self.to_positive(messages) >> raw
        return raw + log_geometric_bits(n, theta_of_kl(left)).sum(axis=1)

    def expected_bits(self, bits: int, dimension: int) -> float:
        """Return about how many bits a message takes, of blocks that have `bits` of divergence.

        As measured (see `theta_of_kl`): m, the mean of e, is twice a KL of 0.1 bits, near one of 1,
        and one below it from 6 on, or more with codes that are not exact.
        """
        kl = bits / self.messages_per_block(dimension)
        raw, left = self.raw_bits(bits), self.left_bits(kl, bits)
        if raw:  # see `message_bits`
            left = max(0.0, left - 0.5)
        m = min(left + 0.125, 2.0 * left) - min(left / 6.0, 1.0)
        return raw + log_geometric_mean_bits(m)

    def mean_bits_bound(self, kl_bits: float) -> float | None:
        """Return an upper bound of the mean length of one message under Zipf's law, in bits.

        KL + log2(KL + 1) + c, where the source of the code gives the constant c, with the mean KL
        for the mutual information I; else None.  Greedy rejection coding is within
        KL + 2 log2(KL + 1) + O(1) (Harsha et al. 2010, as arXiv 2304.10407 cites it); of the
        others the papers say KL + log2(KL + 1) + O(1), or that lengths are optimal up to such
        terms.  Where the constant is not known there is no bound to return.

        Parameters
        ----------
        kl_bits : float
            Mean of KL[Q || P] in bits.

        Raises
        ------
        InputError
            If that is no number from 0 to 1000.
        """
        kl_bits, constant = kl_of(kl_bits), self.constant
        return None if constant is None else kl_bits + math.log2(kl_bits + 1.0) + constant

    @property
    def steps_per_bit(self) -> float | None:
        """The steps that a bit of KL takes on average, where a source says so."""
        return None

    @property
    def in_words(self) -> str:
        """What a report calls it."""
        return f"{self.name}: {self.source}"
