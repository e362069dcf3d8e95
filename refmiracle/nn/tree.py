"""Lists of layers: where each layer stands, and the passes through all of them.

A path names a layer by kind and position: `conv2` is the second convolution of its list,
`stage2.body.conv1` the first one in the body of the second residual.  Nobody gives names, so a
network read from a file, which holds none, has those of the one that was written.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from refmiracle.engines.contract import Array, Engine, LayerSpec
from refmiracle.errors import InputError
from refmiracle.files import first_line
from refmiracle.nn.contract import FIRST_OWN, Layer, Numbers, Shape, Tensor, Weights
from refmiracle.numerics.whole import described

# What to do where a layer is of a kind that files do not know.
OWN_NUMBER = f"give its network a number of its own, from {FIRST_OWN} on"


@dataclass(frozen=True)
class Placed:
    """A layer at its place in a network: weights and gradients have their whole names here.

    Parameters
    ----------
    path : str
    layer : Layer
    shape : tuple of int
        Of its input, without the batch.
    """

    path: str
    layer: Layer
    shape: Shape

    def spec(self) -> LayerSpec:
        """Return kind and sizes as plain data.

        Raises
        ------
        InputError
            If they are inherited from a kind that computes something else: an engine with passes
            over whole networks would compute that.
        """
        kind = type(self.layer)
        told_by = _definer(kind, "spec")
        for method in ("output", "tensors", "forward", "backward"):
            own = _definer(kind, method)
            if "opcode" in vars(told_by) and own is not told_by and issubclass(own, told_by):
                raise InputError(
                    f"{kind.__name__} has {method}() of its own and the spec of"
                    f" {told_by.__name__}; expected one of its own"
                )
        return self.layer.spec(self.shape)

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the layer's tensors under their whole names."""
        own = self.layer.tensors(self.shape)
        return tuple(replace(t, name=f"{self.path}.{t.name}") for t in own)

    def _own(self, weights: Weights) -> Weights:
        names = (t.name for t in self.layer.tensors(self.shape))
        return {name: weights[f"{self.path}.{name}"] for name in names}

    def forward(self, engine: Engine, weights: Weights, x: Array) -> tuple[Array, Any]:
        """Return the output and what the backward pass needs to know."""
        return self.layer.forward(engine, self._own(weights), x)

    def backward(
        self, engine: Engine, weights: Weights, kept: Any, dy: Array, need_dx: bool
    ) -> tuple[Any, Weights]:
        """Return dx (None unless needed) and the gradients of the layer's tensors."""
        dx, own = self.layer.backward(engine, self._own(weights), kept, dy, need_dx)
        return dx, {f"{self.path}.{name}": g for name, g in own.items()}


def _definer(kind: type, method: str) -> type:
    """Return which of the classes that a kind is made of defines a method."""
    return next((base for base in kind.__mro__ if method in vars(base)), kind)


def place(
    layers: Sequence[Layer], shape: Shape, before: str = ""
) -> tuple[tuple[Placed, ...], Shape]:
    """Return the layers of a list, each with its path and input, and the shape of its output.

    Parameters
    ----------
    layers : sequence of Layer
    shape : tuple of int
        Of the list's input, without the batch.
    before : str
        Path of the list, with its dot.

    Raises
    ------
    InputError
        If a layer does not take what the one before gives; the message names it.
    """
    placed, counts = [], Counter[str]()
    for number, layer in enumerate(layers):
        where = f"{before}layer {number}, {layer}"
        try:
            counts[layer.word] += 1
            here = Placed(f"{before}{layer.word}{counts[layer.word]}", layer, shape)
            after = layer.output(shape)
        except InputError as e:
            said = f"{where}, does not take activations of shape {shape}: {e}"
            raise InputError(said) from e
        except Exception as e:  # of a layer that somebody else has written
            raise InputError(f"{where}: {type(e).__name__}: {first_line(e)}") from e
        placed.append(here)
        shape = after
    return tuple(placed), shape


def as_layers(what: str, layers: Any) -> tuple[Layer, ...]:
    """Return a list of layers as a tuple.

    Raises
    ------
    InputError
        If it is no list.
    """
    if not isinstance(layers, tuple | list):
        raise InputError(f"{what} is {described(layers)}; expected a list of layers")
    return tuple(layers)


def tensors_of(placed: Sequence[Placed]) -> tuple[Tensor, ...]:
    """Return all tensors of placed layers, in order."""
    return tuple(t for layer in placed for t in layer.tensors())


def numbers_of(layers: Sequence[Any]) -> Iterator[int]:
    """Yield what a file says of a list of layers: how many they are, then each.

    Raises
    ------
    InputError
        If a layer is of a kind that has no opcode.
    """
    yield len(layers)
    for layer in layers:
        if not hasattr(layer, "opcode"):
            raise InputError(f"{layer} is of a kind that a file cannot describe; {OWN_NUMBER}")
        yield from (layer.opcode, *layer.numbers())


