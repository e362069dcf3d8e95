"""Ordered random coding and the Poisson functional representation of blocks.

Both send the index of the candidate z_k of the codebook whose arrival T_k, divided by its density
ratio r(z_k), is the least; they differ in the arrival times (docs/CODES.md section 3).

- Ordered random coding: 2^bits candidates; an index of less than `bits` bits, by its entropy; not
  exact, with minimal random coding's bias.
- Poisson functional representation: about 2^D_inf[Q || P] candidates; at most KL + log2(KL + 1) + 4
  bits on average (Li and El Gamal, theorem 1); exact.

Sources: Theis and Yosri, arXiv 2110.12805 (ordered random coding); Flamich, Markou and
Hernandez-Lobato, arXiv 2201.12857 (global A* coding), after Li and El Gamal, arXiv 1701.02827.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.engines.numpy_engine.mrc import (
    CANDIDATES_AT_ONCE,
    Array,
    codebook_rows,
    log_weights,
)
from refmiracle.errors import InputError
from refmiracle.numerics.limits import (
    CODEBOOK_REACH,
    LARGEST_SEARCH_BITS,
    ROUNDING,
    check_targets,
)
from refmiracle.numerics.normal import portable_log
from refmiracle.numerics.philox import Stream, stream_words, words_to_uniform


def ordered_indices(
    seed: int, bits: int, blocks: ArrayLike, delta: Array, log_s: Array
) -> NDArray[np.int64]:
    """Return for each block the index argmin_k log T_k - log r(z_k) of N = 2^bits candidates.

    T_k = T_(k-1) + E_k N / (N - k), E_k = -log u_k, u_k from the row of the stream SELECTION
    that bears the block's number; of equals the lowest index.  docs/CODES.md section 3; arXiv
    2110.12805, algorithm 2.

    Parameters
    ----------
    seed : int
    bits : int
        0 <= bits <= 26.
    blocks : array_like of int, shape (R,)
        Numbers of the blocks within the file; 0 <= number < 2**32.
    delta, log_s : ndarray of float, shape (R, D)
        Whitened targets Q = N(delta, s), P = N(0, 1).

    Returns
    -------
    ndarray of int64, shape (R,)
        0 <= index < 2**bits.

    Raises
    ------
    InputError
        If `bits` is out of range, or a target is refused (`limits.check_targets`).
    """
    check_bits(bits, LARGEST_SEARCH_BITS, "ordered random coding")
    check_targets(delta, log_s)
    return _first_by_ratio(seed, blocks, delta, log_s, 2**bits)


def poisson_indices(seed: int, blocks: ArrayLike, delta: Array, log_s: Array) -> NDArray[np.int64]:
    """Return for each block the index argmin_k log T_k - log r(z_k), k = 0, 1, ... without end.

    As `ordered_indices`, but T_k = T_(k-1) + E_k: the arrivals of a Poisson process, so the
    candidate follows Q exactly.  docs/CODES.md section 3; arXiv 2201.12857, algorithm 1.

    Returns
    -------
    ndarray of int64, shape (R,)
        index >= 0; the mean of log2(index + 1) is about the KL in bits.

    Raises
    ------
    InputError
        If a target is refused, or its search would need more than 2^26 candidates.
    """
    check_targets(delta, log_s)
    log_bound = log_suprema(delta, log_s, -CODEBOOK_REACH, CODEBOOK_REACH).sum(axis=1)
    check_search(blocks, log_bound, delta, log_s, CODEBOOK_REACH)
    return _first_by_ratio(seed, blocks, delta, log_s, None)


def _first_by_ratio(
    seed: int, blocks: ArrayLike, delta: Array, log_s: Array, N: int | None
) -> NDArray[np.int64]:
    """Return argmin_k log T_k - log r(z_k) of N candidates, or of all (None).

    A block drops out once log T_k - log r_max >= its best score: no later one can be lower.
    """
    blocks, (delta, log_s) = np.asarray(blocks), as_float64(delta, log_s)
    log_r_max = log_suprema(delta, log_s, -CODEBOOK_REACH, CODEBOOK_REACH).sum(axis=1) + ROUNDING
    best, index = np.full(len(blocks), np.inf), np.zeros(len(blocks), dtype=np.int64)
    last, live, start = np.zeros(len(blocks)), np.arange(len(blocks)), 0
    size = chunk_size(log_r_max)
    while len(live) and (N is None or start < N):
        k = np.arange(start, start + size if N is None else min(start + size, N))
        E = exponentials(stream_words(seed, Stream.SELECTION, blocks[live], len(k), start))
        T = running_sums(last[live], E if N is None else E * N / (N - k))
        log_r = log_weights(codebook_rows(seed, k, delta.shape[1]), delta[live], log_s[live])
        score = np.log(T) - log_r
        first = score.argmin(axis=1)
        least = score[np.arange(len(live)), first]
        index[live] = np.where(least < best[live], k[first], index[live])
        best[live], last[live] = np.minimum(best[live], least), T[:, -1]
        live = live[np.log(last[live]) - log_r_max[live] < best[live]]
        start += len(k)
    return index


def as_float64(*arrays: ArrayLike) -> tuple[Array, ...]:
    """Return arrays in float64; an engine's own may be float32."""
    return tuple(np.asarray(a, dtype=np.float64) for a in arrays)


