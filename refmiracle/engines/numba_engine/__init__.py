"""The fast engine: float32, compiled by numba, on all cores.

Same contract as the reference; what each function computes is said there, how it is made fast
here.  The modules are untyped because numba compiles their functions for the types it meets.

Compiled code is kept for the next start, as long as nothing that it is made of changes: see
`compiling`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from refmiracle.engines.numba_engine import (
    adam,
    layers,
    mrc,
    normals,
    orc_pfr,
    philox,
    plan,
    posterior,
    sp_pfr,
    steps,
    threads,
    variables,
)
from refmiracle.engines.operations import checked

FUNCTIONS = SimpleNamespace(
    name="numba",
    dtype=np.dtype(np.float32),
    philox4x32=philox.philox4x32,
    normal_quantile=normals.normal_quantile,
    normals=normals.normals,
    log_s=posterior.log_s,
    ds_dx=posterior.ds_dx,
    gaussian_kl=posterior.gaussian_kl,
    mean_kl=posterior.mean_kl,
    mean_kl_forward=posterior.mean_kl_forward,
    mean_kl_backward=posterior.mean_kl_backward,
    mean_kl_sample=steps.mean_kl_sample,
    mean_kl_step=steps.mean_kl_step,
    mean_var_forward=posterior.mean_var_forward,
    mean_var_backward=posterior.mean_var_backward,
    mean_var_sample=steps.mean_var_sample,
    mean_var_step=steps.mean_var_step,
    expand_hash=posterior.expand_hash,
    expand_hash_backward=posterior.expand_hash_backward,
    images=layers.images,
    conv2d=layers.conv2d,
    conv2d_backward=layers.conv2d_backward,
    maxpool2d=layers.maxpool2d,
    maxpool2d_backward=layers.maxpool2d_backward,
    mean_pool2d=layers.mean_pool2d,
    mean_pool2d_backward=layers.mean_pool2d_backward,
    group_norm=layers.group_norm,
    group_norm_backward=layers.group_norm_backward,
    relu=layers.relu,
    relu_backward=layers.relu_backward,
    dense=layers.dense,
    dense_backward=layers.dense_backward,
    softmax_cross_entropy=layers.softmax_cross_entropy,
    adam_step=adam.adam_step,
    network_pass=plan.network_pass,
    log_weights=mrc.log_weights,
    select_indices=mrc.select_indices,
    codebook_rows=mrc.codebook_rows,
    ordered_indices=orc_pfr.ordered_indices,
    poisson_indices=orc_pfr.poisson_indices,
    partition_messages=sp_pfr.partition_messages,
    partition_rows=sp_pfr.partition_rows,
    variable_messages=variables.variable_messages,
    variable_samples=variables.variable_samples,
    shards=threads.shards,
    map=threads.parallel_map,
)

ENGINE: Any = checked(FUNCTIONS)
