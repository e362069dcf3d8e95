"""Minimal random coding in plain Python: every candidate in float64, the best few in mpmath.

The float64 pass only proposes; the answer, and its distance from the second, are mpmath's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
from golden.sources import spec_decoder
from mpmath import mpf

CODEBOOK, SELECTION = 3, 4
DIGITS = 50
FINALISTS = 8
# What float32 may lose: 1e-4, or 1e-5 of the terms that a log-weight sums.
TOLERANCE, SHARE_OF_TERMS = 1e-4, 1e-5


@dataclass(frozen=True)
class Choice:
    """The index of a block, and by how many nats it wins."""

    index: int
    gap: float


def candidate(seed: int, index: int, dimension: int) -> list[float]:
    """Return a row of the codebook: float32 numbers."""
    (row,) = candidates(seed, [index], dimension)
    return row


def candidates(seed: int, indices: Sequence[int], dimension: int) -> list[list[float]]:
    """Return some rows of the codebook, drawn at once."""
    rows = spec_decoder.words_of_rows(seed, CODEBOOK, indices, dimension)
    return [
        list(spec_decoder.all_to_float32([spec_decoder.normal64(w) for w in row])) for row in rows
    ]


def terms(
    z: Sequence[float], delta: Sequence[float], log_s: Sequence[float], number: Any, exp: Any
) -> list[Any]:
    """Return the terms of log q(z) / p(z), three for each weight."""
    out = []
    for x, d, ls in zip(z, delta, log_s, strict=True):
        out += [
            number(x) ** 2 / 2,
            -((number(x) - d) ** 2) / (2 * exp(number(ls))),
            -number(ls) / 2,
        ]
    return out


def log_weight(z: Sequence[float], delta: Sequence[float], log_s: Sequence[float]) -> Any:
    """Return log q(z) / p(z) in nats, in mpmath."""
    return mpmath.fsum(terms(z, delta, log_s, mpf, mpmath.exp))


def gumbel(word: int) -> Any:
    """Return the Gumbel variate of a word, in mpmath."""
    return -mpmath.log(-mpmath.log((mpf(word) + mpf(1) / 2) / 2**32))


class Codebook:
    """The candidates of a file, drawn once for all of its blocks."""

    def __init__(self, seed: int, bits: int, dimension: int) -> None:
        self.seed, self.size = seed, 2**bits
        self.rows = candidates(seed, range(self.size), dimension)

    def choose(
        self, block: int, delta: Sequence[float], log_s: Sequence[float], tie: bool = False
    ) -> Choice:
        """Return argmax_k log w_k - log(-log u_k), the lowest index of equals.

        Raises
        ------
        ValueError
            If float32 could not tell the best from the second, or a tie that the case is about
            is none.
        """
        words = spec_decoder.words(self.seed, SELECTION, block, self.size)
        rough = [-math.log(-math.log((w + 0.5) / 2**32)) for w in words]
        return self._decide(rough, lambda k: gumbel(words[k]), delta, log_s, tie)

    def best(self, delta: Sequence[float], log_s: Sequence[float], tie: bool = False) -> Choice:
        """Return argmax_k log w_k, the lowest index of equals; see `choose`."""
        return self._decide([0.0] * self.size, lambda k: mpf(0), delta, log_s, tie)

    def _decide(
        self,
        rough_variates: Sequence[float],
        variate: Callable[[int], Any],
        delta: Sequence[float],
        log_s: Sequence[float],
        tie: bool,
    ) -> Choice:
        rough = [
            sum(terms(z, delta, log_s, float, math.exp)) + g
            for z, g in zip(self.rows, rough_variates, strict=True)
        ]
        finalists = sorted(range(self.size), key=lambda k: (-rough[k], k))[:FINALISTS]
        with mpmath.workdps(DIGITS):
            exact = {k: log_weight(self.rows[k], delta, log_s) + variate(k) for k in finalists}
        order = sorted(finalists, key=lambda k: (-exact[k], k))
        if tie and exact[order[0]] != exact[order[1]]:
            raise ValueError("the best two are not equal")
        gap = float(exact[order[0]] - exact[order[2 if tie else 1]])
        magnitude = max(
            sum(map(abs, terms(self.rows[k], delta, log_s, float, math.exp))) for k in order[:3]
        )
        if gap < max(TOLERANCE, SHARE_OF_TERMS * magnitude):
            raise ValueError(f"the best leads by {gap} only")
        return Choice(order[0], gap)
