"""The kinds of layers, each a value: its shapes, its tensors and what it asks of an engine.

The mathematics of each, with its gradient, stands in `engines.numpy_engine.layers`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from refmiracle.engines.contract import Array, Engine, LayerSpec
from refmiracle.errors import InputError
from refmiracle.nn.contract import (
    BIAS,
    GAIN,
    Layer,
    Numbers,
    OneNumber,
    Shape,
    Tensor,
    Weightless,
    Weights,
    maps_of,
    whole_fields,
    whole_pair,
)

Sides = int | tuple[int, int]


def _pair(sides: Sides) -> tuple[int, int]:
    return (sides, sides) if isinstance(sides, int) else sides


@dataclass(frozen=True)
class Conv2d(Layer):
    """Cross-correlation, with zeros outside.

    y[o,i,j] = b[o] + sum over u, v, a of w[u,v,a,o] x[f(o) + a, stride i + u - padding, ...], with
    f(o) the first channel that is read by the group of o

    Parameters
    ----------
    outputs : int
        Channels of the output.
    kernel : int or (int, int)
        Height and width; one number is both.
    stride : int
    padding : int
        Rows and columns of zeros on each side, less than the kernel has.
    groups : int
        1: each output reads all channels; as many as there are channels: each reads one.

    Examples
    --------
    >>> from refmiracle.layers import Conv2d
    >>> Conv2d(20, kernel=5).output((1, 28, 28))
    (20, 24, 24)
    """

    outputs: int
    kernel: Sides
    stride: int = 1
    padding: int = 0
    groups: int = 1
    word: ClassVar[str] = "conv"
    opcode: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Make a pair of a kernel's side, so that equal layers are equal."""
        object.__setattr__(self, "kernel", whole_pair("Conv2d: kernel", self.kernel))
        whole_fields(self, "outputs", "stride", "padding", "groups")

    def numbers(self) -> tuple[int, ...]:
        """Return what a file says of the layer."""
        return *_pair(self.kernel), self.stride, self.padding, self.groups, self.outputs

    @classmethod
    def described(cls, numbers: Numbers) -> Self:
        """Return the layer that `numbers` says."""
        kh, kw, stride, padding, groups, outputs = (numbers.number() for _ in range(6))
        return cls(outputs, (kh, kw), stride, padding, groups)

    def output(self, shape: Shape) -> Shape:
        """Return (outputs, rows, columns)."""
        channels, _, _ = maps_of(shape)
        kh, kw = _pair(self.kernel)
        if min(self.outputs, kh, kw, self.stride) < 1:
            raise InputError("outputs, sides of the kernel and stride must be 1 or more")
        if not 0 <= self.padding < min(kh, kw):
            raise InputError("padding must be less than the sides of the kernel, and not negative")
        if self.groups not in (1, channels) or self.outputs % self.groups:
            raise InputError(
                f"groups must be 1 or the channels, {channels}, and divide the outputs"
            )
        _, height, width = self.with_zeros(shape)
        rows, columns = height - kh, width - kw
        if min(rows, columns) < 0:
            raise InputError(f"expected maps of {kh}x{kw} at least, with the padding")
        return self.outputs, rows // self.stride + 1, columns // self.stride + 1

    def with_zeros(self, shape: Shape) -> Shape:
        """Return the shape of the input with its zeros around, which the kernel is passed over."""
        channels, height, width = shape
        return channels, height + 2 * self.padding, width + 2 * self.padding

    def spec(self, shape: Shape) -> LayerSpec:
        """Return ("conv2d", (kh, kw), inputs, outputs, stride, padding, groups)."""
        sizes = self.outputs, self.stride, self.padding, self.groups
        return "conv2d", self.kernel, shape[0], *sizes

    def tensors(self, shape: Shape) -> tuple[Tensor, ...]:
        """Return the kernel (kh, kw, in / groups, out) and the bias (out,)."""
        whole = (*_pair(self.kernel), shape[0] // self.groups, self.outputs)
        fan_in = math.prod(whole[:3])
        return (
            Tensor("weight", whole, fan_in),
            Tensor("bias", (self.outputs,), fan_in, BIAS),
        )

    def forward(self, engine: Engine, weights: Weights, x: Array) -> tuple[Array, Any]:
        """Return the feature maps; the input is kept."""
        w, b = weights["weight"], weights["bias"]
        return engine.conv2d(x, w, b, self.stride, self.padding, self.groups), x

    def backward(
        self, engine: Engine, weights: Weights, kept: Any, dy: Array, need_dx: bool
    ) -> tuple[Any, Weights]:
        """Return dx and the gradients of kernel and bias."""
        sliding = self.stride, self.padding, self.groups
        dx, dw, db = engine.conv2d_backward(kept, weights["weight"], dy, need_dx, *sliding)
        return dx, {"weight": dw, "bias": db}


@dataclass(frozen=True)
class Dense(OneNumber):
    """y = W^T x + b.

    Parameters
    ----------
    outputs : int

    Examples
    --------
    >>> from refmiracle.layers import Dense
    >>> Dense(10).output((500,))
    (10,)
    """

    outputs: int
    word: ClassVar[str] = "dense"
    opcode: ClassVar[int] = 2

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
    """Maps as one column: feature (c height + i) width + j is channel c, row i, column j.

    Examples
    --------
    >>> from refmiracle.layers import Flatten
    >>> Flatten().output((50, 4, 4))
    (800,)
    """

    word: ClassVar[str] = "flatten"
    opcode: ClassVar[int] = 3

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
    """Maximum of each 2x2 window; an odd last row or column is dropped.

    Examples
    --------
    >>> from refmiracle.layers import MaxPool2d
    >>> MaxPool2d().output((20, 24, 24))
    (20, 12, 12)
    """

    word: ClassVar[str] = "maxpool"
    opcode: ClassVar[int] = 4

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
class GroupNorm(OneNumber):
    """(1 + gain) (x - mean) / sqrt(var + 1e-5) + bias, over a group of channels of one image.

    The gain's variables lie around 0, as all others do.

    Parameters
    ----------
    groups : int
        Of as many channels each.

    Examples
    --------
    >>> from refmiracle.layers import GroupNorm
    >>> GroupNorm(4).output((16, 8, 8))
    (16, 8, 8)
    """

    groups: int
    word: ClassVar[str] = "norm"
    opcode: ClassVar[int] = 6

    def output(self, shape: Shape) -> Shape:
        """Return the same shape."""
        channels = maps_of(shape)[0]
        if self.groups < 1 or channels % self.groups:
            raise InputError(f"groups must be 1 or more and divide the channels, {channels}")
        return shape

    def spec(self, shape: Shape) -> LayerSpec:
        """Return ("groupnorm", channels, groups)."""
        return "groupnorm", shape[0], self.groups

    def tensors(self, shape: Shape) -> tuple[Tensor, ...]:
        """Return gain and bias, both (channels,)."""
        values = math.prod(shape) // self.groups  # that one output depends on
        return (
            Tensor("gain", shape[:1], values, GAIN),
            Tensor("bias", shape[:1], values, BIAS),
        )

    def forward(self, engine: Engine, weights: Weights, x: Array) -> tuple[Array, Any]:
        """Return the normalised maps; the input is kept."""
        return engine.group_norm(x, weights["gain"], weights["bias"], self.groups), x

    def backward(
        self, engine: Engine, weights: Weights, kept: Any, dy: Array, need_dx: bool
    ) -> tuple[Any, Weights]:
        """Return dx and the gradients of gain and bias."""
        dx, dgain, dbias = engine.group_norm_backward(kept, weights["gain"], self.groups, dy)
        return dx, {"gain": dgain, "bias": dbias}


@dataclass(frozen=True)
class MeanPool2d(Weightless):
    """Mean of each window; rows and columns that are left over are dropped.

    Parameters
    ----------
    window : int or (int, int)
        Height and width; one number is both, and none the whole map.

    Examples
    --------
    >>> from refmiracle.layers import MeanPool2d
    >>> MeanPool2d().output((64, 8, 8))
    (64, 1, 1)
    """

    window: Sides = 0
    word: ClassVar[str] = "meanpool"
    opcode: ClassVar[int] = 5

    def __post_init__(self) -> None:
        """Make a pair of a window's side, so that equal layers are equal."""
        object.__setattr__(self, "window", whole_pair("MeanPool2d: window", self.window))

    def numbers(self) -> tuple[int, ...]:
        """Return what a file says of the layer."""
        return _pair(self.window)

    @classmethod
    def described(cls, numbers: Numbers) -> Self:
        """Return the layer that `numbers` says."""
        return cls((numbers.number(), numbers.number()))

    def _sides(self, shape: Shape) -> tuple[int, int]:
        return (shape[1], shape[2]) if self.window == (0, 0) else _pair(self.window)

    def output(self, shape: Shape) -> Shape:
        """Return (channels, rows, columns)."""
        channels, height, width = maps_of(shape)
        rows, columns = self._sides(shape)
        if not (1 <= rows <= height and 1 <= columns <= width):
            raise InputError("a window must have sides of 1 or more, no longer than the map's")
        return channels, height // rows, width // columns

    def spec(self, shape: Shape) -> LayerSpec:
        """Return ("meanpool2d", height, width)."""
        return "meanpool2d", *self._sides(shape)

    def forward(self, engine: Engine, weights: Weights, x: Array) -> tuple[Array, Any]:
        """Return the means; the shape of the input is kept."""
        return engine.mean_pool2d(x, *self._sides(x.shape)), x.shape

    def backward(
        self, engine: Engine, weights: Weights, kept: Any, dy: Array, need_dx: bool
    ) -> tuple[Any, Weights]:
        """Return dx: each place of a window gets its share."""
        return engine.mean_pool2d_backward(dy, *self._sides(kept), kept), {}


@dataclass(frozen=True)
class Relu(Weightless):
    """max(x, 0).

    Examples
    --------
    >>> from refmiracle.layers import Relu
    >>> Relu().output((500,))
    (500,)
    """

    word: ClassVar[str] = "relu"
    opcode: ClassVar[int] = 7

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
