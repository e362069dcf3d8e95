"""From weights to coded variables to blocks: hashing, signs and permutation.

Coded variable j of a tensor stands for `factor` weights of it; the variables of all tensors, in
tensor order, are permuted at random and cut into blocks of equal size.  All of it follows from
the description in a file's header, so encoder and decoder find the same blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines.contract import Array, Engine
from refmiracle.nn.contract import Weights
from refmiracle.nn.network import Network, split_tensors
from refmiracle.numerics.philox import Stream, stream_permutation, stream_words

Number = TypeVar("Number", np.float32, np.int64)


class Grouping(IntEnum):
    """Along which axis of a tensor the weights that share a variable lie."""

    OUTPUTS = 0
    INPUTS = 1


class Signs(IntEnum):
    """Which weights of a hashed tensor (factor > 1) are negated."""

    NONE = 0
    UNIT = 1
    WEIGHT = 2


@dataclass(frozen=True)
class BlockLayout:
    """Where each weight finds its coded variable.

    Parameters
    ----------
    network : Network
    factors : tuple of int
        One hash factor for each tensor.
    grouping : Grouping
    signs : Signs
    block_size : int
        Variables in a block; the last block may be short.
    seed : int
    coded : tuple of bool, optional
        Whether the variables of each tensor are in the blocks; all are by default.  Those of an
        update are not where it keeps a tensor of its base.
    sign_seed : int, optional
        Names the signs; `seed` by default.  An update has those of its root.
    """

    network: Network
    factors: tuple[int, ...]
    grouping: Grouping
    signs: Signs
    block_size: int
    seed: int
    coded: tuple[bool, ...] | None = None
    sign_seed: int | None = None

    def sizes(self) -> list[int]:
        """Return the number of variables of each tensor: ceil(weights / factor)."""
        tensors = self.network.tensors()
        return [-(-math.prod(t.shape) // f) for t, f in zip(tensors, self.factors, strict=True)]

    def coded_sizes(self) -> list[int]:
        """Return the number of coded variables of each tensor."""
        coded = self.coded or (True,) * len(self.factors)
        return [size * codes for size, codes in zip(self.sizes(), coded, strict=True)]

    def is_coded(self) -> NDArray[np.bool_]:
        """Return for each variable, tensors one after the other, whether it is in the blocks."""
        return np.repeat([size > 0 for size in self.coded_sizes()], self.sizes())

    def variables(self) -> int:
        """Return the number of coded variables."""
        return sum(self.coded_sizes())

    def kept(self) -> int:
        """Return the number of variables that are not coded."""
        return sum(self.sizes()) - self.variables()

    def blocks(self) -> int:
        """Return the number of blocks."""
        return -(-self.variables() // self.block_size)


def tensor_signs(layout: BlockLayout, number: int) -> NDArray[np.float32]:
    """Return the sign of each weight of tensor `number`, in C order, +1 or -1.

    UNIT gives one sign to each output unit, so that units that share their variables are +h and
    -h before the ReLU; WEIGHT gives one to each weight (Chen et al. 2015).  A sign is -1 where
    the top bit of its word in row `number` of the stream SIGNS is set.
    """
    shape = layout.network.tensors()[number].shape
    count = {Signs.NONE: 0, Signs.UNIT: shape[-1], Signs.WEIGHT: math.prod(shape)}[layout.signs]
    if count == 0 or layout.factors[number] == 1:
        return np.ones(math.prod(shape), dtype=np.float32)
    seed = layout.seed if layout.sign_seed is None else layout.sign_seed
    words = stream_words(seed, Stream.SIGNS, [number], count)[0]
    signs = np.where(words >> np.uint32(31), np.float32(-1), np.float32(1))
    return np.tile(signs, math.prod(shape) // count)


def to_each_weight(layout: BlockLayout, number: int, values: NDArray[Number]) -> NDArray[Number]:
    """Return for each weight of tensor `number`, in C order, the value of its variable.

    Weight i, counted along the axis of the grouping, stands for variable i // factor.

    Parameters
    ----------
    layout : BlockLayout
    number : int
        Of the tensor, in the order of the network.
    values : ndarray, shape (variables of the tensor,)
    """
    shape = layout.network.tensors()[number].shape
    repeated = np.repeat(values, layout.factors[number])[: math.prod(shape)]
    if layout.grouping == Grouping.INPUTS:
        # Counted with the outputs outermost, the inputs of one output are neighbours.
        repeated = repeated.reshape(shape[-1], -1).T.ravel()
    return repeated


@dataclass(frozen=True)
class Places:
    """The tables that a `BlockLayout` spells out.

    Attributes
    ----------
    place_of_weight : ndarray of int64, shape (weights,)
        For each weight, tensors one after the other in C order, the place of its variable in
        the flat array of all blocks, behind which the variables stand that are not coded.
    place_of_variable : ndarray of int64, shape (all variables,)
        The place of each variable in that array, tensors one after the other.
    signs : ndarray of float32, shape (weights,)
    tensor_of_place : ndarray of int64, shape (blocks, block_size)
        Which tensor each place belongs to; for unused places the first that is coded.
    used : ndarray of bool, shape (blocks, block_size)
        False for the places at the end of a short last block.
    """

    place_of_weight: NDArray[np.int64]
    place_of_variable: NDArray[np.int64]
    signs: NDArray[np.float32]
    tensor_of_place: NDArray[np.int64]
    used: NDArray[np.bool_]

    def size(self) -> int:
        """Return the length of the flat array: all blocks, and what is not coded."""
        return (
            self.tensor_of_place.size
            + len(self.place_of_variable)
            - int(np.count_nonzero(self.used))
        )


def find_places(layout: BlockLayout) -> Places:
    """Spell out a layout; see docs/SPEC.md for the same in words."""
    tensors, sizes = layout.network.tensors(), layout.sizes()
    coded, variables = layout.is_coded(), layout.variables()
    shape = (layout.blocks(), layout.block_size)
    permutation = stream_permutation(layout.seed, Stream.PERMUTATION, 0, variables)
    rank = np.empty(variables, dtype=np.int64)
    rank[permutation] = np.arange(variables)
    place = np.empty(len(coded), dtype=np.int64)
    place[coded], place[~coded] = rank, math.prod(shape) + np.arange(layout.kept())

    of_weights, signs = [], []
    first = 0
    for number, size in enumerate(sizes):
        of_weights.append(to_each_weight(layout, number, place[first : first + size]))
        signs.append(tensor_signs(layout, number))
        first += size

    owners = np.repeat(np.arange(len(tensors)), layout.coded_sizes())
    tensor = np.full(math.prod(shape), owners[0])
    tensor[:variables] = owners[permutation]
    return Places(
        place_of_weight=np.concatenate(of_weights),
        place_of_variable=place,
        signs=np.concatenate(signs),
        tensor_of_place=tensor.reshape(shape),
        used=(np.arange(math.prod(shape)) < variables).reshape(shape),
    )


def to_weights(network: Network, engine: Engine, places: Places, variables: Array) -> Weights:
    """Return the weights by tensor name from the variables, any shape, flat as `Places` says."""
    flat = engine.expand_hash(variables, places.place_of_weight, places.signs)
    return split_tensors(network, flat)


def to_variable_gradients(
    network: Network, engine: Engine, places: Places, grads: Weights
) -> Array:
    """Return dL/dvariable, flat as `Places` says, from dL/dweight by tensor name."""
    flat = np.concatenate([grads[t.name].ravel() for t in network.tensors()])
    count = places.size()
    return engine.expand_hash_backward(flat, places.place_of_weight, places.signs, count)
