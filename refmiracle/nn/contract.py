"""What a layer is: the one thing that networks, exports and files know of all kinds.

Activations are (channels, height, width, batch) or (features, batch); a shape is without the
batch.  A layer does not say how large its input is: that follows from the layer before it.  So
what depends on the input's shape is a function of it.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from refmiracle.engines.contract import Array, Engine, LayerSpec
from refmiracle.errors import InputError
from refmiracle.numerics.whole import described

Weights = dict[str, Array]
Shape = tuple[int, ...]

FIRST_OWN = 200  # docs/SPEC.md will never define a network's number from here on
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


class Numbers(Protocol):
    """A description of layers as it is read, one number after the other."""

    def number(self) -> int:
        """Return the next number."""

    def layers(self) -> tuple[Layer, ...]:
        """Return the next list of layers, one that stands within a layer."""


class Layer(Protocol):
    """One step of a network: y = f(weights, x), and dx and the weights' gradients from dy.

    Weights and gradients are by the tensors' names within the layer.  A kind that
    `nn.description` knows also has an `opcode`, `numbers()` that stand behind it in a file, and
    `described(numbers)`, a class method that makes the layer again.
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


class Weightless(Layer):
    """What layers without tensors share; unless they say otherwise the shape stays."""

    def numbers(self) -> tuple[int, ...]:
        """Return what a file says of the layer: nothing but its kind."""
        return ()

    @classmethod
    def described(cls, numbers: Numbers) -> Self:
        """Return the layer that `numbers` says."""
        return cls()

    def output(self, shape: Shape) -> Shape:
        """Return the same shape."""
        return shape

    def tensors(self, shape: Shape) -> tuple[Tensor, ...]:
        """Return no tensors."""
        return ()


class OneNumber(Layer):
    """What layers share that a single number makes."""

    def __post_init__(self) -> None:
        """Refuse what is no whole number."""
        whole_fields(self, next(iter(vars(self))))

    def numbers(self) -> tuple[int, ...]:
        """Return what a file says of the layer."""
        return tuple(vars(self).values())

    @classmethod
    def described(cls, numbers: Numbers) -> Self:
        """Return the layer that `numbers` says."""
        make: Any = cls
        made: Self = make(numbers.number())
        return made


def as_whole(what: str, value: Any) -> int:
    """Return a number of a layer or a network as Python's own; whether it fits is seen later.

    Raises
    ------
    InputError
        If it is no whole number.
    """
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise InputError(f"{what} is {described(value)}; expected a whole number")


def whole_pair(what: str, sides: Any) -> tuple[int, int]:
    """Return one number or two as two.

    Raises
    ------
    InputError
        If they are no whole numbers.
    """
    if not isinstance(sides, tuple | list):
        side = as_whole(what, sides)
        return side, side
    if len(sides) != 2:
        raise InputError(f"{what} is {described(sides)}; expected a number, or two")
    return as_whole(what, sides[0]), as_whole(what, sides[1])


def whole_fields(layer: Any, *names: str) -> None:
    """Make some numbers of a layer Python's own, so that equal layers are equal.

    Raises
    ------
    InputError
        If one is no whole number.
    """
    for name in names:
        number = as_whole(f"{type(layer).__name__}: {name}", getattr(layer, name))
        object.__setattr__(layer, name, number)


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
