"""Whether what is given agrees with the run that is to go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refmiracle.errors import InputError, named
from refmiracle.fileformat.envelope import checksum_of
from refmiracle.nn.network import Network
from refmiracle.numerics.whole import described
from refmiracle.training.settings import Settings
from refmiracle.training.sizes import expected_bytes


def check_agreement(given: Mapping[str, Any], started: Settings) -> None:
    """Refuse settings that are not those of the run to resume.

    Raises
    ------
    InputError
        If one is another; the message names it.
    """
    settings, blocks = started.by_name(), started.layout().blocks()
    for name, value in given.items():
        # A run has no more groups than blocks.
        more = name == "groups" and isinstance(value, int | np.integer) and value > blocks
        if not _agrees(blocks if more else value, settings[name]):
            raise _refusal(name, value, settings[name])


def check_block_size(nbytes: int, block_size: int, started: Settings) -> None:
    """Refuse blocks that follow from a number of bytes and are not those of the run to resume.

    Raises
    ------
    InputError
        If it is so; the message speaks of bytes.
    """
    if block_size != started.block_size:
        raise InputError(
            f"{named('nbytes')} {nbytes}: the run to resume was started with other blocks, whose"
            f" file has {expected_bytes(started)} bytes"
        )


def _agrees(given: Any, started: Any) -> bool:
    """Tell whether a setting from outside is the one that a run was started with."""
    if isinstance(started, tuple):
        return isinstance(given, Sequence) and list(given) == list(started)
    return np.ndim(given) == 0 and bool(given == started)


def _refusal(name: str, given: Any, started: Any) -> InputError:
    if name == "base":  # its bytes say nothing to anybody
        one, told = map(_files, (given, started))
        return InputError(f"{named(name)}, {one}: the run to resume was started with {told}")
    one, told = (n.name if isinstance(n, Network) else n for n in (given, started))
    one = one if isinstance(one, str) else described(one)
    return InputError(f"{named(name)} {one}: the run to resume was started with {told}")


def _files(chain: Sequence[bytes]) -> str:
    """Return how the files of a base are known."""
    checksums = " + ".join(f"{checksum_of(data):08x}" for data in chain)
    return f"checksum {checksums}" if checksums else "none: it makes a model"
