"""How every command runs and ends: one line, and an exit code, for whatever was wrong."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from refmiracle.errors import (
    BAD_INPUT,
    CHECK_FAILED,
    INTERRUPTED,
    CheckError,
    InputError,
    speaking_of_flags,
)
from refmiracle.files import first_line
from refmiracle.streams import guarded_streams
from refmiracle.training.stopping import interrupted_once


def run_command(
    parse: Callable[[Sequence[str] | None], argparse.Namespace],
    body: Callable[[Any], int],
    argv: Sequence[str] | None,
    prints_result: bool = False,
) -> int:
    """Parse the arguments and run a command with them; return its exit code.

    Parameters
    ----------
    parse : function
        A parser's `parse_args`; ends the program itself where the usage is wrong.
    body : function
        Of the parsed arguments; returns an exit code.
    argv : sequence of str, optional
        Those of the program by default.
    prints_result : bool
        Whether what it prints is all that it does: then a full disk behind standard output is
        bad input.  Otherwise what cannot be printed never decides the exit code.
    """
    with guarded_streams() as output:
        code = _guarded(body, parse(argv))
        output.flush()
        if isinstance(output.error, OSError) and not _is_gone(output.error):
            _say(f"error: standard output: {_reason(output.error)}")
            if prints_result and code == 0:
                return BAD_INPUT
        return code


def _is_gone(error: OSError) -> bool:
    """Tell whether nobody reads any more what is printed."""
    gone = os.name == "nt" and error.errno == errno.EINVAL  # a pipe's end is that on Windows
    return gone or isinstance(error, BrokenPipeError)


def _guarded(body: Callable[[Any], int], arguments: argparse.Namespace) -> int:
    """Run the body: what is foreseen is one line and an exit code of its own."""
    try:
        with interrupted_once(), speaking_of_flags():
            return body(arguments)
    except InputError as e:
        _say(f"error: {e}")
        return BAD_INPUT
    except CheckError as e:
        _say(f"error: {e}")
        return CHECK_FAILED
    except KeyboardInterrupt as e:
        _say(f"interrupted{': ' if e.args else ''}{e}")
        return INTERRUPTED
    except MemoryError as e:
        _say(f"error: not enough memory: {first_line(e)}")
        return BAD_INPUT
    except OSError as e:
        where = f"{e.filename}: " if e.filename is not None else ""
        _say(f"error: {where}{_reason(e)}")
        return BAD_INPUT


def _reason(error: OSError) -> str:
    return error.strerror or first_line(error)


def _say(text: str) -> None:
    """Print one line, whatever names are in it."""
    line = text.replace("\n", "\\n").replace("\r", "\\r")
    print(f"refmiracle: {line}", file=sys.stderr)
