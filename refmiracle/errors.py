"""The exceptions that commands turn into a single line, and the exit codes of all commands."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

CHECK_FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130

# Flags that are not called as their arguments are.
FLAGS = {"nbytes": "--bytes"}
_flags = ContextVar("_flags", default=False)


class InputError(ValueError):
    """Bad input from outside: a file, a folder, an argument or a flag.

    The message is one line that says what is wrong, where, and what was expected; what a name or
    a library brings into it is brought into that line too.

    Examples
    --------
    >>> import refmiracle
    >>> try:
    ...     refmiracle.load(b"no model")
    ... except refmiracle.InputError as e:
    ...     print(e)
    it does not begin with the magic b'RMC', so it is no .rmc file
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class CheckError(Exception):
    """A check failed, such as a training that has diverged; commands end with exit code 1.

    The message is one line that says what is wrong, where, and what to change.

    Examples
    --------
    >>> import refmiracle
    >>> issubclass(refmiracle.CheckError, refmiracle.InputError)  # the input was fine
    False
    """


def one_line(text: str) -> str:
    r"""Return a text in one line that every output can show.

    >>> one_line("a\\nb")
    'a b'
    """
    return " ".join(text.encode("utf-8", "backslashreplace").decode("utf-8").splitlines())


def named(argument: str) -> str:
    """Return what its user calls an argument: by its name or, within a command, by its flag.

    >>> named("block_size")
    'block_size'
    >>> with speaking_of_flags():
    ...     named("block_size")
    '--block-size'
    """
    flag = FLAGS.get(argument, f"--{argument.replace('_', '-')}")
    return flag if _flags.get() else argument


@contextlib.contextmanager
def speaking_of_flags() -> Iterator[None]:
    """Let messages speak of flags, as those of a command do; otherwise they speak of arguments."""
    before = _flags.set(True)
    try:
        yield
    finally:
        _flags.reset(before)
