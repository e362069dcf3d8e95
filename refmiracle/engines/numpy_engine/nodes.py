"""The shared randomness of the codes of variables: nodes, their uniforms and their regions.

Source: docs/CODES.md, section 1.  Nodes of a binary tree are numbered as in a heap: the root is
1, node H has the children 2 H and 2 H + 1.  A node's number is the message; from it the decoder
replays the path to the node's region, and draws its sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.errors import InputError
from refmiracle.numerics.arrays import read_only
from refmiracle.numerics.limits import (
    DEEPER,
    LARGEST_NODE,
    LARGEST_SEARCH,
    LAST_U,
    LONGER,
    SearchError,
)
from refmiracle.numerics.philox import LOW_WORD, WORD_BITS, Stream, philox4x32

Array = NDArray[np.float64]

# Uniforms are drawn for so many nodes at a time, as one alone takes nearly as long.
TOGETHER = 64
MOST_TOGETHER = 2**16
# Nodes that a decoder follows at a time: the words of one take some 400 bytes of scratch.
PATHS_AT_ONCE = 2**16


class Node(NamedTuple):
    """A node of a tree and its region (a, b) of u = P(x), whose mass under P is b - a."""

    number: int
    a: float
    b: float


ROOT = Node(1, 0.0, 1.0)


def uniforms(seed: int, rows: ArrayLike, nodes: ArrayLike) -> Array:
    """Return U, V and U' of nodes of rows (docs/CODES.md, section 1).

    U places the node's sample; V and U' are the sender's, for its exponential variate and for
    the choice of a branch.

    Parameters
    ----------
    seed : int
    rows : array_like of int, shape (N,) or ()
        The variable's number is its row, 0 <= row < 2**32.
    nodes : array_like of int, shape (N,)
        1 <= node < 2**62.

    Returns
    -------
    ndarray of float64, shape (N, 3)
        Strictly between 0 and 1.
    """
    nodes = np.asarray(nodes, dtype=np.uint64)
    counter = np.empty((len(nodes), 2, 4), dtype=np.uint64)
    counter[..., 0] = (nodes & LOW_WORD)[:, None]
    counter[..., 1] = np.asarray(rows, dtype=np.uint64).reshape(-1, 1)
    counter[..., 2] = (nodes >> WORD_BITS)[:, None]
    counter[..., 3] = (0, 1)
    w = philox4x32(counter, (seed, int(Stream.CANDIDATES))).astype(np.float64)
    u, v = ((w[..., k] * 2.0**20 + w[..., k + 1] // 2**12 + 0.5) * 2.0**-52 for k in (0, 2))
    return np.stack([u[:, 0], v[:, 0], u[:, 1]], axis=1)


@lru_cache(maxsize=4096)
def _batch(seed: int, row: int, batch: int) -> Array:
    nodes = np.arange(TOGETHER, dtype=np.uint64) + np.uint64(TOGETHER * batch)
    return read_only(uniforms(seed, row, nodes))


def node_uniforms(seed: int, row: int, node: int) -> tuple[float, float, float]:
    """Return U, V and U' of one node."""
    u, v, branch = _batch(seed, row, node // TOGETHER)[node % TOGETHER].tolist()
    return u, v, branch


def candidate_uniforms(seed: int, row: int) -> Iterator[tuple[int, Array]]:
    """Yield the uniforms of candidates 1, 2, ... without a tree, more and more at a time.

    Yields
    ------
    first : int
        Number of the first candidate of the array.
    uniforms : ndarray of float64, shape (count, 3)

    Raises
    ------
    SearchError
        After 2^26 candidates.
    """
    first, count = 1, TOGETHER - 1
    while first <= LARGEST_SEARCH:
        count = min(count, LARGEST_SEARCH + 1 - first)
        yield first, uniforms(seed, row, np.arange(first, first + count))
        first, count = first + count, min(2 * count, MOST_TOGETHER)
    raise SearchError(LONGER)


def exponential(v: float, mass: float) -> float:
    """Return the time -log V / P(B) until the next arrival in a region."""
    return -math.log(v) / mass if mass > 0.0 else math.inf


def sample_u(node: Node, uniform: float) -> float:
    """Return the u of the node's sample, uniform over its region and below 1."""
    return min(node.a + (node.b - node.a) * uniform, LAST_U)


def children(tree: str, node: Node, u: float) -> tuple[Node, Node]:
    """Return the left and the right child, split at the sample's u or in the middle.

    Parameters
    ----------
    tree : {"sample", "dyadic"}
    node : Node
    u : float
        Of the node's sample.

    Raises
    ------
    SearchError
        If their numbers reach 2^62.
    """
    if 2 * node.number >= LARGEST_NODE:
        raise SearchError(DEEPER)
    c = u if tree == "sample" else 0.5 * (node.a + node.b)
    return Node(2 * node.number, node.a, c), Node(2 * node.number + 1, c, node.b)


def edges(nodes: tuple[Node, ...]) -> tuple[list[float], list[float]]:
    """Return the lower and the upper ends of the nodes' regions."""
    return [node.a for node in nodes], [node.b for node in nodes]


def decoded_u(tree: str, seed: int, rows: ArrayLike, numbers: ArrayLike) -> Array:
    """Return the u of the samples that node numbers name: all that a decoder needs.

    Replays the paths from the root to many nodes at a time, level by level.

    Parameters
    ----------
    tree : {"none", "sample", "dyadic"}
        With no tree every node has the region (0, 1).
    seed : int
    rows, numbers : array_like of int, shape (n,)

    Raises
    ------
    InputError
        If a number is not one of a node.
    """
    rows, numbers = np.asarray(rows, dtype=np.uint64), np.asarray(numbers)
    outside = (numbers < 1) | (numbers >= LARGEST_NODE)
    if outside.any():
        raise InputError(
            f"a message is {numbers[outside][0]}; expected a node's number, 1 to 2^62 - 1"
        )
    numbers = numbers.astype(np.int64)
    u = np.empty(len(numbers))
    for start in range(0, len(numbers), PATHS_AT_ONCE):
        part = slice(start, start + PATHS_AT_ONCE)
        u[part] = _follow(tree, seed, rows[part], numbers[part])
    return u


def _follow(tree: str, seed: int, rows: NDArray[np.uint64], numbers: NDArray[np.int64]) -> Array:
    a, b = np.zeros(len(numbers)), np.ones(len(numbers))
    highest = int(numbers.max(initial=1)).bit_length() - 1 if tree != "none" else 0
    for level in range(highest, 0, -1):
        # The ancestor of a node that stands `level` levels above it, where there is one.
        on = np.flatnonzero(numbers >> level)
        a_n, b_n, ancestor = a[on], b[on], numbers[on] >> level
        c = 0.5 * (a_n + b_n)
        if tree == "sample":
            c = _place(a_n, b_n, uniforms(seed, rows[on], ancestor)[:, 0])
        right = (numbers[on] >> (level - 1) & 1).astype(bool)
        a[on], b[on] = np.where(right, c, a_n), np.where(right, b_n, c)
    return _place(a, b, uniforms(seed, rows, numbers)[:, 0])


def _place(a: Array, b: Array, uniform: Array) -> Array:
    return np.minimum(a + (b - a) * uniform, LAST_U)
