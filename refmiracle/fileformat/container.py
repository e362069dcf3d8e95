"""The bytes of a .rmc file, as docs/SPEC.md states them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refmiracle.codes.table import CODES_BY_NUMBER, MRC, find_code
from refmiracle.errors import InputError
from refmiracle.fileformat.bits import LARGEST_BITS
from refmiracle.fileformat.envelope import (
    MAGIC,
    UPDATES,
    VERSION,
    base_checksum,
    read_bytes,
    seal,
    unseal,
)
from refmiracle.fileformat.payload import payload_of
from refmiracle.nn.contract import FIRST_OWN
from refmiracle.nn.description import read_description, to_description
from refmiracle.nn.limits import DESCRIBED
from refmiracle.nn.network import Network
from refmiracle.nn.networks import network_by_number, shipped
from refmiracle.numerics.arrays import read_only
from refmiracle.numerics.varints import read_varint, write_varint
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs


@dataclass(frozen=True, eq=False)
class CompressedModel:
    """All that a .rmc file says.

    Parameters
    ----------
    layout : BlockLayout
        Network, hashing, block size and seed.
    bits_per_block : int
        1 to 24; log2 of the candidates (codes `mrc`, `orc`) or bins (`sp-pfr`) of a block, and
        for other codes only what training aimed at.
    rho : ndarray of float16, shape (tensors,)
        Scale of the coding distribution of each tensor.
    messages : ndarray of int64, shape (blocks, 1) or (blocks, block_size)
        What `Code.encode_blocks` returns: one message for each block, or, for codes of
        variables, one for each place, 1 where the last block is short (`payload.in_blocks`).
    code : str
        One of `codes.table.CODES`.
    theta16 : int
        Parameter of the law that codes the messages, in units of 2**-16; 0: the one under which
        they are shortest.  `mrc` has none.
    """

    layout: BlockLayout
    bits_per_block: int
    rho: NDArray[np.float16]
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
        parse_model(data, self.layout.network)
        return data

    def header(self) -> bytes:
        """Return all that stands before the messages."""
        layout = self.layout
        head = bytes(
            [
                *MAGIC,
                VERSION,
                layout.network.number,
                find_code(self.code).number,
                layout.grouping | layout.signs << 4,
                self.bits_per_block,
            ]
        )
        return (
            head
            + self.description()
            + write_varint(layout.block_size)
            + write_varint(layout.seed)
            + b"".join(write_varint(f) for f in layout.factors)
            + self.rho.astype("<f2").tobytes()
        )

    def _check(self) -> None:
        """Refuse what would not even give bytes; `parse_model` sees to the rest."""
        layout, tensors = self.layout, self.layout.network.tensors()
        if not len(layout.factors) == np.size(self.rho) == len(tensors):
            raise InputError(
                f"{len(layout.factors)} hash factors and {np.size(self.rho)} scales; expected"
                f" {len(tensors)} of each, one for each tensor of {layout.network.name}"
            )
        if min(layout.factors) < 1 or layout.block_size < 1:
            raise InputError("a hash factor or the block size is below 1")
        if not 0 <= self.bits_per_block <= 0xFF:
            raise InputError(f"{self.bits_per_block} bits per block; expected 1 to {LARGEST_BITS}")

    def description(self) -> bytes:
        """Return what the file says of its network beside the number."""
        network = self.layout.network
        return to_description(network) if network.number == DESCRIBED else b""

    def payload(self) -> bytes:
        """Return the bytes of the messages, those of theta included."""
        how = payload_of(find_code(self.code))
        return how.write(self.layout, self.bits_per_block, self.messages, self.theta16)


def parse_model(data: bytes, own: Network | None = None) -> CompressedModel:
    """Read a .rmc file.

    Nothing is allocated by a size that the file claims before the file is known to have it.

    Parameters
    ----------
    data : bytes
        Or another buffer of bytes.
    own : Network, optional
        The one that a file of its number names, whatever this process knows of such a number.

    Returns
    -------
    CompressedModel

    Raises
    ------
    InputError
        If the bytes are not exactly one intact file of this version.
    """
    data = data if isinstance(data, bytes) else bytes(memoryview(data))
    fixed = len(MAGIC) + 5
    body = unseal(data, {VERSION, *UPDATES})
    if body[len(MAGIC)] != VERSION:
        raise InputError(
            f"it is an update, of the file with the checksum {base_checksum(body):08x}, and says"
            " nothing without that"
        )
    number, code_number, flags, bits = body[len(MAGIC) + 1 : fixed]
    network, offset = _read_network(number, body, fixed, own)
    if code_number not in CODES_BY_NUMBER:
        raise InputError(
            f"random code {code_number} is unknown; expected 0 to {max(CODES_BY_NUMBER)}"
        )
    code = CODES_BY_NUMBER[code_number]
    if flags & 0x0F not in tuple(Grouping) or flags >> 4 not in tuple(Signs):
        raise InputError(f"layout flags {flags:#04x} are unknown")
    if not 1 <= bits <= LARGEST_BITS:
        raise InputError(f"{bits} bits per block are out of range; expected 1 to {LARGEST_BITS}")

    block_size, offset = read_varint(body, offset)
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
    how = payload_of(code)
    how.check_length(layout, bits, len(body), payload)
    rho = read_only(np.frombuffer(body[offset:payload], dtype="<f2").astype(np.float16))
    if not np.all(np.isfinite(rho) & (rho >= np.finfo(np.float16).smallest_normal)):
        raise InputError("a scale rho is not a positive normal float16")
    messages, theta16 = how.read(layout, bits, body[payload:])
    return CompressedModel(layout, bits, rho, read_only(messages), code.name, theta16)


def _read_network(number: int, body: bytes, start: int, own: Network | None) -> tuple[Network, int]:
    """Return the network of a number, whose description, if it has one, begins at `start`."""
    if number != DESCRIBED:
        # One's own may be of a number that is one's own; all others are what docs/SPEC.md says.
        named = own is not None and own.number == number >= FIRST_OWN
        return own if own and named else network_by_number(number), start
    try:
        network, end = read_description(body, start)
    except InputError as e:
        raise InputError(f"network number {DESCRIBED}: {e}") from e
    return (own if own == network else shipped(network)), end


def read_model(path: Path, own: Network | None = None) -> tuple[CompressedModel, bytes]:
    """Read a .rmc file, see `parse_model`; return the model and the file's bytes.

    Raises
    ------
    InputError
        If the file cannot be read or is not an intact .rmc file; the message names it.
    """
    data = read_bytes(path)
    try:
        return parse_model(data, own), data
    except InputError as e:
        raise InputError(f"{path}: {e}") from e
