"""``python -m refmiracle.report RUN_DIR``: one self-contained HTML page about a finished run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from refmiracle.commands.options import (
    a_path,
    add_data,
    add_engine,
    check_out,
    chosen_data,
    data_flags,
    say_written,
)
from refmiracle.commands.running import run_command
from refmiracle.errors import InputError
from refmiracle.files import write_atomically
from refmiracle.reports.opening import open_folder
from refmiracle.reports.page import build_page, check_extras
from refmiracle.training.data import check_split, load_split
from refmiracle.training.run import ALL_PATHS, model_path
from refmiracle.training.settings import fingerprint, same_images


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(prog="refmiracle report", description=__doc__)
    parser.add_argument("run", type=a_path, metavar="RUN_DIR", help="what train wrote to")
    parser.add_argument(
        "--out", type=a_path, metavar="FILE", help="where to write (default: RUN_DIR/report.html)"
    )
    add_engine(parser, default="numba")
    add_data(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Open the run, measure its network, write the page."""
    check_extras()
    opened = open_folder(arguments.run)
    out = arguments.out or arguments.run / "report.html"
    written = [path(arguments.run) for path in ALL_PATHS]
    check_out(out, model_path(arguments.run), *written, data=arguments.data)
    if arguments.data is None:
        own = fingerprint(load_split(chosen_data(arguments), "train"))
        if not same_images(opened.run.settings.data, own):
            raise InputError(f"{arguments.run}: trained on other images; name them by --data")
    network = opened.run.settings.layout().network
    test = check_split(load_split(chosen_data(arguments), "t10k"), network)
    page = build_page(opened, test, arguments.engine, data_flags(arguments))
    write_atomically(out, page)
    say_written(out, f"{len(page)} bytes; open it in a browser")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(build_parser().parse_args, run, argv)
