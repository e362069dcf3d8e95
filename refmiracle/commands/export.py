"""``python -m refmiracle.export model.rmc --to FORMAT``: a file's network for other libraries."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

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
from refmiracle.exports.formats import FORMATS
from refmiracle.files import write_atomically
from refmiracle.loading import load


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(prog="refmiracle export", description=__doc__)
    add_model(parser)
    add_base(parser, "of an update: the file that it is relative to")
    parser.add_argument("--to", choices=list(FORMATS), required=True, help="the format")
    parser.add_argument(
        "--out",
        type=a_path,
        metavar="FILE",
        help="where to write (default: the model's name with the format's suffix, here)",
    )
    add_engine(parser, default="numba")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Decode the file and write its network."""
    form = FORMATS[arguments.to]
    form.load()
    model = load(arguments.model, engine=arguments.engine, base=arguments.base)
    out = arguments.out or Path(arguments.model.stem + form.suffix)
    check_out(out, arguments.model, *base_files(arguments))
    data = model.exported(arguments.to)
    write_atomically(out, data)
    say_written(
        out,
        f"{len(data)} bytes, {model.network.name} as {arguments.to}, {model.network.count()}"
        f" float32 weights in {len(model.weights)} tensors from {model.nbytes} bytes",
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(build_parser().parse_args, run, argv)
