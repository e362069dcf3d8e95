"""How each kind of layer is exported: the one place that a new kind is added to.

A function of the table gets what stands behind the kind in `Layer.spec`, and says which ONNX
operator the layer is and how its tensors are turned; a layer of several operators is an `Exported`
with a `write` of its own.  ONNX and PyTorch have activations of shape (batch, channels, height,
width) and lay out weights alike, outputs first, so that one order of axes serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines.contract import LayerSpec
from refmiracle.engines.numpy_engine.normalisation import GROUP_EPSILON
from refmiracle.errors import InputError
from refmiracle.nn.arguments import check_weights
from refmiracle.nn.contract import Weights
from refmiracle.nn.network import Network
from refmiracle.nn.tree import Placed, lists_of


class Graph(Protocol):
    """What layers write themselves into; `onnx_graph.OnnxGraph` is one."""

    def add(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node; return its output, which has its name."""

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Add a tensor that no layer holds; return its name."""

    def reshape(self, name: str, shape: tuple[int, ...]) -> str:
        """Give a layer's tensor another shape; return its name."""

    def write(self, layers: Sequence[Placed], x: str, before: str = "") -> str:
        """Add the layers of a list, which begins with the result x; return its result."""


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
        Whether each output is the largest of some inputs, or one of them.
    """

    operator: str
    attributes: dict[str, Any] = field(default_factory=dict)
    axes: tuple[tuple[int, ...], ...] = ()
    monotone: bool = False
    largest: bool = False

    def write(self, graph: Graph, name: str, layer: Placed, x: str) -> str:
        """Add the layer's nodes, the last one under the name; return its output.

        Parameters
        ----------
        graph : Graph
        name : str
            That no other layer has: those of further nodes and constants begin with it and a dot.
        layer : Placed
        x : str
            The result that the layer reads.
        """
        inputs = [x, *(t.name for t in layer.tensors())]
        return graph.add(self.operator, inputs, name, **self.attributes)


class GroupNormed(Exported):
    """(1 + gain) xhat + bias, xhat of operators that all runtimes and quantizers know.

    An InstanceNormalization of maps of shape (groups, rows of all channels of a group, width) is
    the norm of groups, as PyTorch exports its own.  GroupNormalization is of opset 21, and opset
    18 has one of the same name with a factor for each group.  The gain is the file's: 1 is added
    to it in the graph, once for all images.
    """

    def write(self, graph: Graph, name: str, layer: Placed, x: str) -> str:
        """See `Exported.write`."""
        _, channels, groups = layer.spec()
        gain, bias = (graph.reshape(t.name, (channels, 1, 1)) for t in layer.tensors())
        one = graph.constant(f"{name}.one", np.array(1, np.float32))
        # In a Reshape, 0 keeps an axis as it is.
        parts = graph.constant(f"{name}.parts", np.array([0, groups, -1, 0], np.int64))
        whole = graph.constant(f"{name}.whole", np.array([0, channels, -1, 0], np.int64))
        ones = graph.constant(f"{name}.ones", np.ones(groups, np.float32))
        zeros = graph.constant(f"{name}.zeros", np.zeros(groups, np.float32))
        x = graph.add("Reshape", [x, parts], f"{name}.split")
        x = graph.add(self.operator, [x, ones, zeros], f"{name}.normed", **self.attributes)
        x = graph.add("Reshape", [x, whole], f"{name}.joined")
        factors = graph.add("Add", [gain, one], f"{name}.factors")
        x = graph.add("Mul", [x, factors], f"{name}.scaled")
        return graph.add("Add", [x, bias], name)


class Summed(Exported):
    """The sum of two lists of layers that read the same; an empty list is what they read."""

    def write(self, graph: Graph, name: str, layer: Placed, x: str) -> str:
        """See `Exported.write`."""
        body, shortcut = lists_of(layer)
        ends = graph.write(body, x, f"{name}.body."), graph.write(shortcut, x, f"{name}.shortcut.")
        return graph.add(self.operator, ends, name)


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
    return Exported("Flatten", largest=True)


def _maxpool2d() -> Exported:
    # Both drop an odd last row or column unless told otherwise.
    return Exported("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, largest=True)


def _meanpool2d(height: int, width: int) -> Exported:
    sides = [height, width]
    return Exported("AveragePool", {"kernel_shape": sides, "strides": sides})


def _groupnorm(channels: int, groups: int) -> Exported:
    return GroupNormed("InstanceNormalization", {"epsilon": GROUP_EPSILON}, axes=((0,), (0,)))


def _residual(body: tuple[LayerSpec, ...], shortcut: tuple[LayerSpec, ...]) -> Exported:
    # Its tensors are those of the body, then those of the shortcut.
    inner = [export_spec(spec) for spec in (*body, *shortcut)]
    return Summed("Add", axes=tuple(axes for exported in inner for axes in exported.axes))


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
    "relu": _relu,
    "dense": _dense,
    "residual": _residual,
}


def export_layer(layer: Placed) -> Exported:
    """Return a layer in the terms of ONNX and PyTorch.

    Raises
    ------
    InputError
        If its kind, or that of a layer within it, is not in `EXPORTS`.
    """
    return export_spec(layer.spec())


def export_spec(spec: LayerSpec) -> Exported:
    """Return what `export_layer` does, of the layer's `Layer.spec`."""
    kind, *sizes = spec
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
        Kernels (out, in, kh, kw), matrices (out, in), biases and gains (out,).

    Raises
    ------
    InputError
        If weights are missing, no real numbers or of other shapes; if a layer has no export, or
        one without an order of axes for each of its tensors.
    """
    check_weights(network, weights)
    turned = {}
    for layer in network.placed:
        tensors, orders = layer.tensors(), export_layer(layer).axes
        if [sorted(axes) for axes in orders] != [[*range(len(t.shape))] for t in tensors]:
            shapes = ", ".join(f"{t.name} {t.shape}" for t in tensors) or "no tensors"
            raise InputError(
                f"the export of {layer.path} has the orders of axes {orders}; expected one for each"
                f" of {shapes}"
            )
        for t, axes in zip(tensors, orders, strict=True):
            array = np.asarray(weights[t.name])
            if array.dtype.kind not in "fiu":
                raise InputError(f"weights {t.name}: of {array.dtype}; expected real numbers")
            turned[t.name] = np.array(array.transpose(axes), np.float32, order="C")
    return turned
