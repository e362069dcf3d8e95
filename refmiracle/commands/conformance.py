"""``python -m refmiracle.conformance``: hold a backend against the golden vectors."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from refmiracle.commands.options import a_path, check_outs
from refmiracle.commands.running import run_command
from refmiracle.conformance.backends import Backend, load_python_backend
from refmiracle.conformance.order import ORDER
from refmiracle.conformance.patience import DEADLINE, MOST_MISSED, Patience
from refmiracle.conformance.programs import CommandBackend
from refmiracle.conformance.report import to_json, to_junit, to_markdown, to_text
from refmiracle.conformance.runner import run_suite
from refmiracle.conformance.vectors import check_wanted, default_golden, load_golden
from refmiracle.errors import CHECK_FAILED
from refmiracle.files import printable, quoted, write_atomically
from refmiracle.training.progress import progress_bar


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(prog="refmiracle conformance", description=__doc__)
    backend = parser.add_mutually_exclusive_group(required=True)
    backend.add_argument("--backend", metavar="MODULE:OBJECT", help="a Python backend")
    backend.add_argument("--command", metavar="PROGRAM", help="a program that speaks JSON lines")
    parser.add_argument("--golden", type=a_path, metavar="DIR", help="other vectors, same format")
    parser.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="ID",
        help="only this case, or all below it: numerics, numerics/log_s, ... (repeatable)",
    )
    parser.add_argument(
        "--deadline",
        type=float,
        default=DEADLINE,
        metavar="SECONDS",
        help="how long the backend may take for hello, and for each case; one that takes longer has"
        f" failed it, and after {MOST_MISSED} of them no more are posed; inf: no deadline"
        f" (default: {DEADLINE:g})",
    )
    parser.add_argument(
        "--order",
        type=int,
        default=ORDER,
        metavar="SEED",
        help="all cases are posed a second time, in an order drawn from this seed (default:"
        f" {ORDER})",
    )
    parser.add_argument("--json", type=a_path, metavar="FILE", help="write all results as JSON")
    parser.add_argument("--junit", type=a_path, metavar="FILE", help="write JUnit XML")
    parser.add_argument("--markdown", type=a_path, metavar="FILE", help="write a Markdown table")
    return parser


def open_backend(arguments: argparse.Namespace) -> tuple[Backend, str]:
    """Return the backend, and the flag that names it."""
    patience = Patience(arguments.deadline)
    if arguments.backend:
        backend = load_python_backend(arguments.backend, patience)
        return backend, f"--backend {quoted(arguments.backend)}"
    return CommandBackend(arguments.command, patience), f"--command {quoted(arguments.command)}"


def show_progress(cases: int) -> Any:
    """Return a progress bar that names the case."""
    return progress_bar(cases, 0, "conformance", "case")


def run(arguments: argparse.Namespace) -> int:
    """Run the suite and write the reports; 1 if the backend does not conform."""
    check_outs((arguments.json, arguments.junit, arguments.markdown))
    files = load_golden(arguments.golden or default_golden())
    only = tuple(c.rstrip("/") for c in arguments.case)
    check_wanted(files, only, "--case")
    backend, target = open_backend(arguments)
    if arguments.golden:
        target += f" --golden {quoted(arguments.golden)}"
    if arguments.deadline != DEADLINE:
        target += f" --deadline {arguments.deadline:g}"
    if arguments.order != ORDER:
        target += f" --order {arguments.order}"
    try:
        report = run_suite(backend, files, only, show_progress, arguments.order)
    finally:
        backend.close()
    print(to_text(report, target))
    if arguments.json:
        text = json.dumps(to_json(report, target), indent=2) + "\n"
        write_atomically(arguments.json, text.encode())
    if arguments.junit:
        write_atomically(arguments.junit, printable(to_junit(report)).encode())
    if arguments.markdown:
        write_atomically(arguments.markdown, printable(to_markdown(report, target)).encode())
    return 0 if report.ok() else CHECK_FAILED


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(build_parser().parse_args, run, argv)
