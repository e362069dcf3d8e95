"""How each kind of layer is exported: the one place that a new kind is added to.

A function of the table gets what stands behind the kind in `Layer.spec`, and says which ONNX
operator the layer is and how its tensors are turned.  ONNX and PyTorch have activations of shape
(batch, channels, height, width) and lay out weights alike, outputs first, so that one order of
axes serves both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.errors import InputError
from refmiracle.nn.contract import Weights
from refmiracle.nn.network import Network
from refmiracle.nn.tree import Placed


@dataclass(frozen=True)
class Exported:
    """A layer in the terms of ONNX and PyTorch.

    Parameters
    ----------
    operator : str
        ONNX operator; its inputs are the activations and the layer's tensors, in their order.
    attributes : dict
        Of the operator.
    axes : tuple of tuple of int
        For each tensor of the layer, in which order ONNX and PyTorch have its axes.
    monotone : bool
        Whether each output is a function of one input, the same for all, that never falls.
    largest : bool
        Whether each output is the largest of some inputs.
    """

    operator: str
    attributes: dict[str, Any] = field(default_factory=dict)
    axes: tuple[tuple[int, ...], ...] = ()
    monotone: bool = False
    largest: bool = False


def _conv2d(
    kernel: tuple[int, int], inputs: int, outputs: int, stride: int, padding: int, groups: int
) -> Exported:
    attributes: dict[str, Any] = {"kernel_shape": [*kernel]}
    if (stride, padding, groups) != (1, 0, 1):
        attributes |= {"strides": [stride] * 2, "pads": [padding] * 4, "group": groups}
    # (kh, kw, in, out) becomes (out, in, kh, kw).
    return Exported("Conv", attributes, axes=((3, 2, 0, 1), (0,)))


def _flatten() -> Exported:
    # Both flatten (channel, height, width), the batch apart.
    return Exported("Flatten")


def _maxpool2d() -> Exported:
    # Both drop an odd last row or column unless told otherwise.
    return Exported("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, largest=True)


def _meanpool2d(height: int, width: int) -> Exported:
    sides = [height, width]
    return Exported("AveragePool", {"kernel_shape": sides, "strides": sides})


def _relu() -> Exported:
    return Exported("Relu", monotone=True)


def _dense(inputs: int, outputs: int) -> Exported:
    # (in, out) becomes (out, in), which Gemm transposes back.
    return Exported("Gemm", {"transB": 1}, axes=((1, 0), (0,)))


EXPORTS: dict[str, Callable[..., Exported]] = {
    "conv2d": _conv2d,
    "flatten": _flatten,
    "maxpool2d": _maxpool2d,
    "meanpool2d": _meanpool2d,
    "relu": _relu,
    "dense": _dense,
}


def export_layer(layer: Placed) -> Exported:
    """Return a layer in the terms of ONNX and PyTorch.

    Raises
    ------
    InputError
        If its kind is not in `EXPORTS`.
    """
    kind, *sizes = layer.spec()
    if kind not in EXPORTS:
        raise InputError(
            f"layers of kind {kind!r} have no export to onnx and torch; expected one of"
            f" {', '.join(EXPORTS)} (npz and safetensors take any)"
        )
    return EXPORTS[kind](*sizes)


def outputs_first(network: Network, weights: Weights) -> dict[str, NDArray[np.float32]]:
    """Return copies of all weights as ONNX and PyTorch lay them out, by tensor name.

    Parameters
    ----------
    network : Network
    weights : dict of str to ndarray
        By tensor name, in the shapes of `network.tensors()`.

    Returns
    -------
    dict of str to ndarray of float32
        Kernels (out, in, kh, kw), matrices (out, in), biases (out,).
    """
    turned = {}
    for layer in network.placed:
        for t, axes in zip(layer.tensors(), export_layer(layer).axes, strict=True):
            turned[t.name] = np.array(weights[t.name].transpose(axes), np.float32, order="C")
    return turned
