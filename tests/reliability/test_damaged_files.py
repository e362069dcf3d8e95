"""Checkpoints and metrics that are damaged, or not those of the run: docs/RELIABILITY.md, 2.

tests/training/test_state.py has single faults of single files; here a checkpoint is cut off at,
and a byte of it changed at, many places or all, and `train --resume` meets what is left.
"""

from __future__ import annotations

import io
import json
import random
import shutil

import numpy as np
import pytest

from refmiracle.errors import InputError
from refmiracle.training.state import load_checkpoint
from refmiracle.training.trained_posterior import load_posterior


def parts(state):
    """Return all that a state holds, to be compared."""
    arrays = [*state.parameters.values(), state.messages, *state.extra.values()]
    arrays += [a for pair in state.moments.values() for a in pair]
    return (state.step, state.trained, state.losses, [a.tobytes() for a in arrays])


@pytest.fixture
def changed(stopped, tmp_path):
    """Return whether a changed checkpoint is refused, in one line, or is read as before."""
    data = (stopped / "checkpoint.npz").read_bytes()
    settings, state = load_checkpoint(stopped / "checkpoint.npz")
    path = tmp_path / "checkpoint.npz"

    def call(new):
        path.write_bytes(new)
        try:
            again = load_checkpoint(path)
        except InputError as e:
            assert str(path) in str(e)
            assert "\n" not in str(e)
            return True
        assert again[0] == settings
        assert parts(again[1]) == parts(state)
        return False

    return data, call


def structure(data):
    """Return the places of a zip file that are no content of an array."""
    heads = [i for i in range(len(data) - 4) if data[i : i + 4] == b"PK\x03\x04"]
    places = {i + k for i in heads for k in range(180)}
    return sorted(
        p for p in places | set(range(data.index(b"PK\x01\x02"), len(data))) if p < len(data)
    )


def test_cut_off_anywhere(changed):
    data, refused = changed
    rng = random.Random(0)
    for length in [
        *range(100),
        *rng.sample(range(len(data)), 200),
        *range(len(data) - 60, len(data)),
    ]:
        assert refused(data[:length]), length


def test_a_changed_byte(changed):
    data, refused = changed
    rng = random.Random(1)
    places = rng.sample(structure(data), 400) + rng.sample(range(len(data)), 200)
    count = 0
    for place in places:
        new = bytearray(data)
        new[place] ^= 1 << rng.randrange(8)
        count += refused(bytes(new))
    assert count == len(places)


@pytest.mark.slow
@pytest.mark.minutes
def test_every_byte_changed(changed):
    """Each byte of the structure, in each bit, and every fourth byte of the arrays in one."""
    data, refused = changed
    own = set(structure(data))
    refusals = tries = 0
    for place in range(len(data)):
        if place not in own and place % 4:
            continue
        for bit in range(8) if place in own else (place // 4 % 8,):
            new = bytearray(data)
            new[place] ^= 1 << bit
            refusals += refused(bytes(new))
            tries += 1
    print(f"{tries} changed checkpoints, {refusals} refused, {tries - refusals} read as before")
    assert refusals == tries


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"nonsense", None])
def test_no_checkpoint_at_all(content, out, unchanged, goes_on):
    good = (out / "checkpoint.npz").read_bytes()
    (out / "checkpoint.npz").unlink()
    if content is None:
        (out / "checkpoint.npz").mkdir()
    else:
        (out / "checkpoint.npz").write_bytes(content)
    assert "it is no intact checkpoint" in unchanged(out, "--resume")
    assert "it holds a run already" in unchanged(out)
    (out / "checkpoint.npz").rmdir() if content is None else None
    (out / "checkpoint.npz").write_bytes(good)
    goes_on(out)


def test_a_plain_array_is_no_checkpoint(out, unchanged):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    (out / "checkpoint.npz").write_bytes(buffer.getvalue())
    assert "it is no intact checkpoint" in unchanged(out, "--resume")


