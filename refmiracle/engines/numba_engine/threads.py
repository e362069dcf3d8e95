"""The threads of the numba engine: compiled functions release the GIL, so plain threads do.

Results never depend on how many threads there are: rows that are split among them do not touch
each other, and what is summed (the gradients of a batch) is split and summed by a rule that knows
only the batch.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Any

import numba
from numba.core.compiler_lock import global_compiler_lock

from refmiracle.processors import usable_processors


def _count() -> int:
    """Return how many threads there are to be: as many as numba is told, or as may be used."""
    config: Any = numba.config
    told = config.NUMBA_NUM_THREADS != config.NUMBA_DEFAULT_NUM_THREADS
    return int(config.NUMBA_NUM_THREADS) if told else usable_processors()


THREADS = _count()


class Pool:
    """The threads of this process, made when they are first asked for.

    A child of `fork` has none of its parent's threads and must not wait for them; nor may it find
    numba's lock held by one of them, so a fork waits until nothing is being compiled.
    """

    def __init__(self):
        self.forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=global_compiler_lock.acquire,
                after_in_parent=global_compiler_lock.release,
                after_in_child=self._in_child,
            )

    def _in_child(self):
        global_compiler_lock.release()
        self.forget()

    def forget(self):
        """Have no threads."""
        self.lock = threading.Lock()
        self.executor = None

    def submit(self, work, times, futures):
        """Let up to so many threads do the work, fewer where no more start; note their futures.

        A process may be short of threads, or at its end, where Python starts none.
        """
        try:
            with self.lock:
                if self.executor is None:
                    # The caller works too, so with these there are as many as there are to be.
                    self.executor = ThreadPoolExecutor(THREADS - 1, thread_name_prefix="refmiracle")
            for _ in range(times):
                futures.append(self.executor.submit(work))
        except RuntimeError:
            pass


POOL = Pool()


def parallel_map(function, items):
    """Return [function(item) for item in items], in that order, computed by the threads.

    The calling thread works too, so that little is lost where waking another takes long, and
    nothing where there is no other.  Any number of threads may call it, those of the pool too:
    nobody waits for what has not begun.  At its end, an exception's too, none is still at work.
    """
    items = list(items)
    if len(items) < 2 or THREADS < 2:
        return [function(item) for item in items]
    results = [None] * len(items)
    turns = iter(range(len(items)))  # its `next` is atomic, so each turn is taken once

    def work():
        for i in turns:
            results[i] = function(items[i])

    others = []
    try:
        POOL.submit(work, min(THREADS, len(items)) - 1, others)
        work()
    finally:
        for _ in turns:  # after an exception: those that have begun find none left
            pass
        begun = [other for other in others if not other.cancel()]
        _wait_through(begun)
    for other in begun:
        other.result()
    return results


def _wait_through(futures):
    """Wait for futures; Ctrl-C comes out at the end, when nobody writes to the arrays any more."""
    try:
        wait(futures)
    except BaseException:
        _wait_through(futures)
        raise


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
