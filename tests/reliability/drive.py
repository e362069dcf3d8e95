"""Runs training over and over in child processes that are killed: ``drive.py FOLDER KILLS SEED``.

KILLS is how often by SIGKILL; other signals come besides.

The children are forked from one process that has imported and compiled everything.  A child dies
at a random moment, or at its k-th call that writes: with half of the bytes written, before they
are flushed to the disk, before or after the rename, or with half a line of metrics.  After each
death every file under its final name must be whole.  Then the run is resumed, until it ends and
is compared with one that was not disturbed.  The last line printed is a JSON object of figures.

``drive.py FOLDER run [arguments of train]`` makes one tiny run and exits with its code.
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
from tiny import TINY

from refmiracle import files
from refmiracle.codec.container import read_model
from refmiracle.commands import train
from refmiracle.training import config, metrics, run
from refmiracle.training.posterior import load_posterior
from refmiracle.training.state import load_checkpoint

FACTORS = (5, 5, 100, 5, 800, 5, 50, 1)
SMALL = replace(TINY, preset="smoke", hash_factors=FACTORS, validation=100)
LONG = replace(SMALL, steps=40, groups=15, group_steps=3)
# SIGKILL mostly; SIGTERM ends Python as it stands, and Ctrl-C is answered.
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def write_images(folder):
    """A thousand images and labels of each kind, as IDX files."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", 1000), ("t10k", 200)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / f"{name}-{kind}-ubyte").write_bytes(head + array.tobytes())


def make_tiny(settings):
    """Let train take a tiny run, checkpoints after each step, and a line of metrics for each."""
    config.PRESETS["smoke"] = settings
    run.CHECKPOINT_SECONDS = -1.0
    train.run_training = functools.partial(run.run_training, steps_per_line=1)


def train_in(folder, out, *arguments):
    """Train; return the exit code."""
    given = ["--preset", "smoke", "--data", str(folder / "data"), "--out", str(out)]
    return train.main([*given, *arguments])


class Strike:
    """Ends this process at its k-th call that writes.

    Parameters
    ----------
    at : int
        k, from 0.
    signum : int
    """

    def __init__(self, at, signum):
        self.left, self.signum = at, signum
        self.functions = {name: getattr(os, name) for name in ("fsync", "replace", "unlink")}

    def due(self):
        """Count a call; tell whether it is the one."""
        self.left -= 1
        return self.left == -1

    def strike(self):
        """Send the signal, and wait for what a signal that kills will not give back."""
        os.kill(os.getpid(), self.signum)

    def open(self, path, mode="r", **options):
        """Open a file whose `write` may stop half-way."""
        f = open(path, mode, **options)  # noqa: SIM115 (the caller closes it)
        if mode[0] in "wa":
            whole = f.write

            def write(data):
                if self.due():
                    whole(data[: len(data) // 2])
                    f.flush()
                    self.strike()
                    return whole(data[len(data) // 2 :])
                return whole(data)

            return Watched(f, write)
        return f

    def call(self, name, *arguments):
        """Call a function of `os`, and die before it or, next time, after it."""
        if self.due():
            self.strike()
        result = self.functions[name](*arguments)
        if self.due():
            self.strike()
        return result

    def install(self):
        """Watch the modules that write."""
        files.open = metrics.open = self.open
        for name in self.functions:
            setattr(os, name, functools.partial(self.call, name))


class Watched:
    """A file with a `write` of ours."""

    def __init__(self, f, write):
        self.f, self.write = f, write

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.f.close()

    def __getattr__(self, name):
        return getattr(self.f, name)


def fork(work):
    """Run `work` in a child process; return its number."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 99
        try:
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
    # A resumed run writes twelve times before its first step.
    at = rng.randrange(40)

    def work():
        if aimed:
            Strike(at, signum).install()
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
            assert name.startswith(".") and name.endswith(".tmp"), name
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
        assert not [n for n in os.listdir(out) if n.endswith(".tmp")]
    figures = {"deaths": deaths, "runs": runs, "steps": len(want[1]), "moments": len(moments)}
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[2] == "run":
        make_tiny(SMALL)
        sys.exit(train_in(Path(sys.argv[1]), Path(sys.argv[1]) / "out", *sys.argv[3:]))
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
