"""The codes of blocks, one message for each (docs/CODES.md, section 3)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.codes import minimal_random_coding
from refmiracle.codes.code import Code, Shared
from refmiracle.engines.contract import Array
from refmiracle.numerics.limits import LARGEST_PARTITION_BITS, LARGEST_SEARCH_BITS
from refmiracle.numerics.whole import WORD

# Exact codes of blocks try some 2^D_inf candidates, or little less, and far more than 2^KL.
LARGEST_EXACT_BITS = 8
LARGEST_EXACT_BLOCK = 17  # variables


class CodeOfRows(Code):
    """A code whose messages are rows of the codebook; as positive integers they count from 1."""

    shares_codebook = True

    def to_positive(self, messages: ArrayLike) -> NDArray[np.int64]:
        """Return rows as the integers that are entropy-coded."""
        return super().to_positive(messages) + 1

    def from_positive(self, integers: ArrayLike) -> NDArray[np.int64]:
        """Return the rows of entropy-coded integers."""
        return super().from_positive(integers) - 1

    def _decode(
        self, shared: Shared, messages: NDArray[np.int64], dimension: int
    ) -> NDArray[np.float32]:
        rows = messages[:, 0]
        return minimal_random_coding.decode(shared.engine, shared.seed, rows, dimension)


class CodeOfCandidates(CodeOfRows):
    """A code that chooses among the first 2^bits rows, so that the sample is near Q."""

    largest_bits = LARGEST_SEARCH_BITS

    def message_range(self, bits: int) -> tuple[int, int]:
        """Return 0 and the number of candidates."""
        return 0, 1 << bits

    def search_bits(self, bits: int, places: int, kl_bits: float, d_inf_bits: float) -> float:
        """Return the bits: each candidate is looked at."""
        return bits


class MinimalRandomCoding(CodeOfCandidates):
    """See `minimal_random_coding`; the one code whose messages have a fixed length."""

    fixed_length = True
    selections = minimal_random_coding.SELECTIONS
    takes_wider = True

    def _encode(
        self, shared: Shared, delta: Array, log_s: Array, selection: str, oversampling: int
    ) -> NDArray[np.int64]:
        return minimal_random_coding.encode(*shared, delta, log_s, selection)

    def expected_bits(self, bits: int, dimension: int) -> float:
        """Return the bits of the index."""
        return bits

    def message_bits(
        self, messages: NDArray[np.int64], bits: int, kl_bits: float
    ) -> NDArray[np.float64]:
        """Return the bits of the index for each target."""
        return np.full(len(messages), float(bits))

    @property
    def in_words(self) -> str:
        """What a report calls it."""
        return "minimal random coding: all blocks use one table of candidates"


class OrderedRandomCoding(CodeOfCandidates):
    """Minimal random coding whose likelier rows have lower numbers."""

    def _encode(
        self, shared: Shared, delta: Array, log_s: Array, selection: str, oversampling: int
    ) -> NDArray[np.int64]:
        engine, seed, bits, blocks = shared
        return engine.ordered_indices(seed, bits, blocks, delta, log_s)


class GlobalAStar(CodeOfRows):
    """The Poisson functional representation: rows until none behind them can be better."""

    largest_kl_bits = LARGEST_EXACT_BITS
    largest_block = LARGEST_EXACT_BLOCK

    def _encode(
        self, shared: Shared, delta: Array, log_s: Array, selection: str, oversampling: int
    ) -> NDArray[np.int64]:
        return shared.engine.poisson_indices(shared.seed, shared.blocks, delta, log_s)

    def message_range(self, bits: int) -> tuple[int, int]:
        """Return 0 and the number of rows."""
        return 0, WORD


class SpacePartitioning(Code):
    """The same within bins of equal probability: candidate n of bin j is n 2^bits + j.

    The bin is sent plainly, as it is as likely as any other.
    """

    largest_bits = LARGEST_PARTITION_BITS
    largest_kl_bits = LARGEST_EXACT_BITS
    largest_block = LARGEST_EXACT_BLOCK

    def _encode(
        self, shared: Shared, delta: Array, log_s: Array, selection: str, oversampling: int
    ) -> NDArray[np.int64]:
        engine, seed, bits, blocks = shared
        return engine.partition_messages(seed, bits, blocks, delta, log_s)

    def _decode(
        self, shared: Shared, messages: NDArray[np.int64], dimension: int
    ) -> NDArray[np.float32]:
        engine, seed, bits, blocks = shared
        return engine.partition_rows(seed, bits, blocks, messages[:, 0], dimension)

    def message_range(self, bits: int) -> tuple[int, int]:
        """Return candidate 1 of the first bin, and what is above the last of the last."""
        return 1 << bits, WORD << bits

    def default_bits(self, kl_bits: Array, oversampling: int = 0) -> int:
        """Return the mean KL, rounded."""
        return min(round(float(np.mean(kl_bits))), LARGEST_PARTITION_BITS)

    def search_bits(self, bits: int, places: int, kl_bits: float, d_inf_bits: float) -> float:
        """Return log2 of the intervals: of each place, of which each has its share of the bits."""
        return math.ceil(bits / places) + math.log2(places)

    def raw_bits(self, bits: int) -> int:
        """Return those of the bin."""
        return bits

    def left_bits(self, kl_bits: float, bits: int) -> float:
        """Return log2 of the candidates of one bin, about 1 + r 2^-bits of them."""
        return math.log2(1.0 + 2.0 ** (kl_bits - bits)) if bits else kl_bits
