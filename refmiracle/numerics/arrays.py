"""Arrays that are kept between calls: nobody may change them."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Kept = TypeVar("Kept", bound=NDArray[Any])


def read_only(array: Kept) -> Kept:
    """Return an array once it refuses to be written to, as whatever is kept between calls does."""
    array.flags.writeable = False
    return array


def read_only_view(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array's values under a name that they cannot be changed by."""
    return read_only(np.asarray(array).view())
