"""How each kind of layer is exported: the one place that a new kind is added to.

A function of the table gets what stands behind the kind in `Layer.spec`, and says which ONNX
operator the layer is and how its tensors are turned.  ONNX and PyTorch have activations of shape
(batch, channels, height, width) and lay out weights alike, outputs first, so that one order of
axes serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines.contract import LayerSpec
from refmiracle.errors import InputError
from refmiracle.nn.contract import Weights
from refmiracle.nn.network import Network
from refmiracle.nn.tree import Placed, Residual, through


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
    names : mapping of str to str
        What they call a tensor that they have another name for.
    one_more : tuple of str
        Tensors that they have with 1 added.
    monotone : bool
        Whether each output is a function of one input, the same for all, that never falls.
    largest : bool
        Whether each output is the largest of some inputs.
    """

    operator: str
    attributes: dict[str, Any] = field(default_factory=dict)
    axes: tuple[tuple[int, ...], ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    one_more: tuple[str, ...] = ()
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


def _groupnorm(channels: int, groups: int) -> Exported:
    # PyTorch's GroupNorm has the whole factor for its weight, and the same 1e-5.
    return Exported(
        "GroupNorm",
        {"groups": groups},
        axes=((0,), (0,)),
        names={"gain": "weight"},
        one_more=("gain",),
    )


def _residual(body: tuple[LayerSpec, ...], shortcut: tuple[LayerSpec, ...]) -> Exported:
    return Exported("Add")


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
    "groupnorm": _groupnorm,
    "residual": _residual,
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
        By `exported_names`.  Kernels (out, in, kh, kw), matrices (out, in), biases (out,).
    """
    turned = {}
    for layer in through(network.placed):
        if isinstance(layer.layer, Residual):  # its layers come one by one
            continue
        exported = export_layer(layer)
        names = exported_names(layer, exported)
        for name, t, axes in zip(names, layer.tensors(), exported.axes, strict=True):
            array = np.array(weights[t.name].transpose(axes), np.float32, order="C")
            more = t.name.rpartition(".")[2] in exported.one_more
            turned[name] = array + np.float32(1) if more else array
    return turned


def exported_names(layer: Placed, exported: Exported) -> list[str]:
    """Return the names of a layer's tensors in ONNX and PyTorch, in their order."""
    parts = (t.name.rpartition(".") for t in layer.tensors())
    return [path + dot + exported.names.get(name, name) for path, dot, name in parts]
