"""Standard normals of random streams: words to uniforms to quantiles (docs/SPEC.md, 4 to 6)."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.numerics.arrays import tiles
from refmiracle.numerics.normal import normal_quantile
from refmiracle.numerics.philox import stream_words, words_to_uniform

Normals = TypeVar("Normals", bound=NDArray[Any])


def normals(seed: int, stream: int, rows: ArrayLike, count: int) -> NDArray[np.float64]:
    """Return the first `count` standard normals of rows of a random stream; float64 here."""
    rows = np.asarray(rows)
    return fill_normals(seed, stream, rows, np.empty((len(rows), count)))


def fill_normals(seed: int, stream: int, rows: NDArray[Any], out: Normals) -> Normals:
    """Fill out[r] with the first normals of row rows[r] of a stream, rounded to its type."""
    for r, c in tiles(*out.shape):
        words = stream_words(seed, stream, rows[r], c.stop - c.start, c.start)
        out[r, c] = normal_quantile(words_to_uniform(words))
    return out
