"""Where each weight of a network finds its variable: sections 3, 4, 7 and 8 of docs/SPEC.md.

Random words and tensors come from tools/decoder, which is plain Python written from that document.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).resolve().parents[1] / "decoder"))
import spec_decoder

Shapes = tuple[tuple[int, ...], ...]
SHAPES: Shapes = tuple(shape for _, shape in spec_decoder.LENET5)
DEFAULT_FACTORS = (1, 1, 2, 1, 50, 1, 1, 1)


@dataclass(frozen=True)
class Layout:
    """A description of blocks, and the tables that follow from it.

    Parameters
    ----------
    block_size, seed : int
    factors : tuple of int
    grouping : int
        0 OUTPUTS, 1 INPUTS.
    signs : int
        0 NONE, 1 UNIT, 2 WEIGHT.
    shapes : tuple of tuple of int
        Of the network's tensors.
    """

    block_size: int
    seed: int
    factors: tuple[int, ...]
    grouping: int
    signs: int
    shapes: Shapes = SHAPES

    def inputs(self) -> dict[str, NDArray[np.int64]]:
        """Return the layout's arguments of an operation."""
        return {
            "block_size": np.array(self.block_size),
            "seed": np.array(self.seed),
            "factors": np.array(self.factors),
            "grouping": np.array(self.grouping),
            "signs": np.array(self.signs),
        }

    def sizes(self) -> list[int]:
        """Return the number of variables of each tensor."""
        return spec_decoder.sizes_of([("", shape) for shape in self.shapes], self.factors)

    def variables(self) -> int:
        """Return the number of variables."""
        return sum(self.sizes())

    def shape(self) -> tuple[int, int]:
        """Return (blocks, block size)."""
        return -(-self.variables() // self.block_size), self.block_size

    def permutation(self) -> list[int]:
        """Return which variable stands at each place."""
        words = spec_decoder.words(self.seed, spec_decoder.PERMUTATION, 0, self.variables())
        return sorted(range(len(words)), key=words.__getitem__)

    def tensors(self) -> NDArray[np.int64]:
        """Return the tensor of each place, shape (blocks, block_size); 0 for unused places."""
        owner = [number for number, size in enumerate(self.sizes()) for _ in range(size)]
        table = np.zeros(math.prod(self.shape()), dtype=np.int64)
        table[: self.variables()] = [owner[v] for v in self.permutation()]
        return table.reshape(self.shape())

    def used(self) -> NDArray[np.bool_]:
        """Return which places hold a variable, shape (blocks, block_size)."""
        return (np.arange(math.prod(self.shape())) < self.variables()).reshape(self.shape())

    def weights(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the place and the sign of each weight, tensors one after the other."""
        place_of = [0] * self.variables()
        for place, variable in enumerate(self.permutation()):
            place_of[variable] = place
        header = SimpleNamespace(**vars(self), tensors=[("", shape) for shape in self.shapes])
        places, signs, first = [], [], 0
        for number, shape in enumerate(self.shapes):
            count, outputs = math.prod(shape), shape[-1]
            table = spec_decoder.sign_table(header, number)
            for i in range(count):
                n = i if self.grouping == 0 else i % outputs * (count // outputs) + i // outputs
                places.append(place_of[first + n // self.factors[number]])
                signs.append(table[i % len(table)])
            first += self.sizes()[number]
        return np.array(places), np.array(signs)
