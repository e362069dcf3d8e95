"""Where commands start: Ctrl-C before anything is ready, and what is wrong from outside."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys

import pytest

from refmiracle import start
from refmiracle.commands.running import run_command
from refmiracle.errors import CheckError, InputError

INTERRUPTED_WITHIN = """
import importlib, os, signal, sys
from refmiracle import start
whole = importlib.import_module
# A shell starts what is to run behind it with the signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupted(*names):
    signal.raise_signal(signal.SIGINT)
    return whole(*names)

{where}
sys.argv[1:] = ["--help"]
sys.exit(start.start("train"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise")
@pytest.mark.parametrize(
    "where",
    [
        "start.importlib.import_module = interrupted",
        "start.load = interrupted",
        "whole('refmiracle.commands.train').run_command = interrupted",
    ],
)
def test_ctrl_c_before_the_command_is_one_line(where):
    code = INTERRUPTED_WITHIN.format(where=where)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "refmiracle: interrupted\n"


def test_the_handler_of_before_is_back_after_the_imports():
    before = signal.getsignal(signal.SIGINT)
    assert callable(start.load("evaluate"))
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("nu is no number"), 2, "error: nu is no number"),
        (CheckError("the loss is not finite"), 1, "error: the loss is not finite"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("after 3 steps"), 130, "interrupted: after 3 steps"),
        (MemoryError(), 2, "error: not enough memory: MemoryError"),
        (MemoryError("8 GiB\nfor an array"), 2, "error: not enough memory: 8 GiB"),
        (FileNotFoundError(2, "No such file", "x"), 2, "error: x: No such file"),
        # An error without the name of a file is no fault of standard output.
        (OSError("Could not find/load shared object file\n..."), 2, "error: Could not find/load"),
    ],
)
def test_what_is_foreseen_is_one_line(error, code, line, capsys):
    def body(arguments):
        raise error

    assert run_command(argparse.ArgumentParser().parse_args, body, []) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"refmiracle: {line}")
    assert said.err.count("\n") == 1


def test_what_is_not_foreseen_is_a_traceback():
    """A fault of ours must not look like bad input."""

    def body(arguments):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(argparse.ArgumentParser().parse_args, body, [])


def test_every_command_has_a_module_of_its_name():
    for name in start.COMMANDS:
        assert callable(start.load(name))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("numpy", ""),
        ("numba", ""),
        ("json", ""),
        ("numpy", "raise ValueError('numpy.dtype size changed')"),
        ("numpy", "def ("),
        ("scipy", "import sys; sys.exit(0)"),
        ("scipy", "1 / 0"),
    ],
)
def test_a_package_that_hides_a_library_is_named(tmp_path, name, code):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(code)
    # Coverage would begin within the process, and so would have loaded json before.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-m", "refmiracle.evaluate", "lenet5-891.rmc"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path / name} is taken for {name}" in done.stderr


def test_a_line_feed_in_a_name_makes_no_second_line(capsys):
    def body(arguments):
        raise InputError("na\nme.npz: cannot be written")

    assert run_command(argparse.ArgumentParser().parse_args, body, []) == 2
    assert capsys.readouterr().err == "refmiracle: error: na me.npz: cannot be written\n"
