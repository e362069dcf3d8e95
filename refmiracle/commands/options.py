"""Options that several commands take."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from refmiracle.engines import ENGINES
from refmiracle.errors import InputError
from refmiracle.files import check_writable, is_standard_output
from refmiracle.training.data import default_folder


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
    """Refuse, before any work, an output that cannot be written, or that is the model itself.

    Raises
    ------
    InputError
        If it is so.
    """
    if os.path.exists(out) and os.path.exists(model) and os.path.samefile(out, model):
        raise InputError(f"{out}: it is the model itself; name another file with --out")
    check_writable(out)


def say_written(out: Path, text: str) -> None:
    """Print what was written, where it does not follow the written bytes themselves."""
    name = str(out).replace("\n", "\\n")
    print(f"{name}: {text}", file=sys.stderr if is_standard_output(out) else sys.stdout)


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
