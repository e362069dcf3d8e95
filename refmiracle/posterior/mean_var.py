"""Mean-Var, the baseline of MIRACLE (arXiv 1810.00440): mu and log sigma free, KL penalised.

Each block has its own penalty beta, which grows by a factor at each step that finds the block
above its budget and shrinks by it at each step that finds it below (Havasi et al., section 3.3
and algorithm 2, and cambridge-mlg/miracle, compressible_model.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypedDict

import numpy as np

from refmiracle.engines.contract import Adam, Array, MeanVarBlocks
from refmiracle.numerics.philox import Stream
from refmiracle.posterior.parameterization import Moments, Parameterization, Parameters

# Factors on beta once the planned steps are taken: until every block is within its budget, and
# while blocks are encoded.
SETTLING_FACTOR, ENCODING_FACTOR = 1.005, 1.0005
LARGE_BETA = 1e-4  # about where it stays
# With which it is compared: docs/STUDY.md has the search, and what may be better.
BEST = {"rate": 2e-2, "variance_rate": 0.5, "encoding_rate": 6e-3, "initial_beta": 1e-6}


class MeanVarSettings(TypedDict, total=False):
    """What may be set of a run that is Mean-Var's alone."""

    initial_beta: float


@dataclass(frozen=True)
class MeanVar(Parameterization):
    """Free parameters mu and log sigma for each coded variable, and beta for each block.

    Parameters
    ----------
    engine, places, budget, nu
        See `Parameterization`; beta steers each block's KL to the budget.
    initial_beta : float
        The penalty of each block at the start, per nat; 1e-8 is MIRACLE's.
    """

    initial_beta: float = 1e-8
    beta: Array = field(init=False)

    name: ClassVar[str] = "mean-var"
    title: ClassVar[str] = "Mean-Var"
    spends: ClassVar[str] = "pulls each block's KL there by a penalty"
    above_0: ClassVar[tuple[str, ...]] = ("spread",)
    suited: ClassVar[Mapping[str, Any]] = BEST
    tuned: ClassVar[Mapping[str, Any]] = BEST

    def __post_init__(self) -> None:
        beta = np.full(len(self.places.used), self.initial_beta, dtype=self.engine.dtype)
        object.__setattr__(self, "beta", beta)

    def initial(self, seed: int, spread: float, rho: Array) -> Parameters:
        """Return mu ~ N(0, (spread rho)^2) and sigma = spread rho / 10.

        Around a base mu is nu.
        """
        shape, dtype = self.places.used.shape, self.engine.dtype
        z = self.engine.normals(seed, Stream.INITIALISATION, [0], self.places.used.size)
        mu = spread * rho * z.reshape(shape) if self.nu is None else self.nu
        return {
            "mu": mu.astype(dtype),
            "log_sigma": np.log(0.1 * spread * rho).astype(dtype),
        }

    def _blocks(self, parameters: Parameters, rho: Array) -> MeanVarBlocks:
        mu, log_sigma, places = parameters["mu"], parameters["log_sigma"], self.places
        return MeanVarBlocks(
            mu, log_sigma, rho, places.tensor_of_place, self.beta, places.used, self.nu
        )

    def sample(
        self, parameters: Parameters, rho: Array, seed: int, row: int, w: Array, eps: Array
    ) -> None:
        """Fill eps with a row of noise and w = mu + sigma eps; shape (blocks, block_size)."""
        self.engine.mean_var_sample(self._blocks(parameters, rho), seed, row, w, eps)

    def mirrored(self, parameters: Parameters, rho: Array, eps: Array) -> Array:
        """Return w = mu - sigma eps, the antithetic sample, shape (blocks, block_size)."""
        return self.engine.mean_var_forward(parameters["mu"], parameters["log_sigma"], -eps)

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

        `rates` are those of mu and of log sigma; `mirrored` see `Parameterization.update`.
        """
        adam = Adam((moments["mu"], moments["log_sigma"]), step, rates)
        self.engine.mean_var_step(self._blocks(parameters, rho), eps, g, adam, dlog_rho, mirrored)

    def whitened(self, parameters: Parameters, rho: Array) -> tuple[Array, Array]:
        """Return delta = (mu - nu) / rho and log s = log(sigma^2 / rho^2).

        Both have the shape (blocks, block_size).
        """
        used, mu = self.places.used, parameters["mu"]
        delta = np.where(used, (mu if self.nu is None else mu - self.nu) / rho, 0)
        log_s = np.where(used, 2 * (parameters["log_sigma"] - np.log(rho)), 0)
        return delta.astype(self.engine.dtype), log_s.astype(self.engine.dtype)

    def steer(
        self, parameters: Parameters, rho: Array, step: int, steps: int, encoding: bool
    ) -> bool:
        """Move the penalties after a step; return whether all blocks are within their budget.

        Where training settles, behind its planned steps, they rise only, so that no block waits for
        another; before and after that they fall too.
        """
        settling = step >= steps and not encoding
        if step < steps:
            factor = self.penalty_factor(step, steps)
        else:
            factor = SETTLING_FACTOR if settling else ENCODING_FACTOR
        return self.move_penalties(parameters, rho, factor, falls=not settling)

    def penalty_factor(self, step: int, steps: int) -> float:
        """Return the factor on beta at a step before the planned ones are taken.

        Kept as it is at first, it would lift beta to 1e-4, about where it stays, in 30 % of the
        training.  Its logarithm falls by a half cosine over 90 %, lest penalties swing around the
        budget, and is never below that of MIRACLE's own factor while it encodes; in trainings of
        more than some 30,000 steps it is that throughout.
        """
        decades = math.log10(LARGE_BETA / self.initial_beta)
        done = min(1.0, step / (0.9 * steps))
        exponent = decades / (0.3 * steps) * 0.5 * (1.0 + math.cos(math.pi * done))
        return max(ENCODING_FACTOR, float(10.0**exponent))

    def move_penalties(
        self, parameters: Parameters, rho: Array, factor: float, falls: bool
    ) -> bool:
        """Multiply each block's beta by `factor` if its KL is above budget.

        Where it is below, divide if `falls`.  Return whether all blocks are within their budget.
        """
        delta, log_s = self.whitened(parameters, rho)
        above = self.engine.gaussian_kl(delta, log_s).sum(axis=1) > self.budget
        self.beta[:] = np.where(
            above, self.beta * factor, self.beta / factor if falls else self.beta
        )
        return not bool(above.any())

    def state(self) -> dict[str, Array]:
        """Return what a checkpoint must keep beside the parameters: beta."""
        return {"beta": self.beta}
