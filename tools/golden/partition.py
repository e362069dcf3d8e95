"""Space partitioning, docs/CODES.md section 3: bins, what the sender proposes, and its choice."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Any

import mpmath
from golden import selection
from golden.arrivals import FINALISTS, LARGEST_SEARCH, MARGIN, exact_arrivals, least
from golden.sources import spec_decoder
from golden.unimodal import Target, quantile

PARTITION, PROPOSAL = 10, 11
# A uniform as near as this to the end of an interval could fall on its other side.
NEAREST_END = 1e-6


def bits_of_places(bits: int, dimension: int) -> list[int]:
    """Return k_d."""
    return [(d + 1) * bits // dimension - d * bits // dimension for d in range(dimension)]


def intervals_of_bin(number: int, places: Sequence[int]) -> list[int]:
    """Return j_d of bin j, whose highest bits are those of place 0."""
    out = []
    for k in reversed(places):
        out.append(number % 2**k)
        number //= 2**k
    return out[::-1]


def bin_of_intervals(intervals: Sequence[int], places: Sequence[int]) -> int:
    """Return j."""
    number = 0
    for i, k in zip(intervals, places, strict=True):
        number = number * 2**k + i
    return number


def words_at(seed: int, stream: int, head: tuple[int, int, int], count: int) -> list[int]:
    """Return words whose counters differ in the last word alone."""
    groups = (spec_decoder.philox4x32((*head, m), (seed, stream)) for m in range(-(-count // 4)))
    return list(itertools.chain.from_iterable(groups))[:count]


def candidate(seed: int, bits: int, block: int, message: int, dimension: int) -> list[float]:
    """Return the normals that a message names, in float64."""
    n, number = divmod(message, 2**bits)
    places = bits_of_places(bits, dimension)
    words = words_at(seed, PARTITION, (n, block, number), dimension)
    return [
        spec_decoder.quantile(min((j + (w + 0.5) / 2**32) / 2**k, 1 - 2.0**-53))
        for j, w, k in zip(intervals_of_bin(number, places), words, places, strict=True)
    ]


class Place:
    """One dimension of a block: the logarithms of m_d / Z_d, and the sums of pi_d."""

    def __init__(self, delta: float, log_s: float, bits: int) -> None:
        target, count = Target(delta, log_s), 2**bits
        # Where the samples of the outermost intervals end.
        reach = -quantile(2.0 ** -(33 + bits))
        ends = [quantile(i / count) for i in range(count + 1)]
        sups = [
            mpmath.exp(target.log_sup(low, high, reach)) for low, high in itertools.pairwise(ends)
        ]
        z = mpmath.fsum(sups) / count
        self.log_z = mpmath.log(z)
        self.log_share = [mpmath.log(m / z) for m in sups]
        self.sums = [float(x / count / z) for x in itertools.accumulate(sups)]

    def interval(self, u: float) -> int:
        """Return the first interval whose sum is above u.

        Raises
        ------
        ValueError
            If u is so near an end that rounding could move it over.
        """
        i = min(bisect_right(self.sums, u), len(self.sums) - 1)
        if any(abs(u - end) < NEAREST_END for end in self.sums[:-1]):
            raise ValueError(f"{u} is at the end of interval {i}")
        return i


def choose(
    seed: int, bits: int, block: int, delta: Sequence[float], log_s: Sequence[float]
) -> tuple[int, float]:
    """Return the message n 2^K + j, and its gap."""
    dimension = len(delta)
    sizes = bits_of_places(bits, dimension)
    places = [Place(d, ls, k) for d, ls, k in zip(delta, log_s, sizes, strict=True)]
    log_z = float(mpmath.fsum(place.log_z for place in places))
    seen: Counter[int] = Counter()
    words: list[int] = []
    messages: list[int] = []
    rough: list[float] = []
    offsets: list[Any] = []
    rows: list[list[float]] = []
    best, arrival = math.inf, 0.0
    for t in range(LARGEST_SEARCH):
        w = words_at(seed, PROPOSAL, (t, block, 0), 1 + dimension)
        u = [(x + 0.5) / 2**32 for x in w]
        arrival -= math.log(u[0])
        if math.log(arrival) - log_z >= best + MARGIN:
            break
        intervals = [place.interval(x) for place, x in zip(places, u[1:], strict=True)]
        number = bin_of_intervals(intervals, sizes)
        seen[number] += 1
        words.append(w[0])
        messages.append(seen[number] * 2**bits + number)
        rows.append(candidate(seed, bits, block, messages[-1], dimension))
        offsets.append(mpmath.fsum(p.log_share[i] for p, i in zip(places, intervals, strict=True)))
        terms = selection.terms(rows[-1], delta, log_s, float, math.exp)
        rough.append(math.log(arrival) - sum(terms) + float(offsets[-1]))
        best = min(best, rough[-1])
    else:
        raise ValueError(f"block {block}: {LARGEST_SEARCH} candidates were not enough")
    finalists = sorted(range(len(rough)), key=lambda t: (rough[t], t))[:FINALISTS]
    exact = exact_arrivals(words[: max(finalists) + 1], None)
    scores = {
        t: mpmath.log(exact[t]) - selection.log_weight(rows[t], delta, log_s) + offsets[t]
        for t in finalists
    }
    t, gap = least(scores, lambda t: selection.terms(rows[t], delta, log_s, float, math.exp))
    return messages[t], gap
