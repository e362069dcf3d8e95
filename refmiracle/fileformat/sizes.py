"""How many bytes a file has, before it is there; minimal random coding alone has such a size."""

from __future__ import annotations

import numpy as np

from refmiracle.errors import InputError, named
from refmiracle.fileformat.container import CompressedModel
from refmiracle.fileformat.envelope import CRC_BYTES
from refmiracle.fileformat.update import CompressedUpdate
from refmiracle.numerics.varints import write_varint

BITS = 8  # of a byte
VARINT_BITS = 7  # of a number in a byte of a varint


def least_block_size(file: CompressedModel | CompressedUpdate, nbytes: int) -> int:
    """Return the smallest block size with which a file has at most so many bytes.

    Parameters
    ----------
    file : CompressedModel or CompressedUpdate
        Of code `mrc`; its own block size and indices do not matter.
    nbytes : int

    Raises
    ------
    InputError
        If there is none.
    """
    layout, bits = file.layout, file.bits_per_block
    sizes = np.arange(1, layout.variables() + 1)
    blocks = -(-layout.variables() // sizes)
    fixed = len(file.header()) - len(write_varint(layout.block_size)) + CRC_BYTES
    varints = sum((sizes >> (VARINT_BITS * n) > 0).astype(np.int64) for n in range(5))
    total = fixed + varints + -(-blocks * bits // BITS)
    fitting = np.flatnonzero(total <= nbytes)
    if not len(fitting):
        raise InputError(
            f"{named('nbytes')} {nbytes}: the shortest file with these settings has {total.min()}"
        )
    return int(sizes[fitting[0]])
