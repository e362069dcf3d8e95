"""Nodes of the codes of variables in plain Python: docs/CODES.md section 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mpmath
from golden.sources import spec_decoder
from mpmath import mpf

CANDIDATES = 9
LARGEST_U = 1.0 - 2.0**-53
WORD = 2**32


def uniform(high: int, low: int) -> float:
    """Return a uniform of 53 bits from two words; exact."""
    return (high * 2**20 + (low >> 12) + 0.5) / 2.0**52


@dataclass(frozen=True)
class Draws:
    """The random numbers of one variable."""

    seed: int
    row: int

    def pair(self, node: int, lane: int) -> tuple[float, float]:
        """Return the two uniforms of a lane of a node."""
        counter = (node % WORD, self.row, node // WORD, lane)
        w = spec_decoder.philox4x32(counter, (self.seed, CANDIDATES))
        return uniform(w[0], w[1]), uniform(w[2], w[3])

    def v(self, node: int) -> float:
        """Return the sender's uniform V of a node."""
        return self.pair(node, 0)[1]

    def exponential(self, node: int) -> Any:
        """Return E = -log V of a node, in mpmath."""
        return -mpmath.log(mpf(self.v(node)))

    def branch(self, node: int) -> float:
        """Return U' of a node."""
        return self.pair(node, 1)[0]


@dataclass(frozen=True)
class Node:
    """A node and its region (a, b) of u; each operation on them is rounded in float64."""

    draws: Draws
    tree: str
    number: int = 1
    a: float = 0.0
    b: float = 1.0

    def mass(self) -> Any:
        """Return P of the region, in mpmath."""
        return mpf(self.b) - mpf(self.a)

    def u(self) -> float:
        """Return the place of the sample."""
        return min(self.a + (self.b - self.a) * self.draws.pair(self.number, 0)[0], LARGEST_U)

    def z(self) -> float:
        """Return the sample, in float64."""
        return spec_decoder.quantile(self.u())

    def children(self) -> tuple[Node, Node]:
        """Return the left and the right child."""
        c = self.u() if self.tree == "sample" else (self.a + self.b) / 2
        left = Node(self.draws, self.tree, 2 * self.number, self.a, c)
        return left, Node(self.draws, self.tree, 2 * self.number + 1, c, self.b)

    def following(self) -> Node:
        """Return the next candidate, where there is no tree."""
        return Node(self.draws, self.tree, self.number + 1)


def find_node(draws: Draws, tree: str, number: int) -> Node:
    """Return a node by its number, from the root downwards."""
    if tree == "none":
        return Node(draws, tree, number)
    node = Node(draws, tree)
    for bit in f"{number:b}"[1:]:
        node = node.children()[int(bit)]
    return node
