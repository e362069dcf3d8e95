"""Unsigned integers as the fewest bytes that hold them: LEB128, in its only canonical form."""

from __future__ import annotations

from refmiracle.errors import InputError


def write_varint(value: int) -> bytes:
    """Return an unsigned integer as LEB128: seven bits a byte, lowest first, top bit = more.

    Raises
    ------
    InputError
        If it is negative or above 2**32 - 1.
    """
    if not 0 <= value < 2**32:
        raise InputError(f"{value} is out of range; expected 0 to {2**32 - 1}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Return the integer at `offset` and the offset behind it.

    Raises
    ------
    InputError
        If it is cut off, above 2**32 - 1, or not written in the fewest bytes.
    """
    value = 0
    for count in range(5):
        if offset + count >= len(data):
            raise InputError("the file ends within its header")
        byte = data[offset + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            if value >= 2**32 or (byte == 0 and count > 0):
                break
            return value, offset + count + 1
    raise InputError(f"the integer at byte {offset} is not a canonical varint below 2**32")
