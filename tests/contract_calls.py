"""A plain call of each function of the contract, for the tests of what else it may be given.

An operation that is added to the contract needs one here: `test_array_kinds` says so.
"""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.arguments import Filled, Flags, Floats, Moments, Whole
from refmiracle.engines.operations import OPERATIONS, in_records, parts_of

# All arguments that are arrays: their operation, and their place in its table.
ARRAYS = [
    (name, at)
    for name, taken in OPERATIONS.items()
    for at, argument in enumerate(taken)
    if isinstance(argument, Floats | Whole | Flags)
]


def eighths(*shape, first=1):
    """Floats that float16 holds too, none of them 0, whose products and small sums are exact."""
    values = (np.arange(first, first + math.prod(shape)) * 7 % 15 - 7.25) / 2.0
    return values.reshape(shape)


def counted(*shape, below=2**32, first=0):
    """Whole numbers below an end."""
    return (np.arange(math.prod(shape)) * 5 + first).reshape(shape) % below


def moments(n, d):
    """Two pairs of arrays that are updated."""
    return tuple((eighths(n, d), np.abs(eighths(n, d))) for _ in range(2))


def scales(*shape):
    """Positive floats."""
    return np.abs(eighths(*shape)) + 0.5


def delta(*shape):
    """Means that every code can send."""
    return eighths(*shape) / 8.0


def log_s(*shape):
    """Variances below that of P, that float16 holds."""
    return -np.abs(eighths(*shape)) / 4.0


# From how long the axis is that is cut into tiles, slices, groups, chunks or shards, and the number
# of tensors, units and the like that a table shares.
CALLS = {
    "philox4x32": lambda n: (counted(n, 4), np.array([1, 2])),
    "normal_quantile": lambda n: ((counted(n, below=15) + 0.5) / 16.0,),
    "normals": lambda n: (3, 4, counted(n), 5),
    "log_s": lambda n: (scales(n, 2),),
    "ds_dx": lambda n: (scales(n, 2),),
    "gaussian_kl": lambda n: (delta(n, 2), log_s(n, 2)),
    "mean_kl": lambda n: (eighths(n, 3), eighths(n, 3), 2.5),
    "mean_kl_forward": lambda n: (
        *(eighths(n, 3),) * 2, scales(n, 3), 2.5, eighths(n, 3), eighths(n, 3, first=2)
    ),
    "mean_kl_backward": lambda n: (
        *(eighths(n, 3),) * 2, scales(n, 3), 2.5, eighths(n, 3), eighths(n, 3)
    ),
    "mean_var_forward": lambda n: (eighths(n, 3),) * 3,
    "mean_var_backward": lambda n: (
        *(eighths(n, 3),) * 2, scales(n, 3), scales(n), eighths(n, 3), eighths(n, 3),
        eighths(n, 3, first=2),
    ),
    "expand_hash": lambda n: (eighths(2, 3), counted(n, below=6), eighths(n)),
    "expand_hash_backward": lambda n: (eighths(n), counted(n, below=6), eighths(n), 7),
    "mean_kl_sample": lambda n: (
        *(eighths(n, 3),) * 2, scales(n, 3), counted(n, 3, below=2), 2.5, eighths(n, 3, first=2),
        3, 4, eighths(n, 3), eighths(n, 3),
    ),
    "mean_kl_step": lambda n: (
        eighths(n, 3), eighths(n, 3, first=2), scales(n, 3), counted(n, 3, below=2), 2.5,
        eighths(n, 3, first=2), eighths(n, 3), eighths(n, 3), moments(n, 3), 2, (0.25, 0.5),
        eighths(2), eighths(n, 3, first=4),
    ),
    "mean_var_sample": lambda n: (
        *(eighths(n, 3),) * 2, scales(n, 3), counted(n, 3, below=2), scales(n),
        counted(n, 3, below=2) == 0, eighths(n, 3, first=2), 3, 4, eighths(n, 3), eighths(n, 3),
    ),
    "mean_var_step": lambda n: (
        eighths(n, 3), eighths(n, 3, first=2), scales(n, 3), counted(n, 3, below=2), scales(n),
        counted(n, 3, below=2) == 0, eighths(n, 3, first=2), eighths(n, 3), eighths(n, 3),
        moments(n, 3), 2, (0.25, 0.5), eighths(2), eighths(n, 3, first=4),
    ),
    "images": lambda n: (counted(n, 3, 4, below=256),),
    "conv2d": lambda n: (eighths(2, 4, 5, n), eighths(3, 2, 2, 3), eighths(3)),
    "conv2d_backward": lambda n: (eighths(2, 4, 5, n), eighths(3, 2, 2, 3), eighths(3, 2, 4, n)),
    "maxpool2d": lambda n: (eighths(2, 4, 5, n),),
    "maxpool2d_backward": lambda n: (
        eighths(2, 2, 2, n), counted(2, 2, 2, n, below=4), (2, 4, 5, n)
    ),
    "mean_pool2d": lambda n: (eighths(2, 6, 7, n), 3, 3),
    "mean_pool2d_backward": lambda n: (eighths(2, 2, 2, n), 3, 3, (2, 6, 7, n)),
    "group_norm": lambda n: (eighths(6, 2, 3, n), eighths(6), eighths(6, first=4), 3),
    "group_norm_backward": lambda n: (
        eighths(6, 2, 3, n), eighths(6), 3, eighths(6, 2, 3, n, first=5)
    ),
    "relu": lambda n: (eighths(n, 2),),
    "relu_backward": lambda n: (eighths(n, 2), eighths(n, 2, first=3)),
    "dense": lambda n: (eighths(4, n), eighths(4, 3), eighths(3)),
    "dense_backward": lambda n: (eighths(4, n), eighths(4, 3), eighths(3, n)),
    "softmax_cross_entropy": lambda n: (eighths(3, n), counted(n, below=3)),
    "adam_step": lambda n: (
        eighths(n, 2), eighths(n, 2, first=2), eighths(n, 2), scales(n, 2), 2, 0.25
    ),
    "log_weights": lambda n: (eighths(6, 2), delta(n, 2), log_s(n, 2)),
    "select_indices": lambda n: (3, 4, counted(n), delta(n, 2), log_s(n, 2)),
    "codebook_rows": lambda n: (3, counted(n), 5),
    "ordered_indices": lambda n: (3, 4, counted(n), delta(n, 2), log_s(n, 2)),
    "poisson_indices": lambda n: (3, counted(n), delta(n, 2), log_s(n, 2)),
    "partition_messages": lambda n: (3, 4, counted(n), delta(n, 2), log_s(n, 2)),
    "partition_rows": lambda n: (3, 4, counted(n), counted(n, first=16), 5),
    "variable_messages": lambda n: ("ad-star", 3, counted(n), delta(n), log_s(n)),
    "variable_samples": lambda n: ("ad-star", 3, counted(n), counted(n, first=1)),
    "shards": lambda n: (n,),
}  # fmt: skip


