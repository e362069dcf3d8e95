"""The Mean-KL Gaussian as a function on arrays, outside any network.

Mean-KL (arXiv 2307.07816) makes the divergence of a Gaussian from its coding distribution a number
that is set, not a result: `mean_kl` takes it, `budget` divides one among many.  Both are forward
passes that remember what their own backward pass needs, derived by hand in docs/derivations.md.
Everything is computed in float64, and what is returned is read-only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from refmiracle.engines.numpy_engine.posterior import sech
from refmiracle.errors import InputError
from refmiracle.numerics import variance
from refmiracle.numerics.real import (
    LARGEST_KL,
    Array,
    nats_of,
    one_of,
    own,
    real_numbers,
    representable,
    together,
)

LOG_ROOT_2PI = 0.5 * math.log(2.0 * math.pi)


class MeanKLGradient(NamedTuple):
    """Gradients of a loss L by what `mean_kl` was given, each in the shape that it was given in.

    Attributes
    ----------
    tau, nu : ndarray of float64
    kappa : ndarray of float64
        By the KL in nats, also where it was given otherwise: (dL/dr) / r.  Infinite where kappa
        is 0, as is the slope of the mean there.
    reach : ndarray of float64
        By r = sqrt(2 kappa); finite everywhere.
    log_rho : ndarray of float64
    """

    tau: Array
    kappa: Array
    reach: Array
    log_rho: Array
    nu: Array


@dataclass(frozen=True, eq=False, repr=False)
class MeanKLGaussian:
    """The Gaussian Q = N(mu, sigma^2) of each element; `mean_kl` makes it.

    Attributes
    ----------
    mu, sigma, log_sigma : ndarray of float64, the shape of all arguments together
        sigma underflows to 0 where log_sigma does not.
    kl : ndarray of float64, same shape
        KL[Q || P] in nats: the kappa that was given.

    Examples
    --------
    >>> import refmiracle
    >>> q = refmiracle.mean_kl(tau=0.5, kappa=1.0)
    >>> delta, s = q.mu, q.sigma**2
    >>> float((delta**2 + s - 1 - 2 * q.log_sigma).round(12) / 2)
    1.0
    """

    mu: Array
    sigma: Array
    log_sigma: Array
    kl: Array
    _tau: Array
    _reach: Array
    _rho: Array
    _nu: Array
    _log_s: Array

    def __repr__(self) -> str:
        bits = float(self.kl.sum()) / math.log(2.0)
        return f"<MeanKLGaussian of shape {self.mu.shape}, {bits:.6g} bits in all>"

    @representable("a sample")
    def sample(self, eps: ArrayLike) -> Array:
        """Return w = mu + sigma eps, equation (8) of docs/derivations.md.

        Parameters
        ----------
        eps : array_like of float
            Standard normal noise, of the shape of `mu` or with axes before it: one sample for
            each of their places.

        Returns
        -------
        ndarray of float64

        Raises
        ------
        InputError
            If it is no array of real numbers, or its shape does not go with that of `mu`.

        Examples
        --------
        >>> import numpy as np, refmiracle
        >>> q = refmiracle.mean_kl(np.zeros(2), bits=3.0)
        >>> q.sample(np.random.default_rng(0).normal(size=(5, 2))).shape
        (5, 2)
        """
        noise = real_numbers("eps", eps)
        together(eps=noise, mu=self.mu)
        return np.asarray(self.mu + self.sigma * noise)

    @representable("log_prob")
    def log_prob(self, w: ArrayLike) -> Array:
        """Return log q(w) of each element: -((w - mu) / sigma)^2 / 2 - log sigma - log(2 pi) / 2.

        Right also where sigma underflows: at w = mu it is finite, elsewhere maybe -inf.

        Parameters
        ----------
        w : array_like of float
            Of the shape of `mu`, or with axes before it.

        Returns
        -------
        ndarray of float64
            In nats; their sum is the density of all elements together.

        Raises
        ------
        InputError
            If it is no array of real numbers, or its shape does not go with that of `mu`.

        Examples
        --------
        >>> import refmiracle
        >>> q = refmiracle.mean_kl([0.0, 0.5], kappa=1000.0)  # sigma is e^-1000 and e^-787
        >>> q.log_prob(q.mu).round(1)
        array([999.6, 786. ])
        """
        place = real_numbers("w", w)
        together(w=place, mu=self.mu)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            off = place - self.mu
            # 1 / sigma may overflow where its root does not.
            root = np.exp(-0.5 * self.log_sigma)
            z = np.where(off == 0.0, 0.0, off * root * root)
            return np.asarray(-0.5 * z * z - self.log_sigma - LOG_ROOT_2PI)

    @representable("a gradient")
    def vjp(self, dw: ArrayLike, eps: ArrayLike) -> MeanKLGradient:
        """Return the gradients of a loss from that by a sample, dw = dL/dw.

        Equations (18), (19) and (22) of docs/derivations.md.

        Parameters
        ----------
        dw : array_like of float
            Of the shape of the sample.
        eps : array_like of float
            The noise that `sample` was given.  Over axes that stand before those of `mu` the
            gradients are summed.

        Returns
        -------
        MeanKLGradient

        Raises
        ------
        InputError
            If one is no array of real numbers, or shapes do not go together.

        Examples
        --------
        The gradient of the loss w^2 / 2 by a scale that two weights share:

        >>> import refmiracle
        >>> q = refmiracle.mean_kl([0.5, -1.0], bits=2.0, rho=0.1)
        >>> w = q.sample([0.3, -0.2])
        >>> float(q.vjp(dw=w, eps=[0.3, -0.2]).log_rho.round(6)) == float((w**2).sum().round(6))
        True
        """
        g, noise = real_numbers("dw", dw), real_numbers("eps", eps)
        shape = together(dw=g, eps=noise, mu=self.mu)
        with np.errstate(under="ignore"):
            by_mu = _sum_to(np.broadcast_to(g, shape), self.mu.shape)
            by_sigma = _sum_to(np.broadcast_to(g * noise, shape), self.mu.shape)
        return self.vjp_moments(by_mu, by_sigma)

    @representable("a gradient")
    def vjp_moments(
        self, dmu: ArrayLike = 0.0, dsigma: ArrayLike = 0.0, dlog_sigma: ArrayLike = 0.0
    ) -> MeanKLGradient:
        """Return the gradients of a loss from those by mu, by sigma and by log sigma.

        Equation (22a) of docs/derivations.md.  A loss of log sigma is told as such: where sigma
        underflows, dsigma would be infinite.

        Parameters
        ----------
        dmu, dsigma, dlog_sigma : array_like of float
            Of the shape of `mu`, or numbers.

        Returns
        -------
        MeanKLGradient

        Raises
        ------
        InputError
            If one is no array of real numbers, or its shape does not go with that of `mu`.

        Examples
        --------
        >>> import refmiracle
        >>> q = refmiracle.mean_kl(0.0, kappa=1000.0)
        >>> float(q.vjp_moments(dlog_sigma=1.0).kappa.round(6))  # a nat more, e times narrower
        -1.0
        """
        given = {"dmu": dmu, "dsigma": dsigma, "dlog_sigma": dlog_sigma}
        arrays = {name: real_numbers(name, value) for name, value in given.items()}
        for name, array in arrays.items():
            if together(**{name: array, "mu": self.mu}) != self.mu.shape:
                raise InputError(f"{name} of shape {array.shape}; expected {self.mu.shape}")
        with np.errstate(under="ignore"):
            return self._backward(
                arrays["dmu"], arrays["dsigma"] * self.sigma + arrays["dlog_sigma"]
            )

    def _backward(self, a: Array, e: Array) -> MeanKLGradient:
        """Return the gradients from a = dL/dmu and e = dL/dlog sigma; equation (22a)."""
        t, c = np.tanh(self._tau), sech(self._tau)
        x = self._reach * c
        h = variance.half_slope_ratio(x, self._log_s)  # -dlog sigma/dx
        scaled = a * self._rho
        dtau = scaled * self._reach * c**2 + e * h * x * t
        dreach = _sum_to(self._whole(scaled * t - e * h * c), self._reach.shape)
        dlog_rho = scaled * self._reach * t + e
        with np.errstate(divide="ignore", invalid="ignore"):
            dkappa = np.where(dreach == 0.0, 0.0, dreach / self._reach)
        return MeanKLGradient(
            tau=_sum_to(self._whole(dtau), self._tau.shape),
            kappa=dkappa,
            reach=dreach,
            log_rho=_sum_to(self._whole(dlog_rho), self._rho.shape),
            nu=_sum_to(self._whole(a), self._nu.shape),
        )

    def _whole(self, gradient: Array) -> Array:
        return np.broadcast_to(gradient, self.mu.shape)


@representable("mean_kl")
def mean_kl(
    tau: ArrayLike,
    kappa: ArrayLike | None = None,
    rho: ArrayLike = 1.0,
    nu: ArrayLike = 0.0,
    *,
    bits: ArrayLike | None = None,
    reach: ArrayLike | None = None,
) -> MeanKLGaussian:
    """Return the Gaussian Q whose divergence from P = N(nu, rho^2) is exactly what is asked for.

    With r = sqrt(2 kappa), equations (5) to (9) of docs/derivations.md::

        mu = nu + rho r tanh(tau)
        sigma = rho sqrt(s),  s - log s = 1 + x^2,  s <= 1,  x = r sech(tau)

    tau says how the divergence is spent: tanh^2(tau) of it on the mean, the rest on a sigma below
    rho.  arXiv 2307.07816 parameterizes by mean and KL; the tanh is our construction.

    Arguments may have any shapes that go together (NumPy's broadcasting).  All is float64: float32
    is widened, and gives the results of the same numbers in float64.  Right to a few units in the
    last place from kappa = 0 (then Q = P) to 1e300, and for every tau, infinite ones included.

    Parameters
    ----------
    tau : array_like of float
        Any number but NaN.
    kappa : array_like of float, optional
        KL[Q || P] in nats, 0 to 1e300.
    rho, nu : array_like of float
        Standard deviation, above 0, and mean of P.
    bits : array_like of float, optional
        The same as kappa in bits.
    reach : array_like of float, optional
        r itself: no mean is farther from nu than rho r.  For a kappa that underflows.

    Returns
    -------
    MeanKLGaussian

    Raises
    ------
    InputError
        Unless one of kappa, bits and reach is given; if a number is out of range, or shapes do
        not go together.

    Examples
    --------
    >>> import refmiracle
    >>> q = refmiracle.mean_kl(tau=[0.0, 0.5, 5.0], bits=3.0)
    >>> q
    <MeanKLGaussian of shape (3,), 9 bits in all>
    >>> q.mu.round(4)
    array([0.    , 0.9424, 2.0391])
    >>> q.sigma.round(4)
    array([0.076 , 0.119 , 0.9806])

    A sample, and the gradient of the loss w^2 / 2 of it:

    >>> w = q.sample([0.3, -1.0, 0.2])
    >>> q.vjp(dw=w, eps=[0.3, -1.0, 0.2]).tau.round(4)
    array([0.0465, 1.1703, 0.0095])
    """
    shapes, means = real_numbers("tau", tau), real_numbers("nu", nu)
    scales = real_numbers("rho", rho)
    if np.any(np.isnan(shapes)):
        raise InputError("tau has NaN; expected numbers")
    if not np.all(np.isfinite(scales) & (scales > 0.0)):
        raise InputError("rho is not above 0 everywhere; expected finite numbers above 0")
    if not np.all(np.isfinite(means)):
        raise InputError("nu is not finite everywhere; expected finite numbers")
    kl, r = _nats_and_reach(kappa, bits, reach)
    shape = together(tau=shapes, kappa=kl, rho=scales, nu=means)
    with np.errstate(under="ignore"):
        log_s = variance.log_s(r * sech(shapes))
        mu = means + scales * (r * np.tanh(shapes))
        # Where sqrt(s) underflows, rho sqrt(s) may not.
        half = np.exp(0.25 * log_s)
        sigma = np.where(log_s > -1400.0, scales * np.exp(0.5 * log_s), scales * half * half)
        log_sigma = np.log(scales) + 0.5 * log_s
    whole = (own(np.broadcast_to(a, shape)) for a in (mu, sigma, log_sigma, kl))
    return MeanKLGaussian(*whole, *(own(a) for a in (shapes, r, scales, means, log_s)))


def _nats_and_reach(
    kappa: ArrayLike | None, bits: ArrayLike | None, reach: ArrayLike | None
) -> tuple[Array, Array]:
    """Return kappa in nats and r = sqrt(2 kappa), from the one that was given."""
    name, value = one_of(kappa=kappa, bits=bits, reach=reach)
    given = real_numbers(name, value)
    if name == "reach":
        largest = math.sqrt(2.0 * LARGEST_KL)
        if not np.all((given >= 0.0) & (given <= largest)):
            raise InputError(f"reach is out of range; expected 0 to {largest:g}")
        with np.errstate(under="ignore"):
            return np.asarray(0.5 * given * given), given
    nats = nats_of(name, given)
    return nats, np.sqrt(2.0 * nats)


def _sum_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Return the gradient by what was broadcast: summed over the places that it went to."""
    before = gradient.ndim - len(shape)
    repeated = (before + i for i, n in enumerate(shape) if gradient.shape[before + i] != n)
    return np.asarray(gradient.sum(axis=(*range(before), *repeated))).reshape(shape)
