"""Train ordinary networks on MNIST and write what they predict of the training images.

    python -m pip install torch==2.13.0
    python tools/figures/teachers.py teachers.npz

An image is predicted by a network that was trained without it and its fold, on the training images
as they are (no validation image among them): `try_settings.py --targets teachers.npz` trains on
labels drawn from these predictions.  Prints the error of each network on its fold, and that of all
of them together on the validation images.  The test images are not opened.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from refmiracle.commands.running import run_command
from refmiracle.training.data import default_folder, load_split, split_validation
from refmiracle.training.state import write_arrays

FOLDS = 3
CHANNELS = 16
BATCH = 128
EPOCHS = 8
HIGHEST_RATE = 4e-3
ROWS = 1000


def network():
    """Return a small network with batch normalization and dropout."""

    def pair(inputs, outputs):
        layers = []
        for channels in (inputs, outputs):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        return [*layers, nn.MaxPool2d(2)]

    body = [*pair(1, CHANNELS), *pair(CHANNELS, 2 * CHANNELS), nn.Flatten(), nn.Dropout(0.5)]
    dense = [nn.Linear(2 * CHANNELS * 49, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)]
    return nn.Sequential(*body, *dense)


def tensor(images):
    """Return images as the networks take them."""
    return torch.from_numpy(images.reshape(-1, 1, 28, 28).astype(np.float32) / 255)


def train(images, labels, seed):
    """Return a network trained on these images, in order drawn anew for each epoch."""
    torch.manual_seed(seed)
    net = network().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    steps = len(labels) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, HIGHEST_RATE, epochs=EPOCHS, steps_per_epoch=steps
    )
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(labels))[: steps * BATCH].split(BATCH):
            batch = images[chosen].to(memory_format=torch.channels_last)
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(batch), labels[chosen]).backward()
            optimiser.step()
            schedule.step()
    return net.eval()


def predict(net, images):
    """Return class probabilities, shape (images, 10)."""
    with torch.no_grad():
        return torch.cat([net(part).softmax(1) for part in images.split(ROWS)]).numpy()


def run(arguments):
    """Train a network for each fold."""
    known, validation = split_validation(load_split(default_folder(), "train"))
    images, labels = tensor(known.images), torch.from_numpy(known.labels.astype(np.int64))
    fold = np.arange(len(labels)) % FOLDS
    targets, guesses = np.zeros((len(labels), 10), np.float32), []
    for number in range(FOLDS):
        held = fold == number
        net = train(images[~held], labels[~held], number)
        targets[held] = predict(net, images[held])
        wrong = np.mean(targets[held].argmax(1) != known.labels[held])
        print(f"fold {number}: {wrong:.2%} wrong", flush=True)
        guesses.append(predict(net, tensor(validation.images)))
    wrong = np.mean(np.sum(guesses, axis=0).argmax(1) != validation.labels)
    print(f"all together: {wrong:.2%} of the validation images", flush=True)
    write_arrays(arguments.out, {"targets": targets})
    return 0


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="TARGETS.npz")
    return run_command(parser.parse_args, run, None)


if __name__ == "__main__":
    sys.exit(main())
