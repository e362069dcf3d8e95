"""All relative entropy codes behind one interface (docs/CODES.md defines each).

`CODES` has them by name, and each is a `code.Code`; `encode` and `decode` take Gaussian targets and
coding distributions as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.numerics.real import representable
from refmiracle.numerics.whole import as_array, whole_number
from refmiracle.rec.block_codes import (
    GlobalAStar,
    MinimalRandomCoding,
    OrderedRandomCoding,
    SpacePartitioning,
)
from refmiracle.rec.code import Code
from refmiracle.rec.gaussians import Gaussian, together, whitened
from refmiracle.rec.given import kl_of, shape_of
from refmiracle.rec.variable_codes import CodeOfVariables, GreedyRejection

MRC = "mrc"  # what is sent by unless a setting says otherwise
LARGEST_OVERSAMPLING = 63

# The constants are those of Li and El Gamal, arXiv 1701.02827, theorem 1, and of Flamich, arXiv
# 2305.15313: H(X | randomness) <= I + log2(I + 1) + c.
CODES: dict[str, Code] = {
    code.name: code
    for code in (
        MinimalRandomCoding(MRC, 0, False, "minimal random coding, arXiv 1810.00440"),
        OrderedRandomCoding("orc", 1, False, "ordered random coding, arXiv 2110.12805"),
        GlobalAStar("pfr", 2, True, "global A* coding, arXiv 2201.12857", constant=4.0),
        SpacePartitioning("sp-pfr", 3, True, "space partitioning, arXiv 2405.12203"),
        CodeOfVariables("as-star", 4, True, "A* coding, arXiv 2201.12857", "sample"),
        CodeOfVariables("ad-star", 5, True, "A* coding, arXiv 2201.12857", "dyadic"),
        CodeOfVariables("dad-star", 6, False, "A* coding, arXiv 2201.12857", "dyadic"),
        GreedyRejection("grc", 7, True, "greedy rejection, arXiv 2304.10407, 2309.15746", "none"),
        GreedyRejection("grc-s", 8, True, "greedy rejection, arXiv 2309.15746", "sample"),
        GreedyRejection("grc-d", 9, True, "greedy rejection, arXiv 2309.15746", "dyadic"),
        CodeOfVariables("gprs", 10, True, "greedy Poisson, arXiv 2305.15313", "none", 6.0),
        CodeOfVariables("gprs-s", 11, True, "greedy Poisson, arXiv 2305.15313", "sample"),
        CodeOfVariables("gprs-d", 12, True, "greedy Poisson, arXiv 2305.15313", "dyadic"),
    )
}
CODES_BY_NUMBER = {code.number: code for code in CODES.values()}


@dataclass(frozen=True, eq=False)
class Message:
    """What the sender sends, and what the receiver must know besides the seed.

    Attributes
    ----------
    code : str
    integers : ndarray of int64, shape (targets, 1) or (targets, dimensions)
        One for each target, or one for each variable of it.
    block_bits : int
        log2 of the candidates (`mrc`, `orc`) or of the bins (`sp-pfr`); 0 for other codes.
    oversampling : int
        How many of the bits (or, for `dad-star`, of the depth) are above the KL.
    shape : tuple of int
        Of the sample.

    Examples
    --------
    What was sent as plain integers is a message again:

    >>> from refmiracle import codes
    >>> sent = codes.encode(([0.5], [0.5]), (0.0, 1.0), seed=3, code="mrc", bits=4).integers
    >>> message = codes.Message("mrc", sent, block_bits=4, oversampling=0, shape=(1,))
    >>> codes.decode(message, (0.0, 1.0), seed=3).shape
    (1,)
    """

    code: str
    integers: NDArray[np.int64]
    block_bits: int
    oversampling: int
    shape: tuple[int, ...]

    def bits(self, kl_bits: float) -> NDArray[np.float64]:
        """Return the length of the message of each target in bits, shape (targets,).

        Minimal random coding sends `block_bits` each.  The other integers are coded by the
        log-geometric law with the theta that suits the mean KL; `Code.mean_bits_bound` says
        what theory expects.

        Parameters
        ----------
        kl_bits : float
            Mean KL of what one integer sends, a block or a variable, in bits.

        Raises
        ------
        InputError
            If that is no number from 0 to 1000, or the message is none.
        """
        code, integers = self.checked()
        return code.message_bits(integers, self.block_bits, kl_of(kl_bits))

    def checked(self) -> tuple[Code, NDArray[np.int64]]:
        """Return the code and the integers, if they are a message.

        Raises
        ------
        InputError
            If there is no such code, a number is out of range, an integer names no candidate, or
            shapes do not go together.
        """
        code, bits, shape = find_code(self.code), self.block_bits, shape_of(self.shape)
        code.check_bits(bits)
        targets, dimension = (*shape, 1, 1)[:2]
        integers = as_array("integers", self.integers)
        expected = targets, code.integers_per_block(dimension)
        if not (integers.shape == expected and min(targets, dimension) > 0 and bits >= 0):
            raise InputError(
                f"integers of shape {integers.shape} and {bits} bits for a sample of shape {shape}"
            )
        code.check_messages(bits, integers)
        return code, integers


def find_code(name: str) -> Code:
    """Return a code by its name.

    Raises
    ------
    InputError
        If there is no such code.
    """
    if not isinstance(name, str) or name not in CODES:
        raise InputError(f"code {name!r} is unknown; expected one of {', '.join(CODES)}")
    return CODES[name]


def encode(
    target: Gaussian,
    coding: Gaussian,
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
    target, coding : Gaussian
        Q and P of the same shape; target t draws from its own randomness.
    seed : int
        Shared with the receiver; 0 <= seed < 2**32.
    code : str
        One of `CODES`.
    bits : int, optional
        log2 of the candidates (`mrc`, `orc`) or bins (`sp-pfr`, 0 to 24).  By default
        max(1, ceil(KL)) + oversampling for the former, of the target with the largest KL, and
        the mean KL, rounded, for the latter.
    oversampling : int
        Bits above the KL, for `mrc`, `orc` and `dad-star`.
    engine : str

    Raises
    ------
    InputError
        If the code, a target or a number is not possible (docs/CODES.md, section 2).
    """
    seed = whole_number("the seed", seed)
    oversampling = whole_number("oversampling", oversampling, end=LARGEST_OVERSAMPLING + 1)
    kind, loaded = find_code(code), get_engine(engine)
    delta, log_s, shape = whitened(target, coding)
    if bits is None:
        with np.errstate(over="ignore"):
            kl = loaded.gaussian_kl(delta, log_s).sum(axis=1) / math.log(2)
        # Where it is not finite, the engines say what is wrong with such targets.
        kl = kl if np.all(np.isfinite(kl)) else np.zeros(1)
        bits = kind.default_bits(kl, oversampling)
        if kind.largest_bits is not None and bits > kind.largest_bits:
            above = f" and {oversampling} bits of oversampling" if oversampling else ""
            raise InputError(
                f"a target has a KL of {np.max(kl):.1f} bits{above}; the code {code} takes at most"
                f" {kind.largest_bits}, unless fewer are given as bits"
            )
    kind.check_bits(bits)
    numbers = np.arange(len(delta))
    integers = kind.encode_blocks(
        loaded, seed, bits, numbers, delta, log_s, oversampling=oversampling
    )
    own_bits = 0 if kind.largest_bits is None else bits
    return Message(code, integers, own_bits, oversampling, shape)


def decode(
    message: Message, coding: Gaussian, seed: int, *, engine: str = "numba"
) -> NDArray[np.float64]:
    """Return the samples that a message names, in the shape of the targets.

    The whitened float32 samples are the same bits for every engine.

    Raises
    ------
    InputError
        If a number is out of range, an integer names no candidate, or shapes do not go together.
    """
    seed = whole_number("the seed", seed)
    code, integers = message.checked()
    shape, bits = shape_of(message.shape), message.block_bits
    targets, dimension = (*shape, 1, 1)[:2]
    z = code.decode_blocks(get_engine(engine), seed, bits, np.arange(targets), integers, dimension)
    sample = z.astype(np.float64).reshape(shape)
    if together(Gaussian(sample, np.ones(())), coding)[0].shape != shape:
        raise InputError(f"the coding distribution is not one of shape {shape}")
    with representable("the sample"):
        return np.asarray(coding.mean + coding.sigma * sample)
