"""Try settings of a run on the validation images, for docs/FRONTIER.md.

    python tools/figures/try_settings.py plain block_size=61 steps=30000 group_steps=30
    python tools/figures/try_settings.py sample --after plain selection=sample
    python tools/figures/try_settings.py wide steps=30000 hash_factors=1,1,2,1,25,1,1,1

All of `training.settings.Settings` may be given; the others are those of the preset `paper`.
Training goes to runs/NAME.npz, from where `--after NAME` encodes again with other settings of the
encoding.  `--targets` trains on labels drawn at each step from class probabilities
(`teachers.py`), `--order` encodes first the blocks whose noise costs the loss most, or least, and
`--construction` trains and encodes another Mean-KL (`constructions.py`), of which nothing is kept.
Prints loss (nats) and error (%) on 20,000 training images and on the validation images: before
encoding, the means over five samples of the posterior, and after it, of the file.  The test images
are not opened.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from constructions import changed_to
from given_settings import parse_setting
from training_loss import measure

from refmiracle.commands.running import run_command
from refmiracle.errors import InputError
from refmiracle.files import first_line
from refmiracle.posterior.parameterizations import MEAN_KL
from refmiracle.training.batches import Batches
from refmiracle.training.choosing import check_settings
from refmiracle.training.data import Split, default_folder, load_split, split_validation
from refmiracle.training.settings import PRESETS
from refmiracle.training.state import load_checkpoint, read_arrays, save_checkpoint
from refmiracle.training.trainer import VALIDATION_ROWS, Trainer

FOLDER = Path("runs")
SAMPLES = 5
TRAINING_IMAGES = 20_000
ORDER_STEPS = 100  # over which the cost of each block's noise is averaged
# Settings that a training which is over does not depend on.
ENCODING = {
    *("selection", "code", "groups", "group_steps", "encoding_rate", "final_rate"),
    *("variance_rate", "late_scale_rate", "batch_size", "shift", "flip", "antithetic"),
}
ORDERS = {"costly-first": -1, "costly-last": 1}


class DrawnLabels(Batches):
    """Batches whose labels are drawn anew at each step from class probabilities.

    In expectation their gradients are those of the cross-entropy to the probabilities.
    """

    def __init__(self, settings, train, targets):
        """Take class probabilities, shape (images, classes)."""
        super().__init__(settings, Split(train.images, np.arange(len(train.images))))
        self.cumulative = np.cumsum(targets, axis=1)[:, :-1]

    def batch(self, step):
        """Return images and drawn labels of a step."""
        images, chosen = super().batch(step)
        uniform = np.random.default_rng((self.seed, step)).random((len(chosen), 1))
        return images, np.sum(self.cumulative[chosen] <= uniform, axis=1)


def read_targets(path):
    """Return what teachers.py wrote."""
    try:
        return read_arrays(path)["targets"]
    except Exception as e:  # zipfile and NumPy raise their own
        raise InputError(f"{path}: it is no file of teachers.py ({first_line(e)})") from e


def ordered_groups(trainer, sign):
    """Return the groups with blocks in order of what their noise costs, by its sign.

    The cost of a block to second order is half the sum of its Fisher information times variance,
    E[g^2] sigma^2, here from the gradients of batches.
    """
    rho, cost = trainer.rho(), 0.0
    _, log_s = trainer.parameterization.whitened(trainer.state.parameters, rho)
    for row in range(ORDER_STEPS):
        flat, _ = trainer.sample(rho, VALIDATION_ROWS + SAMPLES + row)
        out = np.empty_like(flat)
        trainer.variable_pass.loss_and_grads(flat, *trainer.batches.batch(row), out)
        cost += out[: log_s.size].reshape(log_s.shape).astype(np.float64) ** 2
    per_block = np.sum(cost * rho**2 * np.exp(log_s), axis=1)
    return np.array_split(np.argsort(sign * per_block, kind="stable"), trainer.settings.groups)


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


def begun(arguments):
    """Return settings, the state after the training that is named or None, and what to change."""
    given = dict(parse_setting(text) for text in arguments.settings)
    if arguments.after:
        settings, state = load_checkpoint(FOLDER / f"{arguments.after}.npz")
        others = sorted(given.keys() - ENCODING)
        if others:
            raise InputError(
                f"{others[0]} with --after: the training was with its own; expected some of"
                f" {', '.join(sorted(ENCODING))}"
            )
        return check_settings(settings.having(given)), state, None
    settings = check_settings(PRESETS["paper"].having(given))
    if arguments.construction and settings.parameterization != MEAN_KL:
        raise InputError(f"--construction: expected parameterization={MEAN_KL}")
    return settings, None, arguments.construction and changed_to(arguments.construction)


def run(arguments):
    """Train unless a training is given, encode, and report."""
    if Path(arguments.name).name != arguments.name:
        raise InputError(f"{arguments.name}: expected a name, of a file in {FOLDER}")
    if os.path.lexists(FOLDER) and not FOLDER.is_dir():
        raise InputError(f"{FOLDER}: it is there, and no folder")
    settings, state, change = begun(arguments)
    if not settings.validation:
        raise InputError("validation=0: expected images for validation")
    train, validation = split_validation(load_split(default_folder(), "train"), settings.validation)
    some = Split(train.images[:TRAINING_IMAGES], train.labels[:TRAINING_IMAGES])
    splits, started = {"train": some, "validation": validation}, time.time()
    trainer = Trainer(settings, train, state)
    if change:
        change(trainer)
    if arguments.targets:
        trainer.batches = DrawnLabels(trainer.settings, train, read_targets(arguments.targets))
    if not arguments.after:
        while trainer.phase() == "train":
            trainer.train_step()
        if not change:  # whose parameters mean something else
            FOLDER.mkdir(exist_ok=True)
            save_checkpoint(FOLDER / f"{arguments.name}.npz", trainer.settings, trainer.state)
        report(arguments.name, "trained", trainer, splits, started)
    if arguments.order:
        trainer.groups = ordered_groups(trainer, ORDERS[arguments.order])
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
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--after", metavar="NAME", help="encode what this training left")
    kind.add_argument("--construction", metavar="NAME", help="of constructions.py")
    parser.add_argument("--targets", type=Path, metavar="FILE", help="what teachers.py wrote")
    parser.add_argument("--order", choices=ORDERS, help="which blocks to encode first")
    return run_command(parser.parse_intermixed_args, run, None)


if __name__ == "__main__":
    sys.exit(main())
