"""The network as a function of the coded variables, with shared units computed once.

Hashing along the outputs, with no sign or one for each unit, makes the outputs u f, ...,
u f + f - 1 of a layer +h_u or -h_u, plus their own bias: f copies of one product.  In LeNet-5
with MIRACLE's factors that leaves 25 of conv2's 50 channels and 10 of dense1's 500 units to
compute, and the coded variables, put in order, are their weights: nothing is expanded.  An engine
that has no passes for it, or a layout that shares otherwise, gets the expanded weights.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines.contract import Array, Engine, NetworkPass
from refmiracle.nn.contract import WEIGHT
from refmiracle.nn.evaluation import logits
from refmiracle.nn.gradients import loss_and_grads
from refmiracle.nn.network import kernels, network_pass
from refmiracle.numerics.spares import Spares
from refmiracle.posterior.blocks import (
    BlockLayout,
    Grouping,
    Places,
    Signs,
    to_variable_gradients,
    to_weights,
)


def unit_copies(layout: BlockLayout) -> tuple[int, ...] | None:
    """Return how many outputs share a unit in each layer, or None if sharing is not by units."""
    by_unit = layout.grouping == Grouping.OUTPUTS and layout.signs != Signs.WEIGHT
    copies = []
    for t, factor in zip(layout.network.tensors(), layout.factors, strict=True):
        if t.role == WEIGHT:
            by_unit = by_unit and t.shape[-1] % factor == 0
            copies.append(factor)
        else:
            by_unit = by_unit and factor == 1
    return tuple(copies) if by_unit else None


class VariablePass:
    """Loss and gradients as functions of the coded variables.

    Parameters
    ----------
    engine : Engine
    layout : BlockLayout
    places : Places
        Of that layout.
    share : bool
        Whether to compute shared units once, where the layout and the engine allow it.
    """

    def __init__(
        self, engine: Engine, layout: BlockLayout, places: Places, share: bool = True
    ) -> None:
        self.engine, self.layout, self.places = engine, layout, places
        network, copies = layout.network, unit_copies(layout) if share else None
        self.shared = copies is not None
        one_each = (1,) * len(kernels(network))
        self.network_pass = network_pass(network, engine, copies or one_each)
        signs, first = [], 0
        for t in network.tensors():
            weights = slice(first, first + math.prod(t.shape))
            unit_signs = places.signs[weights][: t.shape[-1]]
            signs.append(unit_signs if self.shared else np.ones_like(unit_signs))
            first = weights.stop
        self.signs = [signs[number] for number in kernels(network)]
        self.place = places.place_of_variable
        self.unused = slice(layout.variables(), places.tensor_of_place.size)
        self.count = len(self.place) if self.shared else network.count()
        self.spares = Spares(2)  # mirrored noise has two passes at a time

    def loss_and_grads(
        self, variables: Array, pixels: NDArray[np.uint8], labels: NDArray[np.int64], out: Array
    ) -> float:
        """Return the mean loss of a batch in nats, and fill `out` with dL/dvariable.

        Where a variable is not finite, they are NaN, as in `nn.gradients.loss_and_grads`.

        Parameters
        ----------
        variables, out : ndarray, shape (blocks, block_size), or flat as `Places` says
            Unused places of `out` are set to zero.
        pixels : ndarray of uint8, shape (batch, channels, height, width)
            One channel has no axis.
        labels : ndarray of int64, shape (batch,)
        """
        network, engine = self.layout.network, self.engine
        if self.network_pass is None:
            weights = to_weights(network, engine, self.places, variables)
            loss, grads = loss_and_grads(network, engine, weights, pixels, labels)
            out.reshape(-1)[:] = to_variable_gradients(network, engine, self.places, grads)
            return loss
        places = self.places
        with self.spares.one(None, self._room) as (units, gradients):
            if not self.shared:
                expanded = engine.expand_hash(variables, places.place_of_weight, places.signs)
                loss = self._pass(self.network_pass, expanded, pixels, labels, gradients)
                out.reshape(-1)[:] = engine.expand_hash_backward(
                    gradients, places.place_of_weight, places.signs, out.size
                )
                return loss
            self._gather(variables, units)
            loss = self._pass(self.network_pass, units, pixels, labels, gradients)
            out.reshape(-1)[self.unused] = 0
            out.reshape(-1)[self.place] = gradients
            return loss

    def _pass(
        self,
        network_pass: NetworkPass,
        units: Array,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64],
        gradients: Array,
    ) -> float:
        """Return the loss of the units, and fill their gradients."""
        if np.isfinite(units).all():
            return network_pass.loss_and_grads(units, self.signs, pixels, labels, gradients)
        gradients[:] = np.nan
        return math.nan

    def _room(self) -> Array:
        """Return room for the units and their gradients."""
        return np.empty((2, self.count), dtype=self.engine.dtype)

    def _gather(self, variables: Array, units: Array) -> None:
        # Any mode but "raise" writes to `out` without a buffer between.
        np.take(variables.reshape(-1), self.place, out=units, mode="clip")

    def logits(self, variables: Array, pixels: NDArray[np.uint8]) -> Array:
        """Return the logits of images, shape (classes, images); see `nn.evaluation.logits`.

        Parameters
        ----------
        variables : ndarray, shape (blocks, block_size), or flat as `Places` says
        pixels : ndarray of uint8, shape (images, channels, height, width)
            One channel has no axis.
        """
        if self.network_pass is None or not self.shared:
            network, engine = self.layout.network, self.engine
            weights = to_weights(network, engine, self.places, variables)
            return logits(network, engine, weights, pixels)
        with self.spares.one(None, self._room) as (units, _):
            self._gather(variables, units)
            if not np.isfinite(units).all():
                return np.full((self.layout.network.classes, len(pixels)), np.nan, units.dtype)
            return self.network_pass.logits(units, self.signs, np.ascontiguousarray(pixels))
