"""``python -m refmiracle.train``: train a network and compress it to OUT/model.rmc.

With --base it trains on from a file, and writes what has changed to OUT/update.rmc.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refmiracle.codes.code import BLOCK, VARIABLE
from refmiracle.codes.table import CODES, MRC
from refmiracle.commands.networks import add_network, given_network
from refmiracle.commands.options import (
    a_path,
    add_base,
    add_data,
    add_engine,
    base_files,
    check_out,
    chosen_data,
    data_flags,
    flags,
)
from refmiracle.commands.running import run_command
from refmiracle.errors import InputError
from refmiracle.files import in_one_line, is_standard_output
from refmiracle.loading import load_base
from refmiracle.posterior.parameterizations import MEAN_KL, PARAMETERIZATIONS
from refmiracle.run import carry_out
from refmiracle.training.checks import chance_error, no_better_than_chance
from refmiracle.training.data import load_split
from refmiracle.training.run import ALL_PATHS, Folder, model_path, update_path
from refmiracle.training.settings import PRESETS, SELECTIONS


def _codes_of(what: str) -> str:
    return ", ".join(n for n, code in CODES.items() if code.of == what)


def _limits_of_codes() -> str:
    """Return what to say of codes whose search would not end in blocks of many bits."""
    limited: dict[float, list[str]] = {}
    for name, code in CODES.items():
        if math.isfinite(code.largest_kl_bits):
            limited.setdefault(code.largest_kl_bits, []).append(name)
    return "".join(f"; with --code {' or '.join(n)} at most {b:g}" for b, n in limited.items())


# Flags that take a whole number, each a field of Settings.
NUMBERS = {
    "bits_per_block": f"KL of a block in bits: 1 to 24{_limits_of_codes()}",
    "block_size": "variables in a block",
    "seed": "names the noise, the order of the images and the codebook (default: 0)",
    "steps": "training steps before the first block is encoded",
    "groups": "in how many groups the blocks are encoded",
    "group_steps": "training steps after each group",
    "batch_size": "images in a batch (default: the preset's, at most all training images)",
    "validation": "training images kept for validation; 0: train on all (default: 5000)",
    "shift": "augmentation: move each training image at random by up to N pixels (default: 0)",
    "flip": "augmentation: 1 mirrors each training image at random, left to right (default: 0)",
    "antithetic": "1: half of each batch sees the weights of the mirrored noise (default: the"
    " preset's)",
}
# Those that take a real number.
REALS = {
    "rate": "Adam's rate at the start; it falls to that of --encoding-rate by a half cosine",
    "variance_rate": "Adam's rate for what sets the variances, as a part of the rate",
    "late_scale_rate": "Adam's rate for the scales once the first blocks are encoded, as a part of"
    " the rate; 0 leaves them as they are then",
    "encoding_rate": "Adam's rate when the first blocks are encoded",
    "final_rate": "Adam's rate when the last ones are (defaults: the preset's)",
}
SETTINGS = (
    *("preset", "tensors", "nbytes"),
    "network",
    "parameterization",
    "code",
    "selection",
    "hash_factors",
    "engine",
    *NUMBERS,
    *REALS,
)


def factors(text: str) -> tuple[int, ...]:
    """Return the numbers of a list with commas."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected whole numbers with commas between them, such as 1,1,2,1"
        ) from None


