"""The bytes of a .rmc file, as docs/SPEC.md states them."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refmiracle.codec.bits import (
    LARGEST_BITS,
    pack_indices,
    packed_size,
    read_varint,
    unpack_indices,
    write_varint,
)
from refmiracle.errors import InputError
from refmiracle.files import write_atomically
from refmiracle.nn.lenet5 import network_by_number
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs
from refmiracle.rec import minimal_random_coding

MAGIC = b"RMC"
VERSION = 1
LARGEST_FILE = 1 << 22
CRC_BYTES = 4


@dataclass(frozen=True, eq=False)
class CompressedModel:
    """All that a .rmc file says.

    Parameters
    ----------
    layout : BlockLayout
        Network, hashing, block size and seed.
    bits_per_block : int
        1 to 24; each index names one of 2**bits_per_block candidates.
    rho : ndarray of float16, shape (tensors,)
        Scale of the coding distribution of each tensor.
    indices : ndarray of int64, shape (blocks,)
    """

    layout: BlockLayout
    bits_per_block: int
    rho: NDArray[np.float16]
    indices: NDArray[np.int64]

    def to_bytes(self) -> bytes:
        """Return the file.

        Raises
        ------
        InputError
            If no reader would accept it.
        """
        layout = self.layout
        head = bytes(
            [
                *MAGIC,
                VERSION,
                layout.network.number,
                minimal_random_coding.NUMBER,
                layout.grouping | layout.signs << 4,
                self.bits_per_block,
            ]
        )
        body = (
            head
            + write_varint(layout.block_size)
            + write_varint(layout.seed)
            + b"".join(write_varint(f) for f in layout.factors)
            + self.rho.astype("<f2").tobytes()
            + pack_indices(self.indices, self.bits_per_block)
        )
        data = body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")
        if len(self.indices) != parse_model(data).layout.blocks():
            raise InputError(f"{len(self.indices)} indices do not fit {layout.blocks()} blocks")
        return data


def parse_model(data: bytes) -> CompressedModel:
    """Read a .rmc file.

    Nothing is allocated by a size that the file claims before the file is known to have it.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    CompressedModel

    Raises
    ------
    InputError
        If the bytes are not exactly one intact file of this version.
    """
    fixed = len(MAGIC) + 5
    if data[: len(MAGIC)] != MAGIC:
        raise InputError(f"it does not begin with the magic {MAGIC!r}, so it is no .rmc file")
    if len(data) < fixed + CRC_BYTES:
        raise InputError(f"it is cut off: {len(data)} bytes cannot hold a header and a checksum")
    version, number, code, flags, bits = data[len(MAGIC) : fixed]
    if version != VERSION:
        raise InputError(f"format version {version} is unknown; expected {VERSION}")
    body, stored = data[:-CRC_BYTES], int.from_bytes(data[-CRC_BYTES:], "little")
    if zlib.crc32(body) != stored:
        raise InputError(
            f"the checksum is {zlib.crc32(body):08x}, the file says {stored:08x}: it is damaged,"
            " cut off, or has bytes behind its end"
        )
    network = network_by_number(number)
    if code != minimal_random_coding.NUMBER:
        raise InputError(f"random code {code} is unknown; expected {minimal_random_coding.NUMBER}")
    if flags & 0x0F not in tuple(Grouping) or flags >> 4 not in tuple(Signs):
        raise InputError(f"layout flags {flags:#04x} are unknown")
    if not 1 <= bits <= LARGEST_BITS:
        raise InputError(f"{bits} bits per block are out of range; expected 1 to {LARGEST_BITS}")

    block_size, offset = read_varint(body, fixed)
    seed, offset = read_varint(body, offset)
    factors = []
    for t in network.tensors():
        factor, offset = read_varint(body, offset)
        if not 1 <= factor <= math.prod(t.shape):
            raise InputError(f"hash factor {factor} of {t.name} is out of range")
        factors.append(factor)
    layout = BlockLayout(
        network, tuple(factors), Grouping(flags & 0x0F), Signs(flags >> 4), block_size, seed
    )
    if not 1 <= block_size <= layout.variables():
        raise InputError(
            f"block size {block_size} is out of range; expected 1 to {layout.variables()}"
        )
    payload = offset + 2 * len(factors)
    expected = payload + packed_size(bits, layout.blocks())
    if len(body) != expected:
        raise InputError(f"it has {len(data)} bytes; its header calls for {expected + CRC_BYTES}")
    rho = np.frombuffer(body[offset:payload], dtype="<f2").astype(np.float16)
    if not np.all(np.isfinite(rho) & (rho >= np.finfo(np.float16).smallest_normal)):
        raise InputError("a scale rho is not a positive normal float16")
    indices = unpack_indices(body[payload:], bits, layout.blocks())
    return CompressedModel(layout, bits, rho, indices)


def write_model(path: Path, model: CompressedModel) -> bytes:
    """Write a .rmc file whole or not at all, and return its bytes."""
    data = model.to_bytes()
    write_atomically(path, data)
    return data


def read_model(path: Path) -> tuple[CompressedModel, bytes]:
    """Read a .rmc file; return the model and the file's bytes.

    Raises
    ------
    InputError
        If the file cannot be read or is not an intact .rmc file; the message names it.
    """
    try:
        with open(path, "rb") as f:
            data = f.read(LARGEST_FILE + 1)
    except OSError as e:
        raise InputError(f"{path}: {e.strerror or e}") from e
    if len(data) > LARGEST_FILE:
        raise InputError(f"{path}: it is larger than {LARGEST_FILE} bytes, so it is no .rmc file")
    try:
        return parse_model(data), data
    except InputError as e:
        raise InputError(f"{path}: {e}") from e
