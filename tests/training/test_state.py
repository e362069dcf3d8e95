from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from tiny import TINY

from refmiracle.errors import InputError
from refmiracle.training.metrics import UNKNOWN, append_metrics, keep_metrics
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
    settings, loaded = load_checkpoint(path)
    assert settings == TINY
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
        ({"config": np.array(json.dumps({**TINY.to_dict(), "base": ["zz"]}))}, "are damaged"),
        ({"config": np.array(json.dumps({**TINY.to_dict(), "base": 5}))}, "are damaged"),
    ],
)
def test_of_another_version(checkpoint, change, message):
    path, _ = checkpoint
    with np.load(path) as f:
        arrays = {name: f[name] for name in f.files}
    np.savez(path, **{**arrays, **change})
    with pytest.raises(InputError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameterization": "mean-var"}, "it holds phi, tau, and lacks beta, log_sigma, mu"),
        ({"block_size": 31}, r"tau has the shape \(886, 30\) and float32; expected \(858, 31\)"),
        ({"code": "gprs-d"}, r"messages has the shape \(886, 1\) and int64; expected \(886, 30\)"),
    ],
)
def test_arrays_of_another_run_are_refused(checkpoint, mnist, change, message):
    settings = replace(TINY, **change)
    with pytest.raises(InputError, match=f"not of its own settings: {message}"):
        Trainer(settings, mnist[0], checkpoint[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"parameters": {"x": s.parameters["tau"]}}, "it holds x, and lacks log_rho"),
        (
            lambda s: {"messages": s.messages * 1.0},
            "messages has the shape .* and float64; expected",
        ),
        (lambda s: {"step": -1}, "the checkpoint is of step -1"),
        (lambda s: {"trained": 9}, "of step 1, where training ended at 9"),
        (lambda s: {"step": 10**12}, "the checkpoint is of step 1000000000000; its run has"),
        (lambda s: {"step": 12, "trained": 5}, "the checkpoint is of step 12; its run has 11"),
        (lambda s: {"seconds": float("nan")}, "the checkpoint has nan seconds"),
    ],
)
def test_a_changed_state_is_refused(checkpoint, mnist, change, message):
    state = replace(checkpoint[1], **change(checkpoint[1]))
    with pytest.raises(InputError, match=message):
        Trainer(TINY, mnist[0], state)


def test_metrics_after_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        append_metrics(path, {"step": step})
    with open(path, "a") as f:
        f.write('{"step": 2, "loss')  # a line torn by a kill
    keep_metrics(path, 2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize(("length", "lost"), [(UNKNOWN, False), (0, False), (12, True)])
def test_metrics_that_are_missing_are_told_of(tmp_path, caplog, length, lost):
    assert keep_metrics(tmp_path / "metrics.jsonl", 2, length) == 0
    assert os.listdir(tmp_path) == []
    assert ("is missing: the figures until step 2 are lost" in caplog.text) == lost


LINES = [b'{"step": 1}\n', b'{"step": 2}\n', b'{"step": 2, "again": 1}\n', b'{"step": 3}\n']
SEEN = len(b"".join(LINES[:2]))


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (LINES, LINES[:2]),  # a line of the same step was written after the checkpoint
        ([*LINES[:2], b'{"st'], LINES[:2]),
        ([*LINES[:2], b"\0nonsense\n", LINES[3]], LINES[:2]),
        ([*LINES[:1]], LINES[:1]),  # shorter than it was
        ([*LINES[:2], LINES[2][:-1]], LINES[:2]),
        ([b'{"step": 1, "a": "changed"}\n', *LINES[1:2]], None),
        ([b'{"step": 4}\n', *LINES[1:2]], LINES[1:2]),  # not as it was: by the steps
    ],
)
def test_metrics_are_cut_to_what_the_checkpoint_saw(tmp_path, data, kept):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(data))
    expected = b"".join(data if kept is None else kept)
    assert keep_metrics(path, 2, SEEN) == len(expected)
    assert path.read_bytes() == expected


def test_a_checkpoint_knows_how_long_metrics_were(checkpoint):
    path, state = checkpoint
    state.metrics_bytes = 77
    save_checkpoint(path, TINY, state)
    assert load_checkpoint(path)[1].metrics_bytes == 77


def test_a_checkpoint_of_before_loads_without_that_length(checkpoint):
    path, _ = checkpoint
    with np.load(path) as f:
        arrays = {name: f[name] for name in f.files if name != "metrics_bytes"}
    np.savez(path, **arrays)
    assert load_checkpoint(path)[1].metrics_bytes == UNKNOWN