def names(text: str) -> tuple[str, ...]:
    """Return the names of a list with commas."""
    return tuple(text.split(","))


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser; settings that are not given are None."""
    parser = argparse.ArgumentParser(prog="refmiracle train", description=__doc__)
    parser.add_argument("--preset", choices=list(PRESETS), help="how long (default: default)")
    add_network(parser)
    add_base(parser, "write an update of this file, which the other side has, not a model")
    parser.add_argument(
        "--tensors",
        type=names,
        metavar="NAME,...",
        help="with --base: which tensors may change, by name or by that of their layer, such as"
        " conv1,conv2 (default: all)",
    )
    parser.add_argument(
        "--parameterization", choices=list(PARAMETERIZATIONS), help=f"default: {MEAN_KL}"
    )
    for name, text in NUMBERS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help=text)
    for name, text in REALS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="X", help=text)
    parser.add_argument(
        "--bytes",
        type=int,
        dest="nbytes",
        metavar="N",
        help="take the smallest blocks with which the file has at most N bytes, instead of"
        " --block-size (default with --base: 140)",
    )
    parser.add_argument(
        "--hash-factors",
        type=factors,
        metavar="F,F,...",
        help="how many weights of each tensor share a variable (default: the network's, for"
        " lenet5 1,1,2,1,50,1,1,1)",
    )
    parser.add_argument(
        "--code",
        choices=list(CODES),
        metavar="NAME",
        help="which relative entropy code sends the weights (docs/CODES.md), of whole blocks"
        f" {_codes_of(BLOCK)}, of single variables {_codes_of(VARIABLE)} (default: {MRC}, minimal"
        " random coding as in MIRACLE)",
    )
    told = " or ".join(n for n, code in CODES.items() if len(code.selections) > 1)
    parser.add_argument(
        "--selection",
        choices=SELECTIONS,
        help=f"with --code {told}, send a candidate drawn as MIRACLE draws it, or the best one"
        " (default: the preset's)",
    )
    add_engine(parser, default=None)
    add_data(parser)
    parser.add_argument(
        "--out", type=a_path, default=Path("run"), metavar="DIR", help="default: run"
    )
    parser.add_argument(
        "--weights",
        type=a_path,
        metavar="FILE",
        help="also write the float32 weights that the file decodes to, as .npz",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in OUT, to the same bytes as if it had not stopped",
    )
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Train, encode, write and measure."""
    out: Path = arguments.out
    given = {n: getattr(arguments, n) for n in SETTINGS}
    if given["network"] is not None:
        given["network"] = given_network(given["network"])
    if arguments.base is not None:
        given["base"] = load_base(arguments.base, given["network"]).chain
    if arguments.weights is not None:
        check_weights(arguments)
    place = chosen_data(arguments)
    everything, test = load_split(place, "train"), load_split(place, "t10k")
    run = carry_out(everything, test, given, Folder(out), arguments.resume)
    if not run.finished:
        raise KeyboardInterrupt(
            f"after {run.step} of {run.steps} steps; go on with --resume"
            f"{flags(arguments, 'out', 'network', 'weights')}{data_flags(arguments)}"
        )
    path = update_path(out) if run.model.base else model_path(out)
    _print(run.summary, path, arguments.weights)
    if no_better_than_chance(run.summary["test_error"], test.labels):
        _say(
            f"warning: {in_one_line(path)} is no better than chance"
            f" ({chance_error(test.labels):.2%} error); take more --steps, or other settings"
        )
    if arguments.weights is not None:
        run.model.to_npz(arguments.weights)
    return 0


def check_weights(arguments: argparse.Namespace) -> None:
    """Refuse, before any work, weights that cannot be written, or in the place of another file.

    Raises
    ------
    InputError
        If it is so.
    """
    path, out = arguments.weights, arguments.out
    place, folder = path.resolve(), out.resolve()
    within = place.parent == folder
    # The lock, and what is written beside a file of the run before it is renamed.
    names = {p(out).name for p in ALL_PATHS}
    of_run = place.name in {*names, ".lock", *(f".{name}.tmp" for name in names)}
    if place == folder or (within and of_run) or place in {p(out).resolve() for p in ALL_PATHS}:
        raise InputError(f"{path}: the run itself is there; name another file with --weights")
    if not within or out.is_dir():  # otherwise the run makes it
        check_out(path, *base_files(arguments), data=arguments.data, flag="--weights")


def _say(text: str) -> None:
    print(f"refmiracle: {text}", file=sys.stderr)


def _print(summary: dict[str, Any], path: Path, weights: Path | None) -> None:
    """Print the figures, on standard error where the weights follow on standard output."""
    taken = weights is not None and is_standard_output(weights)
    file = sys.stderr if taken else sys.stdout
    print(f"{in_one_line(path)}: {describe(summary)}", file=file)
    error = summary["validation_error"]
    print(
        "no validation images"
        if error is None
        else f"validation error {error:.2%}{of_base(summary, 'validation')}",
        f"trained for {summary['train_seconds']:.0f} s in {summary['steps']} steps",
        sep=", ",
        file=file,
    )


def describe(figures: dict[str, Any]) -> str:
    """Return the line that train and evaluate print alike."""
    size = f"{figures['bytes']} bytes, {figures['ratio']:.0f} times smaller"
    if "base" in figures:
        size = f"{figures['bytes']} bytes, an update of {figures['base_bytes']} bytes"
    return (
        f"{size}, test error {figures['test_error']:.2%}{of_base(figures, 'test')}"
        f" of {figures['test_images']} images"
    )


def of_base(figures: dict[str, Any], name: str) -> str:
    """Return the error of an update's base, to stand behind its own; nothing of a model."""
    error = figures.get(f"base_{name}_error")
    return "" if error is None else f" (base {error:.2%})"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command(build_parser().parse_args, run, argv)
