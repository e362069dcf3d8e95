from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from refmiracle.errors import InputError
from refmiracle.training import lock
from refmiracle.training.lock import locked

OWNER = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from refmiracle.training.lock import locked
    with locked(Path(sys.argv[1])):
        if sys.argv[2:] and os.fork() == 0:
            print(os.getpid(), flush=True)
            sys.stdin.read()
            sys.exit()  # through the end of the block
        if not sys.argv[2:]:
            print(os.getpid(), flush=True)
        sys.stdin.read()
    """
)


@pytest.fixture
def owner(tmp_path):
    """Start a process that works in a folder until its standard input ends."""
    started = []

    def start(*arguments):
        command = [sys.executable, "-c", OWNER, str(tmp_path), *arguments]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def test_two_processes(owner, tmp_path):
    process, number = owner()
    for _ in range(2):
        with pytest.raises(InputError) as e, locked(tmp_path):
            pass
        assert f"{tmp_path}: process {number} on " in str(e.value)
        assert "works there; wait for its end, or name another out" in str(e.value)
    process.stdin.close()
    assert process.wait() == 0
    assert not [*tmp_path.iterdir()]
    with locked(tmp_path):
        assert [p.name for p in tmp_path.iterdir()] == [lock.NAME]
    assert not [*tmp_path.iterdir()]


def test_an_owner_that_was_killed(owner, tmp_path):
    process, _ = owner()
    process.kill()
    process.wait()
    assert [p.name for p in tmp_path.iterdir()] == [lock.NAME]
    with locked(tmp_path):
        assert f"process {os.getpid()} on " in (tmp_path / lock.NAME).read_text()
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_neither_keeps_nor_lifts_the_lock(owner, tmp_path):
    process, child = owner("fork")
    with pytest.raises(InputError, match="works there"), locked(tmp_path):
        pass
    process.kill()
    process.wait()
    os.kill(child, 0)  # it lives
    with locked(tmp_path):
        process.stdin.close()
        process.stdout.read()  # until it has ended
        assert (tmp_path / lock.NAME).exists()


def test_two_threads(tmp_path):
    refused = []

    def work():
        said = f"process {os.getpid()} on .* works there"
        with pytest.raises(InputError, match=said), locked(tmp_path):
            pass
        refused.append(True)

    with locked(tmp_path):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert refused


@pytest.mark.parametrize("content", [b"", b"\x1b[31mred", b"\xff\xfe", bytes(1000)])
def test_a_file_that_does_not_tell_its_owner(owner, tmp_path, content):
    owner()
    (tmp_path / lock.NAME).write_bytes(content)
    with pytest.raises(InputError, match=r": another process works there;"), locked(tmp_path):
        pass


def test_a_full_disk_stops_no_lock(tmp_path, monkeypatch):
    def write(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", write)
    said = "another process works there"
    with locked(tmp_path), pytest.raises(InputError, match=said), locked(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_there_are_no_locks_the_log_says_so(tmp_path, monkeypatch, caplog, number):
    fcntl = pytest.importorskip("fcntl")

    def flock(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path):
        (record,) = caplog.records
    assert "nothing keeps a second process out" in record.getMessage()
    assert not [*tmp_path.iterdir()]


def test_a_lock_that_fails_is_one_line(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def flock(*arguments):
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(fcntl, "flock", flock)
    said = r"\.lock: cannot be written: the disk is broken"
    with pytest.raises(InputError, match=said), locked(tmp_path):
        pass


def test_an_owner_that_ends_between_opening_and_locking(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    flock, calls = fcntl.flock, []

    def remove_first(*arguments):
        if not calls:
            (tmp_path / lock.NAME).unlink()
        calls.append(arguments)
        return flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with locked(tmp_path):
        assert len(calls) == 2
        with pytest.raises(InputError), locked(tmp_path):
            pass


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX")
def test_a_folder_in_the_place_of_the_lock_is_one_line(tmp_path):
    (tmp_path / lock.NAME).mkdir()
    said = r"\.lock: cannot be written: Is a directory"
    with pytest.raises(InputError, match=said), locked(tmp_path):
        pass
