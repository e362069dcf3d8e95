"""The scales rho of the coding distribution P = N(0, rho^2): one for each tensor, as float16.

They travel as float16 bits and are used as such in training and encoding, so that what the
decoder multiplies by is what the posterior was trained with, and decoding needs no exp.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMALLEST = float(np.finfo(np.float16).smallest_normal)
LARGEST = float(np.finfo(np.float16).max)


def quantise_scales(log_rho: ArrayLike) -> NDArray[np.float16]:
    """Return rho = exp(log rho) rounded to float16, kept within its normal numbers."""
    log_rho = np.asarray(log_rho, dtype=np.float64)
    rho = np.exp(np.clip(log_rho, np.log(SMALLEST), np.log(LARGEST)))
    return np.clip(rho, SMALLEST, LARGEST).astype(np.float16)
