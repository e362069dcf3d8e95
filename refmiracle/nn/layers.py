"""Layers as values: each kind knows its shapes, its tensors and what it asks of an engine.

The mathematics of each, with its gradient, stands in `engines.numpy_engine.layers`.  A layer does
not say how large its input is: that follows from the layer before it.  So what depends on the
input's shape is a function of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from refmiracle.engines.contract import Array, Engine, LayerSpec
from refmiracle.errors import InputError

Weights = dict[str, Array]
Shape = tuple[int, ...]

# What a tensor is to its layer.
WEIGHT, BIAS, GAIN = "weight", "bias", "gain"


@dataclass(frozen=True)
class Tensor:
    """A weight array of a layer.

    Parameters
    ----------
    name : str
        Within its layer; `nn.tree` puts the layer's path before it.
    shape : tuple of int
        (kh, kw, in, out), (in, out) or (out,).
    fan_in : int
        Products summed into one output of the layer.
    role : str
        `WEIGHT` (its last axis counts the layer's outputs, which may share it), `BIAS` or `GAIN`.
    """

    name: str
    shape: Shape
    fan_in: int
    role: str = WEIGHT


class Layer(Protocol):
    """One step of a network: y = f(weights, x), and dx and the weights' gradients from dy.

    Activations are (channels, height, width, batch) or (features, batch); a shape here is without
    the batch.  Weights and gradients are by the tensors' names within the layer.
    """

    word: ClassVar[str]
    """What paths call it: the second of its kind in a list is at WORD2."""

    def output(self, shape: Shape) -> Shape:
        """Return the shape of the output for an input of a shape.

        Raises
        ------
        InputError
            If the layer takes no such input; the message says what it takes.
        """

    def spec(self, shape: Shape) -> LayerSpec:
        """Return kind and sizes as plain data, for engines with passes over whole networks."""

    def tensors(self, shape: Shape) -> tuple[Tensor, ...]:
        """Return the weight arrays that the layer holds, in the order of the file format."""

    def forward(self, engine: Engine, weights: Weights, x: Array) -> tuple[Array, Any]:
        """Return the output and what the backward pass needs to know."""

    def backward(
        self, engine: Engine, weights: Weights, kept: Any, dy: Array, need_dx: bool
    ) -> tuple[Any, Weights]:
        """Return dx (None unless needed) and the gradients of the layer's tensors."""


class Weightless:
    """What layers without tensors share; unless they say otherwise the shape stays."""

    def output(self, shape: Shape) -> Shape:
        """Return the same shape."""
        return shape

    def tensors(self, shape: Shape) -> tuple[Tensor, ...]:
        """Return no tensors."""
        return ()


def maps_of(shape: Shape) -> Shape:
    """Return a shape of three axes.

    Raises
    ------
    InputError
        If it is another.
    """
    if len(shape) != 3:
        raise InputError("expected (channels, height, width)")
    return shape


@dataclass(frozen=True)
class Conv2d:
    """Valid cross-correlation.

    Parameters
    ----------
    outputs : int
        Channels of the output.
    kernel : int or (int, int)
        Height and width; one number is both.
    """

    outputs: int
    kernel: int | tuple[int, int]
    word: ClassVar[str] = "conv"

    def sides(self) -> tuple[int, int]:
        """Return height and width of the kernel."""
        return (self.kernel, self.kernel) if isinstance(self.kernel, int) else self.kernel

    def output(self, shape: Shape) -> Shape:
        """Return (outputs, rows, columns)."""
        _, height, width = maps_of(shape)
        kh, kw = self.sides()
        rows, columns = height - kh + 1, width - kw + 1
        if min(rows, columns, self.outputs, kh, kw) < 1:
            raise InputError(f"expected maps of at least {kh}x{kw}, and an output or more")
        return self.outputs, rows, columns

    def spec(self, shape: Shape) -> LayerSpec:
        """Return ("conv2d", (kh, kw), inputs, outputs)."""
        return "conv2d", self.sides(), shape[0], self.outputs

    def tensors(self, shape: Shape) -> tuple[Tensor, ...]:
        """Return the kernel (kh, kw, in, out) and the bias (out,)."""
        whole = (*self.sides(), shape[0], self.outputs)
        fan_in = math.prod(whole[:3])
        return (
            Tensor("weight", whole, fan_in),
            Tensor("bias", (self.outputs,), fan_in, BIAS),
        )

    def forward(self, engine: Engine, weights: Weights, x: Array) -> tuple[Array, Any]:
        """Return the feature maps; the input is kept."""
        return engine.conv2d(x, weights["weight"], weights["bias"]), x

    def backward(
        self, engine: Engine, weights: Weights, kept: Any, dy: Array, need_dx: bool
    ) -> tuple[Any, Weights]:
        """Return dx and the gradients of kernel and bias."""
        dx, dw, db = engine.conv2d_backward(kept, weights["weight"], dy, need_dx)
        return dx, {"weight": dw, "bias": db}


@dataclass(frozen=True)
class Dense:
    """y = W^T x + b.

    Parameters
    ----------
    outputs : int
    """

    outputs: int
    word: ClassVar[str] = "dense"

    def output(self, shape: Shape) -> Shape:
        """Return (outputs,)."""
        if len(shape) != 1:
            raise InputError("expected (features,): Flatten makes one column of maps")
        if self.outputs < 1:
            raise InputError("expected an output or more")
        return (self.outputs,)

    def spec(self, shape: Shape) -> LayerSpec:
        """Return ("dense", inputs, outputs)."""
        return "dense", shape[0], self.outputs

    def tensors(self, shape: Shape) -> tuple[Tensor, ...]:
        """Return the matrix (in, out) and the bias (out,)."""
        return (
            Tensor("weight", (shape[0], self.outputs), shape[0]),
            Tensor("bias", (self.outputs,), shape[0], BIAS),
        )

    def forward(self, engine: Engine, weights: Weights, x: Array) -> tuple[Array, Any]:
        """Return the activations; the input is kept."""
        return engine.dense(x, weights["weight"], weights["bias"]), x

    def backward(
        self, engine: Engine, weights: Weights, kept: Any, dy: Array, need_dx: bool
    ) -> tuple[Any, Weights]:
        """Return dx and the gradients of matrix and bias."""
        dx, dw, db = engine.dense_backward(kept, weights["weight"], dy, need_dx)
        return dx, {"weight": dw, "bias": db}


@dataclass(frozen=True)
class Flatten(Weightless):
    """Maps as one column: feature (c height + i) width + j is channel c, row i, column j."""

    word: ClassVar[str] = "flatten"

    def output(self, shape: Shape) -> Shape:
        """Return (features,)."""
        return (math.prod(shape),)

    def spec(self, shape: Shape) -> LayerSpec:
        """Return ("flatten",)."""
        return ("flatten",)

    def forward(self, engine: Engine, weights: Weights, x: Array) -> tuple[Array, Any]:
        """Return the columns; the shape of the input is kept."""
        return x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), x.shape

    def backward(
        self, engine: Engine, weights: Weights, kept: Any, dy: Array, need_dx: bool
    ) -> tuple[Any, Weights]:
        """Return dx: the same numbers as maps."""
        return dy.reshape(kept), {}


@dataclass(frozen=True)
class MaxPool2d(Weightless):
    """Maximum of each 2x2 window; an odd last row or column is dropped."""

    word: ClassVar[str] = "maxpool"

    def output(self, shape: Shape) -> Shape:
        """Return (channels, rows, columns)."""
        channels, height, width = maps_of(shape)
        if min(height, width) < 2:
            raise InputError("expected maps of at least 2x2")
        return channels, height // 2, width // 2

    def spec(self, shape: Shape) -> LayerSpec:
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

    word: ClassVar[str] = "relu"

    def spec(self, shape: Shape) -> LayerSpec:
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
