"""What a parameterization is: all that is asked of one, whatever its free parameters.

Each kind is a subclass, which says what it is called, which settings are its own and which suit it;
an object of it is the posterior of a run's blocks.  `posterior.parameterizations` has the table of
all kinds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from refmiracle.engines.contract import Array, Engine
from refmiracle.posterior.blocks import Places

Parameters = dict[str, Array]
Moments = dict[str, tuple[Array, Array]]


@dataclass(frozen=True)
class Parameterization(ABC):
    """The posterior of all blocks, by free parameters of one kind.

    The fields that a kind adds are its own settings: numbers above 0, with defaults.

    Parameters
    ----------
    engine : Engine
    places : Places
    budget : float
        C, nats in each block.
    nu : ndarray, shape (blocks, block_size), optional
        What P lies around: the base of an update; 0 by default.

    Attributes
    ----------
    name : str
        In settings, and in the files of a run.
    title : str
        What pages and figures call it.
    spends : str
        How a block comes to spend its budget, in words that go on where `title` ends.
    holds_budget : bool
        Whether each block spends exactly its budget, whatever its parameters are.
    late_scales : bool
        Whether rho may learn while blocks are encoded: not where a block's KL depends on it.
    above_0 : tuple of str
        Settings that may not be 0, though they may with others.
    suited : mapping of str to object
        Settings with which a run does best where they are not those of the presets.
    tuned : mapping of str to object
        Settings with which a study compares it (docs/STUDY.md).
    """

    engine: Engine
    places: Places
    budget: float
    nu: Array | None = None

    name: ClassVar[str]
    title: ClassVar[str]
    spends: ClassVar[str]
    holds_budget: ClassVar[bool] = False
    late_scales: ClassVar[bool] = False
    above_0: ClassVar[tuple[str, ...]] = ()
    suited: ClassVar[Mapping[str, Any]] = {}
    tuned: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def own_settings(cls) -> dict[str, float]:
        """Return the settings that no other kind has, by name, as they are unless told."""
        common = {f.name for f in fields(Parameterization)}
        own = [f.name for f in fields(cls) if f.init and f.name not in common]
        return {name: getattr(cls, name) for name in own}

    @abstractmethod
    def initial(self, seed: int, spread: float, rho: Array) -> Parameters:
        """Return the parameters that a training begins with.

        Around a base the means are nu: there the training begins at what the base is.

        Parameters
        ----------
        seed : int
        spread : float
            Standard deviation of what sets the means, where there is no base.
        rho : ndarray, shape (blocks, block_size)
        """

    @abstractmethod
    def sample(
        self, parameters: Parameters, rho: Array, seed: int, row: int, w: Array, eps: Array
    ) -> None:
        """Fill eps with a row of noise and w = mu + sigma eps; shape (blocks, block_size)."""

    @abstractmethod
    def mirrored(self, parameters: Parameters, rho: Array, eps: Array) -> Array:
        """Return w = mu - sigma eps, the antithetic sample, shape (blocks, block_size)."""

    @abstractmethod
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

        `rates` are those of what sets the means and of what sets the variances; `mirrored` is
        dL/dw at the antithetic sample, where there is one: then the step is one from the mean of
        both losses.
        """

    @abstractmethod
    def whitened(self, parameters: Parameters, rho: Array) -> tuple[Array, Array]:
        """Return delta = (mu - nu) / rho and log s = log(sigma^2 / rho^2).

        Both have the shape (blocks, block_size).
        """

    def steer(
        self, parameters: Parameters, rho: Array, step: int, steps: int, encoding: bool
    ) -> bool:
        """Move penalties after a step, if there are any; return whether training may end.

        Parameters
        ----------
        parameters, rho
        step : int
            Training steps done.
        steps : int
            Those that were planned before the first block is encoded.
        encoding : bool
            Whether training has ended, and blocks are encoded.

        Returns
        -------
        bool
            Whether all blocks are within their budget, or nothing would bring them there.
        """
        return True

    def state(self) -> dict[str, Array]:
        """Return what a checkpoint must keep beside the parameters: arrays that are its own."""
        return {}
