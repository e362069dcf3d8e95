"""The messages of a .rmc file: what stands behind its header, docs/SPEC.md, sections 2.3 and 2.7.

A model and an update hold the same: for each block, or each coded variable, one integer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refmiracle.codec.bits import pack_indices, packed_size, unpack_indices
from refmiracle.codec.envelope import CRC_BYTES, LARGEST_FILE
from refmiracle.codec.integers import best_theta16, check_count, read_integers, write_integers
from refmiracle.errors import InputError
from refmiracle.posterior.blocks import BlockLayout
from refmiracle.rec.codes import (
    MRC,
    VARIABLE,
    check_messages,
    find_code,
    from_positive,
    raw_bits,
    to_positive,
)

THETA_BYTES = 2
# What stands at the places behind the last variable, which no file holds.
UNUSED = 1


def write_payload(
    layout: BlockLayout, code: str, bits: int, indices: NDArray[np.int64], theta16: int = 0
) -> bytes:
    """Return the bytes of the messages, those of theta included.

    Parameters
    ----------
    layout : BlockLayout
    code : str
    bits : int
        Of a block.
    indices : ndarray of int64, shape (blocks,) or (blocks, block_size)
        See `CompressedModel.indices`.
    theta16 : int
        0: the one under which the messages are shortest.
    """
    if code == MRC:
        return pack_indices(indices, bits)
    check_messages(code, bits, indices)
    raw = raw_bits(code, bits)
    sent = to_positive(code, indices.ravel()[: message_count(layout, code)])
    theta16 = theta16 or best_theta16(sent, raw)
    coded = write_integers(sent, theta16, raw)
    return theta16.to_bytes(THETA_BYTES, "little") + coded


def read_payload(
    payload: bytes, layout: BlockLayout, code: str, bits: int
) -> tuple[NDArray[np.int64], int]:
    """Return the messages, as `write_payload` takes them, and theta16; 0 where there is none.

    Raises
    ------
    InputError
        If they are not exactly one valid list.
    """
    if code == MRC:
        return unpack_indices(payload, bits, layout.blocks()), 0
    theta16, messages = _read_messages(payload, layout, bits, code)
    return messages, theta16


def message_count(layout: BlockLayout, code: str) -> int:
    """Return how many integers a file holds: one for each block, or for each variable."""
    return layout.variables() if find_code(code).of == VARIABLE else layout.blocks()


def check_size(layout: BlockLayout, code: str, bits: int) -> None:
    """Refuse a layout whose file would be beyond the limits of docs/SPEC.md, section 2.6.

    Raises
    ------
    InputError
        If its messages are more, or its indices take more bytes, than a file may hold.
    """
    count = message_count(layout, code)
    if code == MRC and packed_size(bits, count) > LARGEST_FILE:
        raise InputError(f"{count} indices of {bits} bits: a file has at most {LARGEST_FILE} bytes")
    if code != MRC:
        check_count(count)


def check_length(size: int, payload: int, layout: BlockLayout, bits: int, code: str) -> None:
    """Refuse a body of `size` bytes that is not as long as its header calls for."""
    if code == MRC:
        expected = payload + packed_size(bits, layout.blocks())
        fits, most = size == expected, ""
    else:  # how long the integers are, only they say
        expected = payload + THETA_BYTES + 1
        fits, most = size >= expected, " or more"
    if not fits:
        raise InputError(
            f"it has {size + CRC_BYTES} bytes; its header calls for {expected + CRC_BYTES}{most}"
        )


def _read_messages(
    payload: bytes, layout: BlockLayout, bits: int, code: str
) -> tuple[int, NDArray[np.int64]]:
    """Return theta16 and the messages, shaped as `CompressedModel.indices`."""
    theta16 = int.from_bytes(payload[:THETA_BYTES], "little")
    count, raw = message_count(layout, code), raw_bits(code, bits)
    sent = read_integers(payload[THETA_BYTES:], count, theta16, raw)
    messages = from_positive(code, sent)
    check_messages(code, bits, messages)
    if find_code(code).of != VARIABLE:
        return theta16, messages
    return theta16, in_blocks(layout, messages)


def in_blocks(layout: BlockLayout, messages: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the messages of all variables as those of blocks, shape (blocks, block_size)."""
    indices = np.full((layout.blocks(), layout.block_size), UNUSED, dtype=np.int64)
    indices.ravel()[: len(messages)] = messages
    return indices
