"""Where the activations and gradients of a program lie, and the tables that lead to their places.

A map is (slice, channel, row, column, lane) in one flat array, with zeros around each channel: as
many rows and columns as some product reads beyond its edges.  They are never written to.
"""

from __future__ import annotations

import numpy as np

from refmiracle.engines.numba_engine.vector import LANES


class Map:
    """A map's sizes, the zeros around it, and, once it is laid out, where it begins."""

    def __init__(self, channels, height, width):
        self.shape = channels, height, width
        self.border = [0, 0, 0, 0]  # above, below, left, right
        self.base = None

    def need(self, *border):
        """Have at least so many rows and columns of zeros around."""
        self.border = [max(a, b) for a, b in zip(self.border, border, strict=True)]

    def row(self):
        """Return the floats from a row to the next."""
        return (self.shape[2] + self.border[2] + self.border[3]) * LANES

    def plane(self):
        """Return the floats from a channel to the next.

        A spare vector keeps planes from all beginning in the same set of a cache.
        """
        _, height, width = self.shape
        if height == width == 1 and not any(self.border):
            return LANES
        return (height + self.border[0] + self.border[1]) * self.row() + LANES

    def slice(self):
        """Return the floats from a slice to the next."""
        return self.shape[0] * self.plane()

    def origin(self):
        """Return where the first value within the zeros lies."""
        return self.base + self.border[0] * self.row() + self.border[2] * LANES

    def record(self):
        """Return what instructions know of it: see `instructions`."""
        return self.origin(), self.slice(), self.plane(), self.row(), *self.shape


def as_maps(features, shape):
    """Return the record of a map of features, seen as maps of a shape: in the order of both."""
    channels, height, width = shape
    plane = height * width * LANES
    return features.origin(), features.slice(), plane, width * LANES, channels, height, width


class Tables:
    """Whole numbers for the instructions to read: each list once, however often it is asked for."""

    def __init__(self, slices):
        self.slices, self.size = slices, 0
        self.parts, self.known = [], {}

    def add(self, numbers):
        """Return where in the table a list of numbers stands."""
        part = np.ascontiguousarray(numbers, dtype=np.int64).ravel()
        key = part.tobytes()
        if key not in self.known:
            self.known[key] = self.size
            self.parts.append(part)
            self.size += len(part)
        return self.known[key]

    def record(self, one):
        """Return where the record of a map stands."""
        return self.add(one.record())

    def whole(self):
        """Return the table."""
        return np.concatenate(self.parts)

    def offsets(self, one, rows, columns):
        """Return the offsets of some rows and columns in each slice of a map, one after another."""
        s = np.arange(self.slices)[:, None, None] * one.slice()
        i = np.asarray(rows)[None, :, None] * one.row()
        return (s + i + np.asarray(columns)[None, None, :] * LANES).ravel()

    def places(self, offsets, spare):
        """Return where offsets stand, with the last repeated so that a tile may read beyond."""
        return self.add(np.concatenate([offsets, np.repeat(offsets[-1:], spare)]))
