"""The posterior at the end of training, before any block is encoded, as a file of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refmiracle.errors import InputError
from refmiracle.files import first_line
from refmiracle.training.state import read_arrays, write_arrays
from refmiracle.training.trainer import Trainer

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Posterior:
    """Q and P of each coded variable, tensors one after the other in the order of the file format.

    Of an update they are those of what it adds to the variable of its base.

    Attributes
    ----------
    mu, sigma : ndarray of float64, shape (coded variables,)
        Mean and standard deviation of Q.
    rho : ndarray of float64, shape (coded variables,)
        Standard deviation of P = N(0, rho^2).
    """

    mu: Array
    sigma: Array
    rho: Array

    def at_scales(self, rho: Array) -> Posterior:
        """Return the posterior that is the same in units of other scales."""
        ratio = rho / self.rho
        return Posterior(mu=ratio * self.mu, sigma=ratio * self.sigma, rho=rho)

    def kl_bits(self) -> Array:
        """Return KL[Q || P] of each variable, in bits; shape (coded variables,)."""
        log_s = 2.0 * np.log(self.sigma / self.rho)
        kl = 0.5 * ((self.mu / self.rho) ** 2 + np.exp(log_s) - 1.0 - log_s)
        return kl / math.log(2)


def posterior_of(trainer: Trainer) -> Posterior:
    """Return the posterior that a run has now."""
    rho = trainer.rho()
    delta, log_s = trainer.parameterization.whitened(trainer.state.parameters, rho)
    place = trainer.places.place_of_variable[trainer.layout.is_coded()]
    whitened = (a.ravel()[place].astype(np.float64) for a in (delta, log_s, rho))
    delta, log_s, rho = whitened
    return Posterior(mu=rho * delta, sigma=rho * np.exp(0.5 * log_s), rho=rho)


def save_posterior(path: Path, posterior: Posterior) -> None:
    """Write a posterior whole or not at all, in float32."""
    write_arrays(path, {n: a.astype(np.float32) for n, a in vars(posterior).items()})


def load_posterior(path: Path) -> Posterior:
    """Read a posterior.

    Raises
    ------
    InputError
        If it cannot be read or is damaged.
    """
    try:
        f = read_arrays(path)
        posterior = Posterior(**{n: f[n].astype(np.float64) for n in ("mu", "sigma", "rho")})
    except Exception as e:  # zipfile, each of its decompressors and NumPy raise their own
        raise InputError(f"{path}: it is no intact posterior ({first_line(e)})") from e
    return posterior
