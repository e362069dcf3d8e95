"""Where every command starts: ``python -m refmiracle.NAME`` and ``refmiracle NAME``.

It loads nothing heavy before it is ready for Ctrl-C: importing NumPy takes a moment.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import refmiracle
from refmiracle.errors import BAD_INPUT, INTERRUPTED
from refmiracle.files import first_line
from refmiracle.streams import guarded_streams, open_missing_descriptors
from refmiracle.training.stopping import answer_interrupts, end_at_once

# What each command does; `refmiracle.commands` has a module for each.
COMMANDS = {
    "train": "train a network and compress it to OUT/model.rmc",
    "evaluate": "the size of a .rmc file and the error of its network",
    "decode": "write a .rmc file's float32 weights as .npz",
    "export": "write a .rmc file's network for NumPy, ONNX or PyTorch",
    "report": "write one HTML page about a finished run",
    "study": "run one of the experiments: tables and figures",
    "bench": "measure what each part costs, beside its peers",
    "conformance": "hold a backend against the golden vectors",
}


def usage() -> str:
    """Return the help text."""
    lines = [f"  {name:<12} {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        ["usage: refmiracle COMMAND [OPTIONS]   (COMMAND --help tells its options)", "", *lines]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        return load(arguments[0])(arguments[1:])
    with guarded_streams():
        if arguments[:1] in (["-h"], ["--help"]):
            print(usage())
            return 0
        if arguments[:1] == ["--version"]:
            print(f"refmiracle {refmiracle.__version__}")
            return 0
        problem = f"unknown command {arguments[0]!r}" if arguments else "no command given"
        print(f"refmiracle: error: {problem}\n{usage()}", file=sys.stderr)
        return BAD_INPUT


def load(name: str) -> Any:
    """Import a command; return its function of the arguments, or one that says what is broken."""
    try:
        return importlib.import_module(f"refmiracle.commands.{name}").main
    except (Exception, SystemExit) as e:  # NumPy is broken, or a script of its name is imported
        return functools.partial(cannot_be_loaded, e)


def cannot_be_loaded(error: BaseException, arguments: Sequence[str]) -> int:
    """Say in one line why a command cannot be loaded; return the exit code."""
    from refmiracle.extras import hidden  # noqa: PLC0415 (loads more than start should)

    reason = "; ".join(filter(None, (first_line(error), hidden())))
    with guarded_streams():
        print(f"refmiracle: error: the command cannot be loaded: {reason}", file=sys.stderr)
    return BAD_INPUT


def start(name: str | None = None) -> int:
    """Run a command as a program, or the one that the first argument names.

    Returns
    -------
    int
        The exit code: 0 fine, 1 a check failed, 2 bad input or usage, 130 interrupted.
    """
    open_missing_descriptors()
    # Nothing is to be tidied while modules are imported, and an import may turn an exception into
    # one of its own.  A command answers its first Ctrl-C itself.
    answer_interrupts(end_at_once)
    code = main() if name is None else load(name)(sys.argv[1:])
    # All is said and done: a Ctrl-C that comes now has nothing to interrupt.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if code == INTERRUPTED:
        # At once: threads may still compute, and Python may have noted the exception in a library
        # and would end by the signal.
        os._exit(code)
    return code
