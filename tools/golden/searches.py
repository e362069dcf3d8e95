"""The codes of variables, docs/CODES.md section 4, each decision taken in mpmath.

A gap says how near the closest decision came to another answer: in nats for scores, levels and
arrival times (the logarithm of a ratio), as a probability for a branch, in standard deviations
of the target for a side of the mode.  What is closer than TOLERANCE is rejected; float64 errs by
far less.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import Any

import mpmath
from golden.trees import Draws, Node
from golden.unimodal import VARIABLE_REACH, Target, quantile
from mpmath import mpf

TOLERANCE = 1e-6
# How far beyond the best A* goes on, so that errors of bounds cannot count; no gap is larger.
MARGIN = 0.25
LARGEST_SEARCH = 20_000

TREES = {
    "as-star": "sample",
    "ad-star": "dyadic",
    "dad-star": "dyadic",
    "grc": "none",
    "grc-s": "sample",
    "grc-d": "dyadic",
    "gprs": "none",
    "gprs-s": "sample",
    "gprs-d": "dyadic",
}


@dataclass
class Closest:
    """The decision that came closest to another one."""

    gap: float = MARGIN

    def note(self, distance: Any) -> None:
        """Count a decision."""
        self.gap = min(self.gap, float(abs(distance)))


def choose(code: str, seed: int, row: int, delta: float, log_s: float) -> tuple[int, float]:
    """Return the message of a variable, and its gap.

    Raises
    ------
    ValueError
        If float64 could take another decision.
    """
    root, target = Node(Draws(seed, row), TREES[code]), Target(delta, log_s)
    closest = Closest()
    if code == "gprs-d":
        number = poisson_queue(root, target, closest)
    elif code.startswith("gprs"):
        number = poisson_path(root, target, closest)
    elif code.startswith("grc"):
        number = greedy_path(root, target, closest)
    else:
        limit = depth_limit(target) if code == "dad-star" else None
        number = a_star(root, target, closest, limit)
    if closest.gap < TOLERANCE:
        raise ValueError(f"{code}, row {row}: a decision is as close as {closest.gap}")
    return number, closest.gap


def log_ratio(a: Any, b: Any) -> Any:
    """Return log(a / b); infinite where one is 0."""
    return mpmath.log(a / b) if a and b else mpmath.inf


def log_sup(target: Target, node: Node) -> Any:
    """Return the supremum of log r over the region of a node."""
    return target.log_sup(quantile(node.a), quantile(node.b))


def depth_limit(target: Target) -> int:
    """Return 2^bits: the first node number that `dad-star` does not have."""
    bits = target.kl() / mpmath.log(2)
    # Engines take what rounding has put above a whole number, 2^-20 of it, for that number.
    if bits and abs(bits - mpmath.nint(bits)) < max(TOLERANCE, bits * 2.0**-19):
        raise ValueError(f"{float(bits)} bits are too near a whole number")
    return 2 ** max(1, int(mpmath.ceil(bits)))


def a_star(root: Node, target: Target, closest: Closest, limit: int | None) -> int:
    """Return the node with the least log T - log r(z)."""
    first = root.draws.exponential(1)
    queue = [(mpmath.log(first) - log_sup(target, root), 1, first, root)]
    scores: list[tuple[Any, int]] = []
    best = mpmath.inf
    while queue and queue[0][0] < best + MARGIN:
        _, number, arrival, node = heapq.heappop(queue)
        scores.append((mpmath.log(arrival) - target.log_r(node.z()), number))
        best = min(best, scores[-1][0])
        for child in node.children():
            if (limit is None or child.number < limit) and child.a < child.b:
                later = arrival + root.draws.exponential(child.number) / child.mass()
                bound = mpmath.log(later) - log_sup(target, child)
                if bound < best + MARGIN:
                    heapq.heappush(queue, (bound, child.number, later, child))
    scores.sort()
    if len(scores) > 1:
        closest.note(scores[1][0] - scores[0][0])
    return scores[0][1]


def greedy_path(root: Node, target: Target, closest: Closest) -> int:
    """Return the node that greedy rejection coding accepts."""
    node, level = root, mpf(0)
    for _ in range(LARGEST_SEARCH):
        step = target.resolved(level, node.a, node.b) / node.mass()
        threshold = level + mpf(node.draws.v(node.number)) * step
        ratio = mpmath.exp(target.log_r(node.z()))
        closest.note(log_ratio(ratio, threshold))
        if threshold < ratio:
            return node.number
        level += step
        if node.tree == "none":
            node = node.following()
            continue
        left, right = node.children()
        masses = [target.resolved(level, child.a, child.b) for child in (left, right)]
        share, u = masses[0] / sum(masses), mpf(node.draws.branch(node.number))
        closest.note(u - share)
        node = left if u < share else right
    raise ValueError(f"{LARGEST_SEARCH} candidates were not enough")


def in_time(target: Target, arrival: Any, ratio: Any, closest: Closest) -> bool:
    """Tell whether T <= sigma(r), where the bounds h <= sigma(h) <= h / R(h) do not say it."""
    if arrival < ratio * (1 - mpf(MARGIN)):
        closest.note(log_ratio(ratio, arrival))
        return True
    left = target.remaining(ratio)
    if left == 0:
        return True
    if arrival > ratio / left * (1 + mpf(MARGIN)):
        closest.note(log_ratio(arrival, ratio / left))
        return False
    sigma = target.sigma(ratio)
    closest.note(log_ratio(arrival, sigma))
    return arrival <= sigma


def poisson_path(root: Node, target: Target, closest: Closest) -> int:
    """Return the node that greedy Poisson rejection sampling accepts, on one path or none."""
    node, arrival, mode = root, mpf(0), target.mode()
    for _ in range(LARGEST_SEARCH):
        arrival += node.draws.exponential(node.number) / node.mass()
        z = mpf(node.z())
        if in_time(target, arrival, mpmath.exp(target.log_r(z)), closest):
            return node.number
        if node.tree == "none":
            node = node.following()
            continue
        if abs(mode) < VARIABLE_REACH:
            closest.note((z - mode) / target.sigma_z)
        node = node.children()[1 if z <= mode else 0]
    raise ValueError(f"{LARGEST_SEARCH} candidates were not enough")


def poisson_queue(root: Node, target: Target, closest: Closest) -> int:
    """Return the first node of the tree, in order of arrival, that is accepted."""
    queue = [(root.draws.exponential(1), 1, root)]
    for _ in itertools.repeat(None, LARGEST_SEARCH):
        arrival, number, node = heapq.heappop(queue)
        if in_time(target, arrival, mpmath.exp(target.log_r(node.z())), closest):
            if queue:
                closest.note(log_ratio(queue[0][0], arrival))
            return number
        for child in node.children():
            if child.a < child.b:
                later = arrival + root.draws.exponential(child.number) / child.mass()
                top = mpmath.exp(log_sup(target, child))
                left = target.remaining(top)
                # sigma(h) <= h / R(h): what is dropped here could not be accepted.
                if left == 0 or later < top / left:
                    heapq.heappush(queue, (later, child.number, child))
    raise ValueError(f"{LARGEST_SEARCH} nodes were not enough")