def forward_through(
    placed: Sequence[Placed], engine: Engine, weights: Weights, x: Array
) -> tuple[Array, list[Any]]:
    """Return the output of the last layer, and what each one's backward pass needs to know."""
    kept = []
    for layer in placed:
        x, k = layer.forward(engine, weights, x)
        kept.append(k)
    return x, kept


def backward_through(
    placed: Sequence[Placed],
    engine: Engine,
    weights: Weights,
    kept: Sequence[Any],
    dy: Array,
    need_dx: bool,
) -> tuple[Any, Weights]:
    """Return dx of the first layer (None unless needed) and the gradients of all tensors."""
    grads: Weights = {}
    for depth in range(len(placed) - 1, -1, -1):
        needed = need_dx or depth > 0
        dy, own = placed[depth].backward(engine, weights, kept[depth], dy, needed)
        grads.update(own)
    return dy, grads


@dataclass(frozen=True)
class Residual(Layer):
    """y = body(x) + shortcut(x), each a list of layers.

    The gradient dy goes back through both, and the sum of theirs is dx.

    Parameters
    ----------
    body : tuple of Layer
    shortcut : tuple of Layer
        Empty: x itself.

    Examples
    --------
    >>> from refmiracle.layers import Conv2d, Relu, Residual
    >>> block = Residual((Conv2d(8, kernel=3, padding=1), Relu()))
    >>> block.output((8, 16, 16))
    (8, 16, 16)
    """

    body: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()
    word: ClassVar[str] = "stage"
    opcode: ClassVar[int] = 8

    def __post_init__(self) -> None:
        """Make tuples of lists, so that equal layers are equal."""
        for name in ("body", "shortcut"):
            layers = as_layers(f"Residual: {name}", getattr(self, name))
            object.__setattr__(self, name, layers)

    def numbers(self) -> tuple[int, ...]:
        """Return what a file says of both lists."""
        return *numbers_of(self.body), *numbers_of(self.shortcut)

    @classmethod
    def described(cls, numbers: Numbers) -> Self:
        """Return the layer that `numbers` says."""
        return cls(numbers.layers(), numbers.layers())

    def placed(self, shape: Shape) -> tuple[tuple[Placed, ...], tuple[Placed, ...]]:
        """Return both lists at their places in the residual."""
        return place(self.body, shape, "body.")[0], place(self.shortcut, shape, "shortcut.")[0]

    def output(self, shape: Shape) -> Shape:
        """Return the shape that both lists give."""
        _, body = place(self.body, shape, "body.")
        _, shortcut = place(self.shortcut, shape, "shortcut.")
        if body != shortcut:
            raise InputError(f"its body gives shape {body}, its shortcut {shortcut}")
        return body

    def spec(self, shape: Shape) -> LayerSpec:
        """Return ("residual", specs of the body, specs of the shortcut)."""
        body, shortcut = self.placed(shape)
        return "residual", tuple(p.spec() for p in body), tuple(p.spec() for p in shortcut)

    def tensors(self, shape: Shape) -> tuple[Tensor, ...]:
        """Return those of the body, then those of the shortcut."""
        body, shortcut = self.placed(shape)
        return tensors_of((*body, *shortcut))

    def forward(self, engine: Engine, weights: Weights, x: Array) -> tuple[Array, Any]:
        """Return the sum; what both lists keep is kept."""
        body, shortcut = self.placed(x.shape[:-1])
        y, kept = forward_through(body, engine, weights, x)
        other, kept_other = forward_through(shortcut, engine, weights, x)
        return y + other, (x.shape[:-1], kept, kept_other)

    def backward(
        self, engine: Engine, weights: Weights, kept: Any, dy: Array, need_dx: bool
    ) -> tuple[Any, Weights]:
        """Return the sum of both dx, and all gradients."""
        shape, of_body, of_shortcut = kept
        body, shortcut = self.placed(shape)
        dx, grads = backward_through(body, engine, weights, of_body, dy, need_dx)
        other, more = backward_through(shortcut, engine, weights, of_shortcut, dy, need_dx)
        return (np.add(dx, other) if need_dx else None), grads | more


def lists_of(here: Placed) -> tuple[tuple[Placed, ...], ...]:
    """Return the lists of layers within a residual, under their whole paths; of others none."""
    if not isinstance(here.layer, Residual):
        return ()
    return tuple(
        tuple(replace(inner, path=f"{here.path}.{inner.path}") for inner in part)
        for part in here.layer.placed(here.shape)
    )


def through(placed: Sequence[Placed]) -> Iterator[Placed]:
    """Yield all layers of a tree under their whole paths, those of a residual behind itself."""
    for here in placed:
        yield here
        for part in lists_of(here):
            yield from through(part)


def values_of(here: Placed) -> int:
    """Return how many values of one image a layer reads, with zeros around them, or gives."""
    read = getattr(here.layer, "with_zeros", lambda shape: shape)(here.shape)
    return max(math.prod(read), math.prod(here.layer.output(here.shape)))
