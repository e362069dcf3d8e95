"""What every .rmc file has around its content: magic, version and checksum (docs/SPEC.md, 2.1).

The checksum also names the file: an update says by it which file it is relative to.
"""

from __future__ import annotations

import zlib
from collections.abc import Container
from pathlib import Path

from refmiracle.codes.table import CODES_BY_NUMBER
from refmiracle.errors import InputError

MAGIC = b"RMC"
VERSION = 1
# Versions of updates tell their random code: the first plus its number (docs/SPEC.md, section 13).
FIRST_UPDATE = 0x20
UPDATES = {FIRST_UPDATE + number: code for number, code in CODES_BY_NUMBER.items()}
CRC_BYTES = 4
SHORTEST = 12
LARGEST_FILE = 1 << 22


def seal(body: bytes) -> bytes:
    """Return a file: its body and the checksum of that.

    Raises
    ------
    InputError
        If the file would be too large.
    """
    data = body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")
    if len(data) > LARGEST_FILE:
        raise InputError(f"a file of {len(data)} bytes; at most {LARGEST_FILE} are possible")
    return data


def unseal(data: bytes, versions: Container[int]) -> bytes:
    """Return the body of an intact file of one of the versions.

    Raises
    ------
    InputError
        If the bytes are no such file.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise InputError(f"it does not begin with the magic {MAGIC!r}, so it is no .rmc file")
    if len(data) < SHORTEST:
        raise InputError(f"it is cut off: {len(data)} bytes cannot hold a header and a checksum")
    version = data[len(MAGIC)]
    if version not in versions:
        if version == VERSION:
            raise InputError("it is a model, where an update is expected")
        known = VERSION if VERSION in versions else f"{min(UPDATES)} to {max(UPDATES)}"
        wrong = "" if is_intact(data) else "; its checksum is wrong too: it is damaged"
        raise InputError(f"format version {version} is unknown; expected {known}{wrong}")
    body, stored = data[:-CRC_BYTES], int.from_bytes(data[-CRC_BYTES:], "little")
    if zlib.crc32(body) != stored:
        raise InputError(
            f"the checksum is {zlib.crc32(body):08x}, the file says {stored:08x}: it is damaged,"
            " cut off, or has bytes behind its end"
        )
    return body


def is_update(data: bytes) -> bool:
    """Tell whether a file says of itself that it is an update."""
    return data[: len(MAGIC)] == MAGIC and len(data) >= SHORTEST and data[len(MAGIC)] in UPDATES


def is_intact(data: bytes) -> bool:
    """Tell whether a file ends with its own checksum."""
    body, stored = data[:-CRC_BYTES], int.from_bytes(data[-CRC_BYTES:], "little")
    return len(data) >= SHORTEST and zlib.crc32(body) == stored


def base_checksum(data: bytes) -> int:
    """Return the checksum of the file that an update is relative to."""
    return int.from_bytes(data[len(MAGIC) + 1 : len(MAGIC) + 1 + CRC_BYTES], "little")


def checksum_of(data: bytes) -> int:
    """Return the checksum that an intact file ends with, and is named by."""
    return int.from_bytes(data[-CRC_BYTES:], "little")


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file that may be a .rmc file.

    Raises
    ------
    InputError
        If it cannot be read, or is larger than any; the message names it.
    """
    try:
        with open(path, "rb") as f:
            data = f.read(LARGEST_FILE + 1)
    except OSError as e:
        raise InputError(f"{path}: {e.strerror or e}") from e
    except ValueError as e:  # no system has such a name
        raise InputError(f"{path}: {e}") from e
    if len(data) > LARGEST_FILE:
        raise InputError(f"{path}: it is larger than {LARGEST_FILE} bytes, so it is no .rmc file")
    return data
