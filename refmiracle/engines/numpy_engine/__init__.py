"""The reference engine: float64, plain NumPy, one line per equation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

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
from refmiracle.engines.operations import checked
from refmiracle.numerics.normal import normal_quantile
from refmiracle.numerics.philox import philox4x32
from refmiracle.numerics.variance import ds_dx, log_s


def shards(batch: int) -> list[slice]:
    """Return the parts of a batch that are computed apart: here one."""
    return [slice(0, batch)]


FUNCTIONS = SimpleNamespace(
    name="numpy",
    dtype=np.dtype(np.float64),
    philox4x32=philox4x32,
    normal_quantile=normal_quantile,
    normals=normals,
    log_s=log_s,
    ds_dx=ds_dx,
    gaussian_kl=gaussian_kl,
    mean_kl=mean_kl,
    mean_kl_forward=mean_kl_forward,
    mean_kl_backward=mean_kl_backward,
    mean_kl_sample=mean_kl_sample,
    mean_kl_step=mean_kl_step,
    mean_var_forward=mean_var_forward,
    mean_var_backward=mean_var_backward,
    mean_var_sample=mean_var_sample,
    mean_var_step=mean_var_step,
    expand_hash=expand_hash,
    expand_hash_backward=expand_hash_backward,
    images=images,
    conv2d=conv2d,
    conv2d_backward=conv2d_backward,
    maxpool2d=maxpool2d,
    maxpool2d_backward=maxpool2d_backward,
    mean_pool2d=mean_pool2d,
    mean_pool2d_backward=mean_pool2d_backward,
    group_norm=group_norm,
    group_norm_backward=group_norm_backward,
    relu=relu,
    relu_backward=relu_backward,
    dense=dense,
    dense_backward=dense_backward,
    softmax_cross_entropy=softmax_cross_entropy,
    adam_step=adam_step,
    network_pass=lambda layers, copies, size: None,
    log_weights=log_weights,
    select_indices=select_indices,
    codebook_rows=codebook_rows,
    ordered_indices=ordered_indices,
    poisson_indices=poisson_indices,
    partition_messages=partition_messages,
    partition_rows=partition_rows,
    variable_messages=variable_messages,
    variable_samples=variable_samples,
    shards=shards,
    map=lambda function, items: [function(item) for item in items],
)

ENGINE: Any = checked(FUNCTIONS)
