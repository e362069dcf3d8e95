"""Try settings of a run on the validation images, for docs/FRONTIER.md.

    python tools/figures/try_settings.py plain block_size=61 steps=30000 group_steps=30
    python tools/figures/try_settings.py sample --after plain selection=sample
    python tools/figures/try_settings.py wide steps=30000 hash_factors=1,1,2,1,25,1,1,1

All of `training.settings.Settings` may be given; the others are those of the preset `paper`.
Training goes to runs/NAME.npz, from where `--after NAME` encodes again with other settings of the
encoding.  Prints loss (nats) and error (%) on 20,000 training images and on the validation
images: before encoding, the means over five samples of the posterior, and after it, of the file.
The test images are not opened.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from training_loss import measure

from refmiracle.commands.running import run_command
from refmiracle.errors import InputError
from refmiracle.training.choosing import check_settings
from refmiracle.training.data import Split, default_folder, load_split, split_validation
from refmiracle.training.settings import PRESETS
from refmiracle.training.state import load_checkpoint, save_checkpoint
from refmiracle.training.trainer import VALIDATION_ROWS, Trainer

FOLDER = Path("runs")
SAMPLES = 5
TRAINING_IMAGES = 20_000


def parse_setting(text):
    """Return name and value of a field from the text name=value."""
    name, _, value = text.partition("=")
    known = PRESETS["paper"].by_name()
    if name not in known:
        raise InputError(f"{text}: expected FIELD=VALUE with a field of Settings")
    default = known[name]
    try:
        if isinstance(default, tuple):
            return name, tuple(int(part) for part in value.split(","))
        return name, type(default)(value)
    except ValueError:
        raise InputError(f"{text}: expected a value like {default}") from None


def loss_and_error(trainer, split, row):
    """Return mean loss (nats) and error (%) of one sample, encoded blocks as sent."""
    weights = trainer.weights(trainer.sample(trainer.rho(), row)[0])
    loss, error = measure(trainer.layout.network, trainer.engine, weights, split)
    return np.array([loss, 100 * error])


def report(name, stage, trainer, splits, started):
    """Print a line of figures."""
    figures = {"name": name, "stage": stage}
    for split_name, split in splits.items():
        rows = VALIDATION_ROWS + np.arange(SAMPLES if stage == "trained" else 1)
        mean = np.mean([loss_and_error(trainer, split, int(row)) for row in rows], axis=0)
        figures[split_name] = [round(float(mean[0]), 4), round(float(mean[1]), 3)]
    model = len(trainer.compressed().to_bytes()) if stage == "encoded" else None
    print(json.dumps({**figures, "bytes": model, "seconds": round(time.time() - started)}))


def run(arguments):
    """Train unless a training is given, encode, and report."""
    given = dict(parse_setting(text) for text in arguments.settings)
    train, validation = split_validation(load_split(default_folder(), "train"))
    some = Split(train.images[:TRAINING_IMAGES], train.labels[:TRAINING_IMAGES])
    splits, started = {"train": some, "validation": validation}, time.time()
    if arguments.after:
        started, state = load_checkpoint(FOLDER / f"{arguments.after}.npz")
        trainer = Trainer(check_settings(started.having(given)), train, state)
    else:
        trainer = Trainer(check_settings(PRESETS["paper"].having(given)), train)
        while trainer.phase() == "train":
            trainer.train_step()
        FOLDER.mkdir(exist_ok=True)
        save_checkpoint(FOLDER / f"{arguments.name}.npz", trainer.settings, trainer.state)
        report(arguments.name, "trained", trainer, splits, started)
    while not trainer.finished():
        group = trainer.group_due()
        if group is not None:
            trainer.encode_group(group)
        if not trainer.finished():
            trainer.train_step()
    report(arguments.name, "encoded", trainer, splits, started)
    return 0


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name")
    parser.add_argument("settings", nargs="*", metavar="FIELD=VALUE")
    parser.add_argument("--after", metavar="NAME", help="encode what this training left")
    return run_command(parser.parse_intermixed_args, run, None)


if __name__ == "__main__":
    sys.exit(main())
