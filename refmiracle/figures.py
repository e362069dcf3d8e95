"""Layer 5: the figures of a model that commands print and summaries hold."""

from __future__ import annotations

import hashlib
from typing import Any

from refmiracle.codes.table import find_code
from refmiracle.fileformat.envelope import checksum_of
from refmiracle.fileformat.payload import payload_of
from refmiracle.model import Model
from refmiracle.training.data import Split, check_split


def figures_of(model: Model, split: Split, name: str = "test") -> dict[str, Any]:
    """Return the size and the error of a model, as commands and summaries have them.

    Returns
    -------
    dict
        Those of `size_of`, and NAME_error in [0, 1] and NAME_images; of an update also
        base_NAME_error, that of its base on the same images.

    Raises
    ------
    InputError
        If its network does not take these images.
    """
    check_split(split, model.network)
    asked = {f"{name}_error": model}
    if model.base is not None:
        asked[f"base_{name}_error"] = model.base
    errors = {n: m.error(split.images, split.labels, channels="first") for n, m in asked.items()}
    return {**size_of(model), **errors, f"{name}_images": len(split.images)}


def size_of(model: Model) -> dict[str, Any]:
    """Return how large a model is.

    Returns
    -------
    dict
        bytes and bits_total: of the whole file; index_bits: of its indices, or of the bytes of
        its entropy-coded integers and theta; ratio: the weights as float32 over the bytes; sha256
        of the file.  Of an update all of them are its own, and base is the checksum of the file
        that it is relative to, in hexadecimal, base_bytes the size of all files before it.
    """
    compressed = model.compressed
    layout, bits, data = compressed.layout, compressed.bits_per_block, compressed.payload()
    found: dict[str, Any] = {
        "bytes": model.nbytes,
        "bits_total": 8 * model.nbytes,
        "index_bits": payload_of(find_code(compressed.code)).size_bits(layout, bits, data),
        "ratio": model.ratio,
        "sha256": hashlib.sha256(model.data).hexdigest(),
    }
    if model.base is not None:
        found["base"] = f"{checksum_of(model.base.data):08x}"
        found["base_bytes"] = sum(map(len, model.base.chain))
    return found
