"""Tensors by name, in refmiracle's own shapes: .npz and .safetensors."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from refmiracle.extras import import_extra
from refmiracle.nn.contract import Weights

LENGTH_BYTES = 8


def npz_bytes(weights: Weights) -> bytes:
    """Return an .npz file with one array for each tensor.

    Parameters
    ----------
    weights : dict of str to ndarray of float32
        By tensor name.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **weights)  # type: ignore[arg-type]
    return buffer.getvalue()


def load_safetensors() -> Any:
    """Return safetensors' functions for NumPy.

    Raises
    ------
    InputError
        If it is not installed or cannot be loaded.
    """
    return import_extra("safetensors.numpy", "safetensors", ("save",))


def safetensors_bytes(weights: Weights, metadata: Mapping[str, str]) -> bytes:
    """Return a .safetensors file with one tensor for each tensor, and metadata.

    Parameters
    ----------
    weights : dict of str to ndarray of float32
        By tensor name.
    metadata : mapping of str to str

    Raises
    ------
    InputError
        If safetensors cannot be loaded.
    """
    library = load_safetensors()
    data = library.save({name: np.ascontiguousarray(w) for name, w in weights.items()}, metadata)
    # The library writes the metadata in an order that changes from call to call.
    end = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
    header = json.loads(data[LENGTH_BYTES:end])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + data[end:]
