"""What is measured of a network that did not come with images and a file: both drawn at random."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from refmiracle.fileformat.container import CompressedModel
from refmiracle.nn.network import Network
from refmiracle.training.choosing import check_layout
from refmiracle.training.data import Split
from refmiracle.training.settings import Settings

LARGEST = 1 << 27  # bytes of all images


def settings_of(network: Network) -> Settings:
    """Return the settings that are measured, with a network and its own hash factors.

    Raises
    ------
    InputError
        If the network is not as it must be.
    """
    own = replace(Settings(), network=network, hash_factors=network.factors())
    settings, variables = check_layout(own)
    return replace(settings, block_size=min(settings.block_size, variables))


def random_images(network: Network, count: int, least: int) -> Split:
    """Return images of noise and labels, as many as `count` unless they are large.

    Time does not depend on what they show.

    Parameters
    ----------
    network : Network
    count, least : int
        How many, and how many at least, however large they are.
    """
    rng = np.random.default_rng(0)
    shape = network.image_shape()
    number = max(least, min(count, LARGEST // math.prod(shape)))
    images = rng.integers(0, 256, (number, *shape), dtype=np.uint8)
    labels = rng.integers(0, network.classes, number)
    names = tuple(map(str, range(network.classes)))
    return Split(images, labels.astype("u1" if network.classes <= 256 else "<u2"), names)


def random_file(settings: Settings) -> bytes:
    """Return a .rmc file of the network with random indices, its scales as at the start."""
    layout = settings.layout()
    tensors = layout.network.tensors()
    rho = np.array([settings.rho_gain / math.sqrt(t.fan_in) for t in tensors], np.float16)
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 1 << settings.bits_per_block, (layout.blocks(), 1))
    return CompressedModel(layout, settings.bits_per_block, rho, indices).to_bytes()
