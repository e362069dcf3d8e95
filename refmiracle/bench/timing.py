"""Measuring in alternation: each round gives every contender one turn, one after the other.

A machine drifts, by its temperature and by what else it runs; contenders that take turns drift
together, and their ratio within a round hardly does.  A turn is a burst: one call that is not
counted, which finds the caches of the contender before it and its own threads asleep, and then as
many as fill the turn.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]
Call = Callable[[], object]

LEAST_ROUNDS = 3
RESAMPLES = 2000
SLOW_SECONDS = 0.5


@dataclass(frozen=True)
class Pace:
    """How long to measure.

    Attributes
    ----------
    rounds : int
        Turns of each contender, at most.
    turn : float
        Seconds that a turn takes: its last call begins within them.
    limit : float
        Seconds after which a figure is content with 3 rounds.
    """

    rounds: int = 9
    turn: float = 0.25
    limit: float = 15.0


def take_turn(call: Call, seconds: float) -> float:
    """Call until the seconds of a turn are over, once at least; return the mean of a call."""
    begin = time.perf_counter()
    count = 0
    while True:
        call()
        count += 1
        elapsed = time.perf_counter() - begin
        if elapsed >= seconds:
            return elapsed / count


def warm_up(call: Call) -> bool:
    """Call until everything is compiled and in place; return whether a call is slow."""
    if take_turn(call, 0.0) < SLOW_SECONDS:
        call()
    return take_turn(call, 0.0) >= SLOW_SECONDS


def alternate(calls: Mapping[str, Call], pace: Pace) -> dict[str, Samples]:
    """Measure contenders in alternation.

    Parameters
    ----------
    calls : mapping of str to callable
    pace : Pace

    Returns
    -------
    dict of str to ndarray of float64, shape (rounds,)
        Mean seconds of a call in each round, by the contenders' names.
    """
    begin = time.perf_counter()
    slow = {name: warm_up(call) for name, call in calls.items()}
    names = list(calls)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(pace.rounds):
        if number >= LEAST_ROUNDS and time.perf_counter() - begin > pace.limit:
            break
        # Each contender comes first in turn, so that none always follows the same other.
        first = number % len(names)
        for name in names[first:] + names[:first]:
            if not slow[name]:
                calls[name]()
            samples[name].append(take_turn(calls[name], pace.turn))
    return {name: np.array(values) for name, values in samples.items()}


class OthersWatch:
    """Watches what share of the processors others take, where the system tells (Linux).

    One busy process beside the bench can slow a library whose threads wait for each other by an
    order of magnitude, and another hardly at all; such a ratio says nothing.
    """

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.before = self._seconds()

    @staticmethod
    def _seconds() -> float | None:
        """Return the processor seconds of all other processes since the system started."""
        try:
            first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
        except OSError:
            return None
        user, nice, system, _, _, irq, softirq, steal = map(int, first.split()[1:9])
        busy = user + nice + system + irq + softirq + steal
        return busy / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])

    def share(self) -> float | None:
        """Return the others' share of all processors since this began, in [0, 1]."""
        now = self._seconds()
        if now is None or self.before is None:
            return None
        # The system counts what was done on all processors, ours or not.
        available = (time.perf_counter() - self.begin) * (os.cpu_count() or 1)
        return min(1.0, max(0.0, (now - self.before) / available))


def quartiles(samples: Samples) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    low, median, high = np.percentile(samples, [25.0, 50.0, 75.0])
    return float(low), float(median), float(high)


def ratio(ours: Samples, peer: Samples) -> tuple[float, tuple[float, float] | None]:
    """Return the median over the rounds of ours / peer, and its 95 % bootstrap interval.

    One round alone has no interval.
    """
    by_round = ours / peer
    if len(by_round) == 1:
        return float(by_round[0]), None
    draws = np.random.default_rng(0).choice(by_round, (RESAMPLES, len(by_round)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(by_round)), (float(low), float(high))
