"""``python -m refmiracle.train``: train LeNet-5 and compress it to OUT/model.rmc."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from refmiracle.command import add_data, add_engine, run_command
from refmiracle.errors import InputError
from refmiracle.training.config import (
    PARAMETERIZATIONS,
    PRESETS,
    Config,
    check_config,
    fingerprint,
)
from refmiracle.training.data import default_folder, load_split, split_validation
from refmiracle.training.run import (
    finish,
    model_path,
    prepare_folder,
    run_training,
)
from refmiracle.training.state import State
from refmiracle.training.trainer import Trainer

SETTINGS = ("preset", "parameterization", "bits_per_block", "block_size", "seed", "engine")


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser; settings that are not given are None."""
    parser = argparse.ArgumentParser(prog="refmiracle train", description=__doc__)
    parser.add_argument("--preset", choices=list(PRESETS), help="how long (default: default)")
    parser.add_argument("--parameterization", choices=PARAMETERIZATIONS, help="default: mean-kl")
    parser.add_argument("--bits-per-block", type=int, metavar="N", help="1 to 24")
    parser.add_argument("--block-size", type=int, metavar="N", help="variables in a block")
    parser.add_argument("--seed", type=int, metavar="N", help="default: 0")
    add_engine(parser, default=None)
    add_data(parser)
    parser.add_argument("--out", type=Path, default=Path("run"), metavar="DIR", help="default: run")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in OUT, to the same bytes as if it had not stopped",
    )
    return parser


def choose_config(given: dict[str, Any], data: str, found: tuple[Config, State] | None) -> Config:
    """Return the config of a run from its flags, or from the checkpoint that it goes on from.

    Raises
    ------
    InputError
        If a flag or the data do not agree with the checkpoint, or are out of range.
    """
    if found is None:
        preset = PRESETS[given.get("preset", "default")]
        return check_config(replace(preset, **given, data=data))
    config = found[0]
    for name, value in given.items():
        if value != getattr(config, name):
            raise InputError(
                f"--{name.replace('_', '-')} {value}: the run to resume was started with"
                f" {getattr(config, name)}"
            )
    if data != config.data:
        raise InputError("--data: the run to resume was started with other training images")
    return config


def run(arguments: argparse.Namespace) -> int:
    """Train, encode, write and measure."""
    given = {n: getattr(arguments, n) for n in SETTINGS if getattr(arguments, n) is not None}
    folder = arguments.data or default_folder()
    everything, test = load_split(folder, "train"), load_split(folder, "t10k")
    train, validation = split_validation(everything)
    data = fingerprint(everything)
    if not arguments.resume:
        choose_config(given, data, None)
    found = prepare_folder(arguments.out, arguments.resume)
    config = choose_config(given, data, found)
    trainer = Trainer(config, train, found[1] if found else None)
    try:
        run_training(trainer, validation, arguments.out)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"after {trainer.state.step} of {config.total_steps()} steps;"
            f" go on with --resume --out {arguments.out}"
        ) from None
    summary = finish(trainer, validation, test, arguments.out)
    print(f"{model_path(arguments.out)}: {describe(summary)}")
    print(
        f"validation error {summary['validation_error']:.2%}, trained for"
        f" {summary['train_seconds']:.0f} s in {summary['steps']} steps"
    )
    return 0


def describe(figures: dict[str, Any]) -> str:
    """Return the line that train and evaluate print alike."""
    return (
        f"{figures['bytes']} bytes, {figures['ratio']:.0f} times smaller,"
        f" test error {figures['test_error']:.2%} of {figures['test_images']} images"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = build_parser().parse_args(argv)
    return run_command(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
