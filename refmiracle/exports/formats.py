"""The formats that a .rmc file is exported to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from refmiracle.errors import InputError
from refmiracle.exports.onnx_graph import load_onnx, onnx_bytes
from refmiracle.exports.state_dict import load_torch, torch_bytes
from refmiracle.exports.tensors import load_safetensors, npz_bytes, safetensors_bytes
from refmiracle.fileformat.envelope import MAGIC
from refmiracle.nn.contract import Weights
from refmiracle.nn.network import Network
from refmiracle.numerics.whole import described


@dataclass(frozen=True)
class Format:
    """A format of files.

    Parameters
    ----------
    suffix : str
    to_bytes : function
        Of the network, its weights and the metadata; returns the file.
    load : function
        Loads the library that `to_bytes` needs, or raises InputError.
    """

    suffix: str
    to_bytes: Callable[[Network, Weights, Mapping[str, str]], bytes]
    load: Callable[[], Any] = lambda: None


FORMATS = {
    "npz": Format(".npz", lambda network, weights, metadata: npz_bytes(weights)),
    "safetensors": Format(
        ".safetensors",
        lambda network, weights, metadata: safetensors_bytes(weights, metadata),
        load_safetensors,
    ),
    "onnx": Format(".onnx", onnx_bytes, load_onnx),
    "torch": Format(
        ".pt", lambda network, weights, metadata: torch_bytes(network, weights), load_torch
    ),
}


def exported(form: str, network: Network, weights: Weights, rmc: bytes) -> bytes:
    """Return the network of a .rmc file in another format.

    Parameters
    ----------
    form : str
        One of `FORMATS`.
    network : Network
    weights : dict of str to ndarray of float32
        By tensor name.
    rmc : bytes
        The whole file.

    Raises
    ------
    InputError
        If there is no such format, its library cannot be loaded, or a layer has no export.
    """
    if not isinstance(form, str) or form not in FORMATS:
        raise InputError(
            f"format {described(form)} is unknown; expected one of {', '.join(FORMATS)}"
        )
    return FORMATS[form].to_bytes(network, weights, metadata_of(network, rmc))


def metadata_of(network: Network, rmc: bytes) -> dict[str, str]:
    """Return what an export says about the .rmc file that it is of.

    Parameters
    ----------
    network : Network
    rmc : bytes
        The whole file.

    Returns
    -------
    dict of str to str
        The version of the .rmc format, the network's name, the file's SHA-256.
    """
    return {
        "rmc_version": str(rmc[len(MAGIC)]),
        "network": network.name,
        "rmc_sha256": hashlib.sha256(rmc).hexdigest(),
    }
