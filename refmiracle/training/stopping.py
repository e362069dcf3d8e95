"""Ctrl-C: the first is answered at the next good place, a second ends at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from refmiracle.errors import INTERRUPTED

Handler = Callable[[int, Any], Any]


def end_at_once(signum: int, frame: Any) -> NoReturn:
    """End the process as a kill does, with one line.

    An exception would have to find its way out of numba's compiler, callbacks and destructors.
    Files are whole at any moment, and the kernel lifts locks.
    """
    with contextlib.suppress(OSError):
        os.write(2, b"\nrefmiracle: interrupted\n")
    os._exit(INTERRUPTED)


def end_silently(signum: int, frame: Any) -> NoReturn:
    """End a process that works for another, which says what there is to say."""
    os._exit(INTERRUPTED)


@contextlib.contextmanager
def stop_requested(second: Handler | None = None) -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that a step is never half done.

    Parameters
    ----------
    second : function, optional
        What answers the next one, by default what answered the first one before.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.getsignal(signal.SIGINT)

    def request(signum: int, frame: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, second or before)

    signal.signal(signal.SIGINT, request)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def interrupted_once(second: Handler = end_at_once) -> Iterator[None]:
    """Let the first Ctrl-C raise KeyboardInterrupt, and `second` answer the next one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: Any) -> NoReturn:
        signal.signal(signal.SIGINT, second)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
