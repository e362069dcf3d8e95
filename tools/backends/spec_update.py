"""Updates, from docs/SPEC.md section 13: how files of a chain are read and what they add up to.

For the backends in PyTorch and JAX; it imports nothing of refmiracle.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import spec_layout as spec
from spec_description import Network
from spec_layout import Header, Layout, require

Array = Any
# A header -> the float32 normals of its variables, in order.
Whitened = Callable[[Header], Array]

VERSION = 0x20
# 2^(j / 4), rounded to float64.
ROOTS = np.array(
    [0x3FF0000000000000, 0x3FF306FE0A31B715, 0x3FF6A09E667F3BCD, 0x3FFAE89F995AD3AD], np.uint64
).view(np.float64)


class Update(NamedTuple):
    """The level of each tensor, and the messages of the coded variables."""

    levels: Array
    header: Header


def split(data: Array, sizes: Array) -> list[bytes]:
    """Return the files that stand one after the other."""
    data, lengths = np.asarray(data, np.uint8).tobytes(), [int(n) for n in sizes]
    require(lengths and min(lengths) >= 0, "a chain has a file, and a file no negative length")
    require(sum(lengths) == len(data), "the lengths are not those of the files")
    ends = itertools.accumulate(lengths)
    return [data[end - n : end] for end, n in zip(ends, lengths, strict=True)]


def of_variables(counts: list[int], block_size: int, seed: int) -> Layout:
    """Return a layout whose weights are variables themselves, so many of each tensor."""
    shapes = tuple((n,) for n in counts)
    network = Network((1,), 2, (), shapes)
    factors, unsigned = (1,) * len(counts), spec.NO_SIGNS
    return Layout(block_size, seed, factors, 0, unsigned, spec.DESCRIBED, network)


def read_update(data: bytes, base: bytes, counts: list[int]) -> Update:
    """Read an update of a base, checked in the order of section 13.2.

    Parameters
    ----------
    data, base : bytes
    counts : list of int
        The number of variables of each tensor.
    """
    require(data[:3] == b"RMC", "wrong magic")
    require(len(data) >= 12, "too short")
    code = data[3] - VERSION
    require(0 <= code <= spec.LAST_CODE, "not the version of an update")
    body = data[:-4]
    require(zlib.crc32(body) == struct.unpack("<I", data[-4:])[0], "wrong checksum")
    require(data[4:8] == base[-4:], "an update of another file")
    require(len(body) > 8, "the header is cut off")
    bits = body[8]
    require(1 <= bits <= spec.LARGEST_BITS, "bits out of range")
    block_size, offset = spec.read_varint(body, 9)
    seed, offset = spec.read_varint(body, offset)
    payload = offset + len(counts)
    require(len(body) >= payload, "the header is cut off")
    levels = np.frombuffer(body[offset:payload], np.uint8).astype(np.int64)
    require(levels.any(), "no tensor is coded")
    coded = [n for n, level in zip(counts, levels, strict=True) if level]
    require(1 <= block_size <= sum(coded), "the block size is out of range")
    layout = of_variables(coded, block_size, seed)
    messages, theta = spec.read_payload(body[payload:], layout, code, bits)
    return Update(levels, Header(layout, code, bits, np.empty(0), messages, theta))


def variables_behind(data: Array, sizes: Array, whitened: Whitened) -> tuple[Layout, Array]:
    """Return the layout of a chain's root, and the float32 variables behind its last file."""
    files = split(data, sizes)
    root = spec.read_file(np.frombuffer(files[0], np.uint8))
    counts, layout = spec.variables(root.layout), root.layout
    bare = root._replace(layout=of_variables(counts, layout.block_size, layout.seed))
    scales = spec.scales(root.rho).astype(np.float64)
    variables = np.repeat(scales.astype(np.float32), counts) * whitened(bare)
    for base, file in itertools.pairwise(files):
        levels, header = read_update(file, base, counts)
        rho = np.ldexp(scales * ROOTS[levels % 4], np.int32(levels // 4 - 32)).astype(np.float32)
        coded = np.repeat(levels > 0, counts)
        steps = np.repeat(rho, counts)[coded] * whitened(header)
        variables[coded] = variables[coded] + steps
    return layout, variables


def by_variable(layout: Layout, words: spec.Words) -> spec.Places:
    """Return the variable, counted through all tensors, and the sign of each weight."""
    return spec.spell_out(layout, words, np.arange(sum(spec.variables(layout))))
