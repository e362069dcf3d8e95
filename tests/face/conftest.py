"""A few pictures that a small network can tell apart, and settings that take a moment."""

from __future__ import annotations

import signal

import numpy as np
import pytest

from refmiracle.layers import Dense, Flatten, Relu
from refmiracle.training import run as loop

QUICK = {
    "network": [Flatten(), Dense(8), Relu(), Dense(3)],
    "steps": 12,
    "groups": 3,
    "group_steps": 4,
    "batch_size": 20,
    "bits_per_block": 4,
    "validation": 40,
    "progress": False,
}


@pytest.fixture(scope="session")
def shapes():
    """200 images of 6x6 in three classes, by where they are bright; and their labels."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 200)
    images = rng.integers(0, 128, (200, 6, 6), dtype=np.uint8)
    for label in range(3):
        images[labels == label, 2 * label : 2 * label + 2] += 127
    return images, labels


def press_at(monkeypatch, step):
    """Send Ctrl-C before the training step of that number."""
    whole = loop.Trainer.train_step

    def train_step(trainer):
        if trainer.state.step == step:
            signal.raise_signal(signal.SIGINT)
        return whole(trainer)

    monkeypatch.setattr(loop.Trainer, "train_step", train_step)
