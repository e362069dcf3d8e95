"""The commands with --base: what has changed since a file that the other side has."""

from __future__ import annotations

import json
import os
import shutil
import signal

import numpy as np
import pytest

import refmiracle
from refmiracle import run as face
from refmiracle.commands import decode, evaluate, export, train
from refmiracle.fileformat.envelope import checksum_of
from refmiracle.layers import Dense, Flatten, Relu
from refmiracle.nn.networks import network_text
from refmiracle.training import run as loop

SHORT = (
    *("--preset", "smoke", "--steps", "12", "--groups", "3", "--group-steps", "4"),
    *("--bits-per-block", "4", "--validation", "40"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, old.rmc, images upside down, new.npz, and larger ones; not to be written to."""
    folder = tmp_path_factory.mktemp("updates")
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 300)
    images = rng.integers(0, 128, (300, 6, 6), dtype=np.uint8)
    for label in range(3):
        images[labels == label, 2 * label : 2 * label + 2] += 127
    network = [Flatten(), Dense(8), Relu(), Dense(3)]
    settings = {"steps": 60, "groups": 3, "group_steps": 4, "batch_size": 20, "bits_per_block": 8}
    run = refmiracle.fit(images, labels, network=network, progress=False, **settings)
    run.model.save(folder / "old.rmc")
    turned, larger = images[:, ::-1], np.zeros((300, 7, 7), np.uint8)
    for name, pixels, classes in (
        ("new", turned, labels),
        ("larger", larger, labels),
        ("four", turned, np.arange(300) % 4),
    ):
        test = {"x_test": pixels[:100], "y_test": classes[:100]}
        np.savez(folder / f"{name}.npz", x_train=pixels, y_train=classes, **test)
    return folder


@pytest.fixture(autouse=True)
def here(folder, tmp_path, monkeypatch):
    """Each test in a folder of its own, with the same files."""
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def update(folder):
    """The bytes of a first update, and of a second on top of it."""
    given = ["--data", str(folder / "new.npz"), "--bytes", "50", *SHORT]
    first, base = folder.with_name("first"), ["--base", str(folder / "old.rmc")]
    assert train.main([*base, *given, "--out", str(first)]) == 0
    second, base = folder.with_name("second"), [*base, "--base", str(first / "update.rmc")]
    assert train.main([*base, *given, "--seed", "1", "--out", str(second)]) == 0
    return [(run / "update.rmc").read_bytes() for run in (first, second)]


def arguments(*more, out="run"):
    return ["--data", "new.npz", *SHORT, "--out", out, *more]


def refused(command, given, capsys):
    """Return the one line with which a command refuses."""
    assert command(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("refmiracle: error: ")
    return line


def test_files_of_a_run(here, update, capsys):
    flags = ["--base", "old.rmc", "--bytes", "50", "--weights", "run/weights.npz"]
    assert train.main(arguments(*flags)) == 0
    printed = capsys.readouterr()
    left = {p.name for p in (here / "run").iterdir()} - {".lock"}
    run_files = {"checkpoint.npz", "metrics.jsonl", "posterior.npz", "summary.json"}
    assert left == run_files | {"update.rmc", "weights.npz"}
    data = (here / "run" / "update.rmc").read_bytes()
    assert data == update[0]  # the same bytes wherever it runs
    summary = json.loads((here / "run" / "summary.json").read_text())
    old = (here / "old.rmc").read_bytes()
    assert summary["bytes"] == len(data) <= 50
    assert (summary["base"], summary["base_bytes"]) == (f"{checksum_of(old):08x}", len(old))
    with np.load("new.npz") as f:
        error = refmiracle.load(old).error(f["x_test"], f["y_test"])
        kept = refmiracle.load(old).error(f["x_train"][-40:], f["y_train"][-40:])
    assert (summary["base_test_error"], summary["base_validation_error"]) == (error, kept)
    lines = printed.out.splitlines()
    size = f"{len(data)} bytes, an update of {len(old)} bytes"
    assert lines[0].startswith(f"run{os.sep}update.rmc: {size}, test error")
    assert f"(base {error:.2%}) of 100 images" in lines[0]
    assert f"(base {kept:.2%}), trained for" in lines[1]
    assert f"(base {kept:.2%}), KL" in printed.err
    assert decode.main(["run/update.rmc", "--base", "old.rmc", "--out", "w.npz"]) == 0
    assert (here / "w.npz").read_bytes() == (here / "run" / "weights.npz").read_bytes()


def test_evaluate_says_what_train_measured(here, capsys):
    assert train.main(arguments("--base", "old.rmc", "--tensors", "dense2,dense1.bias")) == 0
    capsys.readouterr()
    given = ["run/update.rmc", "--base", "old.rmc", "--data", "new.npz"]
    assert evaluate.main([*given, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    summary = json.loads((here / "run" / "summary.json").read_text())
    assert all(summary[name] == value for name, value in figures.items())
    assert {"base", "base_bytes", "base_test_error"} <= figures.keys()
    assert evaluate.main(given) == 0
    assert f"(base {summary['base_test_error']:.2%})" in capsys.readouterr().out
    assert summary["config"]["tensors"] == ["dense2", "dense1.bias"]


def test_a_chain_is_found_in_a_folder(here, update, capsys):
    """Among others, and a copy of the model with one bit changed."""
    for name, data in zip(("u1", "u2"), update, strict=True):
        (here / f"{name}.rmc").write_bytes(data)
    damaged = bytearray((here / "old.rmc").read_bytes())
    damaged[8] ^= 4
    (here / "a.rmc").write_bytes(damaged)
    weights = []
    for number, bases in enumerate((["."], ["old.rmc", "u1.rmc"], ["u1.rmc", "."])):
        flags = [flag for base in bases for flag in ("--base", base)]
        assert decode.main(["u2.rmc", *flags, "--out", f"{number}.npz"]) == 0
        assert export.main(["u2.rmc", *flags, "--to", "npz", "--out", "e.npz"]) == 0
        weights += [(here / f"{number}.npz").read_bytes(), (here / "e.npz").read_bytes()]
        assert evaluate.main(["u2.rmc", *flags, "--data", "new.npz", "--engine", "numpy"]) == 0
    assert len(set(weights)) == 1
    files = len((here / "old.rmc").read_bytes()), len(update[0])
    assert f"{len(update[1])} bytes, an update of {sum(files)} bytes" in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_base_that_cannot_be_read_again_is_refused(here, capsys):
    """Nor is anything read from it: nobody writes to this one."""
    os.mkfifo(here / "pipe")
    assert train.main(["--preset", "smoke", "--base", "pipe", "--data", "new.npz"]) == 2
    assert "--base pipe: it is no file that can be read again" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "decode", "export"])
def test_a_base_that_is_missing_or_wrong(here, update, capsys, command):
    for name, data in zip(("u1", "u2"), update, strict=True):
        (here / f"{name}.rmc").write_bytes(data)
    old = (here / "old.rmc").read_bytes()
    (here / "bad.rmc").write_bytes(old[:9] + bytes([old[9] ^ 1]) + old[10:])
    call, more = {
        "evaluate": (evaluate.main, ["--data", "new.npz"]),
        "decode": (decode.main, ["--out", "w.npz"]),
        "export": (export.main, ["--to", "npz", "--out", "w.npz"]),
    }[command]
    (here / "empty").mkdir()
    torn = bytearray(update[0])
    torn[5] ^= 1
    (here / "torn.rmc").write_bytes(torn)
    model, first = (f"checksum {checksum_of(data):08x}" for data in (old, update[0]))
    second = f"{checksum_of(update[1]):08x}"
    for given, message in (
        (["u1.rmc"], f"u1.rmc: it is an update of the file with the {model}; name that one by"),
        (
            ["u1.rmc", "--base", "lenet5-891"],
            f"u1.rmc: it is an update of the file with the {model}",
        ),
        (
            ["u1.rmc", "--base", "u2.rmc"],
            f"{model}, which is not among its bases (u2.rmc has {second})",
        ),
        (["u1.rmc", "--base", "empty"], f"{model}; there is no .rmc file in empty"),
        (["torn.rmc", "--base", "old.rmc"], "torn.rmc: the checksum is"),
        (["torn.rmc"], "torn.rmc: the checksum is"),
        (["u2.rmc", "--base", "old.rmc", "--base", "torn.rmc"], "torn.rmc: the checksum is"),
        (["u2.rmc", "--base", "old.rmc"], f"u2.rmc: it is an update of the file with the {first}"),
        (["u2.rmc", "--base", "u1.rmc"], f"u1.rmc: it is an update of the file with the {model}"),
        (["u1.rmc", "--base", "bad.rmc"], "bad.rmc: the checksum is"),
        (["u1.rmc", "--base", "absent.rmc"], "absent.rmc: No such file"),
        (["old.rmc", "--base", "u1.rmc"], "old.rmc: it is a model, no update, so it has no base"),
    ):
        assert message in refused(call, [*given, *more], capsys)
        assert not (here / "w.npz").exists()


def test_nothing_that_is_read_is_written_to(here, update, capsys):
    (here / "u1.rmc").write_bytes(update[0])
    before = {p.name: p.read_bytes() for p in here.iterdir()}
    for base, out in (("old.rmc", "old.rmc"), (".", "old.rmc"), (".", "u1.rmc")):
        line = refused(decode.main, ["u1.rmc", "--base", base, "--out", out], capsys)
        assert "itself; name another file with --out" in line
    for weights in ("old.rmc", "run", "run/update.rmc", "run/summary.json", "no/such/w.npz"):
        line = refused(train.main, arguments("--base", "old.rmc", "--weights", weights), capsys)
        assert "--weights" in line or "cannot be written" in line
    assert {p.name: p.read_bytes() for p in here.iterdir()} == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--base", "absent.rmc"], "absent.rmc: No such file"),
        (["--base", "new.npz"], "new.npz: it does not begin with the magic"),
        (["--base", "."], "--base .: it is a folder; name the file to update"),
        (["--base", "u1.rmc"], "u1.rmc: it is an update of the file with the checksum"),
        (
            ["--base", "u1.rmc", "--base", "old.rmc"],
            "u1.rmc: old.rmc does not build on it; the last",
        ),
        (["--base", "lenet5-891", "--base", "old.rmc"], "old.rmc does not build on it"),
        (["--base", "old.rmc", "--base", "u2.rmc"], "which is not among its bases (old.rmc has"),
        (["--base", "old.rmc", "--hash-factors", "1,1,1,1"], "--hash-factors cannot be given"),
        (["--base", "old.rmc", "--network", "lenet5"], "the file is of the network described-"),
        (["--base", "old.rmc", "--tensors", "conv1"], "--tensors: 'conv1' is no tensor or layer"),
        (
            ["--base", "old.rmc", "--bytes", "12"],
            "--bytes 12: the shortest file with these settings",
        ),
        (["--base", "old.rmc", "--bytes", "0"], "--bytes 0 is out of range"),
        (
            ["--base", "old.rmc", "--bytes", "60", "--block-size", "9"],
            "--bytes and --block-size: one follows from the other; give one",
        ),
        (
            ["--base", "old.rmc", "--bytes", "60", "--code", "gprs-s"],
            "--bytes goes with --code mrc only",
        ),
        (["--base", "old.rmc", "--code", "pfr", "--bits-per-block", "9"], "would search for ever"),
        (["--base", "old.rmc", "--data", "larger.npz"], "7x7"),
        (["--base", "old.rmc", "--data", "four.npz"], "label 3; "),
        (["--tensors", "dense1"], "--tensors cannot be given: a model has all of them"),
    ],
)
def test_bad_flags_are_one_line_and_leave_nothing(here, update, capsys, given, message):
    for name, data in zip(("u1", "u2"), update, strict=True):
        (here / f"{name}.rmc").write_bytes(data)
    assert message in refused(train.main, arguments(*given), capsys)
    assert not (here / "run").exists()


def test_the_base_may_be_named_more_than_once(here, update):
    """And a folder that holds it, or any others, may stand before or behind it."""
    (here / "u1.rmc").write_bytes(update[0])
    data = []
    for number, bases in enumerate(
        (["old.rmc", "u1.rmc"], ["u1.rmc", "."], [".", "u1.rmc", "u1.rmc"])
    ):
        flags = [flag for base in bases for flag in ("--base", base)]
        flags += ["--bytes", "50", "--seed", "1"]
        assert train.main(arguments(*flags, out=f"run{number}")) == 0
        data.append((here / f"run{number}" / "update.rmc").read_bytes())
    assert data == [update[1]] * 3


def test_stopped_and_resumed(here, update, monkeypatch, capsys):
    """Without the base, which the checkpoint holds; with it, and with another."""
    step = loop.Trainer.train_step

    def interrupted(trainer):
        if trainer.state.step == 14:
            signal.raise_signal(signal.SIGINT)
        return step(trainer)

    flags = arguments("--base", "old.rmc", "--bytes", "50")
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "train_step", interrupted)
        assert train.main(flags) == 130
    assert "after 15 of 20 steps; go on with --resume --out run --data new.npz" in (
        capsys.readouterr().err
    )
    (here / "u1.rmc").write_bytes(update[0])
    old = (here / "old.rmc").read_bytes()
    bases = ["--base", "old.rmc", "--base", "u1.rmc"]
    line = refused(train.main, ["--data", "new.npz", "--out", "run", "--resume", *bases], capsys)
    ours, theirs = (f"{checksum_of(data):08x}" for data in (old, update[0]))
    assert f"--base, checksum {ours} + {theirs}: the run to resume was started with" in line
    line = refused(train.main, [*flags[:-1], "80", "--resume"], capsys)
    assert "--bytes 80: the run to resume was started with other blocks, whose file has" in line
    (here / "old.rmc").unlink()
    assert train.main(["--data", "new.npz", "--out", "run", "--resume"]) == 0
    assert (here / "run" / "update.rmc").read_bytes() == update[0]
    (here / "old.rmc").write_bytes(old)
    assert train.main([*flags, "--resume"]) == 0
    assert (here / "run" / "update.rmc").read_bytes() == update[0]


def test_a_run_is_no_place_for_the_next_one(here, update, capsys):
    """Its update may be the next one's base, and is not overwritten by it."""
    (here / "run").mkdir()
    (here / "run" / "update.rmc").write_bytes(update[0])
    flags = arguments("--base", "old.rmc", "--base", "run/update.rmc")
    line = refused(train.main, flags, capsys)
    assert "it holds update.rmc without its checkpoint; name another --out" in line
    assert (here / "run" / "update.rmc").read_bytes() == update[0]


def test_an_update_no_better_than_chance_says_so(monkeypatch, capsys):
    measure = face.finish

    def finish(*arguments):
        model, summary = measure(*arguments)
        return model, {**summary, "test_error": 0.66}

    monkeypatch.setattr(face, "finish", finish)
    assert train.main(arguments("--base", "old.rmc")) == 0
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"warning: run{os.sep}update.rmc is no better than chance" in line


def test_the_size_of_a_model(here):
    """The most that fits, with a network that describes itself too."""
    network = network_text(refmiracle.load("old.rmc").network)
    for size in ("60", "80"):
        flags = ["--network", network, "--bytes", size]
        assert train.main(arguments(*flags, out=size)) == 0
        found = len((here / size / "model.rmc").read_bytes())
        assert int(size) - 4 <= found <= int(size)
