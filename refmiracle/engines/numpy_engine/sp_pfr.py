"""Space partitioning: an exact code of blocks that proposes where Q is likely.

The bin of a sample, K bits, is sent beside its number within the bin, so the sender may propose
bins as it likes, and needs about Z candidates where the Poisson functional representation needs
r_max (docs/CODES.md section 3).

- Runtime: about Z candidates on average; the paper handles a KL some three times larger.
- Length: K bits, and about log2(1 + r 2^-K) for the number within the bin: KL + O(log KL).

Source: He, Flamich and Hernandez-Lobato, arXiv 2405.12203.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.engines.numpy_engine.mrc import Array, log_weights
from refmiracle.engines.numpy_engine.orc_pfr import (
    as_float64,
    check_bits,
    check_search,
    chunk_size,
    exponentials,
    log_suprema,
    running_sums,
)
from refmiracle.errors import InputError
from refmiracle.numerics.arrays import read_only, tiles
from refmiracle.numerics.limits import LARGEST_PARTITION_BITS, LAST_U, ROUNDING, check_targets
from refmiracle.numerics.normal import normal_quantile
from refmiracle.numerics.philox import Stream, philox4x32, words_to_uniform

Integers = NDArray[np.int64]

QUANTILES_AT_ONCE = 2**14
TABLE_FLOATS = 2**18  # proposals of so many blocks at a time as fit in here


class Intervals(NamedTuple):
    """The intervals of the D places of a block, as bits and as edges; W the most of any place."""

    bits: Integers  # (D,): place d has 2^k_d intervals
    edges: Array  # (D, W + 1): in z; where place d has fewer intervals, the last edge again
    reach: Array  # (D,): no sample of the place lies further out


class Proposal(NamedTuple):
    """What the sender proposes from, for blocks (...) of D places; W as in `Intervals`."""

    log_sup: Array  # (..., D, W): log m_d(i), -inf where place d has no interval i
    log_bound: Array  # (..., D): log Z_d
    cumulative: Array  # (..., D, W): pi_d(0) + ... + pi_d(i)


def place_bits(bits: int, dimension: int) -> Integers:
    """Return k_d of each place, shape (D,)."""
    return np.diff(np.arange(dimension + 1) * bits // dimension)


@lru_cache(maxsize=1)
def intervals(bits: int, dimension: int) -> Intervals:
    """Return the intervals of equal P-mass into which K = `bits` bits part each place.

    The outermost end where the least of the 32-bit uniforms in them does.
    """
    k = place_bits(bits, dimension)
    reach = -normal_quantile(2.0 ** -(33.0 + k))
    edges = np.repeat(reach[:, None], 2 ** int(k.max()) + 1, axis=1)
    edges[:, 0] = -reach
    for own in set(k.tolist()):
        # In stretches, whose scratch stays in the caches.
        for start in range(1, 2**own, QUANTILES_AT_ONCE):
            i = np.arange(start, min(start + QUANTILES_AT_ONCE, 2**own))
            edges[np.ix_(k == own, i)] = normal_quantile(i / 2**own)
    return Intervals(read_only(k), read_only(edges), read_only(reach))


def proposal(bits: int, delta: Array, log_s: Array) -> Proposal:
    """Return pi_d(i) = 2^-k_d m_d(i) / Z_d for blocks of targets, shape (..., D).

    m_d(i) is the sup of r_d over interval i of place d, Z_d = sum_i 2^-k_d m_d(i); this pi makes
    Z = prod_d Z_d, the bound on dQ/dP', the least that there is.
    """
    k, edges, _ = intervals(bits, delta.shape[-1])
    log_sup = log_suprema(delta[..., None], log_s[..., None], edges[:, :-1], edges[:, 1:])
    log_sup = np.where(np.arange(edges.shape[1] - 1) < 2 ** k[:, None], log_sup, -np.inf)
    highest = log_sup.max(axis=-1, keepdims=True)
    mass = np.exp(log_sup - highest)
    total = mass.sum(axis=-1, keepdims=True)
    log_Z = (highest + np.log(total))[..., 0] - math.log(2.0) * k
    return Proposal(log_sup, log_Z, np.cumsum(mass / total, axis=-1))


def partition_messages(
    seed: int, bits: int, blocks: ArrayLike, delta: Array, log_s: Array
) -> Integers:
    """Return for each block the message n 2^K + j: candidate n >= 1 of bin j.

    (j, n) = argmin_t log T_t - log r'(z_t) over the arrivals t, r' = r(z) prod_d Z_d / m_d(j_d);
    docs/CODES.md section 3.

    Parameters
    ----------
    seed : int
    bits : int
        K, 0 to 24: about the KL in bits is best.
    blocks : array_like of int, shape (R,)
        Numbers of the blocks within the file; 0 <= number < 2**32.
    delta, log_s : ndarray of float, shape (R, D)
        Whitened targets Q = N(delta, s), P = N(0, 1).

    Returns
    -------
    ndarray of int64, shape (R,)

    Raises
    ------
    InputError
        If `bits` is out of range, a target is refused, or a search would need more than 2^26
        candidates.
    """
    blocks, delta, log_s = check_partition(bits, blocks, delta, log_s)
    return np.array(
        [
            _message(seed, bits, int(i), d, ls)
            for i, d, ls in zip(blocks, delta, log_s, strict=True)
        ],
        dtype=np.int64,
    )


def check_partition(
    bits: int, blocks: ArrayLike, delta: ArrayLike, log_s: ArrayLike
) -> tuple[Integers, Array, Array]:
    """Refuse what cannot be sent; return blocks, delta and log_s as arrays."""
    check_bits(bits, LARGEST_PARTITION_BITS, "space partitioning")
    check_targets(delta, log_s)
    blocks, (delta, log_s) = np.asarray(blocks, dtype=np.int64), as_float64(delta, log_s)
    for part in table_parts(bits, *delta.shape):
        log_bound = proposal(bits, delta[part], log_s[part]).log_bound.sum(axis=-1)
        reach = intervals(bits, delta.shape[1]).reach
        check_search(blocks[part], log_bound, delta[part], log_s[part], reach)
    return blocks, delta, log_s


def table_parts(bits: int, blocks: int, dimension: int) -> list[slice]:
    """Split range(blocks) into parts whose proposals do not fill the memory."""
    size = max(1, TABLE_FLOATS // max(1, intervals(bits, dimension).edges.size))
    return [slice(start, min(start + size, blocks)) for start in range(0, blocks, size)]


def _message(seed: int, bits: int, block: int, delta: Array, log_s: Array) -> int:
    """Return n 2^K + j of one block."""
    k = intervals(bits, len(delta)).bits
    log_sup, log_Z, cumulative = proposal(bits, delta, log_s)
    log_bound = log_Z.sum() + ROUNDING
    size, places = chunk_size(log_bound), np.arange(len(delta))
    arrived: Counter[int] = Counter()  # so far, in each bin
    best, message, last, start = np.inf, 0, np.zeros(()), 0
    while start == 0 or np.log(last) - log_bound < best:
        t = np.arange(start, start + size)
        words = _words(seed, Stream.PROPOSAL, (t, block, 0), 1 + len(delta))
        T = running_sums(last, exponentials(words[:, 0]))
        j_d = _find(cumulative, words_to_uniform(words[:, 1:]), k)
        j = join_bins(j_d, k)
        n = _ordinals(arrived, j)
        z = _samples(seed, block, n, j, j_d, k)
        log_r = log_weights(z, delta[None], log_s[None])[0]
        score = np.log(T) - (log_r + (log_Z - log_sup[places, j_d]).sum(axis=1))
        first = int(score.argmin())
        if score[first] < best:
            best, message = score[first], (int(n[first]) << bits) + int(j[first])
        last, start = T[-1], start + size
    return message


def _words(
    seed: int, stream: int, counters: tuple[ArrayLike, ...], count: int, group: int = 0
) -> Integers:
    """Return `count` words of counters (c0, c1, c2, group), (..., group + 1), ...; (n, count)."""
    columns = np.broadcast_arrays(*counters, np.zeros(1, dtype=np.int64))[:3]
    groups = -(-count // 4)
    counter = np.zeros((len(columns[0]), groups, 4), dtype=np.uint64)
    counter[..., :3] = np.stack(columns, axis=-1)[:, None]
    counter[..., 3] = np.arange(group, group + groups)
    words = philox4x32(counter, (seed, int(stream))).reshape(len(counter), 4 * groups)
    return words[:, :count].astype(np.int64)


def _find(cumulative: Array, u: Array, k: Integers) -> Integers:
    """Return the first interval i of each place with u < cumulative[d, i]; shape (n, D)."""
    found = [np.searchsorted(c, own, side="right") for c, own in zip(cumulative, u.T, strict=True)]
    return np.minimum(np.stack(found, axis=1), 2**k - 1)  # rounding may leave the sum below 1


def join_bins(j_d: Integers, k: Integers) -> Integers:
    """Return the numbers of bins with the intervals j_d, shape (n, D): place 0 is highest."""
    return (j_d << (k.sum() - np.cumsum(k))).sum(axis=1)


def split_bins(j: Integers, bits: int, dimension: int, places: slice) -> tuple[Integers, Integers]:
    """Return the intervals of some places of D, shape (n, places), of bins j, and their k_d.

    Undoes `join_bins`; k_0 + ... + k_d = floor((d + 1) K / D).
    """
    before = np.arange(places.start, places.stop + 1) * bits // dimension
    k = np.diff(before)
    return (j[:, None] >> (bits - before[1:])) & (2**k - 1), k


def _ordinals(arrived: Counter[int], bins: Integers) -> Integers:
    """Return of each arrival its number in its own bin, counted from 1; `arrived` is updated."""
    n = np.empty(len(bins), dtype=np.int64)
    for t, j in enumerate(bins.tolist()):
        arrived[j] += 1
        n[t] = arrived[j]
    return n


def _samples(
    seed: int,
    blocks: ArrayLike,
    n: Integers,
    j: Integers,
    j_d: Integers,
    k: Integers,
    first: int = 0,
) -> Array:
    """Return z_d = quantile((j_d + (w + 1/2) / 2^32) / 2^k_d) from place `first` on; float64.

    Next to 1 the uniform may round to 1, so it is held to 1 - 2^-53 at most.  `first` is 4 g.
    """
    within = words_to_uniform(_words(seed, Stream.PARTITION, (n, blocks, j), len(k), first // 4))
    return normal_quantile(np.minimum((j_d + within) / 2.0**k, LAST_U))


def partition_rows(
    seed: int, bits: int, blocks: ArrayLike, messages: ArrayLike, dimension: int
) -> NDArray[np.float32]:
    """Return the samples that messages name; docs/CODES.md section 3.

    Parameters
    ----------
    seed, bits : int
        As the sender had them.
    blocks : array_like of int, shape (R,)
    messages : array_like of int, shape (R,)
        n 2^K + j, 1 <= n < 2**32.
    dimension : int
        D, the block size.

    Returns
    -------
    ndarray of float32, shape (R, D)

    Raises
    ------
    InputError
        If `bits` or a message is out of range.
    """
    blocks, n, j = split_messages(bits, blocks, messages)
    z = np.empty((len(j), dimension), dtype=np.float32)
    for r, c in tiles(*z.shape):
        j_d, k = split_bins(j[r], bits, dimension, c)
        z[r, c] = _samples(seed, blocks[r], n[r], j[r], j_d, k, c.start)
    return z


def split_messages(
    bits: int, blocks: ArrayLike, messages: ArrayLike
) -> tuple[Integers, Integers, Integers]:
    """Return blocks, candidates n and bins j of messages n 2^K + j, each shape (R,)."""
    check_bits(bits, LARGEST_PARTITION_BITS, "space partitioning")
    blocks, messages = np.asarray(blocks, np.int64), np.asarray(messages, np.int64)
    n, j = messages >> bits, messages & (2**bits - 1)
    wrong = (n < 1) | (n >= 2**32)
    if np.any(wrong):
        at = int(np.argmax(wrong))
        raise InputError(
            f"block {blocks[at]} has candidate {n[at]} of its bin; expected 1 to 2^32 - 1"
        )
    return blocks, n, j
