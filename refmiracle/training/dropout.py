"""Dropout (Srivastava et al. 2014), as another noise on the weights of a step.

A unit that is left out is one whose weights into the next layer are zero.  Like the posterior's
noise it is drawn once for a step, for all its images, so that the network's passes know nothing
of it.
"""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.contract import Array
from refmiracle.numerics.philox import Stream, stream_words, words_to_uniform
from refmiracle.posterior.blocks import BlockLayout, Places


class Dropout:
    """Leaves out units that a dense layer reads: channels before the first, hidden units after.

    Parameters
    ----------
    layout : BlockLayout
        Weights that share a variable must read the same unit (Grouping.OUTPUTS).
    places : Places
        Of that layout.
    probability : float
        Of each unit to be left out, in [0, 1).
    dtype : dtype
        Of the factors.
    """

    def __init__(
        self, layout: BlockLayout, places: Places, probability: float, dtype: np.dtype
    ) -> None:
        self.seed, self.probability = layout.seed, probability
        self.factors = np.ones(places.tensor.shape, dtype=dtype)
        place, unit = [], []
        first = self.units = outputs = 0
        for t in layout.network.tensors():
            size = math.prod(t.shape)
            if len(t.shape) == 2:
                # The positions of a channel lie side by side among the inputs.
                reads = np.arange(t.shape[0]) // (t.shape[0] // outputs)
                place.append(places.of_weights[first : first + size])
                unit.append(self.units + np.repeat(reads, t.shape[1]))
                self.units += outputs
            first, outputs = first + size, t.shape[-1]
        self.place, one = np.unique(np.concatenate(place), return_index=True)
        self.unit = np.concatenate(unit)[one]

    def draw(self, step: int) -> Array:
        """Return the factor of each variable in a step, shape (blocks, block_size).

        0 for those of units that are left out, 1 / (1 - probability) for those of the others,
        and 1 for what no dense layer reads by.  The next call fills the same array.
        """
        words = stream_words(self.seed, Stream.DROPOUT, [step], self.units)[0]
        kept = words_to_uniform(words) >= self.probability
        self.factors.reshape(-1)[self.place] = (kept / (1.0 - self.probability))[self.unit]
        return self.factors
