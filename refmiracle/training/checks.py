"""Training that has gone wrong says so: numbers that are not finite, and nothing learned."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from refmiracle.errors import CheckError, named
from refmiracle.training.trainer import Trainer

MARGIN = 3.0  # standard deviations


def check_loss(trainer: Trainer, loss: float) -> None:
    """Stop a run whose loss is no number.

    Raises
    ------
    CheckError
        If it is not finite.
    """
    if not math.isfinite(loss):
        raise _diverged(trainer, f"the loss is {loss}")


def check_finite(trainer: Trainer) -> None:
    """Stop a run that holds a number that is none.

    The loss does not tell: the parameters of a block that is encoded enter it no more.  Adam's
    moments are looked at too, as a parameter with an infinite one never moves again.

    Raises
    ------
    CheckError
        If a parameter, a moment of it or a penalty is not finite.
    """
    state, used = trainer.state, trainer.places.used
    named = {f"Adam's mean of {n}": m for n, (m, _) in state.moments.items()}
    named |= {f"Adam's variance of {n}": v for n, (_, v) in state.moments.items()}
    for name, array in (*state.parameters.items(), *named.items(), *state.extra.items()):
        values = array[used] if array.shape == used.shape else array
        wrong = values.size - np.count_nonzero(np.isfinite(values))
        if wrong:
            raise _diverged(trainer, f"{wrong} of {values.size} values of {name} are not finite")


def _diverged(trainer: Trainer, what: str) -> CheckError:
    settings, step = trainer.settings, trainer.state.step
    return CheckError(
        f"the training has gone wrong by step {step} of {trainer.total_steps()}: {what};"
        f" begin anew in another {named('out')}, with a lower rate (of refmiracle.fit,"
        f" {settings.rate:g} here) or fewer {named('bits_per_block')}"
        f" ({settings.bits_per_block} here)"
    )


def chance_error(labels: NDArray[np.uint8]) -> float:
    """Return the error of whoever always says the most frequent class, in [0, 1]."""
    return 1.0 - float(np.bincount(labels).max()) / len(labels)


def no_better_than_chance(error: float, labels: NDArray[np.uint8]) -> bool:
    """Tell whether an error on images of these labels may well be that of chance.

    It is unless it is below by more than three standard deviations of a binomial.
    """
    chance = chance_error(labels)
    return error >= chance - MARGIN * math.sqrt(chance * (1.0 - chance) / len(labels))
