"""The targets of the study of relative entropy codes, and how each code is run on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from refmiracle.codes.code import BLOCK, Code
from refmiracle.codes.table import CODES
from refmiracle.engines.contract import Engine
from refmiracle.errors import InputError
from refmiracle.numerics.limits import VARIABLE_REACH
from refmiracle.numerics.variance import log_s

LN2 = math.log(2.0)
BY_KL, BY_D_INF = "KL", "D_inf"
GROUPS = BLOCKS, NO_TREE, TREES = "blocks", "no tree", "trees"
Array = NDArray[Any]


@dataclass(frozen=True)
class Point:
    """A block of `places` targets alike, Q = N(delta, s) against P = N(0, 1) in each.

    Attributes
    ----------
    sweep : str
        ``KL`` or ``D_inf``: what the points beside this one vary.
    kl_bits : float
        Of the whole block.
    share : float
        The part of the KL that comes from the mean: delta^2 / 2 of each place's KL in nats.
    places : int
    """

    sweep: str
    kl_bits: float
    share: float = 0.5
    places: int = 1

    @property
    def delta(self) -> float:
        """The mean of each place."""
        return math.sqrt(2.0 * self._kappa * self.share)

    @property
    def log_s(self) -> float:
        """The log variance of each place: s - log s = 1 + 2 kappa - delta^2."""
        return float(log_s(math.sqrt(2.0 * self._kappa * (1.0 - self.share))))

    @property
    def _kappa(self) -> float:
        """The KL of each place, nats."""
        return self.kl_bits * LN2 / self.places

    @property
    def d_inf_bits(self) -> float:
        """log2 of the supremum of q / p within the reach of P's samples."""
        s = math.exp(self.log_s)
        z = VARIABLE_REACH
        if self.delta < z * (1.0 - s):
            z = self.delta / (1.0 - s)
        return self.places * (z**2 - (z - self.delta) ** 2 / s - self.log_s) / (2.0 * LN2)

    @property
    def name(self) -> str:
        """The point in words."""
        return f"KL {self.kl_bits:g} bits, D_inf {self.d_inf_bits:.2f} bits, places {self.places}"


def point_of_d_inf(kl_bits: float, d_inf_bits: float) -> Point:
    """Return the target of one place with a KL and a D_inf, by moving the KL to the mean.

    Raises
    ------
    InputError
        If no share of the mean gives that D_inf.
    """

    def excess(share: float) -> float:
        return Point(BY_D_INF, kl_bits, share).d_inf_bits - d_inf_bits

    if excess(0.0) > 0.0 or excess(0.9999) < 0.0:
        raise InputError(f"no target of {kl_bits:g} bits has a D_inf of {d_inf_bits:g} bits")
    return Point(BY_D_INF, kl_bits, float(scipy.optimize.brentq(excess, 0.0, 0.9999, xtol=1e-12)))


@dataclass(frozen=True)
class Variant:
    """A code, and for one that is not exact the bits beyond ceil(KL) that it searches."""

    code: str
    oversampling: int = 0

    @property
    def name(self) -> str:
        """The code's name, with the oversampling if there is any."""
        return f"{self.code} +{self.oversampling}" if self.oversampling else self.code

    @property
    def kind(self) -> Code:
        """The code itself."""
        return CODES[self.code]

    @property
    def group(self) -> str:
        """One of `GROUPS`."""
        if self.kind.of == BLOCK:
            return BLOCKS
        return NO_TREE if self.kind.tree == "none" else TREES

    def bits(self, point: Point) -> int:
        """Return log2 of the candidates, ceil(KL) + oversampling, or of the bins, round(KL)."""
        return self.kind.default_bits(np.array([point.kl_bits]), self.oversampling)

    def search_bits(self, point: Point) -> float:
        """Return log2 of about how much is looked at for one target: candidates, or intervals."""
        of_point = point.places, point.kl_bits, point.d_inf_bits
        return self.kind.search_bits(self.bits(point), *of_point)

    def reason_to_skip(self, point: Point, limit: float) -> str:
        """Return why a code is not run at a point; empty if it is."""
        if self.search_bits(point) > limit:
            return f"log2 of the search is {self.search_bits(point):.1f}; the limit {limit:g}"
        return ""


def encode(
    engine: Engine, variant: Variant, point: Point, seed: int, first: int, count: int
) -> NDArray[np.int64]:
    """Return the messages of targets first, ..., first + count - 1 of a seed, all alike."""
    shape = (count, point.places)
    messages = variant.kind.encode_blocks(
        engine,
        seed,
        variant.bits(point),
        np.arange(first, first + count),
        np.full(shape, point.delta),
        np.full(shape, point.log_s),
        oversampling=variant.oversampling,
    )
    return messages[:, 0]


def decode(
    engine: Engine, variant: Variant, point: Point, seed: int, first: int, messages: ArrayLike
) -> NDArray[np.float32]:
    """Return the samples that messages name, shape (messages, places)."""
    messages = np.asarray(messages, dtype=np.int64)[:, None]
    blocks = np.arange(first, first + len(messages))
    bits = variant.bits(point)
    return variant.kind.decode_blocks(engine, seed, bits, blocks, messages, point.places)


def draw(
    engine: Engine, variant: Variant, point: Point, seed: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return independent messages, shape (count,), and their samples, (count, places).

    Blocks that share a codebook are not independent: `mrc`, `orc` and `pfr` send one block of
    each of the seeds `seed`, `seed` + 1, ...; the other codes have, for each target of the
    one seed, randomness of its own.
    """
    if variant.kind.shares_codebook:
        calls = [(seed + i, 0, 1) for i in range(count)]
    else:
        calls = [(seed, 0, count)]
    messages = [encode(engine, variant, point, *call) for call in calls]
    samples = [
        decode(engine, variant, point, own, first, some)
        for (own, first, _), some in zip(calls, messages, strict=True)
    ]
    return np.concatenate(messages), np.concatenate(samples)
