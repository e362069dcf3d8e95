"""A model and the updates behind it: which file comes after which, and what all of them say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines.contract import Engine
from refmiracle.errors import InputError
from refmiracle.fileformat.container import parse_model
from refmiracle.fileformat.envelope import (
    MAGIC,
    UPDATES,
    base_checksum,
    checksum_of,
    is_intact,
    is_update,
    unseal,
)
from refmiracle.fileformat.model import Float32Weights, decode_update, decode_variables, weights_of
from refmiracle.fileformat.update import parse_update
from refmiracle.nn.network import Network
from refmiracle.numerics.arrays import read_only
from refmiracle.posterior.blocks import BlockLayout

MOST_NAMES = 8  # of files, in a message
NO_NAME = "this"  # what messages call a file of which only the bytes are given


@dataclass(frozen=True, eq=False)
class Base:
    """What both sides know that have the files of a chain.

    Attributes
    ----------
    layout : BlockLayout
        Of the model at the root: network, hashing and signs are those of all updates.
    rho : ndarray of float16, shape (tensors,)
        The scales of that model.
    variables : ndarray of float32, shape (variables,)
        As the last file leaves them, tensors one after the other; read-only.
    checksum : int
        Of the last file.
    """

    layout: BlockLayout
    rho: NDArray[np.float16]
    variables: NDArray[np.float32]
    checksum: int

    def weights(self) -> Float32Weights:
        """Return the weights by tensor name."""
        return weights_of(self.layout, self.variables)


def read_root(data: bytes, engine: Engine, own: Network | None = None) -> Base:
    """Return what the file of a model says; see `parse_model`."""
    model = parse_model(data, own)
    variables = decode_variables(model, engine)
    return Base(model.layout, model.rho, read_only(variables), checksum_of(data))


def apply_update(base: Base, data: bytes, engine: Engine) -> Base:
    """Return what the file of an update makes of its base.

    Raises
    ------
    InputError
        If it is no intact update, or one of another base.
    """
    update = parse_update(data, base.layout, base.checksum)
    variables = decode_update(update, base.rho, base.variables, engine)
    return Base(base.layout, base.rho, read_only(variables), checksum_of(data))


def decode_chain(files: Sequence[bytes], engine: Engine, own: Network | None = None) -> Base:
    """Return what the files say, a model and updates, each of the file before it.

    Raises
    ------
    InputError
        If one is damaged, or no update of the one before.
    """
    base = read_root(files[0], engine, own)
    for data in files[1:]:
        base = apply_update(base, data, engine)
    return base


def find_chain(
    name: str, data: bytes, others: Sequence[tuple[str, bytes]]
) -> list[tuple[str, bytes]]:
    """Return the files that lead to the file `data`, itself the last, the model the first.

    Parameters
    ----------
    name : str
        What messages call it; none where only its bytes are given.
    data : bytes
    others : sequence of (str, bytes)
        Names and bytes of the files among which its base is, and that one's base, and so on; in
        any order, together with any others.

    Raises
    ------
    InputError
        If an update is damaged, or its base is not among them.
    """
    by_checksum = {checksum_of(other): (called, other) for called, other in reversed(others)}
    chain = [(name, data)]
    while is_update(chain[0][1]):
        called, update = chain[0]
        with telling(called):  # of a damaged one, what it says of its base may be wrong
            unseal(update, UPDATES)
        called = called or NO_NAME
        wanted = base_checksum(update)
        if wanted not in by_checksum:
            raise InputError(
                f"{called}: it is an update of the file with the checksum {wanted:08x}, which is"
                f" not among its bases ({_found(others)})"
            )
        if len(chain) > len(others):
            raise InputError(f"{called}: it is an update of an update of itself")
        chain.insert(0, by_checksum[wanted])
    return chain


def _found(files: Sequence[tuple[str, bytes]]) -> str:
    """Return in words which files there are, and by what checksums, or why by none."""
    told = [_identity(name, data) for name, data in files[:MOST_NAMES]]
    more = [f"{len(files) - MOST_NAMES} more"] if len(files) > MOST_NAMES else []
    return ", ".join([*told, *more]) or "no file"


def _identity(name: str, data: bytes) -> str:
    if is_intact(data) and data[: len(MAGIC)] == MAGIC:
        checksum = f"{checksum_of(data):08x}"
        return f"{name} has {checksum}" if name not in ("", checksum) else checksum
    what = "is damaged" if data[: len(MAGIC)] == MAGIC else "is no .rmc file"
    return f"{name or 'one'} {what}"


@contextlib.contextmanager
def telling(name: str) -> Iterator[None]:
    """Put the name of a file, if it has one, before what is wrong with it."""
    try:
        yield
    except InputError as e:
        raise InputError(f"{name}: {e}" if name else str(e)) from e
