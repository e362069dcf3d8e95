"""Inputs of cases: seeded random numbers that float32 holds, and MNIST test images."""

from __future__ import annotations

import gzip
import math
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
GRID = 8192.0
LARGEST_INLINE = 2048


class Draw:
    """Random numbers that are the same with every version of Python and NumPy.

    Only `random.Random.random`, whose sequence Python guarantees, and + - * are used.  Numbers
    are multiples of 1/8192: sums of their products are exact in float64, in any order and on any
    machine, but not in float32.
    """

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)

    def normal(self, *shape: int, scale: float = 1.0) -> NDArray[np.float64]:
        """Return numbers that are about normal: sums of twelve uniform ones."""
        uniform = [self._source.random() for _ in range(12 * math.prod(shape))]
        sums = np.array(uniform).reshape(-1, 12).sum(axis=1) - 6.0
        return np.round(sums.reshape(shape) * scale * GRID) / GRID

    def integers(self, *shape: int, below: int, least: int = 0) -> NDArray[np.int64]:
        """Return integers from `least` to `below` - 1."""
        count, span = math.prod(shape), below - least
        values = [least + int(self._source.random() * span) for _ in range(count)]
        return np.array(values, dtype=np.int64).reshape(shape)

    def small(self, *shape: int) -> NDArray[np.float64]:
        """Return integers from -4 to 4 as floats: sums of their products are exact."""
        return self.integers(*shape, least=-4, below=5).astype(np.float64)

    def counts(self, *shape: int) -> NDArray[np.float64]:
        """Return integers from 1 to 5 as floats, which do not cancel."""
        return self.integers(*shape, least=1, below=6).astype(np.float64)


def compact(values: NDArray[np.float64]) -> NDArray[np.floating]:
    """Return as float32 what goes to a .npy file, to halve it; raise if a number changes."""
    narrow = np.asarray(values).astype(np.float32)
    if not np.array_equal(narrow.astype(np.float64), values, equal_nan=True):
        raise ValueError("an input is no float32 number")
    return narrow if narrow.size > LARGEST_INLINE else np.asarray(values)


def mnist_test() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the 10,000 MNIST test images, shape (10000, 28, 28), and their labels."""
    folder = ROOT / "data" / "mnist"
    pixels = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    images = np.frombuffer(pixels, dtype=np.uint8).reshape(-1, 28, 28)
    return images, np.frombuffer(labels, dtype=np.uint8).astype(np.int64)
