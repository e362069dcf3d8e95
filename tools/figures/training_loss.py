"""Loss and error of compressed models on the 60,000 training images.

    python tools/figures/training_loss.py run0/model.rmc run1/model.rmc

Of several seeds the one with the lowest loss is shipped: a choice that needs neither validation
nor test images.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from refmiracle.commands.running import run_command
from refmiracle.engines import get_engine
from refmiracle.fileformat.container import read_model
from refmiracle.fileformat.model import decode_model
from refmiracle.nn.evaluation import forward
from refmiracle.training.data import default_folder, load_split

BATCH = 1000


def measure(network, engine, weights, split):
    """Return mean loss (nats) and error (in [0, 1]) of decoded weights."""
    loss = wrong = 0.0
    for first in range(0, len(split.images), BATCH):
        part = slice(first, first + BATCH)
        labels = split.labels[part].astype(np.int64)
        logits = forward(network, engine, weights, engine.images(split.images[part]))
        losses, _ = engine.softmax_cross_entropy(logits, labels)
        loss += float(losses.sum(dtype=np.float64))
        wrong += np.count_nonzero(logits.argmax(axis=0) != labels)
    return loss / len(split.images), wrong / len(split.images)


def run(arguments):
    """Print a line for each file."""
    engine, train = get_engine("numba"), load_split(default_folder(), "train")
    for path in arguments.models:
        model, data = read_model(path)
        loss, error = measure(model.layout.network, engine, decode_model(model, engine), train)
        print(f"{path}: {len(data)} bytes, training loss {loss:.5f} nats, error {error:.3%}")
    return 0


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL.rmc")
    return run_command(parser.parse_args, run, None)


if __name__ == "__main__":
    sys.exit(main())
