"""``python -m refmiracle.export model.rmc --to FORMAT``: a file's network for other libraries."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from refmiracle.codec.container import read_model
from refmiracle.codec.model import decode_model
from refmiracle.commands.options import a_path, add_engine, add_model, check_out, say_written
from refmiracle.commands.running import run_command
from refmiracle.engines import get_engine
from refmiracle.exports.formats import FORMATS, metadata_of
from refmiracle.files import write_atomically


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(prog="refmiracle export", description=__doc__)
    add_model(parser)
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
    model, data = read_model(arguments.model)
    out = arguments.out or Path(arguments.model.stem + form.suffix)
    check_out(out, arguments.model)
    network = model.layout.network
    weights = decode_model(model, get_engine(arguments.engine))
    exported = form.to_bytes(network, weights, metadata_of(network, data))
    write_atomically(out, exported)
    say_written(
        out,
        f"{len(exported)} bytes, {network.name} as {arguments.to},"
        f" {network.count()} float32 weights in {len(weights)} tensors from {len(data)} bytes",
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(build_parser().parse_args, run, argv)
