"""A tiny run on a thousand random images: whole, and stopped within its training."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parents[1] / "tools" / "fuzz")]

import drive  # noqa: E402

from refmiracle import run as face  # noqa: E402
from refmiracle.training import run, settings  # noqa: E402


@pytest.fixture(scope="session")
def world():
    """A folder that everyone may enter, unlike those of pytest, with the images in it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    drive.write_images(folder / "data")
    yield folder
    shutil.rmtree(folder)


def patch_small(patch):
    """See `drive.make_tiny`."""
    patch.setitem(settings.PRESETS, "smoke", drive.SMALL)
    patch.setattr(run, "CHECKPOINT_SECONDS", -1.0)
    patch.setattr(face, "STEPS_PER_LINE", 1)


@pytest.fixture
def small(monkeypatch):
    """The smoke preset, made tiny, with a checkpoint and a line of metrics for each step."""
    patch_small(monkeypatch)


@pytest.fixture(scope="session")
def whole(world):
    """The folder of a run that nothing has disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch_small(patch)
        assert drive.train_in(world, world / "whole") == 0
    return world / "whole"


@pytest.fixture(scope="session")
def stopped(world):
    """The folder of a run that Ctrl-C has stopped after five steps; not to be written to."""
    step = run.Trainer.train_step

    def interrupted(trainer):
        if trainer.state.step == 4:
            signal.raise_signal(signal.SIGINT)
        return step(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch_small(patch)
        patch.setattr(run.Trainer, "train_step", interrupted)
        assert drive.train_in(world, world / "stopped") == 130
    return world / "stopped"


@pytest.fixture
def out(stopped, world):
    """A copy of that, to be written to."""
    folder = Path(tempfile.mkdtemp(dir=world))
    folder.chmod(0o755)
    shutil.copytree(stopped, folder / "run")
    yield folder / "run"
    shutil.rmtree(folder)


@pytest.fixture
def refused(world, small, capsys):
    """Train in a folder, which must be refused; return the line that says why."""

    def call(folder, *arguments):
        capsys.readouterr()
        assert drive.train_in(world, folder, *arguments) == 2
        lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
        # Beside it there are lines of progress, which name no program.
        own = [line for line in lines if line.startswith("refmiracle: ")]
        assert len(own) == 1, own
        assert own[0].startswith("refmiracle: error: ")
        return own[0]

    return call


def contents(folder):
    """Return all files of a folder by name."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


@pytest.fixture
def unchanged(refused):
    """The same, for a folder of which not a byte may change."""

    def call(folder, *arguments):
        before = contents(folder)
        line = refused(folder, *arguments)
        assert contents(folder) == before
        return line

    return call


@pytest.fixture
def goes_on(world, small, whole):
    """Resume a run and compare it with the undisturbed one."""

    def call(folder):
        assert drive.train_in(world, folder, "--resume") == 0
        assert drive.results(folder) == drive.results(whole)

    return call