def chunk_size(log_bound: Array) -> int:
    """Return how many candidates to take at a time; not many more than the search needs."""
    needed = 2.0 * math.exp(min(float(np.max(log_bound, initial=0.0)), 20.0))
    return min(CANDIDATES_AT_ONCE, 16 + int(needed))


def exponentials(words: ArrayLike) -> Array:
    """Return -log((word + 1/2) / 2^32), by the logarithm that is the same bits everywhere."""
    return -portable_log(words_to_uniform(words))


def running_sums(last: Array, terms: Array) -> Array:
    """Return last + terms[..., 0], that + terms[..., 1], ...: added in the order of candidates.

    All engines add in this order, so their arrival times are the same bits; their log T - log r
    may differ by rounding, and so may the index, but only where two scores nearly tie.
    """
    return np.cumsum(np.concatenate([last[..., None], terms], axis=-1), axis=-1)[..., 1:]


def log_suprema(delta: ArrayLike, log_s: ArrayLike, low: ArrayLike, high: ArrayLike) -> Array:
    """Return sup of log q / p in nats over low <= z <= high, of each place.

    log r is concave (s <= 1), so its maximum is at the mode delta / (1 - s) clipped to the
    interval.  With y = z - delta: log r = delta^2 / 2 + y (delta - y (1/s - 1) / 2) - (log s) / 2.

    Parameters
    ----------
    delta, log_s, low, high : array_like of float
        Shapes that broadcast.

    Returns
    -------
    ndarray of float64
    """
    delta, log_s, low, high = as_float64(delta, log_s, low, high)
    # 1/s - 1; where it is 0 (never -0), r rises without end or is constant.
    narrowness = np.abs(np.expm1(-log_s))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mode = np.where(delta == 0.0, 0.0, delta / narrowness)  # less delta
    y = np.clip(mode, low - delta, high - delta)
    return 0.5 * delta**2 + y * (delta - 0.5 * y * narrowness) - 0.5 * log_s


def log_mass_within(delta: ArrayLike, log_s: ArrayLike, reach: ArrayLike) -> Array:
    """Return log Q(abs z <= reach) in nats, of each place: -inf where Q has nothing there."""
    delta, log_s = as_float64(delta, log_s)
    scale = math.sqrt(0.5) * np.exp(-0.5 * log_s)
    to_end = (np.asarray(reach) - np.abs(delta)) * scale
    # Beyond the farther end Q has next to nothing: s <= 1, and that is 6 or more away.
    tail = 0.5 * np.vectorize(math.erfc, otypes=[np.float64])(np.abs(to_end))
    with np.errstate(divide="ignore"):
        return np.where(to_end > 0.0, np.log1p(-tail), np.log(tail))


def check_bits(bits: int, largest: int, code: str) -> None:
    """Refuse a number of bits that is not 0, ..., largest."""
    if not 0 <= bits <= largest:
        raise InputError(f"{code} with {bits} bits; expected 0 to {largest}")


def check_search(
    blocks: ArrayLike, log_bound: Array, delta: ArrayLike, log_s: ArrayLike, reach: ArrayLike
) -> None:
    """Refuse blocks whose exact search would take more than 2^26 candidates.

    The least T / r is an exponential variate of rate Q(abs z <= reach), so a search with r <= bound
    takes bound / Q(abs z <= reach) candidates on average.

    Parameters
    ----------
    blocks : array_like of int, shape (R,)
    log_bound : ndarray, shape (R,)
        In nats.
    delta, log_s : array_like, shape (R, D)
    reach : array_like, broadcast to (R, D)
        How far out samples lie.
    """
    bits = (log_bound - log_mass_within(delta, log_s, reach).sum(axis=1)) / math.log(2.0)
    if np.any(bits > LARGEST_SEARCH_BITS):
        worst = int(np.argmax(bits))
        raise InputError(
            f"block {np.asarray(blocks)[worst]} needs a search of about 2^{bits[worst]:.1f}"
            f" candidates; at most 2^{LARGEST_SEARCH_BITS} are possible: give its code fewer bits"
            " or smaller blocks"
        )
