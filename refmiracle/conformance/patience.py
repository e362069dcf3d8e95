"""How long a backend may keep the suite waiting: a deadline for each answer, and a last one.

With a deadline all that a backend does runs on a thread of its own.  One that misses it is left
alone with its thread, and the next question gets a new one: nothing can end a thread from outside.
Without one it runs on the thread that asks: what belongs to one thread, as a browser does, works.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from refmiracle.errors import InputError

T = TypeVar("T")

# Seconds for one answer, unless said otherwise: compiling what the first call needs included.
DEADLINE = 60.0
MOST_MISSED = 3
# Ctrl-C is seen between two waits: Windows cannot interrupt one.
LONGEST_WAIT = 0.1
NOT_POSED = "not posed"


class LateError(Exception):
    """There is no answer within the deadline, or the question was not posed any more."""


class Patience:
    """Waits for the answers of one backend, and stops asking once it has missed three deadlines.

    Parameters
    ----------
    deadline : float
        Seconds for each answer; infinite: however long, on the thread that asks.
    clock : function
        Returns seconds.

    Attributes
    ----------
    missed : int
        How many deadlines have passed without an answer.

    Raises
    ------
    InputError
        If the deadline is not above 0.
    """

    def __init__(
        self, deadline: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not deadline > 0:
            raise InputError(f"a deadline of {deadline:g} s; expected more than 0, or inf for none")
        self.deadline = deadline
        self.missed = 0
        self._clock = clock
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] | None = None

    def ask(self, question: Callable[[], T], too_late: Callable[[], None] | None = None) -> T:
        """Return question(), called on its thread (see above); its exceptions are raised here.

        Parameters
        ----------
        question : function
        too_late : function, optional
            Called on that thread once nobody waits any more for what `question` returns.

        Raises
        ------
        LateError
            If it does not return in time, or too many before it did not.
        """
        self.check()
        if math.isinf(self.deadline):
            try:
                return question()
            except KeyboardInterrupt:
                if too_late is not None:
                    too_late()
                raise
        if self._tasks is None:
            self._tasks = queue.SimpleQueue()
            threading.Thread(target=_work, args=[self._tasks], daemon=True).start()
        outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        began = self._clock()
        self._tasks.put(lambda: outcome.put(_try(question)))
        try:
            result, error = self._wait(outcome, began)
        except BaseException:  # too late, or Ctrl-C
            if too_late is not None:
                self._tasks.put(too_late)
            self.close()
            raise
        if error is not None:
            raise error
        return result

    def check(self) -> None:
        """Raise `LateError` if nothing is asked any more."""
        if self.missed >= MOST_MISSED:
            raise LateError(
                f"{NOT_POSED}: {self.missed} questions had no answer within {self.deadline:g} s"
            )

    def _wait(
        self, outcome: queue.SimpleQueue[Any], began: float
    ) -> tuple[Any, BaseException | None]:
        while True:
            left = self.deadline - (self._clock() - began)
            try:
                found: tuple[Any, BaseException | None] = outcome.get(
                    timeout=max(0.0, min(left, LONGEST_WAIT))
                )
                return found
            except queue.Empty:
                if left <= 0:
                    self.missed += 1
                    raise LateError(f"no answer within {self.deadline:g} s") from None

    def close(self) -> None:
        """Let the thread end, once it has done what it was asked."""
        if self._tasks is not None:
            self._tasks.put(None)
            self._tasks = None


def _work(tasks: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (task := tasks.get()) is not None:
        task()


def _try(question: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return question(), None
    except BaseException as e:  # raised again where the answer is waited for
        return None, e
