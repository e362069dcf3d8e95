"""Standard output and standard error that end no work: missing, closed, full, or of few letters.

A service, pythonw or ``2>&-`` leave a program without them, a redirected output on Windows cannot
write each name, a reader such as ``head`` goes away.  None of this may stop a training or decide
the exit code of work that succeeded.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any


class Output:
    """A text stream that drops what cannot be written, and keeps the reason.

    Parameters
    ----------
    stream : text stream or None
        None, as Python has it where there is none, takes everything.

    Attributes
    ----------
    error : Exception or None
        Why the stream takes no more.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error: OSError | ValueError | None = None

    def write(self, text: str) -> int:
        """Write, letters that the stream's encoding lacks as backslash and number."""
        try:
            self._try(text)
        except UnicodeEncodeError as e:
            self._try(text.encode(e.encoding, "backslashreplace").decode(e.encoding))
        return len(text)

    def _try(self, text: str) -> None:
        if self.stream is None or self.error is not None:
            return
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            raise
        except (OSError, ValueError) as e:  # ValueError: it was closed
            self._drop(e)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write one after the other."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush what was written."""
        if self.stream is not None and self.error is None:
            try:
                self.stream.flush()
            except AttributeError:  # a simple stand-in, as some notebooks have
                return
            except (OSError, ValueError) as e:
                self._drop(e)

    def _drop(self, error: OSError | ValueError) -> None:
        """Send what is still to be printed nowhere: the end of the program flushes too."""
        self.error = error
        with contextlib.suppress(AttributeError, OSError, ValueError):
            descriptor = self.stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)

    def isatty(self) -> bool:
        """Tell whether somebody watches."""
        try:
            return bool(self.stream.isatty())
        except (AttributeError, ValueError):  # none, a simple stand-in, or closed
            return False

    def fileno(self) -> int:
        """Return the descriptor.

        Raises
        ------
        OSError
            If there is none.
        """
        if self.stream is None:
            raise io.UnsupportedOperation("there is no stream")
        return int(self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def guarded_streams() -> Iterator[Output]:
    """Put such streams in the place of Python's own; give the one of standard output.

    Python has them once for all threads: of several commands at once, the first puts them there,
    and the last takes them away.
    """
    with _turn:
        output, error = _put()
        _users.append(output)
    try:
        yield output
    finally:
        output.flush()
        error.flush()
        with _turn:
            _users.remove(output)
            if not _users:
                sys.stdout, sys.stderr = output.stream, error.stream


_turn = threading.Lock()
_users: list[Output] = []


def _put() -> tuple[Output, Output]:
    """Put guarded streams in the place of those that are none yet."""
    output, error = (s if isinstance(s, Output) else Output(s) for s in (sys.stdout, sys.stderr))
    sys.stdout, sys.stderr = output, error
    return output, error


def open_missing_descriptors() -> None:
    """Give descriptors 0 to 2 to the null device where the program was started without.

    The next file that is opened would get them, and what a library says of itself would be
    written into it.
    """
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            return
        os.set_inheritable(descriptor, True)
