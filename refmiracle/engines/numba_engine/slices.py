"""Samples in slices of LANES, and buffers that begin where vectors like to."""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.numba_engine.vector import LANES

CACHE_LINE = 64


def aligned(count, dtype=np.float32):
    """Return a flat array of zeros that starts at a cache line: loads across two cost twice."""
    size = np.dtype(dtype).itemsize
    buffer = np.zeros(count + CACHE_LINE // size, dtype=dtype)
    first = (-buffer.ctypes.data % CACHE_LINE) // size
    return buffer[first : first + count]


def slices_of(samples):
    """Return how many slices hold the samples: an even number, since tiles take two."""
    return 2 * math.ceil(samples / (2 * LANES))


def to_slices(x, spare=0):
    """Return x, shape (..., batch), as flat slices, with zeros in lanes beyond the batch.

    `spare` vectors are left free after each plane (x[0], x[1], ...).
    """
    planes, places, batch = x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1]
    slices = slices_of(batch)
    out = aligned(slices * planes * (places + spare) * LANES)
    view = out.reshape(slices, planes, places + spare, LANES)
    rows = x.reshape(planes, places, batch)
    for s in range(-(-batch // LANES)):
        part = rows[:, :, s * LANES : (s + 1) * LANES]
        view[s, :, :places, : part.shape[-1]] = part
    return out


def from_slices(flat, shape):
    """Return flat slices as an array of a shape (..., batch)."""
    places, batch = math.prod(shape[:-1]), shape[-1]
    columns = flat.reshape(-1, places, LANES).transpose(1, 0, 2).reshape(places, -1)
    return np.ascontiguousarray(columns[:, :batch]).reshape(shape)
