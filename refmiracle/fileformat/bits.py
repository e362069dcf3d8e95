"""Indices as bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.errors import InputError

LARGEST_BITS = 24


def as_integers(values: ArrayLike) -> NDArray[np.int64]:
    """Return whole numbers as int64.

    Raises
    ------
    InputError
        If they are of another type, which would round, or do not fit.
    """
    values = np.asarray(values)
    if values.size and (values.dtype.kind not in "iu" or values.max() > np.iinfo(np.int64).max):
        raise InputError(f"numbers of {values.dtype}; expected integers below 2^63")
    return values.astype(np.int64)


def pack_indices(indices: ArrayLike, bits: int) -> bytes:
    """Return indices as `bits` bits each, highest bit first, padded with zeros to whole bytes.

    Parameters
    ----------
    indices : array_like of int, shape (R,)
        0 <= index < 2**bits.
    bits : int
        1 to 24.

    Raises
    ------
    InputError
        If an index does not fit, or the number of bits is out of range.
    """
    _check_bits(bits)
    indices = as_integers(indices)
    if indices.ndim != 1:
        raise InputError(f"indices of shape {indices.shape}; expected one axis")
    if np.any(indices < 0) or np.any(indices >> bits):
        raise InputError(f"an index is out of range; expected 0 to {2**bits - 1}")
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits((indices[:, None] >> shifts & 1).astype(np.uint8)).tobytes()


def unpack_indices(payload: bytes, bits: int, count: int) -> NDArray[np.int64]:
    """Return the `count` indices that `pack_indices` wrote.

    Raises
    ------
    InputError
        If the payload is not exactly as long as they need, a padding bit is set, or the number
        of bits or of indices is out of range.
    """
    _check_bits(bits)
    if count < 0:
        raise InputError(f"{count} indices; expected 0 or more")
    if len(payload) != packed_size(bits, count):
        raise InputError(
            f"the indices take {packed_size(bits, count)} bytes, but {len(payload)} are there"
        )
    flat = np.unpackbits(np.frombuffer(payload, dtype=np.uint8))
    if np.any(flat[bits * count :]):
        raise InputError("the padding bits after the last index are not zero")
    places = np.int64(1) << np.arange(bits - 1, -1, -1, dtype=np.int64)
    return flat[: bits * count].reshape(count, bits) @ places


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= LARGEST_BITS:
        raise InputError(f"{bits} bits per index are out of range; expected 1 to {LARGEST_BITS}")


def packed_size(bits: int, count: int) -> int:
    """Return the bytes that `count` indices of `bits` bits take."""
    return -(-bits * count // 8)
