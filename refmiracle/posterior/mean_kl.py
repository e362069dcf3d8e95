"""Mean-KL (arXiv 2307.07816): each block spends its budget by construction, no penalty.

The forward and backward passes, with their derivation, stand in `engines.numpy_engine.posterior`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refmiracle.engines.contract import Adam, Array, MeanKLBlocks
from refmiracle.numerics.philox import Stream
from refmiracle.posterior.parameterization import Moments, Parameterization, Parameters


@dataclass(frozen=True)
class MeanKL(Parameterization):
    """Free parameters tau and phi for each coded variable.

    Settings of the presets are those that suit it.
    """

    name: ClassVar[str] = "mean-kl"
    title: ClassVar[str] = "Mean-KL"
    spends: ClassVar[str] = "has the KL of a block as a parameter"
    holds_budget: ClassVar[bool] = True
    late_scales: ClassVar[bool] = True
    tuned: ClassVar[Mapping[str, Any]] = {
        "rate": 4e-2,
        "variance_rate": 2.0,
        "encoding_rate": 1.2e-2,
    }

    def initial(self, seed: int, spread: float, rho: Array) -> Parameters:
        """Return tau ~ N(0, spread^2) and equal shares, with no share for unused places.

        Around a base tau is 0.
        """
        used, dtype = self.places.used, self.engine.dtype
        spread = spread if self.nu is None else 0.0
        tau = spread * self.engine.normals(seed, Stream.INITIALISATION, [0], used.size)
        return {
            "tau": np.where(used, tau.reshape(used.shape), 0).astype(dtype),
            "phi": np.where(used, 0.0, -np.inf).astype(dtype),
        }

    def _blocks(self, parameters: Parameters, rho: Array) -> MeanKLBlocks:
        tau, phi = parameters["tau"], parameters["phi"]
        return MeanKLBlocks(tau, phi, rho, self.places.tensor_of_place, self.budget, self.nu)

    def sample(
        self, parameters: Parameters, rho: Array, seed: int, row: int, w: Array, eps: Array
    ) -> None:
        """Fill eps with a row of noise and w = mu + sigma eps; shape (blocks, block_size)."""
        self.engine.mean_kl_sample(self._blocks(parameters, rho), seed, row, w, eps)

    def mirrored(self, parameters: Parameters, rho: Array, eps: Array) -> Array:
        """Return w = mu - sigma eps, the antithetic sample, shape (blocks, block_size)."""
        tau, phi = parameters["tau"], parameters["phi"]
        return self.engine.mean_kl_forward(tau, phi, rho, self.budget, -eps, self.nu)

    def update(
        self,
        parameters: Parameters,
        moments: Moments,
        rho: Array,
        eps: Array,
        g: Array,
        step: int,
        rates: tuple[float, float],
        dlog_rho: Array,
        mirrored: Array | None = None,
    ) -> None:
        """Take a step of Adam from g = dL/dw, and fill dL/dlog rho of each tensor.

        `rates` are those of tau and of phi; `mirrored` see `Parameterization.update`.
        """
        adam = Adam((moments["tau"], moments["phi"]), step, rates)
        self.engine.mean_kl_step(self._blocks(parameters, rho), eps, g, adam, dlog_rho, mirrored)

    def whitened(self, parameters: Parameters, rho: Array) -> tuple[Array, Array]:
        """Return delta = (mu - nu) / rho and log s = log(sigma^2 / rho^2).

        Both have the shape (blocks, block_size).
        """
        return self.engine.mean_kl(parameters["tau"], parameters["phi"], self.budget)
