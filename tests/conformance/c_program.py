"""The C99 backend, built by whatever `cc` there is."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "tools" / "backends" / "c"
MAKEFILE = (SOURCES / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")


def variable(name):
    """Return the words that a variable of the Makefile holds."""
    return re.search(rf"^{name} *=(.*)$", MAKEFILE, flags=re.M)[1].split()


def build(folder, sources="SOURCES", name="refmiracle_c", extra=()):
    """Return a program of the Makefile, compiled without a warning, or skip the test."""
    return build_of(folder / name, variable(sources), extra)


def build_of(built, sources, extra=()):
    """Return a program of some of its sources, and of more."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc) on the PATH")
    paths = [str(SOURCES / source) for source in sources]
    flags = [*variable("CFLAGS"), "-Werror", *extra]
    command = [compiler, *flags, "-o", str(built), *paths, *variable("LDLIBS")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    return built
