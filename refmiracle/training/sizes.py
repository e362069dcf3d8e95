"""How many bytes the file of a run has, or may have, before it is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from refmiracle.codes.table import MRC, find_code
from refmiracle.errors import named
from refmiracle.fileformat.container import CompressedModel
from refmiracle.fileformat.envelope import CRC_BYTES
from refmiracle.fileformat.payload import message_count, payload_of
from refmiracle.fileformat.sizes import least_block_size
from refmiracle.fileformat.update import CompressedUpdate
from refmiracle.training.settings import Settings

BITS = 8  # of a byte
# How much longer than expected a file may be without a word.
TOLERANCE = 1.1


def empty_file(settings: Settings) -> CompressedModel | CompressedUpdate:
    """Return the file of a run without its messages."""
    layout, bits, none = settings.layout(), settings.bits_per_block, np.zeros(0, np.int64)
    tensors = len(layout.factors)
    if settings.base:
        return CompressedUpdate(0, layout, bits, np.zeros(tensors, np.uint8), none, settings.code)
    return CompressedModel(layout, bits, np.zeros(tensors, np.float16), none, settings.code)


def expected_bytes(settings: Settings) -> int:
    """Return how many bytes a file has: exactly where messages have a fixed length, else about."""
    code, file = find_code(settings.code), empty_file(settings)
    each = code.expected_bits(settings.bits_per_block, settings.block_size)
    messages = math.ceil(each * message_count(file.layout, code) / BITS)
    return len(file.header()) + payload_of(code).theta_bytes + messages + CRC_BYTES


def with_suited_blocks(settings: Settings, nbytes: int) -> Settings:
    """Return the settings with the smallest blocks whose file has about so many bytes at most.

    Where the overhead of a code's messages alone is longer, their divergences have those bytes:
    the blocks are those of minimal random coding.  No block is larger than the code can search.
    """
    code = find_code(settings.code)
    by_mrc = least_block_size(empty_file(replace(settings, code=MRC, block_size=1)), nbytes)
    low, high = by_mrc, replace(settings, block_size=1).layout().variables()
    if expected_bytes(replace(settings, block_size=high)) > nbytes:
        high = by_mrc
    while low < high:  # files only get shorter with larger blocks
        middle = (low + high) // 2
        fits = expected_bytes(replace(settings, block_size=middle)) <= nbytes
        low, high = (low, middle) if fits else (middle + 1, high)
    return replace(settings, block_size=min(low, code.largest_block))


def foretold(settings: Settings) -> Iterator[str]:
    """Yield what there is to say before training, of large blocks and of long updates."""
    code = find_code(settings.code)
    if settings.block_size > code.largest_block:
        yield (
            f"warning: blocks of {settings.block_size} variables may be too large for"
            f" {named('code')} {code.name}, which is known once they are trained; up to"
            f" {named('block_size')} {code.largest_block} it sends them"
        )
    if not settings.base:
        return
    size, root = expected_bytes(settings), len(settings.base[0])
    longer = size > root
    if not code.fixed_length:
        yield (
            f"{named('code')} {code.name} tells how long an update is when it is there; some"
            f" {size} bytes are expected{_than(root) if longer else ''}"
        )
    elif longer:
        yield f"warning: the update will have {size} bytes{_than(root)}"


def found_longer(settings: Settings, nbytes: int) -> Iterator[str]:
    """Yield what there is to say of the bytes of a finished update that nobody foretold."""
    if not settings.base or find_code(settings.code).fixed_length:
        return
    size, root = expected_bytes(settings), len(settings.base[0])
    if nbytes > TOLERANCE * size:
        more = _than(root) if nbytes > root else ""
        yield f"warning: the update has {nbytes} bytes, where some {size} were expected{more}"
    elif size <= root < nbytes:
        yield f"warning: the update has {nbytes} bytes{_than(root)}"


def _than(root: int) -> str:
    return f", more than the model that it updates ({root})"
