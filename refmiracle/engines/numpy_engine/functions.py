"""All functions of the reference engine, by the names of the contract.

As a module it is an `Engine`: mypy holds each function against the contract's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.engines.contract import Item, LayerSpec, Result
from refmiracle.engines.numpy_engine.layers import (
    adam_step,
    conv2d,
    conv2d_backward,
    dense,
    dense_backward,
    images,
    maxpool2d,
    maxpool2d_backward,
    mean_pool2d,
    mean_pool2d_backward,
    relu,
    relu_backward,
    softmax_cross_entropy,
)
from refmiracle.engines.numpy_engine.mrc import codebook_rows, log_weights, select_indices
from refmiracle.engines.numpy_engine.normalisation import group_norm, group_norm_backward
from refmiracle.engines.numpy_engine.normals import normals
from refmiracle.engines.numpy_engine.orc_pfr import ordered_indices, poisson_indices
from refmiracle.engines.numpy_engine.posterior import (
    expand_hash,
    expand_hash_backward,
    gaussian_kl,
    mean_kl,
    mean_kl_backward,
    mean_kl_forward,
    mean_var_backward,
    mean_var_forward,
)
from refmiracle.engines.numpy_engine.sp_pfr import partition_messages, partition_rows
from refmiracle.engines.numpy_engine.steps import (
    mean_kl_sample,
    mean_kl_step,
    mean_var_sample,
    mean_var_step,
)
from refmiracle.engines.numpy_engine.variables import variable_messages, variable_samples
from refmiracle.numerics import philox
from refmiracle.numerics.normal import normal_quantile
from refmiracle.numerics.variance import ds_dx, log_s

name = "numpy"
dtype = np.dtype(np.float64)


def philox4x32(counter: ArrayLike, key: ArrayLike) -> NDArray[np.uint32]:
    """See `numerics.philox.philox4x32`; of ten rounds, as files have it."""
    return philox.philox4x32(counter, key)


def network_pass(
    layers: tuple[LayerSpec, ...], copies: tuple[int, ...], image: tuple[int, int, int]
) -> None:
    """Return None: nothing here outdoes the composition of the layers."""


def shards(batch: int) -> list[slice]:
    """Return the parts of a batch that are computed apart: here one."""
    return [slice(0, batch)]


def map(function: Callable[[Item], Result], items: Iterable[Item]) -> Sequence[Result]:
    """Return what a function gives of each item, one after the other."""
    return [function(item) for item in items]
