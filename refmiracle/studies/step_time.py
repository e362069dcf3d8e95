"""What a training step of each parameterization costs, measured in alternation."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from refmiracle.posterior.parameterizations import COMPARED
from refmiracle.studies.comparison import Comparison
from refmiracle.training.data import Split
from refmiracle.training.settings import fingerprint
from refmiracle.training.trainer import Trainer

ROUNDS, STEPS = 15, 20


@dataclass(frozen=True)
class Timing:
    """Seconds a step in each round, by parameterization.

    Attributes
    ----------
    rounds : dict of str to list of float
    """

    rounds: dict[str, list[float]]

    def median(self, parameterization: str) -> float:
        """Return the median of the rounds, seconds a step."""
        return median(self.rounds[parameterization])

    def to_dict(self) -> dict[str, Any]:
        """Return medians, and the median of the rounds' ratios Mean-Var / Mean-KL."""
        ours, theirs = (self.rounds[p] for p in COMPARED)
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        return {**{p: self.median(p) for p in self.rounds}, "ratio": median(ratios)}


def time_steps(comparison: Comparison, train: Split) -> Timing:
    """Time steps of fresh runs of both, one after the other, round by round.

    Parameters
    ----------
    comparison : Comparison
    train : Split
        The images to train on.
    """
    steps = (ROUNDS + 1) * STEPS
    plan = replace(comparison, lengths=(steps,), seeds=comparison.seeds[:1])
    trainers = {
        settings.parameterization: Trainer(settings, train)
        for settings in plan.all_settings(fingerprint(train)).values()
    }
    rounds: dict[str, list[float]] = {name: [] for name in trainers}
    for number in range(ROUNDS + 1):
        for name, trainer in trainers.items():
            started = time.perf_counter()
            for _ in range(STEPS):
                trainer.train_step()
            if number:  # the first warms up
                rounds[name].append((time.perf_counter() - started) / STEPS)
    return Timing(rounds)
