"""An engine's passes over all of a network, where each unit has weights of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines.contract import Array, Engine, NetworkPass
from refmiracle.nn.contract import Weights
from refmiracle.nn.network import Network, kernels, network_pass, split_tensors


class UnsharedPass:
    """Logits and gradients by weights that are finite.

    Parameters
    ----------
    network : Network
    engine_pass : NetworkPass
        The engine's, for one copy of each unit.
    weights : dict of str to ndarray
        By tensor name.
    """

    def __init__(self, network: Network, engine_pass: NetworkPass, weights: Weights) -> None:
        self.network, self.engine_pass = network, engine_pass
        tensors = network.tensors()
        flat = [np.asarray(weights[t.name], np.float32).ravel() for t in tensors]
        self.units = np.concatenate(flat)
        self.signs = [np.ones(tensors[n].shape[-1], np.float32) for n in kernels(network)]

    def logits(self, pixels: NDArray[np.uint8]) -> Array:
        """Return the logits of images, shape (classes, images)."""
        return self.engine_pass.logits(self.units, self.signs, pixels)

    def loss_and_grads(
        self, pixels: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> tuple[float, Weights]:
        """Return the mean loss of a batch in nats, and its gradients by tensor name."""
        flat = np.empty_like(self.units)
        loss = self.engine_pass.loss_and_grads(self.units, self.signs, pixels, labels, flat)
        return loss, split_tensors(self.network, flat)


def unshared_pass(network: Network, engine: Engine, weights: Weights) -> UnsharedPass | None:
    """Return the engine's pass over a whole network, if it has one."""
    engine_pass = network_pass(network, engine, (1,) * len(kernels(network)))
    return None if engine_pass is None else UnsharedPass(network, engine_pass, weights)
