"""Layers as plain data: which tensors they hold and which functions of an engine they call.

The mathematics of each, with its gradient, stands in `engines.numpy_engine.layers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from refmiracle.engines.contract import Array, Engine, LayerSpec

Weights = dict[str, Array]


@dataclass(frozen=True)
class Tensor:
    """A weight array of a layer.

    Parameters
    ----------
    name : str
    shape : tuple of int
        (kh, kw, in, out), (in, out) or (out,).
    fan_in : int
        Products summed into one output of the layer.
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int


class Layer(Protocol):
    """One step of a network: y = f(weights, x), and dx and the weights' gradients from dy."""

    def spec(self) -> LayerSpec:
        """Return kind and sizes as plain data, for engines with passes over whole networks."""

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the weight arrays that the layer holds, in the order of the file format."""

    def forward(self, engine: Engine, weights: Weights, x: Array) -> tuple[Array, Any]:
        """Return the output and what the backward pass needs to know."""

    def backward(
        self, engine: Engine, weights: Weights, kept: Any, dy: Array, need_dx: bool
    ) -> tuple[Any, Weights]:
        """Return dx (None unless needed) and the gradients of the layer's tensors."""


class Weightless:
    """What layers without tensors share."""

    def tensors(self) -> tuple[Tensor, ...]:
        """Return no tensors."""
        return ()


@dataclass(frozen=True)
class Conv2d:
    """Valid cross-correlation with a square kernel."""

    name: str
    kernel: int
    inputs: int
    outputs: int

    def spec(self) -> LayerSpec:
        """Return ("conv2d", kernel, inputs, outputs)."""
        return "conv2d", self.kernel, self.inputs, self.outputs

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the kernel (kh, kw, in, out) and the bias (out,)."""
        fan_in = self.kernel**2 * self.inputs
        shape = (self.kernel, self.kernel, self.inputs, self.outputs)
        return (
            Tensor(f"{self.name}.weight", shape, fan_in),
            Tensor(f"{self.name}.bias", (self.outputs,), fan_in),
        )

    def forward(self, engine: Engine, weights: Weights, x: Array) -> tuple[Array, Any]:
        """Return the feature maps; the input is kept."""
        return engine.conv2d(x, weights[f"{self.name}.weight"], weights[f"{self.name}.bias"]), x

    def backward(
        self, engine: Engine, weights: Weights, kept: Any, dy: Array, need_dx: bool
    ) -> tuple[Any, Weights]:
        """Return dx and the gradients of kernel and bias."""
        w = weights[f"{self.name}.weight"]
        dx, dw, db = engine.conv2d_backward(kept, w, dy, need_dx)
        return dx, {f"{self.name}.weight": dw, f"{self.name}.bias": db}


@dataclass(frozen=True)
class Dense:
    """y = W^T x + b; an input of several axes is read as one column (channel, height, width)."""

    name: str
    inputs: int
    outputs: int

    def spec(self) -> LayerSpec:
        """Return ("dense", inputs, outputs)."""
        return "dense", self.inputs, self.outputs

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the matrix (in, out) and the bias (out,)."""
        return (
            Tensor(f"{self.name}.weight", (self.inputs, self.outputs), self.inputs),
            Tensor(f"{self.name}.bias", (self.outputs,), self.inputs),
        )

    def forward(self, engine: Engine, weights: Weights, x: Array) -> tuple[Array, Any]:
        """Return the activations; the input is kept."""
        y = engine.dense(
            x.reshape(self.inputs, -1),
            weights[f"{self.name}.weight"],
            weights[f"{self.name}.bias"],
        )
        return y, x

    def backward(
        self, engine: Engine, weights: Weights, kept: Any, dy: Array, need_dx: bool
    ) -> tuple[Any, Weights]:
        """Return dx and the gradients of matrix and bias."""
        dx, dw, db = engine.dense_backward(
            kept.reshape(self.inputs, -1), weights[f"{self.name}.weight"], dy, need_dx
        )
        grads = {f"{self.name}.weight": dw, f"{self.name}.bias": db}
        return (None if dx is None else dx.reshape(kept.shape)), grads


@dataclass(frozen=True)
class MaxPool2d(Weightless):
    """Maximum of each 2x2 window."""

    def spec(self) -> LayerSpec:
        """Return ("maxpool2d",)."""
        return ("maxpool2d",)

    def forward(self, engine: Engine, weights: Weights, x: Array) -> tuple[Array, Any]:
        """Return the maxima; which input won is kept."""
        y, winner = engine.maxpool2d(x)
        return y, (winner, x.shape)

    def backward(
        self, engine: Engine, weights: Weights, kept: Any, dy: Array, need_dx: bool
    ) -> tuple[Any, Weights]:
        """Return dx: the gradient goes to the winners."""
        winner, shape = kept
        return engine.maxpool2d_backward(dy, winner, shape), {}


@dataclass(frozen=True)
class Relu(Weightless):
    """max(x, 0)."""

    def spec(self) -> LayerSpec:
        """Return ("relu",)."""
        return ("relu",)

    def forward(self, engine: Engine, weights: Weights, x: Array) -> tuple[Array, Any]:
        """Return the positive part; the output is kept."""
        y = engine.relu(x)
        return y, y

    def backward(
        self, engine: Engine, weights: Weights, kept: Any, dy: Array, need_dx: bool
    ) -> tuple[Any, Weights]:
        """Return dx: the gradient passes where the output is positive."""
        return engine.relu_backward(kept, dy), {}
