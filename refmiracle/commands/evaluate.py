"""``python -m refmiracle.evaluate model.rmc``: the size of a file and the error of its network."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from refmiracle.commands.options import add_base, add_data, add_engine, add_model, chosen_data
from refmiracle.commands.running import run_command
from refmiracle.commands.train import describe
from refmiracle.figures import figures_of
from refmiracle.files import in_one_line
from refmiracle.loading import load
from refmiracle.training.data import load_split


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(prog="refmiracle evaluate", description=__doc__)
    add_model(parser)
    add_base(parser, "of an update: the file that it is relative to")
    add_engine(parser, default="numba")
    add_data(parser)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Decode the file, classify the test images, print the figures."""
    test = load_split(chosen_data(arguments), "t10k")
    figures = figures_of(load(arguments.model, engine=arguments.engine, base=arguments.base), test)
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        print(f"{in_one_line(arguments.model)}: {describe(figures)}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(build_parser().parse_args, run, argv, prints_result=True)
