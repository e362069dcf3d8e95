"""The threads of the numba engine: compiled functions release the GIL, so plain threads do.

Results never depend on how many threads there are: rows that are split among them do not touch
each other, and what is summed (the gradients of a batch) is split and summed by a rule that knows
only the batch.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from itertools import pairwise

import numba

THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="refmiracle")


def parallel_map(function, items):
    """Return [function(item) for item in items], in that order, computed by the threads.

    The calling thread works too, so that little is lost where waking another takes long.
    """
    items = list(items)
    if len(items) < 2 or THREADS < 2:
        return [function(item) for item in items]
    results = [None] * len(items)
    turns = iter(range(len(items)))  # its `next` is atomic, so each turn is taken once

    def work():
        for i in turns:
            results[i] = function(items[i])

    others = [_pool().submit(work) for _ in range(min(THREADS, len(items)) - 1)]
    try:
        work()
    finally:
        wait(others)
    for other in others:
        other.result()
    return results


def row_parts(rows, parts=None):
    """Split range(rows) into at most `parts` slices of nearly equal length."""
    parts = max(1, min(parts or THREADS, rows))
    edges = [rows * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def shards(batch):
    """Return the parts of a batch that are computed apart: of 64 samples, or 32 if it is small.

    Long enough for the vector units, short enough for the caches; a function of the batch
    alone, because the gradient is summed shard by shard.
    """
    size = 64 if batch >= 128 else 32
    return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]
