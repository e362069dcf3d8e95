"""What cases pose, as functions of the package take it; numbers that mean nothing are refused."""

from __future__ import annotations

import itertools
import math

import numpy as np

from refmiracle.engines.contract import Array
from refmiracle.errors import InputError
from refmiracle.fileformat.bits import LARGEST_BITS
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET5
from refmiracle.numerics.whole import whole_number
from refmiracle.posterior.blocks import BlockLayout, Grouping, Places, Signs


def as_bytes(data: Array) -> bytes:
    """Return the bytes of an array of uint8."""
    return np.ascontiguousarray(data, dtype=np.uint8).tobytes()


def as_files(data: Array, sizes: Array) -> list[bytes]:
    """Return files that stand one after the other, of so many bytes each."""
    lengths = [int(n) for n in sizes]
    if not lengths or min(lengths) < 0 or sum(lengths) != len(data):
        raise InputError(f"lengths {lengths} do not cut {len(data)} bytes into files")
    ends = list(itertools.accumulate(lengths))
    return [as_bytes(data[end - n : end]) for end, n in zip(ends, lengths, strict=True)]


def as_uint8(data: bytes) -> Array:
    """Return bytes as an array of uint8."""
    return np.frombuffer(data, dtype=np.uint8)


def bits_of(bits: Array, least: int = 1, most: int = LARGEST_BITS) -> int:
    """Return a number of bits, by default one that a block of a file can have."""
    return whole_number("bits", bits, least, most + 1)


def layout_of(
    network: Network, block_size: Array, seed: Array, factors: Array, grouping: Array, signs: Array
) -> BlockLayout:
    """Return the layout of a network that a case describes."""
    layout = BlockLayout(
        network,
        tuple(int(f) for f in factors),
        Grouping(int(grouping)),
        Signs(int(signs)),
        int(block_size),
        int(seed),
    )
    counts = [math.prod(t.shape) for t in network.tensors()]
    if any(not 1 <= f <= n for f, n in zip(layout.factors, counts, strict=True)):
        raise InputError("a hash factor is out of range")
    if not 1 <= layout.block_size <= layout.variables():
        raise InputError(f"block size {layout.block_size} is out of range")
    return layout


def lenet5_layout(
    block_size: Array, seed: Array, factors: Array, grouping: Array, signs: Array
) -> BlockLayout:
    """Return the layout of LeNet-5 that a case describes."""
    return layout_of(LENET5, block_size, seed, factors, grouping, signs)


def sum_by_tensor(places: Places, values: Array, tensors: int) -> Array:
    """Return the sum of the places of each of so many tensors."""
    return np.bincount(places.tensor_of_place.ravel(), weights=values.ravel(), minlength=tensors)
