"""What is measured, as plain arrays: the peers are given it so, and know nothing of refmiracle."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines import get_engine
from refmiracle.nn.contract import WEIGHT
from refmiracle.nn.network import Network
from refmiracle.nn.tree import Placed, Residual
from refmiracle.posterior.blocks import BlockLayout, find_places
from refmiracle.training.data import Split
from refmiracle.training.settings import Settings

Problem = dict[str, NDArray[Any]]


def make_problem(settings: Settings, train: Split) -> Problem:
    """Return the default training problem as arrays that a peer can start from.

    Returns
    -------
    dict of str to ndarray
        pixels : uint8 (count, 28, 28) and labels : uint8 (count,);
        tau, phi : float32 (blocks, block_size) and log_rho : float32 (tensors,);
        place : int64 (variables,), where in the flat blocks each coded variable stands, tensors
        one after the other; sizes, factors : int64 (tensors,), variables of each tensor and how
        many weights share one;
        signs : float32, one for each output unit of each tensor, tensors one after the other;
        budget : nats in each block; rate, scale_rate : Adam's rate, and log rho's part of it.
    """
    layout = settings.layout()
    places, tensors = find_places(layout), layout.network.tensors()
    place, signs, first = [], [], 0
    for t, factor in zip(tensors, layout.factors, strict=True):
        last = first + math.prod(t.shape)
        place.append(places.place_of_weight[first:last:factor])
        signs.append(places.signs[first : first + t.shape[-1]])
        first = last
    shape = places.used.shape
    tau = settings.spread * np.random.default_rng(settings.seed).standard_normal(shape)
    return {
        "pixels": train.images,
        "labels": train.labels,
        "tau": np.where(places.used, tau, 0).astype(np.float32),
        "phi": np.where(places.used, 0, -np.inf).astype(np.float32),
        "log_rho": np.log(
            [settings.rho_gain / math.sqrt(t.fan_in) for t in tensors], dtype=np.float32
        ),
        "place": np.concatenate(place),
        "sizes": np.array(layout.sizes()),
        "factors": np.array(layout.factors),
        "signs": np.concatenate(signs),
        "budget": np.array(settings.bits_per_block * math.log(2.0)),
        "rate": np.array(settings.rate),
        "scale_rate": np.array(settings.scale_rate),
    }


def whitened_posterior(
    blocks: int, block_size: int, bits: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return delta and log s of blocks of `bits` bits, spread as training leaves them.

    After training tau and phi both have a standard deviation near 1.
    """
    random = np.random.default_rng(bits)
    tau, phi = random.standard_normal((2, blocks, block_size))
    delta, log_s = get_engine("numpy").mean_kl(tau, phi, bits * math.log(2.0))
    return delta.astype(np.float32), log_s.astype(np.float32)


def blocks_of(layout: BlockLayout, block_size: int) -> int:
    """Return how many blocks of a size hold the variables of a layout."""
    return -(-layout.variables() // block_size)


def step_flops(network: Network, factors: tuple[int, ...] | None = None) -> int:
    """Return the floating-point operations of the products of a step, for each image.

    Two for each multiply-add, in three passes: forward, by the weights and by the input; the
    first layer's input needs no gradient.

    Parameters
    ----------
    network : Network
    factors : tuple of int, optional
        Hash factors, if units that share their weights are computed once.
    """
    shared = dict(zip((t.name for t in network.tensors()), factors or (), strict=False))
    products = [
        math.prod(t.shape) // shared.get(f"{before}{t.name}", 1) * places
        for before, placed, places in _single_layers(network.placed)
        for t in placed.tensors()
        if t.role == WEIGHT
    ]
    return 2 * (3 * sum(products) - sum(products[:1]))


def _single_layers(layers: Sequence[Placed], before: str = "") -> Iterator[tuple[str, Placed, int]]:
    """Yield all layers, those of residuals too: the path before it, the layer, its places."""
    for placed in layers:
        if isinstance(placed.layer, Residual):
            for within in placed.layer.placed(placed.shape):
                yield from _single_layers(within, f"{before}{placed.path}.")
        else:
            yield before, placed, math.prod(placed.layer.output(placed.shape)[1:])
