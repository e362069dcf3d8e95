"""The messages of a .rmc file: what stands behind its header, docs/SPEC.md, sections 2.3 and 2.7.

A model and an update hold the same: for each block, or each coded variable, one integer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refmiracle.codes.code import Code
from refmiracle.errors import InputError
from refmiracle.fileformat.bits import pack_indices, packed_size, unpack_indices
from refmiracle.fileformat.envelope import CRC_BYTES, LARGEST_FILE
from refmiracle.fileformat.integers import best_theta16, check_count, read_integers, write_integers
from refmiracle.posterior.blocks import BlockLayout

THETA_BYTES = 2
# What stands at the places behind the last variable, which no file holds.
UNUSED = 1


def write_payload(
    layout: BlockLayout, code: Code, bits: int, messages: NDArray[np.int64], theta16: int = 0
) -> bytes:
    """Return the bytes of the messages, those of theta included.

    Parameters
    ----------
    layout : BlockLayout
    code : Code
    bits : int
        Of a block.
    messages : ndarray of int64, shape (blocks, messages of each)
        See `CompressedModel.messages`.
    theta16 : int
        0: the one under which the messages are shortest.

    Raises
    ------
    InputError
        If they have another shape, or one is none of the code's.
    """
    expected = message_shape(layout, code)
    if messages.shape != expected:
        raise InputError(f"messages of shape {messages.shape}; expected {expected}")
    in_file = messages.ravel()[: message_count(layout, code)]
    if code.fixed_length:
        return pack_indices(in_file, bits)
    code.check_messages(bits, messages)
    raw, sent = code.raw_bits(bits), code.to_positive(in_file)
    theta16 = theta16 or best_theta16(sent, raw)
    coded = write_integers(sent, theta16, raw)
    return theta16.to_bytes(THETA_BYTES, "little") + coded


def read_payload(
    payload: bytes, layout: BlockLayout, code: Code, bits: int
) -> tuple[NDArray[np.int64], int]:
    """Return the messages, as `write_payload` takes them, and theta16; 0 where there is none.

    Raises
    ------
    InputError
        If they are not exactly one valid list.
    """
    if code.fixed_length:
        return in_blocks(layout, code, unpack_indices(payload, bits, layout.blocks())), 0
    theta16, messages = _read_messages(payload, layout, bits, code)
    return messages, theta16


def message_count(layout: BlockLayout, code: Code) -> int:
    """Return how many messages a file holds: one for each block, or for each variable."""
    return code.message_count(layout.blocks(), layout.variables())


def check_size(layout: BlockLayout, code: Code, bits: int) -> None:
    """Refuse a layout whose file would be beyond the limits of docs/SPEC.md, section 2.6.

    Raises
    ------
    InputError
        If its messages are more, or take more bytes, than a file may hold.
    """
    count = message_count(layout, code)
    if not code.fixed_length:
        check_count(count)
    elif packed_size(bits, count) > LARGEST_FILE:
        raise InputError(f"{count} indices of {bits} bits: a file has at most {LARGEST_FILE} bytes")


def check_length(size: int, payload: int, layout: BlockLayout, bits: int, code: Code) -> None:
    """Refuse a body of `size` bytes that is not as long as its header calls for."""
    if code.fixed_length:
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
    payload: bytes, layout: BlockLayout, bits: int, code: Code
) -> tuple[int, NDArray[np.int64]]:
    """Return theta16 and the messages, shaped as `CompressedModel.messages`."""
    theta16 = int.from_bytes(payload[:THETA_BYTES], "little")
    count, raw = message_count(layout, code), code.raw_bits(bits)
    sent = read_integers(payload[THETA_BYTES:], count, theta16, raw)
    messages = code.from_positive(sent)
    code.check_messages(bits, messages)
    return theta16, in_blocks(layout, code, messages)


def message_shape(layout: BlockLayout, code: Code) -> tuple[int, int]:
    """Return blocks and the messages of each, those of unused places of the last one included."""
    return layout.blocks(), code.messages_per_block(layout.block_size)


def in_blocks(layout: BlockLayout, code: Code, messages: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the messages of a file, shaped as `CompressedModel.messages`."""
    filled = np.full(message_shape(layout, code), UNUSED, dtype=messages.dtype)
    filled.ravel()[: len(messages)] = messages
    return filled
