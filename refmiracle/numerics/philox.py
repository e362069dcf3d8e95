"""Philox4x32-10 and the named random streams, in plain NumPy.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
Counter-based: word i of row r of a stream is a pure function of (seed, stream, r, i), so nothing
here holds state, and any part of any stream can be computed alone.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.numerics.arrays import tiles
from refmiracle.numerics.whole import ROW_WORDS, whole_number, whole_numbers

UINT64 = np.dtype(np.uint64)
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
LOW_WORD = np.uint64(0xFFFFFFFF)
WORD_BITS = np.uint64(32)


class Stream(IntEnum):
    """The second key word: one independent stream for each use of randomness.

    CODEBOOK, PERMUTATION, SIGNS, CANDIDATES and PARTITION are part of the file format
    (docs/SPEC.md); the others are private to the encoder.
    """

    INITIALISATION = 0
    NOISE = 1
    BATCHES = 2
    CODEBOOK = 3
    SELECTION = 4
    PERMUTATION = 5
    SIGNS = 6
    ORDER = 7
    SHIFTS = 8
    CANDIDATES = 9
    PARTITION = 10
    PROPOSAL = 11
    DIVISION = 12
    FLIPS = 13


def philox4x32(counter: ArrayLike, key: ArrayLike, rounds: int = 10) -> NDArray[np.uint32]:
    """Apply the Philox4x32 bijection to counters.

    Parameters
    ----------
    counter : array_like of uint32, shape (..., 4)
    key : array_like of uint32, shape (2,)
    rounds : int
        10 is the published standard and the only value that the file format uses.

    Returns
    -------
    ndarray of uint32, shape (..., 4)

    Raises
    ------
    InputError
        If a word is no whole number, or not below 2**32.
    """
    c0, c1, c2, c3 = np.moveaxis(whole_numbers("counter", counter, dtype=UINT64), -1, 0)
    k0, k1 = whole_numbers("key", key).tolist()
    for _ in range(rounds):
        product0 = MULTIPLIERS[0] * c0
        product1 = MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> WORD_BITS) ^ c1 ^ np.uint64(k0),
            product1 & LOW_WORD,
            (product0 >> WORD_BITS) ^ c3 ^ np.uint64(k1),
            product0 & LOW_WORD,
        )
        k0 = (k0 + KEY_INCREMENTS[0]) & 0xFFFFFFFF
        k1 = (k1 + KEY_INCREMENTS[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def stream_words(
    seed: int, stream: int, rows: ArrayLike, count: int, first: int = 0
) -> NDArray[np.uint32]:
    """Return words first, ..., first + count - 1 of rows of a named stream.

    Word i of row r is word i mod 4 of Philox4x32-10 at counter (i div 4, r, 0, 0) under the key
    (seed, stream).

    Parameters
    ----------
    seed : int
        0 <= seed < 2**32.
    stream : int
        A member of `Stream`.
    rows : array_like of int, shape (R,)
        0 <= row < 2**32.
    count, first : int
        Which words of each row, of its 2**34.

    Returns
    -------
    ndarray of uint32, shape (R, count)

    Raises
    ------
    InputError
        If a number is no whole number, or out of range.
    """
    seed, stream = whole_number("seed", seed), whole_number("stream", stream)
    first = whole_number("first", first, end=ROW_WORDS)
    count = whole_number("count", count, end=ROW_WORDS + 1 - first)
    rows = whole_numbers("rows", rows, dtype=UINT64)
    blocks = range(first // 4, -(-(first + count) // 4))
    words = np.empty((len(rows), len(blocks), 4), dtype=np.uint32)
    for r, b in tiles(len(rows), len(blocks)):
        counter = np.zeros((*words[r, b].shape[:2], 4), dtype=np.uint64)
        counter[..., 0] = np.arange(blocks[b].start, blocks[b].stop)
        counter[..., 1] = rows[r, None]
        words[r, b] = philox4x32(counter, (seed, stream))
    return words.reshape(len(rows), 4 * len(blocks))[:, first % 4 : first % 4 + count]


def words_to_uniform(words: ArrayLike) -> NDArray[np.float64]:
    """Map words to the midpoints (word + 1/2) / 2**32 of (0, 1); exact in float64."""
    return (np.asarray(words, dtype=np.float64) + 0.5) * 2.0**-32


def stream_permutation(seed: int, stream: int, row: int, count: int) -> NDArray[np.int64]:
    """Return a random permutation of range(count): the order that sorts `count` stream words.

    Equal words keep the order of their positions (a stable sort), so every language finds the
    same permutation.

    Returns
    -------
    ndarray of int64, shape (count,)
        Position p of the permuted sequence holds element ``permutation[p]``.
    """
    pairs = stream_words(seed, stream, [row], count)[0].astype(np.uint64)
    # Behind its word, each position breaks the tie of equal words, and comes out with it.
    pairs <<= WORD_BITS
    pairs |= np.arange(count, dtype=np.uint32)
    pairs.sort()
    pairs &= LOW_WORD
    return pairs.view(np.int64)
