"""Minimal random coding of blocks against a codebook that the decoder can draw too.

Source: Havasi, Peharz and Hernandez-Lobato, arXiv 1810.00440, algorithm 1: draw K = 2^bits
candidates from P, send the index of one drawn with probability proportional to q / p.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.engines.numpy_engine.normals import fill_normals
from refmiracle.numerics.limits import check_weighable
from refmiracle.numerics.philox import Stream, stream_words, words_to_uniform

Array = NDArray[np.float64]

CANDIDATES_AT_ONCE = 4096


def codebook_rows(seed: int, indices: ArrayLike, dimension: int) -> NDArray[np.float32]:
    """Return the candidates that indices name: standard normals, rounded to float32.

    Row k of the codebook is row k of the stream CODEBOOK; the same on every machine.

    Parameters
    ----------
    seed : int
    indices : array_like of int, shape (R,)
        0 <= index < 2**32.
    dimension : int
        Normals in each candidate (the block size).

    Returns
    -------
    ndarray of float32, shape (R, dimension)
    """
    indices = np.asarray(indices)
    rows = np.empty((len(indices), dimension), dtype=np.float32)
    return fill_normals(seed, Stream.CODEBOOK, indices, rows)


def log_weights(candidates: ArrayLike, delta: Array, log_s: Array) -> Array:
    """Return log q(z) / p(z) in nats of every candidate for every block.

    With Q = N(delta, s) and P = N(0, 1), whitened, y = z - delta, equation (34a) of
    docs/derivations.md::

        sum_d delta^2 / 2 + y (delta - y (1/s - 1) / 2) - (log s) / 2

    As z^2 / 2 - y^2 / (2 s) it would be a difference of like terms where Q is next to P; expanded
    in z^2 and z, two matrix products, one of huge terms where s is tiny.

    Parameters
    ----------
    candidates : ndarray, shape (K, block_size)
    delta, log_s : ndarray, shape (blocks, block_size)

    Returns
    -------
    ndarray of float64, shape (blocks, K)
    """
    z = np.asarray(candidates, dtype=np.float64)
    log_w = np.empty((len(delta), len(z)))
    for own, d, ls in zip(log_w, delta, log_s, strict=True):
        own[:] = _log_weights(z - d, d, ls).sum(axis=1)
    return log_w


def _log_weights(y: Array, delta: Array, log_s: Array) -> Array:
    """Return log q / p at delta + y, of each weight."""
    return 0.5 * delta**2 + y * (delta - 0.5 * y * np.expm1(-log_s)) - 0.5 * log_s


def select_indices(
    seed: int, bits: int, blocks: ArrayLike, delta: Array, log_s: Array, best: bool = False
) -> NDArray[np.int64]:
    """Draw for each block the index k of a candidate with probability q(z_k)/p(z_k) / sum.

    By Gumbel-max: argmax_k log w_k + g_k with g_k = -log(-log u_k), u_k from the row of the
    stream SELECTION that bears the block's number; of equal sums the lowest index wins:
    equations (33) and (35) of docs/derivations.md.  The candidates pass in chunks, so memory does
    not grow with their number.

    Parameters
    ----------
    seed : int
    bits : int
        K = 2**bits candidates.
    blocks : array_like of int, shape (R,)
        Numbers of the blocks within the file.
    delta, log_s : ndarray, shape (R, block_size)
        Whitened posteriors of those blocks.
    best : bool
        Take argmax_k log w_k instead, without g_k: no sample of Q, but near to its centre.

    Returns
    -------
    ndarray of int64, shape (R,)

    Raises
    ------
    InputError
        If log q / p of a target would not be finite.
    """
    check_weighable(delta, log_s)
    blocks = np.asarray(blocks)
    highest = np.full(len(blocks), -np.inf)
    index = np.zeros(len(blocks), dtype=np.int64)
    for start in range(0, 2**bits, CANDIDATES_AT_ONCE):
        rows = np.arange(start, min(start + CANDIDATES_AT_ONCE, 2**bits))
        lw = log_weights(codebook_rows(seed, rows, delta.shape[1]), delta, log_s)
        score = lw if best else lw + gumbel(seed, blocks, len(rows), start)
        k = score.argmax(axis=1)
        top = score[np.arange(len(blocks)), k]
        index = np.where(top > highest, rows[k], index)
        highest = np.maximum(top, highest)
    return index


def gumbel(seed: int, blocks: ArrayLike, count: int, first: int) -> Array:
    """Return Gumbel variates first, ..., first + count - 1 of rows of the stream SELECTION."""
    words = stream_words(seed, Stream.SELECTION, blocks, count, first)
    return -np.log(-np.log(words_to_uniform(words)))
