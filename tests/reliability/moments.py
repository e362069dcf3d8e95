"""Every moment at which a process that writes can die, or its disk fail."""

from __future__ import annotations

import builtins
import functools
import io
import os


class Moments:
    """Calls `moment` before and after each call that changes a folder, and within each write.

    Whoever inherits says what happens then.  What a process does between two such moments nobody
    sees once it is dead.

    Parameters
    ----------
    folder : Path
        What is written elsewhere, such as compiled code, does not count.
    """

    NAMES = (
        *("fsync", "replace", "rename", "unlink", "remove"),
        *("mkdir", "rmdir", "truncate", "ftruncate", "open"),
    )

    def __init__(self, folder):
        self.folder = folder

    def counts(self, place):
        """Tell whether a path is the folder or in it; descriptors all count."""
        return isinstance(place, int) or os.path.abspath(place).startswith(str(self.folder))

    def moment(self, name):
        """Do what is to be done; `name` is that of the call."""
        raise NotImplementedError

    def install(self, patch=setattr):
        """Stand before the functions that write; `patch` is setattr, or that of pytest."""
        for name in self.NAMES:
            patch(os, name, functools.partial(self._call, name, getattr(os, name)))
        patch(os, "write", functools.partial(self._write, os.write))
        opened = functools.partial(self._open, open)
        patch(builtins, "open", opened)
        patch(io, "open", opened)  # which pathlib calls

    def _call(self, name, function, *arguments, **named):
        counts = self.counts(arguments[0])
        if counts:
            self.moment(name)
        result = function(*arguments, **named)
        if counts:
            self.moment(name)
        return result

    def _write(self, function, descriptor, data):
        self.moment("write")
        written = function(descriptor, data[: len(data) // 2])
        self.moment("write")
        return written + function(descriptor, data[len(data) // 2 :])

    def _open(self, function, file, mode="r", *arguments, **named):
        opened = function(file, mode, *arguments, **named)
        reads = mode in ("r", "rb", "rt")
        return opened if reads or not self.counts(file) else Watched(opened, self)


class Watched:
    """A file that is written to half by half."""

    def __init__(self, file, moments):
        self.file, self.moments = file, moments

    def write(self, data):
        """Write, with a moment before, half-way, and after."""
        self.moments.moment("write")
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            self.file.write(part)
            self.file.flush()
            self.moments.moment("write")
        return len(data)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)