def test_a_checkpoint_of_another_version(out, unchanged):
    with np.load(out / "checkpoint.npz") as f:
        arrays = {name: f[name] for name in f.files}
    np.savez(out / "checkpoint.npz", **{**arrays, "version": np.array(99)})
    assert "checkpoint version 99; expected" in unchanged(out, "--resume")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "numpy"], "--engine numpy: the run to resume was started with numba"),
        (["--code", "orc"], "--code orc: the run to resume was started with mrc"),
        (["--steps", "6"], "--steps 6: the run to resume was started with 5"),
    ],
)
def test_other_settings(arguments, message, out, unchanged, goes_on):
    assert message in unchanged(out, "--resume", *arguments)
    goes_on(out)


def test_other_images(out, unchanged, goes_on, world, tmp_path):
    other = shutil.copytree(world / "data", tmp_path / "data")
    path = other / "train-images-idx3-ubyte"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    line = unchanged(out, "--resume", "--data", str(other))
    assert "was started with other training images" in line
    goes_on(out)


# --- metrics


def torn(path, lines):
    path.write_bytes(b"".join(lines) + b'{"step": 6, "loss_nats": 2.')


def zeros(path, lines):
    path.write_bytes(b"".join(lines) + bytes(500))


def no_line_feed(path, lines):
    path.write_bytes(b"".join(lines)[:-1])


def lines_ahead(path, lines):
    path.write_bytes(b"".join(lines) + lines[-1].replace(b'"step": 5', b'"step": 7'))


@pytest.mark.parametrize("damage", [torn, zeros, no_line_feed, lines_ahead])
def test_what_a_crash_leaves_of_metrics_is_mended(damage, out, goes_on):
    path = out / "metrics.jsonl"
    damage(path, path.read_bytes().splitlines(keepends=True))
    goes_on(out)


@pytest.mark.parametrize("line", [b"nonsense", b"", b'{"step": 2, "lo', b"\xff\xfe", b"[2]"])
def test_metrics_damaged_in_the_middle(line, out, unchanged, goes_on):
    path = out / "metrics.jsonl"
    good = path.read_bytes()
    lines = good.split(b"\n")
    path.write_bytes(b"\n".join([lines[0], line, *lines[2:]]))
    assert "metrics.jsonl: line 2 is no line of metrics" in unchanged(out, "--resume")
    path.write_bytes(good)
    goes_on(out)


def test_metrics_that_are_a_folder(out, unchanged, goes_on):
    path = out / "metrics.jsonl"
    good = path.read_bytes()
    path.unlink()
    path.mkdir()
    assert "metrics.jsonl: cannot be read: Is a directory" in unchanged(out, "--resume")
    path.rmdir()
    path.write_bytes(good)
    goes_on(out)


def test_there_is_one_line_for_each_step(whole):
    """Ten steps a line, and a last step that ten divides, gave two lines for it once."""
    steps = [
        json.loads(line)["step"] for line in (whole / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == [*range(1, 12)]


# --- the posterior


def test_a_damaged_posterior(whole, tmp_path):
    data = (whole / "posterior.npz").read_bytes()
    path, rng = tmp_path / "posterior.npz", random.Random(2)
    good = load_posterior(whole / "posterior.npz")
    for length in (*range(0, len(data), 97), len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match="no intact posterior") as e:
            load_posterior(path)
        assert "\n" not in str(e.value)
    refused = 0
    for place in rng.sample(range(len(data)), 200):
        new = bytearray(data)
        new[place] ^= 1 << rng.randrange(8)
        path.write_bytes(new)
        try:
            again = load_posterior(path)
        except InputError as e:
            assert "\n" not in str(e)
            refused += 1
        else:
            for name in ("mu", "sigma", "rho"):
                assert np.array_equal(getattr(again, name), getattr(good, name)), name
    assert refused > 150  # most bytes are of numbers
