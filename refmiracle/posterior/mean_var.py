"""Mean-Var, the baseline of MIRACLE (arXiv 1810.00440): mu and log sigma free, KL penalised.

Each block has its own penalty beta, which grows by a factor at each step that finds the block
above its budget and shrinks by it at each step that finds it below (Havasi et al., section 3.2
and cambridge-mlg/miracle, compressible_model.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refmiracle.engines.contract import Adam, Array, Engine, MeanVarBlocks
from refmiracle.numerics.philox import Stream
from refmiracle.posterior.blocks import Places

Parameters = dict[str, Array]
Moments = dict[str, tuple[Array, Array]]


@dataclass(frozen=True)
class MeanVar:
    """Free parameters mu and log sigma for each coded variable, and beta for each block.

    Parameters
    ----------
    engine : Engine
    places : Places
    budget : float
        C, nats in each block: what beta steers each block's KL to.
    initial_beta : float
        Per nat.
    nu : ndarray, shape (blocks, block_size), optional
        What P lies around: the base of an update; 0 by default.
    """

    engine: Engine
    places: Places
    budget: float
    initial_beta: float
    nu: Array | None = None
    name: str = "mean-var"
    beta: Array = field(init=False)

    def __post_init__(self) -> None:
        beta = np.full(len(self.places.used), self.initial_beta, dtype=self.engine.dtype)
        object.__setattr__(self, "beta", beta)

    def initial(self, seed: int, spread: float, rho: Array) -> Parameters:
        """Return mu ~ N(0, (spread rho)^2) and sigma = spread rho / 10.

        Around a base mu is nu: there the training begins at what the base is.
        """
        shape, dtype = self.places.used.shape, self.engine.dtype
        z = self.engine.normals(seed, Stream.INITIALISATION, [0], self.places.used.size)
        mu = spread * rho * z.reshape(shape) if self.nu is None else self.nu
        return {
            "mu": mu.astype(dtype),
            "log_sigma": np.log(0.1 * spread * rho).astype(dtype),
        }

    def sample(
        self, parameters: Parameters, rho: Array, seed: int, row: int, w: Array, eps: Array
    ) -> None:
        """Fill eps with a row of noise and w = mu + sigma eps; shape (blocks, block_size)."""
        mu, log_sigma, used = parameters["mu"], parameters["log_sigma"], self.places.used
        blocks = MeanVarBlocks(mu, log_sigma, rho, self.places.tensor, self.beta, used, self.nu)
        self.engine.mean_var_sample(blocks, seed, row, w, eps)

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
    ) -> None:
        """Take a step of Adam from g = dL/dw, and fill dL/dlog rho of each tensor.

        `rates` are those of mu and of log sigma.
        """
        mu, log_sigma, used = parameters["mu"], parameters["log_sigma"], self.places.used
        blocks = MeanVarBlocks(mu, log_sigma, rho, self.places.tensor, self.beta, used, self.nu)
        adam = Adam((moments["mu"], moments["log_sigma"]), step, rates)
        self.engine.mean_var_step(blocks, eps, g, adam, dlog_rho)

    def whitened(self, parameters: Parameters, rho: Array) -> tuple[Array, Array]:
        """Return delta = (mu - nu) / rho and log s = log(sigma^2 / rho^2).

        Both have the shape (blocks, block_size).
        """
        used, mu = self.places.used, parameters["mu"]
        delta = np.where(used, (mu if self.nu is None else mu - self.nu) / rho, 0)
        log_s = np.where(used, 2 * (parameters["log_sigma"] - np.log(rho)), 0)
        return delta.astype(self.engine.dtype), log_s.astype(self.engine.dtype)

    def anneal(self, parameters: Parameters, rho: Array, factor: float, falls: bool) -> bool:
        """Multiply each block's beta by `factor` if its KL is above budget.

        Where it is below, divide if `falls`.  Return whether all blocks are within their budget.
        """
        delta, log_s = self.whitened(parameters, rho)
        above = self.engine.gaussian_kl(delta, log_s).sum(axis=1) > self.budget
        self.beta[:] = np.where(
            above, self.beta * factor, self.beta / factor if falls else self.beta
        )
        return not bool(above.any())

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep beside the parameters."""
        return {"beta": self.beta}