def arguments(name, own, n=5):
    """Plain arguments of an operation for an engine whose floats are `own`."""
    given = zip(OPERATIONS[name], CALLS[name](n), strict=False)
    return [plain(argument, value, own) for argument, value in given]


def plain(argument, value, own):
    """An array as compiled code takes it; anything else as it is."""
    if isinstance(value, tuple) and isinstance(value[0], tuple):  # Adam's moments
        return tuple(tuple(plain(argument, a, own) for a in pair) for pair in value)
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind == "b":
        return np.array(value, order="C")
    dtype = np.float64 if getattr(argument, "double", False) else own
    return np.array(value, dtype=getattr(argument, "dtype", dtype), order="C")


def called(name, engine, values):
    """What a call returns, given all its arguments, fields of records among them, one by one."""
    return getattr(engine, name)(*in_records(parts_of(OPERATIONS[name]), values))


def results(name, engine, values):
    """What a call returns, and what it fills, as a flat list of arrays."""
    found = called(name, engine, values)
    if name == "shards":
        return [np.array([[part.start, part.stop] for part in found])]
    if found is None:
        pairs = zip(OPERATIONS[name], values, strict=True)
        return [a for by, v in pairs if isinstance(by, Filled | Moments) for a in leaves(v)]
    return [a for a in (found if isinstance(found, tuple) else (found,)) if a is not None]


def leaves(value):
    """The arrays of an argument."""
    if isinstance(value, np.ndarray):
        return [value]
    return [a for part in value for a in leaves(part)] if isinstance(value, tuple) else []
