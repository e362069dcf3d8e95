"""Minimal random coding (Havasi, Peharz and Hernandez-Lobato, arXiv 1810.00440, algorithm 1).

The encoder draws index k of candidate z_k ~ P, k < K = 2^bits, with probability proportional to
q(z_k) / p(z_k); the decoder draws the same candidates and takes number k.  The sample follows Q
approximately: its total variation distance to Q is at most sqrt(chi^2(Q || P) / K) / 2.  At
bits = KL / ln 2, where Mean-KL trains, the sample is visibly narrower than Q; the training of the
blocks that are still open makes up for it (docs/derivations.md gives figures).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.engines.contract import Array, Engine
from refmiracle.errors import InputError
from refmiracle.numerics.limits import LARGEST_SEARCH_BITS
from refmiracle.numerics.whole import whole_number, whole_numbers

SELECTIONS = ("sample", "best")


def encode(
    engine: Engine,
    seed: int,
    bits: int,
    blocks: ArrayLike,
    delta: Array,
    log_s: Array,
    selection: str = "sample",
) -> NDArray[np.int64]:
    """Return one index for each block; the only thing that is sent for it.

    Parameters
    ----------
    engine : Engine
    seed : int
        Names the codebook, and the private stream of the selection.
    bits : int
        log2 of the number of candidates.
    blocks : array_like of int, shape (R,)
        The blocks' numbers in the file: each draws from its own row of the private stream.
    delta, log_s : ndarray, shape (R, block_size)
        Whitened posteriors mu / rho and log(sigma^2 / rho^2).
    selection : str
        ``sample`` draws the index as algorithm 1 does; ``best`` takes the candidate with the
        largest q(z_k) / p(z_k), which is no sample of Q: it lies nearer to the mean.

    Returns
    -------
    ndarray of int64, shape (R,)
        0 <= index < 2**bits.

    Raises
    ------
    InputError
        If a number is out of range, arrays do not go together, or a target is not finite or so
        narrow that log q / p is not.
    """
    _check(seed, bits, blocks, delta, log_s, selection)
    return engine.select_indices(seed, bits, blocks, delta, log_s, best=selection == "best")


def decode(engine: Engine, seed: int, indices: ArrayLike, dimension: int) -> NDArray[np.float32]:
    """Return the whitened samples that indices name, shape (R, dimension), in float32.

    Raises
    ------
    InputError
        If the seed or an index is not in 0 <= number < 2**32.
    """
    whole_numbers("an index", indices)
    whole_number("the seed", seed)
    return engine.codebook_rows(seed, indices, dimension)


def _check(
    seed: int, bits: int, blocks: ArrayLike, delta: Array, log_s: Array, selection: str
) -> None:
    """Refuse what compiled code, which does not look at bounds, would make nonsense of."""
    if selection not in SELECTIONS:
        raise InputError(f"selection {selection!r}; expected one of {', '.join(SELECTIONS)}")
    whole_number("bits of candidates:", bits, end=LARGEST_SEARCH_BITS + 1)
    whole_number("the seed", seed)
    whole_numbers("a block's number", blocks)
    shapes = np.shape(delta), np.shape(log_s)
    fits = shapes[0] == shapes[1] and np.shape(blocks) == shapes[0][:1]
    if not (fits and len(shapes[0]) == 2 and np.size(delta)):
        raise InputError(
            f"{np.size(blocks)} blocks, delta {shapes[0]} and log s {shapes[1]} do not go together"
        )
