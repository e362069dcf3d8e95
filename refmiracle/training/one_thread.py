"""Methods of what several threads may hold, but only one may be within."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from refmiracle.errors import InputError


class AtWork(Protocol):
    """Has a lock that the thread at work holds; its methods may call each other."""

    at_work: threading.RLock


P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=AtWork)


def by_one_thread(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Refuse a call while another thread is within one: it would see a step half done."""

    @wraps(method)
    def checked(self: S, *arguments: P.args, **named: P.kwargs) -> R:
        if not self.at_work.acquire(blocking=False):
            raise InputError(
                f"this {type(self).__name__} is at work in another thread; give each thread a"
                f" {type(self).__name__} of its own"
            )
        try:
            return method(self, *arguments, **named)
        finally:
            self.at_work.release()

    return checked
