"""Runs training over and over in child processes that are killed: ``drive.py FOLDER KILLS SEED``.

KILLS is how often by SIGKILL; other signals come besides.

The children are forked from one process that has imported and compiled everything.  A child dies
at a random time, or at its k-th moment of moments.py: with half of the bytes written, before they
are flushed to the disk, before or after the rename, or with half a line of metrics.  After each
death every file under its final name must be whole.  Then the run is resumed, until it ends and
is compared with one that was not disturbed.  The last line printed is a JSON object of figures.

``drive.py FOLDER run [arguments of train]`` makes one tiny run and exits with its code;
``drive.py FOLDER kill K [arguments of train]`` too, but it dies by SIGKILL at its k-th moment.
"""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from moments import Moments
from tiny import TINY

from refmiracle import run as face
from refmiracle.commands import train
from refmiracle.fileformat.container import read_model
from refmiracle.training import run
from refmiracle.training.settings import PRESETS
from refmiracle.training.state import load_checkpoint
from refmiracle.training.stopping import answer_interrupts, end_at_once
from refmiracle.training.trained_posterior import load_posterior

FACTORS = (5, 5, 100, 5, 800, 5, 50, 1)
SMALL = replace(TINY, preset="smoke", hash_factors=FACTORS, validation=100)
LONG = replace(SMALL, steps=40, groups=15, group_steps=3)
# SIGKILL mostly; SIGTERM ends Python as it stands, and Ctrl-C is answered.
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has none
SIGNALS = (KILL, KILL, signal.SIGTERM, signal.SIGINT)


def write_images(folder, train=1000, test=200):
    """Write random images and labels, as IDX files."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / f"{name}-{kind}-ubyte").write_bytes(head + array.tobytes())


def make_tiny(settings):
    """Let train take a tiny run, checkpoints after each step, and a line of metrics for each."""
    PRESETS["smoke"] = settings
    run.CHECKPOINT_SECONDS = -1.0
    face.STEPS_PER_LINE = 1


def train_in(folder, out, *arguments):
    """Train; return the exit code."""
    given = ["--preset", "smoke", "--data", str(folder / "data"), "--out", str(out)]
    return train.main([*given, *arguments])


class Strike(Moments):
    """Ends this process at the k-th moment.

    Parameters
    ----------
    folder : Path
        See `Moments`.
    at : int
        k, from 0.
    signum : int
    """

    def __init__(self, folder, at, signum):
        super().__init__(folder)
        self.left, self.signum = at, signum

    def moment(self, name):
        """Send the signal, if it is time, and wait for what a signal that kills won't give back."""
        self.left -= 1
        if self.left == -1:
            os.kill(os.getpid(), self.signum)


def fork(work):
    """Run `work` in a child process, ready for Ctrl-C as programs are; return its number."""
    sys.stdout.flush()
    held_back = {signal.SIGINT}  # until there is an answer to it: see `start.start`
    signal.pthread_sigmask(signal.SIG_BLOCK, held_back)
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held_back)
    else:
        code = 99
        try:
            answer_interrupts(end_at_once)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, held_back)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            code = work()
        finally:
            os._exit(code)
    return child


def ended(child):
    """Wait for a child; return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def disturbed(folder, out, rng, seconds):
    """Go on with a run in a child and disturb it; return what was done, and what became of it."""
    signum = rng.choice(SIGNALS)
    aimed = rng.random() < 0.5
    at = rng.randrange(100)

    def work():
        if aimed:
            Strike(out, at, signum).install()
        return train_in(folder, out, "--resume")

    child = fork(work)
    if not aimed:
        time.sleep(rng.uniform(0.0, seconds))
        os.kill(child, signum)
    code = ended(child)
    how = f"{signal.Signals(signum).name} {'at a write' if aimed else 'at random'}"
    return how, code


def check_whole(out):
    """Assert that all files that are there under their final names are whole."""
    step = -1
    for name in os.listdir(out) if out.is_dir() else ():
        path = out / name
        if name == "checkpoint.npz":
            step = load_checkpoint(path)[1].step
        elif name == "model.rmc":
            read_model(path)
        elif name == "posterior.npz":
            load_posterior(path)
        elif name == "summary.json":
            json.loads(path.read_text())
        elif name == "metrics.jsonl":
            lines = path.read_bytes().split(b"\n")
            assert [json.loads(line)["step"] for line in lines[:-1]] == [*range(1, len(lines))]
        else:
            assert name == ".lock" or (name.startswith(".") and name.endswith(".tmp")), name
    return step


def results(out):
    """What two runs must agree on: all but the seconds."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_bytes().splitlines()]
    summary = json.loads((out / "summary.json").read_text())
    posterior = load_posterior(out / "posterior.npz")
    return (
        (out / "model.rmc").read_bytes(),
        [{k: v for k, v in line.items() if k != "seconds"} for line in lines],
        {k: v for k, v in summary.items() if k != "train_seconds"},
        [a.tobytes() for a in vars(posterior).values()],
    )


def killed(deaths):
    """Return how many of the deaths were by SIGKILL, which nothing can answer."""
    return sum(count for how, count in deaths.items() if how.startswith("SIGKILL"))


def main(folder, kills, seed):
    """Disturb runs until so many were killed; print the figures."""
    make_tiny(LONG if kills > 10 else SMALL)
    write_images(folder / "data")
    assert train_in(folder, folder / "first") == 0  # compiles
    began = time.monotonic()
    assert train_in(folder, folder / "whole") == 0
    seconds = time.monotonic() - began
    want = results(folder / "whole")
    assert results(folder / "first") == want
    rng, deaths, moments, runs = random.Random(seed), Counter(), set(), 0
    while killed(deaths) < kills:
        out = folder / f"disturbed{runs}"
        runs += 1
        code = None
        while code != 0 and killed(deaths) < kills:
            how, code = disturbed(folder, out, rng, seconds)
            moments.add(check_whole(out))
            print(f"seed {seed}: {how}: exit code {code}", flush=True)
            assert code in (0, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT), code
            deaths[how] += code != 0
        assert ended(fork(functools.partial(train_in, folder, out, "--resume"))) == 0
        assert results(out) == want
        assert not [n for n in os.listdir(out) if n.startswith(".")]
    figures = {"deaths": deaths, "runs": runs, "steps": len(want[1]), "moments": len(moments)}
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[2] in ("run", "kill"):
        make_tiny(SMALL)
        place, arguments = Path(sys.argv[1]), sys.argv[3:]
        if sys.argv[2] == "kill":
            Strike(place / "out", int(arguments.pop(0)), signal.SIGKILL).install()
        sys.exit(train_in(place, place / "out", *arguments))
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
