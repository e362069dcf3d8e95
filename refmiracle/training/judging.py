"""The choice among a block's best candidates by the loss itself.

q / p ranks candidates by what the posterior knows: a Gaussian, each variable by itself.  Those that
are about as good by it differ in what they do together, and in what the noise that they bring does;
the training images tell.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines.contract import Array, Engine
from refmiracle.posterior.sharing import VariablePass
from refmiracle.training.batches import Batches

# The best candidates by q / p: all are judged by some images, the best of them by all.
FEW, FEWER = 32, 8
IMAGES, FIRST_IMAGES = 4096, 512


class Judge:
    """Measures the loss of variables on training images, always the same.

    Parameters
    ----------
    engine : Engine
    network : VariablePass
    batches : Batches
        Whose first images they are.
    """

    def __init__(self, engine: Engine, network: VariablePass, batches: Batches) -> None:
        self.engine, self.network = engine, network
        count = min(IMAGES, len(batches.train.images)) // batches.size
        chosen = [batches.batch(step) for step in range(max(1, count))]
        self.images = np.concatenate([images for images, _ in chosen])
        self.labels = np.concatenate([labels for _, labels in chosen])

    def loss(self, variables: Array, count: int) -> float:
        """Return the mean loss of the first images, in nats; infinite where it is no number."""
        images, labels = self.images[:count], self.labels[:count]
        logits = self.network.logits(variables, images)
        losses, _ = self.engine.softmax_cross_entropy(logits, labels)
        mean = float(np.mean(losses, dtype=np.float64))
        return mean if np.isfinite(mean) else np.inf

    def choose(self, count: int, place: Callable[[int], Array]) -> int:
        """Return which of `count` candidates gives the smallest loss.

        Parameters
        ----------
        count : int
        place : function
            Of a candidate's number; returns the variables with that candidate in its place.
        """
        first = np.array([self.loss(place(k), FIRST_IMAGES) for k in range(count)])
        fewer = np.sort(np.argsort(first, kind="stable")[:FEWER])
        losses = [self.loss(place(int(k)), len(self.labels)) for k in fewer]
        return int(fewer[int(np.argmin(losses))])


def choose_rows(
    judge: Judge,
    variables: Array,
    block: Array,
    nu: Array,
    rho: Array,
    rows: NDArray[np.float32],
) -> int:
    """Return which row becomes a block, and leave it there.

    Parameters
    ----------
    judge : Judge
    variables : ndarray
        All of them, flat.
    block : ndarray, shape (block_size,)
        The block's part of `variables`, a view.
    nu, rho : ndarray, shape (block_size,)
    rows : ndarray of float32, shape (candidates, block_size)
        Whitened samples.
    """

    def place(number: int) -> Array:
        block[:] = nu + rho * rows[number]
        return variables

    chosen = judge.choose(len(rows), place)
    place(chosen)
    return chosen
