"""A file relative to another one: docs/SPEC.md, section 13.

An update says only what changed since its base, a file that the other side has.  It names it by
its checksum, inherits network, hashing, signs and the order of tensors from the root of the chain,
and brings seed, block size, bits, random code and one level for each tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refmiracle.codes.table import MRC, find_code
from refmiracle.errors import InputError
from refmiracle.fileformat.bits import LARGEST_BITS
from refmiracle.fileformat.envelope import (
    CRC_BYTES,
    FIRST_UPDATE,
    MAGIC,
    UPDATES,
    base_checksum,
    seal,
    unseal,
)
from refmiracle.fileformat.payload import payload_of
from refmiracle.numerics.arrays import read_only
from refmiracle.numerics.varints import read_varint, write_varint
from refmiracle.numerics.whole import whole_number, whole_numbers
from refmiracle.posterior.blocks import BlockLayout
from refmiracle.posterior.scales import HIGHEST, UNCODED


@dataclass(frozen=True, eq=False)
class CompressedUpdate:
    """All that the file of an update says.

    Parameters
    ----------
    base : int
        The checksum of the file that it is relative to.
    layout : BlockLayout
        Network, hashing and signs of the root; block size, seed and coded tensors are its own.
    bits_per_block : int
    levels : ndarray of uint8, shape (tensors,)
        See `posterior.scales.scales_of_levels`; 0 where a tensor is not coded.
    messages : ndarray of int64
    code : str
    theta16 : int
        All three as in `CompressedModel`.
    """

    base: int
    layout: BlockLayout
    bits_per_block: int
    levels: NDArray[np.uint8]
    messages: NDArray[np.int64]
    code: str = MRC
    theta16: int = 0

    def to_bytes(self) -> bytes:
        """Return the file.

        Raises
        ------
        InputError
            If no reader would accept it.
        """
        self._check()
        data = seal(self.header() + self.payload())
        parse_update(data, self.layout, self.base)
        return data

    def _check(self) -> None:
        """Refuse what gives no bytes, or another update's; `parse_update` sees to the rest."""
        layout, levels, tensors = self.layout, np.asarray(self.levels), len(self.layout.factors)
        find_code(self.code)
        whole_number("the checksum of the base", self.base)
        whole_number("bits per block", self.bits_per_block, end=0x100)
        whole_numbers("levels", levels, 0, HIGHEST + 1)
        if levels.shape != (tensors,):
            raise InputError(f"{levels.size} levels; expected {tensors}, one for each tensor")
        if [size > 0 for size in layout.coded_sizes()] != (levels != UNCODED).tolist():
            raise InputError("the tensors that the layout codes are not those with a level above 0")
        if layout.block_size < 1:
            raise InputError("the block size is below 1")

    def header(self) -> bytes:
        """Return all that stands before the messages."""
        return (
            bytes([*MAGIC, FIRST_UPDATE + find_code(self.code).number])
            + self.base.to_bytes(CRC_BYTES, "little")
            + bytes([self.bits_per_block])
            + write_varint(self.layout.block_size)
            + write_varint(self.layout.seed)
            + self.levels.astype(np.uint8).tobytes()
        )

    def payload(self) -> bytes:
        """Return the bytes of the messages, those of theta included."""
        how = payload_of(find_code(self.code))
        return how.write(self.layout, self.bits_per_block, self.messages, self.theta16)


def update_layout(
    root: BlockLayout, block_size: int, seed: int, coded: tuple[bool, ...]
) -> BlockLayout:
    """Return the layout of an update of a chain with this root."""
    return BlockLayout(
        network=root.network,
        factors=root.factors,
        grouping=root.grouping,
        signs=root.signs,
        block_size=block_size,
        seed=seed,
        coded=coded,
        sign_seed=root.seed if root.sign_seed is None else root.sign_seed,
    )


def parse_update(data: bytes, root: BlockLayout, base: int) -> CompressedUpdate:
    """Read the file of an update.

    Parameters
    ----------
    data : bytes
    root : BlockLayout
        Of the model at the root of its chain, or of another update of that.
    base : int
        The checksum of the file that the reader has.

    Returns
    -------
    CompressedUpdate

    Raises
    ------
    InputError
        If the bytes are not exactly one intact update of that file.
    """
    data = data if isinstance(data, bytes) else bytes(memoryview(data))
    body = unseal(data, UPDATES)
    if base_checksum(body) != base:
        raise InputError(
            f"it is an update of the file with the checksum {base_checksum(body):08x}; this one"
            f" has {base:08x}"
        )
    fixed = len(MAGIC) + 1 + CRC_BYTES
    if len(body) == fixed:
        raise InputError("the file ends within its header")
    code, bits = UPDATES[body[len(MAGIC)]], body[fixed]
    if not 1 <= bits <= LARGEST_BITS:
        raise InputError(f"{bits} bits per block are out of range; expected 1 to {LARGEST_BITS}")
    block_size, offset = read_varint(body, fixed + 1)
    seed, offset = read_varint(body, offset)
    tensors = root.network.tensors()
    payload = offset + len(tensors)
    if len(body) < payload:
        raise InputError("the file ends within its header")
    levels = np.frombuffer(body[offset:payload], dtype=np.uint8)
    if not (levels != UNCODED).any():
        raise InputError("all of its levels are 0, so it changes nothing")
    layout = update_layout(
        root, block_size, seed, tuple(bool(level) for level in levels != UNCODED)
    )
    if not 1 <= block_size <= layout.variables():
        raise InputError(
            f"block size {block_size} is out of range; expected 1 to {layout.variables()}"
        )
    how = payload_of(code)
    how.check_length(layout, bits, len(body), payload)
    messages, theta16 = how.read(layout, bits, body[payload:])
    return CompressedUpdate(base, layout, bits, levels, read_only(messages), code.name, theta16)
