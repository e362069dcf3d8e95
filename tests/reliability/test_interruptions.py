"""Runs that are killed, or meet a disk that is full or not theirs: docs/RELIABILITY.md, 1 and 2.

test_every_death.py has every death that there can be, without a process that dies;
tests/test_files.py has `write_atomically` alone.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import drive
import pytest
from moments import Moments

from refmiracle.errors import InputError
from refmiracle.training.lock import locked
from refmiracle.training.metrics import append_metrics

resource = pytest.importorskip("resource", reason="POSIX alone has limits of resources")
DRIVE = Path(__file__).parent / "drive.py"
NOBODY = 65534


def one_thread():
    """Return the environment of a process that forks."""
    return {**os.environ, "NUMBA_NUM_THREADS": "1"}


def disturb(folder, kills, seed):
    """Run drive.py; return its figures."""
    command = [sys.executable, str(DRIVE), str(folder), str(kills), str(seed)]
    done = subprocess.run(command, env=one_thread(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    print(done.stdout)
    return json.loads(done.stdout.splitlines()[-1])


def test_killed_twice_is_the_same_run(world, goes_on):
    """As a user would be, by SIGKILL; test_every_death.py has all other places."""
    shutil.rmtree(world / "out", ignore_errors=True)
    killed = [sys.executable, str(DRIVE), str(world), "kill"]
    for at in (60, 40):
        command = [*killed, str(at), "--resume"]
        done = subprocess.run(command, env=one_thread(), capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert drive.check_whole(world / "out") > 0
    goes_on(world / "out")


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_killed_six_times_is_the_same_run(tmp_path):
    assert drive.killed(disturb(tmp_path, 6, 0)["deaths"]) >= 6


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_killed_fifty_times_is_the_same_run(tmp_path):
    figures = disturb(tmp_path, 50, 1)
    assert drive.killed(figures["deaths"]) >= 50
    assert figures["deaths"]["SIGKILL at a write"] >= 5
    assert figures["deaths"]["SIGKILL at random"] >= 5
    assert figures["moments"] >= 20


# --- the disk


class Full(Moments):
    """Fails instead of dying: the disk is full from the k-th moment on."""

    def __init__(self, folder, at):
        super().__init__(folder)
        self.left = at

    def moment(self, name):
        self.left -= name != "unlink"  # which works on a full disk
        if self.left < 0 and name != "unlink":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_at(at, out, refused, goes_on, monkeypatch):
    with monkeypatch.context() as patch:
        Full(out, at).install(patch.setattr)
        line = refused(out, "--resume")
    assert "cannot be written: No space left on device" in line
    drive.check_whole(out)
    assert not [n for n in os.listdir(out) if n.endswith(".tmp")]
    goes_on(out)


@pytest.mark.parametrize("at", [0, 1, 8, 13, 20, 40])
def test_disk_full_at_a_call(at, out, refused, goes_on, monkeypatch):
    full_at(at, out, refused, goes_on, monkeypatch)


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.parametrize("at", range(100))
def test_disk_full_at_every_call(at, out, refused, goes_on, monkeypatch):
    full_at(at, out, refused, goes_on, monkeypatch)


@contextmanager
def file_size_limit(size):
    """Let no file of this process grow above `size` bytes; Python ignores SIGXFSZ."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 500, 20_000])
def test_a_limit_of_file_size(size, out, unchanged, goes_on):
    assert (out / "checkpoint.npz").stat().st_size > 20_000
    with file_size_limit(size):
        if size > 1000:  # metrics.jsonl fits
            before = (out / "checkpoint.npz").read_bytes()
            assert "checkpoint.npz: cannot be written: File too large" in unchanged(out, "--resume")
            assert (out / "checkpoint.npz").read_bytes() == before
        else:
            assert "metrics.jsonl: cannot be written: File too large" in unchanged(out, "--resume")
    goes_on(out)


@contextmanager
def mounted(folder, *options):
    """Mount something on a folder, or skip the test."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"mount: {done.stderr.decode()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def is_root():
    return hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.mark.skipif(not is_root(), reason="only root mounts")
def test_a_disk_of_a_few_kilobytes(out, unchanged, goes_on, tmp_path):
    files = {p.name: p.read_bytes() for p in out.iterdir()}
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=400k", "tmpfs") as disk:
        there = disk / "run"
        there.mkdir()
        for name, data in files.items():
            (there / name).write_bytes(data)
        filler = disk / "filler"
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        filler.write_bytes(bytes(free - 16384))
        line = unchanged(there, "--resume")
        assert "cannot be written: No space left on device" in line
        filler.unlink()
        goes_on(there)


@pytest.mark.skipif(not is_root(), reason="only root mounts")
def test_a_read_only_mount(out, unchanged, tmp_path):
    with mounted(tmp_path / "mount", "--bind", "-o", "ro", str(out)) as folder:
        assert "cannot be written: Read-only file system" in unchanged(folder, "--resume")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_metrics_on_a_full_device():
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        append_metrics(Path("/dev/full"), {"step": 1})


@contextmanager
def not_root():
    """Be nobody for a while, so that permission bits count."""
    root = is_root()
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(os.name == "nt", reason="no permission bits")
@pytest.mark.parametrize(
    ("mode", "message"),
    [(0o555, "cannot be written: Permission denied"), (0o000, "cannot be made: Permission denied")],
)
def test_a_folder_that_may_not_be_written_to(mode, message, out, refused, goes_on):
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    out.chmod(mode)
    with not_root():
        assert message in refused(out, "--resume")
        assert "cannot be made: Permission denied" in refused(out / "run")
    out.chmod(0o755)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    goes_on(out)


@pytest.mark.skipif(os.name == "nt", reason="no permission bits")
@pytest.mark.parametrize("name", ["checkpoint.npz", "metrics.jsonl"])
def test_a_file_that_may_not_be_read(name, out, refused, goes_on):
    (out / name).chmod(0o000)
    out.chmod(0o777)
    with not_root():
        assert "Permission denied" in refused(out, "--resume")
    (out / name).chmod(0o644)
    goes_on(out)


# --- a second process


@pytest.mark.parametrize("arguments", [[], ["--resume"]])
def test_a_second_process_in_the_folder_is_refused(arguments, out, unchanged, goes_on):
    with locked(out):
        line = unchanged(out, *arguments)
    assert f"{out}: process {os.getpid()} on " in line
    assert "works there; wait for its end, or name another --out" in line
    goes_on(out)
    assert ".lock" not in os.listdir(out)
