"""A network: what it is given, what it answers, and the list of layers between."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from refmiracle.engines import get_engine
from refmiracle.engines.contract import Array, Engine, LayerSpec, NetworkPass
from refmiracle.errors import InputError
from refmiracle.files import first_line
from refmiracle.nn.contract import WEIGHT, Layer, Shape, Tensor, Weights, as_whole
from refmiracle.nn.limits import DESCRIBED, check_shapes, check_tree
from refmiracle.nn.tree import Placed, as_layers, place, tensors_of
from refmiracle.numerics.whole import described

LARGEST_NUMBER = 255


@dataclass(frozen=True)
class Network:
    """A feed-forward classifier of images: a value, alike wherever it travels.

    Networks are equal that take, hold and give the same under the same number; how they are called
    and what suits them is no part of it.

    Parameters
    ----------
    name : str
    number : int
        Its number in the file format (docs/SPEC.md), never reused; 0: a file describes it.
    input : (int, int, int)
        Channels, height and width of an image.
    classes : int
    layers : tuple of Layer
    hash_factors : tuple of int
        For each tensor how many weights share one coded variable, by default; empty: one each.

    Examples
    --------
    >>> from refmiracle import Network
    >>> from refmiracle.layers import Dense, Flatten
    >>> network = Network("linear", 0, (1, 28, 28), 10, (Flatten(), Dense(10)))
    >>> network.count()
    7850
    """

    name: str = field(compare=False)
    number: int
    input: tuple[int, int, int]
    classes: int
    layers: tuple[Layer, ...]
    hash_factors: tuple[int, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Make tuples of lists, and numbers Python's own, so that equal networks are equal."""
        own: dict[str, Any] = {"layers": as_layers("layers", self.layers)}
        for name in ("number", "classes"):
            own[name] = as_whole(name, getattr(self, name))
        for name in ("input", "hash_factors"):
            numbers = getattr(self, name)
            if not isinstance(numbers, tuple | list):
                raise InputError(f"{name} is {described(numbers)}; expected a list of numbers")
            own[name] = tuple(as_whole(name, n) for n in numbers)
        for name, value in own.items():
            object.__setattr__(self, name, value)

    @cached_property
    def placed(self) -> tuple[Placed, ...]:
        """The layers with their paths and the shapes that they are given.

        Raises
        ------
        InputError
            If they do not fit each other.
        """
        return place(self.layers, self.input)[0]

    @cached_property
    def _tensors(self) -> tuple[Tensor, ...]:
        return tensors_of(self.placed)

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: what follows from them is found again."""
        return {name: vars(self)[name] for name in self.__dataclass_fields__}

    def tensors(self) -> tuple[Tensor, ...]:
        """Return all tensors in the order of the file format."""
        return self._tensors

    def factors(self) -> tuple[int, ...]:
        """Return the default hash factor of each tensor."""
        return self.hash_factors or (1,) * len(self.tensors())

    def specs(self) -> tuple[LayerSpec, ...]:
        """Return all layers as plain data."""
        return tuple(layer.spec() for layer in self.placed)

    def count(self) -> int:
        """Return the number of weights."""
        return sum(math.prod(t.shape) for t in self.tensors())

    def image_shape(self) -> Shape:
        """Return the axes of an image behind those of the batch; one channel needs no axis."""
        return self.input[1:] if self.input[0] == 1 else self.input


def split_tensors(network: Network, flat: Array) -> Weights:
    """Return views of a flat array of all weights, by tensor name."""
    weights, first = {}, 0
    for t in network.tensors():
        size = math.prod(t.shape)
        weights[t.name] = flat[first : first + size].reshape(t.shape)
        first += size
    return weights


def kernels(network: Network) -> tuple[int, ...]:
    """Return the numbers of the tensors whose last axis counts outputs that may share them."""
    return tuple(n for n, t in enumerate(network.tensors()) if t.role == WEIGHT)


def network_pass(network: Network, engine: Engine, copies: tuple[int, ...]) -> NetworkPass | None:
    """Return the engine's passes over the whole network, if it has any; see `contract.Engine`.

    `copies` has a number for each of `kernels`.
    """
    return engine.network_pass(network.specs(), copies, network.input)


def check_network(network: Network) -> Network:
    """Return a network whose layers fit each other, its images and its hash factors.

    One blank image goes forward and back, with weights of zero: shapes and names are looked at,
    not whether a gradient is right.

    Raises
    ------
    InputError
        If they do not; the message names the layer.
    """
    if not isinstance(network.name, str):
        raise InputError(f"a network named {described(network.name)}; expected a str")
    if not 0 <= network.number <= LARGEST_NUMBER:
        raise _misfit(network, f"its number is {network.number}; expected 0 to {LARGEST_NUMBER}")
    if len(network.input) != 3 or min(network.input) < 1 or network.classes < 1:
        raise _misfit(
            network,
            f"input {network.input} and {network.classes} classes; expected (channels, height,"
            " width) and a class, all of 1 or more",
        )
    try:
        if network.number == DESCRIBED:
            check_tree(network.layers)
        placed, end = place(network.layers, network.input)
    except InputError as e:
        raise _misfit(network, str(e)) from e
    try:
        tensors = tensors_of(placed)
    except (Exception, SystemExit) as e:  # of a layer that somebody else has written
        said = f"a layer does not tell its tensors: {type(e).__name__}: {first_line(e)}"
        raise _misfit(network, said) from e
    if end != (network.classes,):
        raise _misfit(network, f"it ends with shape {end}; expected ({network.classes},)")
    _check_tensors(network, tensors)
    if network.number == DESCRIBED:
        try:  # before the network takes memory
            check_shapes(network.layers, network.input, network.classes)
        except InputError as e:
            raise _misfit(network, str(e)) from e
    _check_specs(network)
    engine = get_engine("numpy")
    weights = {t.name: np.zeros(t.shape) for t in tensors}
    _check_backward(network, engine, weights, _check_forward(network, engine, weights))
    return network


def _misfit(network: Network, text: str) -> InputError:
    return InputError(f"network {network.name}: {text}")


def _check_tensors(network: Network, tensors: tuple[Tensor, ...]) -> None:
    for t in tensors:
        if not t.shape or min(t.shape) < 1 or t.fan_in < 1:
            said = f"tensor {t.name} of shape {t.shape} and fan-in {t.fan_in}; expected an axis or"
            raise _misfit(network, f"{said} more, and all numbers 1 or more")
    if len({t.name for t in tensors}) < len(tensors):
        raise _misfit(network, "two of its tensors have the same name")
    factors = network.hash_factors or (1,) * len(tensors)
    if len(factors) != len(tensors):
        said = f"{len(factors)} hash factors; expected {len(tensors)}, one for each tensor"
        raise _misfit(network, said)
    for t, factor in zip(tensors, factors, strict=True):
        if not 1 <= factor <= math.prod(t.shape):
            raise _misfit(network, f"hash factor {factor} of {t.name} is out of range")


def _check_specs(network: Network) -> None:
    for number, placed in enumerate(network.placed):
        try:
            placed.spec()
        except (Exception, SystemExit) as e:  # of a layer that somebody else has written
            kind = "" if isinstance(e, InputError) else f"{type(e).__name__}: "
            said = f"layer {number}, {placed.layer}: {kind}{first_line(e)}"
            raise _misfit(network, said) from e


def _check_forward(network: Network, engine: Engine, weights: Weights) -> list[tuple[Array, Any]]:
    """Return the input of each layer and what it keeps, for one blank image."""
    x = np.zeros((*network.input, 1))
    passed = []
    for number, placed in enumerate(network.placed):
        where = f"layer {number}, {placed.layer}"
        try:
            y, kept = placed.forward(engine, weights, x)
            expected = (*placed.layer.output(placed.shape), 1)
        except (ValueError, IndexError) as e:
            said = f"{where}, does not take activations of shape {x.shape[:-1]}: {first_line(e)}"
            raise _misfit(network, said) from e
        except (Exception, SystemExit) as e:  # of a layer that somebody else has written
            raise _misfit(network, f"{where}: {type(e).__name__}: {first_line(e)}") from e
        if not isinstance(y, np.ndarray):
            raise _misfit(network, f"{where}: an output that is {described(y)}; expected an array")
        if y.shape != expected:
            said = f"{where}: an output of shape {y.shape[:-1]}; it told {expected[:-1]}"
            raise _misfit(network, said)
        passed.append((x, kept))
        x = y
    return passed


def _check_backward(
    network: Network, engine: Engine, weights: Weights, passed: list[tuple[Array, Any]]
) -> None:
    """Refuse layers whose gradients have other names or shapes than what they are of."""
    dy = np.zeros((network.classes, 1))
    for number in range(len(network.placed) - 1, -1, -1):
        placed, (x, kept) = network.placed[number], passed[number]
        where = f"layer {number}, {placed.layer}"
        try:
            dy, grads = placed.backward(engine, weights, kept, dy, need_dx=number > 0)
            found = {name: np.shape(g) for name, g in grads.items()}
        except (Exception, SystemExit) as e:  # of a layer that somebody else has written
            said = f"{where}, backward: {type(e).__name__}: {first_line(e)}"
            raise _misfit(network, said) from e
        expected = {t.name: t.shape for t in placed.tensors()}
        if found != expected:
            raise _misfit(network, f"{where}: gradients {found}; expected {expected}")
        if number and np.shape(dy) != x.shape:
            raise _misfit(network, f"{where}: dx of shape {np.shape(dy)}; expected {x.shape}")
