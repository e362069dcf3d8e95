"""Ctrl-C: the first is answered at the next good place, a second ends a program at once.

What stood there before is left alone where Python does not answer the signal: where it is ignored,
as in a job that a shell has put in the background, in threads other than the main one, and where a
host program, such as R or Julia, has a handler of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from refmiracle.errors import INTERRUPTED

Handler = Callable[[int, Any], Any]


class Stopped(KeyboardInterrupt):
    """Work that was asked to stop has stopped at a good place, and can go on from there."""


def end_at_once(signum: int, frame: Any) -> NoReturn:
    """End the process as a kill does, with one line.

    An exception would have to find its way out of numba's compiler, callbacks and destructors.
    Files are whole at any moment, and the kernel lifts locks.
    """
    with contextlib.suppress(OSError):
        # In a terminal a progress bar stands in the line.
        os.write(2, b"\n" * os.isatty(2) + b"refmiracle: interrupted\n")
    os._exit(INTERRUPTED)


def end_silently(signum: int, frame: Any) -> NoReturn:
    """End a process that works for another, which says what there is to say."""
    os._exit(INTERRUPTED)


def answer_interrupts(handler: Handler) -> None:
    """Let a handler answer each Ctrl-C that nothing else does, for as long as the process lives.

    Only a program of ours may: what is called from a notebook leaves this to its caller.
    """
    if _answered_here():
        signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def stop_requested() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that a step is never half done.

    The next one is answered as it was before any of our own work began.
    """
    event = threading.Event()
    with _first_answered_by(event.set):
        yield event


@contextlib.contextmanager
def interrupted_once() -> Iterator[None]:
    """Let the first Ctrl-C raise KeyboardInterrupt; the next one is answered as before."""

    def interrupt() -> NoReturn:
        raise KeyboardInterrupt

    with _first_answered_by(interrupt):
        yield


def _answered_here() -> bool:
    if threading.current_thread() is not threading.main_thread():
        return False
    return signal.getsignal(signal.SIGINT) not in (None, signal.SIG_IGN)


@contextlib.contextmanager
def _first_answered_by(answer: Callable[[], Any]) -> Iterator[None]:
    """Answer the first Ctrl-C so; give the next ones to who answered before our first handler."""
    if not _answered_here():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    outermost = getattr(before, "outermost", before)

    def handle(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, outermost)
        answer()

    handle.outermost = outermost  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
