"""The codes of variables: one node of a tree for each (docs/CODES.md, section 4)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.codes.code import VARIABLE, Code, Shared
from refmiracle.engines.contract import Array
from refmiracle.errors import InputError
from refmiracle.numerics.limits import LARGEST_NODE
from refmiracle.numerics.whole import WORD, whole_numbers


class CodeOfVariables(Code):
    """A code that engines know by its name; the message is the number of a node."""

    of = VARIABLE

    def _encode(
        self, shared: Shared, delta: Array, log_s: Array, selection: str, oversampling: int
    ) -> NDArray[np.int64]:
        rows = variable_rows(shared.blocks, delta.shape[1]).ravel()
        targets = delta.ravel(), log_s.ravel()
        return shared.engine.variable_messages(self.name, shared.seed, rows, *targets, oversampling)

    def _decode(
        self, shared: Shared, messages: NDArray[np.int64], dimension: int
    ) -> NDArray[np.float32]:
        rows = variable_rows(shared.blocks, dimension).ravel()
        z = shared.engine.variable_samples(self.name, shared.seed, rows, messages.ravel())
        return z.reshape(len(messages), dimension)

    def message_range(self, bits: int) -> tuple[int, int]:
        """Return the root, and what is no node any more."""
        return 1, LARGEST_NODE

    def search_bits(self, bits: int, places: int, kl_bits: float, d_inf_bits: float) -> float:
        """Return log2 of about the depth of a tree; without one the search is global."""
        return d_inf_bits if self.tree == "none" else math.log2(kl_bits + 1.0)


class GreedyRejection(CodeOfVariables):
    """Greedy rejection coding, whose lengths have the larger logarithm."""

    log_factor = 2

    @property
    def steps_per_bit(self) -> float | None:
        """Beta of arXiv 2309.15746, for the tree that is split at its samples."""
        return 2.0 / math.log2(4.0 / 3.0) if self.tree == "sample" else None


def variable_rows(blocks: ArrayLike, dimension: int) -> NDArray[np.int64]:
    """Return the rows of randomness of the variables of blocks, shape (R, dimension)."""
    rows = whole_numbers("blocks", blocks)[:, None] * dimension + np.arange(dimension)
    if rows.size and rows.max() >= WORD:
        raise InputError(f"variable {rows.max()} has no randomness; expected numbers below 2^32")
    return rows
