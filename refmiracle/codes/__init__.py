"""Relative entropy codes for vectors of one's own: a sample of Q as a few integers.

The sender has a Gaussian Q, the receiver knows P and the seed; what is sent names one sample of Q
in randomness that both can compute, in about KL[Q || P] bits.  docs/CODES.md defines each code and
says which to use when.

>>> from refmiracle import codes
>>> message = codes.encode(([1.2, -0.7], [0.1, 0.2]), coding=(0.0, 1.0), seed=7, code="gprs-d")
>>> message.integers.ravel()
array([3, 4])
>>> codes.decode(message, coding=(0.0, 1.0), seed=7).round(2)
array([ 1.12, -0.76])
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.codes.code import Code
from refmiracle.codes.gaussians import Gaussian, together, whitened
from refmiracle.codes.given import shape_of
from refmiracle.codes.message import Message
from refmiracle.codes.table import CODES, find_code
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.numerics.real import real_numbers, representable
from refmiracle.numerics.whole import whole_number

__all__ = ["Code", "Gaussian", "Message", "decode", "describe", "encode", "names"]

LARGEST_OVERSAMPLING = 63
# A `Gaussian`, what has `mu` and `sigma` (as `refmiracle.mean_kl` returns), or (mean, sigma).
GaussianLike: TypeAlias = Any


def names() -> tuple[str, ...]:
    """Return the names of all codes, in the order of their numbers.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> from refmiracle import codes
    >>> codes.names()[:4]
    ('mrc', 'orc', 'pfr', 'sp-pfr')
    """
    return tuple(CODES)


def describe(name: str) -> Code:
    """Return what a code is: its number, whether it is exact, what it codes, where it comes from.

    Parameters
    ----------
    name : str
        One of `names()`.

    Returns
    -------
    Code

    Raises
    ------
    InputError
        If there is no such code.

    Examples
    --------
    >>> from refmiracle import codes
    >>> codes.describe("mrc").source
    'minimal random coding, arXiv 1810.00440'
    >>> [name for name in codes.names() if codes.describe(name).exact]
    ['pfr', 'sp-pfr', 'as-star', 'ad-star', 'grc', 'grc-s', 'grc-d', 'gprs', 'gprs-s', 'gprs-d']
    """
    return find_code(name)


def encode(
    target: GaussianLike,
    coding: GaussianLike,
    seed: int,
    code: str = "gprs-d",
    *,
    bits: int | None = None,
    oversampling: int = 0,
    engine: str = "numba",
) -> Message:
    """Encode one sample of each target.

    Parameters
    ----------
    target : Gaussian, or what has `mu` and `sigma`, or (mean, sigma)
        Q; array_likes of float of shape (targets,), or (targets, dimensions) for blocks, which
        the codes of blocks send as one message each.
    coding : the same
        P, in shapes that can be broadcast to Q's.  No target may be wider than it, but with `mrc`.
    seed : int
        Shared with the receiver; 0 <= seed < 2**32.  Target t draws from its own randomness, but
        in `mrc`, `orc` and `pfr`, where all blocks of a call share one codebook.
    code : str
        One of `names()`.
    bits : int, optional
        log2 of the candidates (`mrc`, `orc`, 0 to 26) or of the bins (`sp-pfr`, 0 to 24).  By
        default max(1, ceil(KL)) + oversampling for the former, of the target with the largest KL,
        and the mean KL, rounded, for the latter.
    oversampling : int
        Bits above the KL, for `mrc`, `orc` and `dad-star`.
    engine : str
        ``numba``, or ``numpy``, the reference.

    Returns
    -------
    Message
        Its `integers` are what is sent; ``message.bits(kl_bits)`` says how many bits they take.

    Raises
    ------
    InputError
        If shapes do not go together, or the code, a target or a number is not possible
        (docs/CODES.md, section 2).

    Examples
    --------
    Two blocks of three weights, each of 8 bits, by minimal random coding:

    >>> from refmiracle import codes, mean_kl
    >>> q = mean_kl([[0.3, -0.2, 0.5], [0.1, 0.4, -0.6]], bits=8 / 3, rho=0.5)
    >>> message = codes.encode(q, (0.0, 0.5), seed=1, code="mrc", bits=8)
    >>> message.integers.ravel()
    array([127,  63])
    >>> message.bits(kl_bits=8.0)
    array([8., 8.])
    """
    seed = whole_number("the seed", seed)
    oversampling = whole_number("oversampling", oversampling, end=LARGEST_OVERSAMPLING + 1)
    kind, loaded = find_code(code), get_engine(engine)
    q, p = _gaussian("the target", target), _gaussian("the coding distribution", coding)
    delta, log_s, shape = whitened(q, p)
    if bits is None:
        with np.errstate(over="ignore"):
            kl = get_engine("numpy").gaussian_kl(delta, log_s).sum(axis=1) / math.log(2)
        # Where it is not finite, the engines say what is wrong with such targets.
        kl = kl if np.all(np.isfinite(kl)) else np.zeros(1)
        bits = kind.default_bits(kl, oversampling)
        if kind.largest_bits is not None and bits > kind.largest_bits:
            above = f" and {oversampling} bits of oversampling" if oversampling else ""
            raise InputError(
                f"a target has a KL of {np.max(kl):.1f} bits{above}; the code {code} takes at most"
                f" {kind.largest_bits}, unless fewer are given as bits"
            )
    bits = kind.check_bits(bits)
    numbers = np.arange(len(delta))
    messages = kind.encode_blocks(
        loaded, seed, bits, numbers, delta, log_s, oversampling=oversampling
    )
    own_bits = 0 if kind.largest_bits is None else bits
    return Message(code, messages, own_bits, oversampling, shape)


def decode(
    message: Message, coding: GaussianLike, seed: int, *, engine: str = "numba"
) -> NDArray[np.float64]:
    """Return the samples that a message names, in the shape of the targets.

    Parameters
    ----------
    message : Message
    coding : Gaussian, or what has `mu` and `sigma`, or (mean, sigma)
        P, as it was when the message was encoded.
    seed : int
        The same.
    engine : str
        Every engine finds the same whitened float32 samples, bit for bit.

    Returns
    -------
    ndarray of float64, shape (targets,) or (targets, dimensions)

    Raises
    ------
    InputError
        If this is no message, a number is out of range, or shapes do not go together.

    Examples
    --------
    >>> from refmiracle import codes
    >>> message = codes.encode(([0.5, 2.0], [0.5, 0.5]), (0.0, 1.0), seed=3, code="pfr")
    >>> codes.decode(message, (0.0, 1.0), seed=3).round(2)
    array([0.65, 1.91])
    """
    if not isinstance(message, Message):
        raise InputError(f"a {type(message).__name__} is no message; expected what encode returns")
    p = _gaussian("the coding distribution", coding)
    seed = whole_number("the seed", seed)
    code, bits, messages = message.checked()
    shape = shape_of(message.shape)
    targets, dimension = (*shape, 1, 1)[:2]
    z = code.decode_blocks(get_engine(engine), seed, bits, np.arange(targets), messages, dimension)
    sample = z.astype(np.float64).reshape(shape)
    if together(Gaussian(sample, np.ones(())), p)[0].shape != shape:
        raise InputError(f"the coding distribution is not one of shape {shape}")
    with representable("the sample"):
        return np.asarray(p.mean + p.sigma * sample)


def _gaussian(name: str, given: GaussianLike) -> Gaussian:
    """Return means and deviations from outside as arrays of float64.

    Raises
    ------
    InputError
        If they are no numbers.
    """
    mean: ArrayLike
    sigma: ArrayLike
    if isinstance(given, Gaussian):
        mean, sigma = given.mean, given.sigma
    elif hasattr(given, "mu") and hasattr(given, "sigma"):
        mean, sigma = given.mu, given.sigma
    elif isinstance(given, (tuple, list)) and len(given) == 2:
        mean, sigma = given
    else:
        raise InputError(
            f"{name} is a {type(given).__name__}; expected (mean, sigma), a Gaussian, or what has"
            " mu and sigma"
        )
    return Gaussian(real_numbers(f"{name}'s mean", mean), real_numbers(f"{name}'s sigma", sigma))
