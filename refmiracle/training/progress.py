"""How far long work is: a bar in a terminal or a notebook, plain lines everywhere else.

A bar is renewed in its place; where the output is a file or a pipe, nothing of it can be read
before the end.  There, and where tqdm is missing (extra ``progress``), lines come instead.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from refmiracle.errors import InputError
from refmiracle.extras import NotInstalledError, import_extra
from refmiracle.streams import Output

# Between two lines, at least and at most.
FEWEST_SECONDS, MOST_SECONDS = 10.0, 60.0


class Silence:
    """Stands in for a tqdm bar."""

    total = 0

    def update(self, n: int = 1) -> None:
        """Do nothing."""

    def set_postfix_str(self, text: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Lines:
    """Stands in for a tqdm bar: says in a line now and then what it shows.

    One when it begins; one with each new postfix, but none within 10 s of the last; one a minute
    after the last, whatever the postfix; and one at the end, of what the last did not say.

    Parameters
    ----------
    total, initial : int
        How many units there are, and how many were done before.
    description : str
    unit : str
    write : function
        Takes a line, with its line feed.
    clock : function
        Seconds, from any moment on.
    """

    def __init__(
        self,
        total: int,
        initial: int,
        description: str,
        unit: str,
        write: Callable[[str], Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.initial = self.done = initial
        self.description, self.unit = description, unit
        self.postfix = ""
        self.write, self.clock = write, clock
        self.begin = clock()
        self._say(self.begin)

    def update(self, n: int = 1) -> None:
        """Count what was done."""
        self.done += n
        self._say_after(MOST_SECONDS)

    def set_postfix_str(self, text: str) -> None:
        """Take new figures."""
        self.postfix = text
        self._say_after(FEWEST_SECONDS)

    def close(self) -> None:
        """Say how it ended, unless the last line did."""
        if self.said != (self.done, self.postfix):
            self._say(self.clock())

    def _say_after(self, seconds: float) -> None:
        now = self.clock()
        if now - self.last >= seconds:
            self._say(now)

    def _say(self, now: float) -> None:
        """Write a line."""
        self.last, self.said = now, (self.done, self.postfix)
        parts = [f"{self.done} of {self.total} {self.unit}s", self.postfix]
        elapsed, taken = now - self.begin, self.done - self.initial
        if elapsed >= 1:
            parts.append(duration(elapsed))
            if taken and self.done < self.total:
                left = elapsed / taken * (self.total - self.done)
                parts.append(f"about {duration(left)} still")
        self.write(f"{self.description}: {', '.join(filter(None, parts))}\n")


def duration(seconds: float) -> str:
    """Return a time in words, in its two largest units.

    >>> duration(7), duration(200), duration(7500)
    ('7 s', '3 min 20 s', '2 h 5 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def in_notebook() -> bool:
    """Tell whether cells of a notebook run here: what they print stands below them."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def progress_bar(total: int, initial: int, description: str, unit: str = "step") -> Any:
    """Return a tqdm bar on standard error or in a notebook, or what says the same in lines."""
    output = Output(sys.stderr)
    if output.isatty() or in_notebook():
        try:
            # In a notebook of its own kind, where ipywidgets are there.
            kind = "tqdm.auto" if in_notebook() else "tqdm"
            tqdm = import_extra(kind, "progress", ("tqdm",)).tqdm
        except NotInstalledError:
            pass
        except InputError as e:
            output.write(f"refmiracle: no progress bar: {e}\n")
        else:
            return tqdm(
                total=total,
                initial=initial,
                desc=description,
                unit=unit,
                dynamic_ncols=True,
                mininterval=1.0,
            )

    def write(line: str) -> None:
        output.write(line)
        output.flush()

    return Lines(total, initial, description, unit, write)
