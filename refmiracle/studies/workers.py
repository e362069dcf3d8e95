"""Processes that a study's tasks go on: one that is killed costs its own task, and no other.

They work for the process that started them, and end with it, whatever ended it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any

from refmiracle.errors import INTERRUPTED
from refmiracle.training.stopping import answer_interrupts, end_silently

# numba reads it when a process starts; runs side by side beat threads within one.
THREADS = "NUMBA_NUM_THREADS"
# What a new process inherits is, for that moment, this process's own.
_starting = threading.Lock()


class Processes(ThreadPoolExecutor):
    """So many processes, which go on from task to task, each in a pool of its own.

    Of a pool with several, one that dies takes the tasks of all along, and no new one is started.
    """

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._waiting: deque[Worker] = deque()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Hand over `function` and its arguments."""
        return super().submit(self._call, function, *arguments, **named)

    def _call(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        worker = self._take()
        future = worker.submit(function, *arguments, **named)
        try:
            return future.result()
        finally:
            self._waiting.append(worker)

    def _take(self) -> Worker:
        """Return a process that waits for work, or a new one."""
        while True:
            try:
                worker = self._waiting.pop()
            except IndexError:
                return Worker()
            if worker.answers():
                return worker
            worker.shutdown()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes, each after the task that it has begun."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        while self._waiting:
            self._waiting.pop().shutdown(wait)


class Worker(ProcessPoolExecutor):
    """One process, started with its first task, of one thread."""

    def __init__(self) -> None:
        with _starting:
            _tidy_without_a_word()
        super().__init__(1, mp_context=get_context("spawn"), initializer=_begin)

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Hand over `function` and its arguments; start the process if it is not there."""
        with _starting, _one_thread(), _deaf_at_first():
            return super().submit(function, *arguments, **named)

    def answers(self) -> bool:
        """Tell whether the process is still there."""
        try:
            self.submit(int).result()
        except BrokenProcessPool:
            return False
        return True


def _begin() -> None:
    """Begin as a process that works for another.

    It ends with it, without a word; and so it does at Ctrl-C, unless it trains: then at its next
    checkpoint.
    """
    # Before signals are let through: a thread has the mask of the one that starts it.
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()
    answer_interrupts(end_silently)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _end_with(parent: Any) -> None:
    """Wait for the end of another process, and end this one as a kill does.

    The end of its queue says nothing: this process holds that open itself.
    """
    parent.join()
    os._exit(INTERRUPTED)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Start processes whose numba has one thread; here it would refuse the change."""
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


@contextmanager
def _deaf_at_first() -> Iterator[None]:
    """Start processes that hear Ctrl-C only once they can answer it: a new one has Python's words.

    What is blocked here is blocked there.
    """
    if sys.platform == "win32":
        yield
    else:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _tidy_without_a_word() -> None:
    """Start the process that removes semaphores, deaf to what it warns of: a second Ctrl-C.

    It gets the warning filters of its start.
    """
    if sys.platform != "win32":
        from multiprocessing import resource_tracker  # noqa: PLC0415 (POSIX alone has it)

        sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
        try:
            resource_tracker.ensure_running()
        finally:
            sys.warnoptions.pop()
