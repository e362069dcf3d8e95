"""``python -m refmiracle.decode model.rmc --out weights.npz``: a file's float32 weights."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from refmiracle.commands.options import (
    a_path,
    add_base,
    add_engine,
    add_model,
    base_files,
    check_out,
    say_written,
)
from refmiracle.commands.running import run_command
from refmiracle.loading import load


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(prog="refmiracle decode", description=__doc__)
    add_model(parser)
    add_base(parser, "of an update: the file that it is relative to")
    parser.add_argument("--out", type=a_path, required=True, metavar="FILE", help="an .npz file")
    add_engine(parser, default="numba")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Decode the file and write its tensors by name."""
    model = load(arguments.model, engine=arguments.engine, base=arguments.base)
    check_out(arguments.out, arguments.model, *base_files(arguments))
    model.to_npz(arguments.out)
    say_written(
        arguments.out,
        f"{model.network.count()} float32 weights in {len(model.weights)} tensors from"
        f" {model.nbytes} bytes",
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(build_parser().parse_args, run, argv)
