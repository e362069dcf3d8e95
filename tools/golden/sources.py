"""Where golden values come from: mpmath, and plain Python written from docs/SPEC.md.

`oracles` lives in tests, `spec_decoder` in tools/decoder; they share no code with the package.
Inputs are drawn from Philox, so that they stay the same under every version of NumPy.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "decoder"))

import oracles
import spec_decoder
import spec_updates

__all__ = ["noise", "oracles", "spec_decoder", "spec_updates", "to_float", "to_floats"]

# A key that no stream of the file format has, so that inputs are nobody's codebook.
NOISE_STREAM = 99
GRID = 1024.0


def noise(seed: int, shape: tuple[int, ...], scale: float = 1.0) -> Any:
    """Return normals on a grid of 1/1024: short in text, exact in float32, and so are sums."""
    words = spec_decoder.words(seed, NOISE_STREAM, 0, math.prod(shape))
    z = np.array([spec_decoder.normal(w) for w in words])
    return np.round(GRID * scale * z).reshape(shape) / GRID


def to_float(x: Any) -> float:
    """Round an mpmath number to the nearest float64, subnormals included (mpmath rounds twice)."""
    sign, mantissa, exponent, bits = x._mpf_
    if not mantissa:
        return float(x)
    if exponent + bits < -1100:
        return -0.0 if sign else 0.0
    # Python divides integers with a single rounding.
    whole = int(mantissa) << max(exponent, 0)
    magnitude = whole / (1 << max(-exponent, 0))
    return -magnitude if sign else magnitude


def to_floats(values: Any) -> Any:
    """Return nested lists of mpmath numbers as an array of float64."""
    flat = np.array(values, dtype=object)
    return np.array([to_float(x) for x in flat.ravel()]).reshape(flat.shape)
