"""Elementary functions in float64 without branches or calls, so that loops over them vectorise.

Each is good to a few units in the 15th digit, far below the float32 that comes in and goes out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from refmiracle.engines.numba_engine.compiling import compiled

COMPILE: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    # Reductions may be reordered to vectorise, and a * b + c fused; NaN and inf keep meaning.
    "fastmath": {"reassoc", "contract", "nsz"},
    # What may be reordered rounds as its surroundings have it.  If it were called, the linker
    # would choose among its copies by which was loaded first: a run that compiles would give
    # other bytes than one that finds the compiled code.
    "forceinline": True,
}

LOG2_E, LN2 = 1.4426950408889634, 0.6931471805599453
SMALLEST_EXPONENT, LARGEST_EXPONENT = -708.0, 709.0
SMALLEST_POWER = -1022.0  # of two that is normal, and below all that the exponents lead to
SQRT2 = math.sqrt(2.0)
SMALL = 0.02  # below, series stand in for differences that would cancel


@intrinsic
def _from_bits(_, bits):
    """Return the float64 that has these 64 bits."""

    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), generate


@compiled(**COMPILE)
def _exp_parts(x):
    """Return e^r - 1 and 2^n with e^x = 2^n e^r, n the integer next to x / ln 2."""
    # Bounds are written so that NaN passes, and stays out of the integer alone.
    bounded = SMALLEST_EXPONENT if x < SMALLEST_EXPONENT else x
    bounded = LARGEST_EXPONENT if bounded > LARGEST_EXPONENT else bounded
    # NumPy's floor stays float64: AVX2 has no conversions between int64 and float64.
    n = np.floor(bounded * LOG2_E + 0.5)
    r = bounded - n * LN2
    p = 1 / 39916800 + r * (1 / 479001600 + r * (1 / 6227020800))
    p = 1 / 40320 + r * (1 / 362880 + r * (1 / 3628800 + r * p))
    p = 1 / 120 + r * (1 / 720 + r * (1 / 5040 + r * p))
    p = r * (1.0 + r * (0.5 + r * (1 / 6 + r * (1 / 24 + r * p))))
    whole = n if n >= SMALLEST_POWER else SMALLEST_POWER
    return p, _from_bits((types.int64(types.int32(whole)) + 1023) << 52)


@compiled(**COMPILE)
def exp(x):
    """Return e^x; 0 up to -708, where float64 is no longer normal, and infinity from 709 on."""
    p, scale = _exp_parts(x)
    value = 0.0 if x <= SMALLEST_EXPONENT else scale + scale * p
    return math.inf if x >= LARGEST_EXPONENT else value


@compiled(**COMPILE)
def spent_of(y):
    """Return 1 - exp(-y), to full relative accuracy also next to y = 0, where 2^n is 1."""
    p, scale = _exp_parts(-y)
    return -p if scale == 1.0 else 1.0 - exp(-y)


@compiled(**COMPILE)
def excess_of(y):
    """Return exp(-y) - 1 + y."""
    series = 1 / 120 - y * (1 / 720 - y * (1 / 5040 - y * (1 / 40320)))
    series = y * y * (0.5 - y * (1 / 6 - y * (1 / 24 - y * series)))
    return series if abs(y) < SMALL else y - spent_of(y)


@compiled(**COMPILE)
def log_s_start(x):
    """Return about -log s(x): to the second order at x = 0, and within a few percent beyond."""
    return SQRT2 * x + x * x * (1.0 - (2 / 3) / (1.0 + SQRT2 / 3.0 * x))


@compiled(**COMPILE)
def log_s_step(y, x):
    """Return a better y = -log s(x): Halley's method on exp(-y) - 1 + y = x^2 triples the digits.

    Next to 0, the start's next term is about y^3 / 36, and products of slopes might underflow.
    """
    slope = spent_of(y)
    f = excess_of(y) - x * x
    better = y - 2.0 * f * slope / (2.0 * slope * slope - f * (1.0 - slope))
    return y if y < 1e-5 else better


@compiled(**COMPILE)
def minus_log_s(x):
    """Return y = -log s(x)."""
    return log_s_step(log_s_step(log_s_start(x), x), x)


@compiled(**COMPILE)
def tanh_sech(tau):
    """Return tanh(tau) and sech(tau)."""
    a = abs(tau)
    e = exp(-a)
    square = a * a
    series = a * (1.0 - square * (1 / 3 - square * (2 / 15 - square * (17 / 315))))
    t = series if a < SMALL else (1.0 - e * e) / (1.0 + e * e)
    return (t if tau >= 0.0 else -t), 2.0 * e / (1.0 + e * e)


@compiled(**COMPILE)
def half_slope_ratio(x, spent):
    """Return x / (1 - s), 1 / sqrt(2) in the limit x = 0."""
    return 1.0 / SQRT2 if spent <= 0.0 else x / spent
