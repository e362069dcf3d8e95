"""tools/figures/try_settings.py: what stands in docs/FRONTIER.md comes from it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY

from refmiracle.training.data import Split, default_folder, load_split
from refmiracle.training.state import write_arrays
from refmiracle.training.trainer import VALIDATION_ROWS, Trainer

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools" / "figures"))
import try_settings

SHORT = ["steps=6", "groups=3", "group_steps=9", "batch_size=20", "bits_per_block=6"]
NETWORK = ["hash_factors=10,1,100,1,1000,10,50,1", "block_size=30", "encoding_rate=0.2"]


@pytest.fixture(scope="module")
def few():
    return load_split(default_folder(), "train").part(slice(300))


@pytest.fixture
def tried(few, tmp_path, monkeypatch, capsys):
    """Return what runs the command on 300 training images, and reads its last line."""
    monkeypatch.setattr(try_settings, "load_split", lambda *_: few)
    monkeypatch.setattr(try_settings, "split_validation", lambda split, kept: (split, split))
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["try_settings.py", *arguments])
        assert try_settings.main() == 0
        line = json.loads(capsys.readouterr().out.splitlines()[-1])
        return {name: line[name] for name in ("train", "validation", "bytes")}

    return call


def test_what_is_encoded_after_a_training_is_what_it_would_have_encoded(tried):
    once = tried("one", *SHORT, *NETWORK)
    assert tried("two", "--after", "one") == once
    assert tried("three", "--after", "one", "selection=sample") != once


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a/b"], "a/b: expected a name, of a file in runs"),
        (["a", "base=1"], "base=1: updates are not tried here"),
        (["a", "network=lenet6"], "network 'lenet6' is unknown"),
        (["a", *SHORT, *NETWORK, "--targets", "no.npz"], "no.npz: it is no file of teachers.py"),
        (["a", "--construction", "tanh"], "tanh: expected some of"),
        (
            ["a", "--construction", "erf", "parameterization=mean-var"],
            "--construction: expected parameterization=mean-kl",
        ),
    ],
)
def test_wrong_input_is_one_line(few, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no.npz").write_bytes(b"none")
    monkeypatch.setattr(sys, "argv", ["try_settings.py", *arguments])
    assert try_settings.main() == 2
    assert message in capsys.readouterr().err


def test_other_orders_and_targets_give_other_files_of_the_same_size(tried, few):
    targets = np.eye(10, dtype=np.float32)[few.labels]
    write_arrays(Path("sure.npz"), {"targets": targets})
    write_arrays(Path("unsure.npz"), {"targets": 0.5 * targets + 0.05})
    once = tried("one", *SHORT, *NETWORK)
    assert tried("sure", *SHORT, *NETWORK, "--targets", "sure.npz") == once
    others = [
        tried("unsure", *SHORT, *NETWORK, "--targets", "unsure.npz"),
        tried("first", "--after", "one", "--order", "costly-first"),
        tried("last", "--after", "one", "--order", "costly-last"),
    ]
    assert all(other["bytes"] == once["bytes"] for other in others)
    assert len({str(other["train"]) for other in [once, *others]}) == 4


def test_other_constructions_are_encoded_too(tried):
    """The control differs from the package in rounding alone, which few steps do not let grow."""
    once = tried("one", *SHORT, *NETWORK)
    same = tried("same", *SHORT, *NETWORK, "--construction", "softmax")
    other = tried("other", *SHORT, *NETWORK, "--construction", "algebraic+falling")
    assert once["bytes"] == same["bytes"] == other["bytes"]
    assert [path.name for path in Path("runs").iterdir()] == ["one.npz"]  # of what --after can read
    assert same["train"][0] == pytest.approx(once["train"][0], abs=0.1)
    assert other["train"] not in (once["train"], same["train"])


def test_labels_are_drawn_as_often_as_their_probabilities_say(rng):
    images = rng.integers(0, 256, (64, 28, 28), dtype=np.uint8)
    targets = rng.dirichlet(np.full(4, 0.5), size=64)
    batches = try_settings.DrawnLabels(TINY, Split(images, np.zeros(64, np.uint8)), targets)
    batches.size, counts, draws = 64, np.zeros((64, 4)), 400
    for step in range(draws):
        drawn, labels = batches.batch(step)
        row = (drawn[:, None] == images).all(axis=(2, 3)).argmax(axis=1)
        counts[row, labels] += 1
    spread = np.sqrt(targets * (1 - targets) / draws)
    assert np.all(np.abs(counts / draws - targets) < 6 * spread + 1e-3)


def test_the_order_puts_the_blocks_first_whose_noise_costs_the_loss_most(few):
    trainer = Trainer(replace(TINY, steps=300, bits_per_block=14), few)
    while trainer.phase() == "train":
        trainer.train_step()
    first, last = (np.concatenate(try_settings.ordered_groups(trainer, s)) for s in (-1, 1))
    blocks = trainer.layout.blocks()
    assert np.array_equal(np.sort(first), np.arange(blocks))
    assert np.array_equal(first, last[::-1])
    rho = trainer.rho()
    delta, _ = trainer.parameterization.whitened(trainer.state.parameters, rho)

    def loss(noisy, row):
        """The loss where these blocks are drawn and all others are at their means."""
        flat, _ = trainer.sample(rho, VALIDATION_ROWS + row)
        w = flat[: rho.size].reshape(rho.shape)
        w[:] = np.where(np.isin(np.arange(blocks), noisy)[:, None], w, rho * delta)
        labels = few.labels.astype(np.int64)
        return trainer.variable_pass.loss_and_grads(flat, few.images, labels, np.empty_like(flat))

    halves = first[: blocks // 2], first[blocks // 2 :]
    costly, cheap = (np.mean([loss(half, row) for row in range(20)]) for half in halves)
    assert costly > cheap


@pytest.mark.parametrize("change", ["seed=1", "validation=200", "rho_gain=9", "steps=600"])
def test_what_a_training_was_with_does_not_change_behind_it(tried, change, capsys):
    tried("one", *SHORT, *NETWORK)
    sys.argv[1:] = ["two", "--after", "one", change]
    assert try_settings.main() == 2
    assert (
        f"{change.partition('=')[0]} with --after: the training was with" in capsys.readouterr().err
    )
