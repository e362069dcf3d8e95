"""Adam in float32, compiled; see `numpy_engine.layers.adam_step`."""

from __future__ import annotations

import numpy as np

from refmiracle.engines.numba_engine.compiling import compiled
from refmiracle.engines.numba_engine.elementary import COMPILE

BETA1, REST1 = np.float32(0.9), np.float32(0.1)
# 1 - float32(0.999) would be 1.3e-5 off 0.001.
BETA2, REST2 = np.float32(0.999), np.float32(0.001)
EPSILON = np.float32(1e-8)


def corrections(step):
    """Return 1 / (1 - beta1^step) and 1 / (1 - beta2^step)."""
    return np.float32(1 / (1 - 0.9**step)), np.float32(1 / (1 - 0.999**step))


@compiled(**COMPILE)
def adam_update(theta, g, m, v, rate, correction1, correction2):
    """Update flat theta, m and v in place."""
    for i in range(theta.size):
        m[i] = BETA1 * m[i] + REST1 * g[i]
        v[i] = BETA2 * v[i] + REST2 * g[i] * g[i]
        theta[i] -= rate * (m[i] * correction1) / (np.sqrt(v[i] * correction2) + EPSILON)


@compiled(**COMPILE)
def adam_update_in_units(theta, g, m, v, rate, unit, correction1, correction2):
    """Update flat theta, m and v in place; the rate of each theta is rate * unit."""
    for i in range(theta.size):
        m[i] = BETA1 * m[i] + REST1 * g[i]
        v[i] = BETA2 * v[i] + REST2 * g[i] * g[i]
        step = rate * unit[i]
        theta[i] -= step * (m[i] * correction1) / (np.sqrt(v[i] * correction2) + EPSILON)


def adam_step(theta, g, m, v, step, rate):
    """See `numpy_engine.layers.adam_step`; float32."""
    theta, m, v = (np.array(a, dtype=np.float32, order="C") for a in (theta, m, v))
    g = np.ascontiguousarray(g, dtype=np.float32)
    flat = (a.reshape(-1) for a in (theta, g, m, v))
    adam_update(*flat, np.float32(rate), *corrections(step))
    return theta, m, v
