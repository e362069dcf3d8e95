"""Codes of blocks against the codebook: ordered random coding and the Poisson representation.

docs/CODES.md section 3.  Every candidate in float64, the best few in mpmath, as in selection.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import mpmath
from golden import selection
from golden.selection import SELECTION
from golden.sources import spec_decoder
from golden.unimodal import CODEBOOK_REACH, Target
from mpmath import mpf

FINALISTS = 8
# Nats that a float32 engine may lose, in a score and in a sum of thousands of variates; or that
# part of the terms of a log-weight.
TOLERANCE, SHARE_OF_TERMS = 1e-3, 1e-5
# How far the search goes beyond the bound, so that its rounding cannot count.
MARGIN = 0.1
LARGEST_SEARCH = 2**15


class Candidates:
    """The rows of a codebook, drawn as they are asked for."""

    def __init__(self, seed: int, dimension: int) -> None:
        self.seed, self.dimension = seed, dimension
        self.rows: list[list[float]] = []

    def __getitem__(self, index: int) -> list[float]:
        while len(self.rows) <= index:
            self.rows.append(selection.candidate(self.seed, len(self.rows), self.dimension))
        return self.rows[index]


def exponential_words(seed: int, block: int) -> Iterator[int]:
    """Yield the words of a row of the stream SELECTION, without end."""
    for n in itertools.count():
        yield from spec_decoder.philox4x32((n, block, 0, 0), (seed, SELECTION))


def log_bound(delta: Sequence[float], log_s: Sequence[float]) -> float:
    """Return the logarithm of the supremum of r within the reach of the codebook, in nats."""
    targets = itertools.starmap(Target, zip(delta, log_s, strict=True))
    return float(
        mpmath.fsum(t.log_sup(-CODEBOOK_REACH, CODEBOOK_REACH, CODEBOOK_REACH) for t in targets)
    )


def least(scores: dict[int, Any], terms: Any) -> tuple[int, float]:
    """Return the key of the least score and its distance to the second.

    Raises
    ------
    ValueError
        If a float32 error could take the second.
    """
    order = sorted(scores, key=lambda k: (scores[k], k))
    gap = min(float(scores[order[1]] - scores[order[0]]), MARGIN) if len(order) > 1 else MARGIN
    magnitude = max(sum(map(abs, terms(k))) for k in order[:2])
    if gap < max(TOLERANCE, SHARE_OF_TERMS * magnitude):
        raise ValueError(f"the best leads by {gap} only")
    return order[0], gap


def choose(
    candidates: Candidates,
    block: int,
    delta: Sequence[float],
    log_s: Sequence[float],
    bits: int | None,
) -> tuple[int, float]:
    """Return argmin_k log T_k - log r(z_k) and its gap; without `bits` the search has no end."""
    size = LARGEST_SEARCH if bits is None else 2**bits
    bound = log_bound(delta, log_s)
    words: list[int] = []
    rough: list[float] = []
    best, arrival = math.inf, 0.0
    for k, word in zip(range(size), exponential_words(candidates.seed, block), strict=False):
        share = 1.0 if bits is None else size / (size - k)
        arrival += -math.log((word + 0.5) / 2**32) * share
        if math.log(arrival) - bound >= best + MARGIN:
            break
        words.append(word)
        terms = selection.terms(candidates[k], delta, log_s, float, math.exp)
        rough.append(math.log(arrival) - sum(terms))
        best = min(best, rough[-1])
    else:
        if bits is None:
            raise ValueError(f"block {block}: {size} candidates were not enough")
    finalists = sorted(range(len(rough)), key=lambda k: (rough[k], k))[:FINALISTS]
    exact = exact_arrivals(words[: max(finalists) + 1], None if bits is None else size)
    scores = {
        k: mpmath.log(exact[k]) - selection.log_weight(candidates[k], delta, log_s)
        for k in finalists
    }
    return least(scores, lambda k: selection.terms(candidates[k], delta, log_s, float, math.exp))


def exact_arrivals(words: Sequence[int], size: int | None) -> list[Any]:
    """Return T_k in mpmath; with a size, those of the ordered variates."""
    exponentials = (-mpmath.log((mpf(w) + mpf(1) / 2) / 2**32) for w in words)
    shares = (e if size is None else e * size / (size - k) for k, e in enumerate(exponentials))
    return list(itertools.accumulate(shares))
