"""Layer 5: the figures of a model that commands print and summaries hold."""

from __future__ import annotations

import hashlib
from typing import Any

from refmiracle.model import Model
from refmiracle.rec.codes import MRC
from refmiracle.training.data import Split, check_split


def figures_of(model: Model, split: Split, name: str = "test") -> dict[str, Any]:
    """Return the size and the error of a model, as commands and summaries have them.

    Returns
    -------
    dict
        Those of `size_of`, and NAME_error in [0, 1] and NAME_images.

    Raises
    ------
    InputError
        If its network does not take these images.
    """
    check_split(split, model.network)
    return {
        **size_of(model),
        f"{name}_error": model.error(split.images, split.labels, channels="first"),
        f"{name}_images": len(split.images),
    }


def size_of(model: Model) -> dict[str, Any]:
    """Return how large a model is.

    Returns
    -------
    dict
        bytes and bits_total: of the whole file; index_bits: of its indices, or of the bytes of
        its entropy-coded integers and theta; ratio: the weights as float32 over the bytes; sha256
        of the file.
    """
    compressed = model.compressed
    if compressed.code == MRC:  # whole bytes would count the padding
        index_bits = compressed.bits_per_block * compressed.layout.blocks()
    else:
        index_bits = 8 * len(compressed.payload())
    return {
        "bytes": model.nbytes,
        "bits_total": 8 * model.nbytes,
        "index_bits": index_bits,
        "ratio": model.ratio,
        "sha256": hashlib.sha256(model.data).hexdigest(),
    }
