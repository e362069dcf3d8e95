"""What the commands share: exit codes, one-line errors, and options that several take."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from refmiracle.engines import ENGINES
from refmiracle.errors import InputError
from refmiracle.training.data import default_folder

CHECK_FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130


def run_command(body: Callable[[], int]) -> int:
    """Run a command: bad input is one line and exit code 2, Ctrl-C is exit code 130."""
    try:
        code = body()
        sys.stdout.flush()
        return code
    except InputError as e:
        print(f"refmiracle: error: {e}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as e:
        print(f"refmiracle: interrupted{': ' if e.args else ''}{e}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has gone, as `head` does; nothing may be written any more.
        _drop_output()
        return CHECK_FAILED
    except OSError as e:
        _drop_output()
        where = e.filename or "standard output"
        print(f"refmiracle: error: {where}: {e.strerror or e}", file=sys.stderr)
        return BAD_INPUT


def _drop_output() -> None:
    """Send what is still to be printed nowhere, so that the end of the program does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def model_file(text: str) -> Path:
    """Return the path of a .rmc file, or of a shipped model where only the name of one is given."""
    path = Path(text)
    shipped = default_folder().parent / "models" / path.name
    return shipped if text == path.name and not path.exists() and shipped.is_file() else path


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the argument of commands that read a compressed model."""
    parser.add_argument(
        "model",
        type=model_file,
        help="a .rmc file, or the name of one that refmiracle carries, such as lenet5-1551.rmc",
    )


def check_out(out: Path, model: Path) -> None:
    """Refuse to write what a model is decoded to over the model itself.

    Raises
    ------
    InputError
        If the two are the same file.
    """
    if os.path.exists(out) and os.path.exists(model) and os.path.samefile(out, model):
        raise InputError(f"{out}: it is the model itself; name another file with --out")


def add_engine(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Add --engine."""
    parser.add_argument(
        "--engine", choices=sorted(ENGINES), default=default, help="which engine computes"
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add --data."""
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with the four IDX files under their MNIST names, gzip or not"
        " (default: the MNIST that refmiracle carries)",
    )
