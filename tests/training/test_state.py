from __future__ import annotations

import json

import numpy as np
import pytest
from tiny import TINY

from refmiracle.errors import InputError
from refmiracle.training.metrics import append_metrics, keep_metrics
from refmiracle.training.state import load_checkpoint, save_checkpoint
from refmiracle.training.trainer import Trainer


@pytest.fixture
def checkpoint(tmp_path, mnist):
    trainer = Trainer(TINY, mnist[0])
    trainer.train_step()
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(path, TINY, trainer.state)
    return path, trainer.state


def test_round_trip(checkpoint):
    path, state = checkpoint
    config, loaded = load_checkpoint(path)
    assert config == TINY
    assert (loaded.step, loaded.losses) == (state.step, state.losses)
    assert loaded.parameters.keys() == state.parameters.keys()
    for name, value in state.parameters.items():
        assert np.array_equal(loaded.parameters[name], value)
        assert loaded.parameters[name].dtype == value.dtype
        assert all(map(np.array_equal, loaded.moments[name], state.moments[name]))


@pytest.mark.parametrize("length", [0, 1, 100, 5000])
def test_cut_off(checkpoint, length):
    path, _ = checkpoint
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match="no intact checkpoint"):
        load_checkpoint(path)


def test_flipped_bits_do_not_pass(checkpoint):
    path, _ = checkpoint
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(InputError, match="no intact checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": np.array(1)}, "checkpoint version 1; expected 3"),
        ({"config": np.array("{}")}, "not those of this version"),
        ({"config": np.array("nonsense")}, "no intact checkpoint"),
    ],
)
def test_of_another_version(checkpoint, change, message):
    path, _ = checkpoint
    with np.load(path) as f:
        arrays = {name: f[name] for name in f.files}
    np.savez(path, **{**arrays, **change})
    with pytest.raises(InputError, match=message):
        load_checkpoint(path)


def test_metrics_after_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        append_metrics(path, {"step": step})
    with open(path, "a") as f:
        f.write('{"step": 2, "loss')  # a line torn by a kill
    keep_metrics(path, 2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]
    keep_metrics(tmp_path / "absent.jsonl", 2)
    assert not (tmp_path / "absent.jsonl").exists()
