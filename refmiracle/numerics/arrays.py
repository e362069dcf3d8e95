"""Arrays that are kept between calls, which nobody may change, and parts of large ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Kept = TypeVar("Kept", bound=NDArray[Any])

# Elements whose scratch, some hundred bytes each, stays in the caches.
AT_ONCE = 2**14


def read_only(array: Kept) -> Kept:
    """Return an array once it refuses to be written to, as whatever is kept between calls does."""
    array.flags.writeable = False
    return array


def read_only_view(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array's values under a name that they cannot be changed by."""
    return read_only(np.asarray(array).view())


def tiles(rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Yield the parts of an array (rows, columns) that are worked on at a time.

    What is computed with dozens of arrays beside the result takes no more than the result then.
    """
    wide = max(1, min(columns, AT_ONCE))
    high = AT_ONCE // wide
    for r in range(0, rows, high):
        for c in range(0, columns, wide):
            yield slice(r, min(r + high, rows)), slice(c, min(c + wide, columns))
