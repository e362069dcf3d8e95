"""Compile the fast engine, once for all processes that will test it.

Each worker of pytest-xdist would compile nearly all of it, side by side with the others.  Here two
processes call every function, one from the first, one from the last, and meet in the middle: what
one has compiled, the other loads.

    python tests/compile_engine.py
"""

import subprocess
import sys

import numpy as np
from engines.calls import CALLS

from refmiracle.engines import get_engine


def call_all(names):
    """Make each call once, so that what it needs is compiled, or loaded, and kept."""
    engine = get_engine("numba")
    for name in names:
        CALLS[name](engine, np.random.default_rng(0))()


def compile_at_two_ends():
    """Return when both processes have ended; what they cannot do is left to the tests to say."""
    commands = ([sys.executable, __file__, end] for end in ("first", "last"))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for process in [subprocess.Popen(command, **quiet) for command in commands]:
        process.wait()


if __name__ == "__main__":
    if sys.argv[1:]:
        call_all(list(CALLS) if sys.argv[1] == "first" else reversed(CALLS))
    else:
        compile_at_two_ends()
