"""A network's weights as a PyTorch state dict."""

from __future__ import annotations

import io
from typing import Any

from refmiracle.exports.layers import outputs_first
from refmiracle.extras import import_extra
from refmiracle.nn.contract import Weights
from refmiracle.nn.network import Network


def load_torch() -> Any:
    """Return PyTorch.

    Raises
    ------
    InputError
        If it is not installed or cannot be loaded.
    """
    return import_extra("torch", "torch", ("from_numpy", "save"))


def torch_bytes(network: Network, weights: Weights) -> bytes:
    """Return what `torch.save` writes of a dict of plain tensors, in PyTorch's own layouts.

    ``torch.load(..., weights_only=True)`` reads it; the keys are the tensors' names
    (``conv1.weight``), so that a module whose submodules have the layers' names takes it.

    Parameters
    ----------
    network : Network
    weights : dict of str to ndarray
        By tensor name, in the shapes of `network.tensors()`.

    Raises
    ------
    InputError
        If torch cannot be loaded or a layer has no export.
    """
    torch = load_torch()
    buffer = io.BytesIO()
    turned = outputs_first(network, weights)
    torch.save({name: torch.from_numpy(array) for name, array in turned.items()}, buffer)
    return buffer.getvalue()
