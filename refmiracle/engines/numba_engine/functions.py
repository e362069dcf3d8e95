"""All functions of the fast engine, by the names of the contract.

As a module it is an `Engine`: mypy holds the arguments of each function against the contract's, but
for their types, which numba finds.
"""

from __future__ import annotations

import numpy as np

from refmiracle.engines.numba_engine.adam import adam_step
from refmiracle.engines.numba_engine.layers import (
    conv2d,
    conv2d_backward,
    dense,
    dense_backward,
    group_norm,
    group_norm_backward,
    images,
    maxpool2d,
    maxpool2d_backward,
    mean_pool2d,
    mean_pool2d_backward,
    relu,
    relu_backward,
    softmax_cross_entropy,
)
from refmiracle.engines.numba_engine.mrc import codebook_rows, log_weights, select_indices
from refmiracle.engines.numba_engine.normals import normal_quantile, normals
from refmiracle.engines.numba_engine.orc_pfr import ordered_indices, poisson_indices
from refmiracle.engines.numba_engine.philox import philox4x32
from refmiracle.engines.numba_engine.plan import network_pass
from refmiracle.engines.numba_engine.posterior import (
    ds_dx,
    expand_hash,
    expand_hash_backward,
    gaussian_kl,
    log_s,
    mean_kl,
    mean_kl_backward,
    mean_kl_forward,
    mean_var_backward,
    mean_var_forward,
)
from refmiracle.engines.numba_engine.sp_pfr import partition_messages, partition_rows
from refmiracle.engines.numba_engine.steps import (
    mean_kl_sample,
    mean_kl_step,
    mean_var_sample,
    mean_var_step,
)
from refmiracle.engines.numba_engine.threads import parallel_map as map
from refmiracle.engines.numba_engine.threads import shards
from refmiracle.engines.numba_engine.variables import variable_messages, variable_samples

name = "numba"
dtype = np.dtype(np.float32)
