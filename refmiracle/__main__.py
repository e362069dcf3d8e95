"""``refmiracle NAME ...``: the same commands as ``python -m refmiracle.NAME ...``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import refmiracle

# Where each command stands, and what it does.
COMMANDS = {
    "train": ("refmiracle.train", "train a network and compress it to OUT/model.rmc"),
    "evaluate": ("refmiracle.evaluate", "the size of a .rmc file and the error of its network"),
    "decode": ("refmiracle.decode", "write a .rmc file's float32 weights as .npz"),
    "export": ("refmiracle.export", "write a .rmc file's network for NumPy, ONNX or PyTorch"),
    "report": ("refmiracle.report", "write one HTML page about a finished run"),
    "study": ("refmiracle.study", "run one of the experiments: tables and figures"),
    "bench": ("refmiracle.bench.__main__", "measure what each part costs, beside its peers"),
    "conformance": (
        "refmiracle.conformance.__main__",
        "hold a backend against the golden vectors",
    ),
}


def usage() -> str:
    """Return the help text."""
    lines = [f"  {name:<12} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        ["usage: refmiracle COMMAND [OPTIONS]   (COMMAND --help tells its options)", "", *lines]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named command; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["-h"], ["--help"]):
        print(usage())
        return 0
    if arguments[:1] == ["--version"]:
        print(f"refmiracle {refmiracle.__version__}")
        return 0
    if not arguments or arguments[0] not in COMMANDS:
        problem = f"unknown command {arguments[0]!r}" if arguments else "no command given"
        print(f"refmiracle: error: {problem}\n{usage()}", file=sys.stderr)
        return 2
    command = importlib.import_module(COMMANDS[arguments[0]][0])
    code: int = command.main(arguments[1:])
    return code


if __name__ == "__main__":
    sys.exit(main())
