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
from refmiracle.numerics.arrays import read_only, tiles
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


class Node(NamedTuple):
    """A node of a tree and its region (a, b) of u = P(x), whose mass under P is b - a."""

    number: int
    a: float
    b: float


ROOT = Node(1, 0.0, 1.0)


def uniforms(seed: int, rows: ArrayLike, nodes: ArrayLike, lanes: int = 2) -> Array:
    """Return U, V and U' of nodes of rows (docs/CODES.md, section 1).

    U places the node's sample; V and U' are the sender's, for its exponential variate and for
    the choice of a branch.  U' is in the second of two lanes, which a decoder does without.

    Parameters
    ----------
    seed : int
    rows : array_like of int, shape (N,) or ()
        The variable's number is its row, 0 <= row < 2**32.
    nodes : array_like of int, shape (N,)
        1 <= node < 2**62.
    lanes : int
        2, or 1 for U and V alone.

    Returns
    -------
    ndarray of float64, shape (N, 3), or (N, 2) of one lane
        Strictly between 0 and 1.
    """
    nodes = np.asarray(nodes, dtype=np.uint64)
    counter = np.empty((len(nodes), lanes, 4), dtype=np.uint64)
    counter[..., 0] = (nodes & LOW_WORD)[:, None]
    counter[..., 1] = np.asarray(rows, dtype=np.uint64).reshape(-1, 1)
    counter[..., 2] = (nodes >> WORD_BITS)[:, None]
    counter[..., 3] = np.arange(lanes)
    w = philox4x32(counter, (seed, int(Stream.CANDIDATES))).astype(np.float64)
    u, v = ((w[..., k] * 2.0**20 + w[..., k + 1] // 2**12 + 0.5) * 2.0**-52 for k in (0, 2))
    return np.column_stack([u[:, 0], v[:, 0], u[:, 1:]])


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
    a, b = np.zeros(len(numbers)), np.ones(len(numbers))
    # Most nodes of a file may be roots, which have no path.
    below = np.flatnonzero(numbers > 1) if tree != "none" else np.empty(0, dtype=np.int64)
    for _, part in tiles(1, len(below)):
        on = below[part]
        a[on], b[on] = _follow(tree, seed, rows[on], numbers[on])
    u = np.empty(len(numbers))
    for _, part in tiles(1, len(numbers)):
        u[part] = _place(a[part], b[part], uniforms(seed, rows[part], numbers[part], 1)[:, 0])
    return u


def _follow(
    tree: str, seed: int, rows: NDArray[np.uint64], numbers: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Return the regions of nodes, from the root down."""
    a, b = np.zeros(len(numbers)), np.ones(len(numbers))
    for level in range(int(numbers.max()).bit_length() - 1, 0, -1):
        # The ancestor of a node that stands `level` levels above it, where there is one.
        on = np.flatnonzero(numbers >> level)
        a_n, b_n, ancestor = a[on], b[on], numbers[on] >> level
        c = 0.5 * (a_n + b_n)
        if tree == "sample":
            c = _place(a_n, b_n, uniforms(seed, rows[on], ancestor, 1)[:, 0])
        right = (numbers[on] >> (level - 1) & 1).astype(bool)
        a[on], b[on] = np.where(right, c, a_n), np.where(right, b_n, c)
    return a, b


def _place(a: Array, b: Array, uniform: Array) -> Array:
    return np.minimum(a + (b - a) * uniform, LAST_U)
