"""Buffers that calls work in, one call at a time, kept for the calls to come.

A call takes a spare out, so that no other finds it, and puts it back at its end.  Buffers of a
thread would stay as long as the thread does; a lock might be held by another thread at a fork.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Spares:
    """At most so many buffers of all kinds that nobody works in; of more, some are forgotten.

    Each operation on the deque is one that Python's threads cannot see half done.

    Parameters
    ----------
    most : int
    """

    def __init__(self, most: int) -> None:
        self.kept: deque[tuple[Hashable, Any]] = deque(maxlen=most)

    def _take(self, key: Hashable) -> Any:
        """Return what was put back under a key, or None."""
        for _ in range(len(self.kept)):
            try:
                found, buffers = self.kept.pop()
            except IndexError:  # others were faster
                return None
            if found == key:
                return buffers
            self.kept.appendleft((found, buffers))
        return None

    @contextmanager
    def one(self, key: Hashable, make: Callable[[], T]) -> Iterator[T]:
        """Give the caller buffers of its own, kept ones or else make().

        Parameters
        ----------
        key : hashable
            All that decides what make() returns.
        make : function
        """
        buffers = self._take(key)
        if buffers is None:
            buffers = make()
        yield buffers
        # Not after an exception: an interrupted call may have left somebody at work in them.
        self.kept.append((key, buffers))
