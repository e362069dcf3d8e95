"""A run that dies at any moment, any number of times: docs/RELIABILITY.md, 1.

A recorder keeps what lies in the folder at each moment.  From each of these states the run goes on,
is recorded again, and so on until no new state is found: then all are known that deaths can leave.
There is no clock and no chance in it.
"""

from __future__ import annotations

import functools
import math
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import drive
import numpy as np
import pytest
from moments import Moments

from refmiracle.fileformat.container import CompressedModel
from refmiracle.nn.layers import Dense, Flatten
from refmiracle.nn.network import Network
from refmiracle.nn.networks import NETWORKS
from refmiracle.training import run, settings

# As little as goes through all that a run does.
NETWORK = Network(
    name="point",
    number=200,
    input=(1, 28, 28),
    classes=10,
    layers=(Flatten(), Dense(10)),
    hash_factors=(784, 1),
)
SHORT = replace(
    drive.SMALL,
    network=NETWORK,
    hash_factors=NETWORK.hash_factors,
    block_size=5,
    bits_per_block=2,
    steps=1,
    groups=2,
    group_steps=1,
    batch_size=4,
    validation=10,
)
STEPS = SHORT.total_steps()
# An update takes these of a preset for itself.
SHORT_UPDATE = (
    *("--steps", "1", "--groups", "2", "--group-steps", "1"),
    *("--bits-per-block", "2", "--block-size", "5"),
)
# All the same to whoever comes next: it names the process that died.
LOCK = ".lock"


def contents(folder):
    """Return the files of a folder by name, None if it is not there."""
    if not folder.is_dir():
        return None
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def restore(folder, state):
    """Let a folder hold these files and no others."""
    for path in folder.iterdir() if folder.is_dir() else ():
        path.unlink()
    if state is not None:
        folder.mkdir(exist_ok=True)
        for name, data in state.items():
            (folder / name).write_bytes(data)


def key_of(state):
    """Return what tells two states apart."""
    if state is None:
        return None
    return tuple((name, b"" if name == LOCK else data) for name, data in state.items())


class Recorder(Moments):
    """Keeps what lies in a folder at each moment."""

    def __init__(self, folder):
        super().__init__(folder)
        self.states = {}

    def moment(self, name):
        state = contents(self.folder)
        self.states[key_of(state)] = state


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    drive.write_images(folder / "data", train=100, test=10)
    return folder


@pytest.fixture
def recorded(images, tmp_path, small, monkeypatch):
    """Go on with a run in a state; return exit code, states on the way, and what is there then."""
    monkeypatch.setitem(NETWORKS, NETWORK.name, NETWORK)
    monkeypatch.setitem(settings.PRESETS, "smoke", SHORT)
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: 0.0))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    step = run.Trainer.train_step

    def call(state, stop=None, more=()):
        out = tmp_path / "run"
        restore(out, state)
        recorder = Recorder(out)

        def train_step(trainer):
            if trainer.state.step == stop:
                signal.raise_signal(signal.SIGINT)
            return step(trainer)

        with monkeypatch.context() as patch:
            patch.setattr(run.Trainer, "train_step", train_step)
            recorder.install(patch.setattr)
            code = drive.train_in(images, out, "--resume", *more)
        recorder.moment("end")
        return code, recorder.states, contents(out)

    return call


def ends_alike(recorded, starts):
    """Assert that the run ends alike from all states that deaths can leave; return how many."""
    code, found, whole = recorded(None)
    assert code == 0
    found |= starts
    waiting = [*found]
    while waiting:
        state = found[waiting.pop()]
        code, states, end = recorded(state)
        assert code == 0
        assert end == whole, sorted(state)
        waiting += states.keys() - found.keys()
        found |= states
    return len(found)


def test_dies_with_a_checkpoint_after_each_step(recorded):
    assert ends_alike(recorded, {}) > 200


@pytest.mark.slow
@pytest.mark.minutes
def test_an_update_dies_with_a_checkpoint_after_each_step(recorded, images):
    layout, path = SHORT.layout(), images / "base.rmc"
    ones, indices = np.ones(2, np.float16), np.arange(layout.blocks())[:, None] % 4
    path.write_bytes(CompressedModel(layout, 2, ones, indices).to_bytes())
    flags = ("--base", str(path), *SHORT_UPDATE)
    code, _, end = recorded(None, more=flags)
    assert code == 0
    assert "update.rmc" in end
    assert ends_alike(functools.partial(recorded, more=flags), {}) > 200


@pytest.mark.slow
def test_dies_with_checkpoints_by_ctrl_c_alone(recorded, monkeypatch):
    """So metrics run ahead of the checkpoint, by as many lines as can be."""
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", math.inf)
    stopped = {}
    for stop in range(STEPS):
        code, states, _ = recorded(None, stop)
        assert code == 130
        stopped |= states
    assert ends_alike(recorded, stopped) > 200
