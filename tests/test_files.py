"""Files are written whole or not at all."""

import errno
import io
import itertools
import os
import socket
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from refmiracle import files
from refmiracle.errors import InputError
from refmiracle.files import check_writable, write_atomically


def is_root():
    return hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.mark.parametrize("data", [b"", b"\0\xff\r\n", bytes(range(256)) * 5000])
def test_writes_the_bytes(tmp_path, data):
    path = tmp_path / "model.rmc"
    write_atomically(path, data)
    assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["model.rmc"]


def test_replaces_a_file(tmp_path):
    path = tmp_path / "model.rmc"
    path.write_bytes(b"a longer old content")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["model.rmc"]


def test_takes_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atomically("model.rmc", b"new")
    assert (tmp_path / "model.rmc").read_bytes() == b"new"


def test_the_old_file_stands_until_the_new_one_is_on_the_disk(tmp_path, monkeypatch):
    path = tmp_path / "model.rmc"
    path.write_bytes(b"old")
    synced = []
    fsync = os.fsync

    def check_then_sync(descriptor):
        assert path.read_bytes() == b"old"
        synced.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", check_then_sync)
    write_atomically(path, b"new content")
    assert synced[:1] == [11]
    assert path.read_bytes() == b"new content"


def test_folder_that_is_not_there(tmp_path):
    path = tmp_path / "missing" / "model.rmc"
    with pytest.raises(InputError) as caught:
        write_atomically(path, b"new")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(InputError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "model.rmc", b"new")
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_path_that_is_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_bytes(b"old")
    with pytest.raises(InputError, match="cannot be written"):
        write_atomically(tmp_path / "folder", b"new")
    assert os.listdir(tmp_path) == ["folder"]
    assert (tmp_path / "folder" / "inside").read_bytes() == b"old"


@pytest.mark.parametrize("path", [".", "", ".."])
def test_path_without_a_name_of_its_own(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        write_atomically(path, b"new")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(is_root() or os.name == "nt", reason="may write everywhere")
def test_read_only_folder(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "model.rmc").write_bytes(b"old")
    folder.chmod(0o500)
    try:
        with pytest.raises(InputError, match="cannot be written"):
            write_atomically(folder / "model.rmc", b"new")
        assert (folder / "model.rmc").read_bytes() == b"old"
        assert os.listdir(folder) == ["model.rmc"]
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_failing_system_call_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, function):
    path = tmp_path / "model.rmc"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(InputError, match=os.strerror(errno.ENOSPC)) as caught:
        write_atomically(path, b"new")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.rmc"]


def test_error_without_a_message_is_still_one_line(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("strange")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="strange"):
        write_atomically(tmp_path / "model.rmc", b"new")
    assert os.listdir(tmp_path) == []


def test_interruption_leaves_the_old_file_and_the_next_write_cleans_up(tmp_path, monkeypatch):
    path = tmp_path / "model.rmc"
    path.write_bytes(b"old")

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert os.listdir(tmp_path) == ["model.rmc"]


@pytest.mark.skipif(os.name == "nt", reason="no permission bits")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_those_of_an_ordinary_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        (tmp_path / "ordinary").write_bytes(b"")
        write_atomically(tmp_path / "model.rmc", b"new")
    finally:
        os.umask(before)
    ordinary = (tmp_path / "ordinary").stat().st_mode
    assert oct((tmp_path / "model.rmc").stat().st_mode) == oct(ordinary)


def test_temporary_file_stands_beside_the_file(tmp_path, monkeypatch):
    """A rename is atomic only within one file system."""
    moved = []
    replace = os.replace

    def note(source, target):
        moved.append(os.path.dirname(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", note)
    write_atomically(tmp_path / "model.rmc", b"new")
    assert moved == [str(tmp_path)]


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
@pytest.mark.parametrize("there", [True, False])
def test_the_file_that_a_link_names_is_written(tmp_path, there):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    if there:
        (folder / "real.npz").write_bytes(b"old")
    (tmp_path / "link").symlink_to("elsewhere/real.npz")
    (tmp_path / "link to a link").symlink_to("link")
    write_atomically(tmp_path / "link to a link", b"new")
    assert (folder / "real.npz").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()
    assert os.listdir(folder) == ["real.npz"]


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for function in (check_writable, lambda path: write_atomically(path, b"new")):
        with pytest.raises(InputError, match="Too many levels of symbolic links"):
            function(tmp_path / "loop")


@pytest.mark.skipif(os.name == "nt", reason="no permission bits")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o4755])
def test_the_mode_of_a_file_that_is_written_again_stays(tmp_path, mode):
    path = tmp_path / "model.rmc"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert oct(path.stat().st_mode & 0o7777) == oct(mode)


@pytest.mark.skipif(not is_root(), reason="only root gives files away")
def test_the_owner_of_a_file_that_root_writes_again_stays(tmp_path):
    path = tmp_path / "model.rmc"
    path.write_bytes(b"old")
    os.chown(path, 1234, 2345)
    write_atomically(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_written_through(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    data = bytes(range(256)) * 1000  # more than a pipe holds
    with ThreadPoolExecutor(1) as other:
        read = other.submit(path.read_bytes)
        write_atomically(path, data)
        assert read.result() == data
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no such devices")
def test_a_device_stays_one():
    write_atomically(Path("/dev/null"), b"new")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    if Path("/dev/full").exists():
        with pytest.raises(InputError, match="/dev/full: cannot be written: No space left"):
            write_atomically(Path("/dev/full"), b"new")
        assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no such sockets")
def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("socket")
        with pytest.raises(InputError, match="it is a socket"):
            write_atomically(Path("socket"), b"new")


def test_what_cannot_be_written_is_known_before(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    for path, message in (
        (tmp_path / "folder", "it is a folder"),
        (tmp_path / "missing" / "x", "No such file"),
        (tmp_path / "file" / "x", "Not a directory|No such file"),
        (Path("."), "it is no name of a file"),
    ):
        with pytest.raises(InputError, match=f"cannot be written: ({message})"):
            check_writable(path)
    for path in (tmp_path / "new", tmp_path / "file"):
        check_writable(path)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.skipif(is_root() or os.name == "nt", reason="may write everywhere")
def test_a_file_that_is_write_protected_is_left_alone(tmp_path):
    path = tmp_path / "model.rmc"
    path.write_bytes(b"old")
    path.chmod(0o444)
    for function in (check_writable, lambda path: write_atomically(path, b"new")):
        with pytest.raises(InputError, match="Permission denied"):
            function(path)
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_writers_of_one_file_take_turns(tmp_path, monkeypatch):
    """Each of four has the temporary file to itself, from its first byte to its rename."""
    path, inside, most = tmp_path / "file", [], []
    fsync = os.fsync

    def sync(descriptor):
        inside.append(descriptor)
        most.append(len(inside))
        fsync(descriptor)

    replace = os.replace

    def move(*names):
        inside.pop()
        replace(*names)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", move)
    contents = [bytes([i]) * 100_000 for i in range(4)]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(10):
            list(threads.map(lambda data: write_atomically(path, data), contents))
            assert path.read_bytes() in contents
    assert set(most) == {1}
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="paths are short there")
@pytest.mark.parametrize("length", [250, 251, 255])
def test_the_longest_names(tmp_path, length):
    path = tmp_path / ("\u00e9" * 10 + "x" * (length - 20))
    check_writable(path)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("reason", ["EBUSY", "EPERM", "EXDEV"])
def test_a_file_that_may_not_be_replaced_is_written_to(tmp_path, monkeypatch, reason):
    """As one that is mounted by itself, or of another user in a folder such as /tmp."""
    path = tmp_path / "file"
    path.write_bytes(b"a longer old content")
    number = path.stat().st_ino

    def replace(*names):
        raise OSError(getattr(errno, reason), reason)

    monkeypatch.setattr(os, "replace", replace)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_ino == number
    assert os.listdir(tmp_path) == ["file"]


def test_a_disk_that_is_full_leaves_what_may_not_be_replaced(tmp_path, monkeypatch):
    """Whether it is full for what fills the buffer or for what is left in it."""
    path, opened = tmp_path / "file", itertools.count()

    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def open_in_place(name, mode, **more):
        if name == path and mode == "r+b" and next(opened) == 0:
            return io.BufferedRandom(Full(name, "r+"))
        return open(name, mode, **more)

    def replace(*names):
        raise OSError(errno.EBUSY, "EBUSY")

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(files, "open", open_in_place, raising=False)
    for size in (20, 10**6):
        opened = itertools.count()
        path.write_bytes(b"old")
        with pytest.raises(InputError, match="No space left on device"):
            write_atomically(path, bytes(size))
        assert next(opened) == 2  # what could not be written, and what was there
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["file"]


def test_an_interruption_leaves_what_may_not_be_replaced(tmp_path, monkeypatch):
    path, opened = tmp_path / "file", itertools.count()
    path.write_bytes(b"old content")

    class Interrupted(io.FileIO):
        def write(self, data):
            super().write(data[:5])
            raise KeyboardInterrupt

    def open_in_place(name, mode, **more):
        if name == path and mode == "r+b" and next(opened) == 0:
            return Interrupted(name, "r+")
        return open(name, mode, **more)

    def replace(*names):
        raise OSError(errno.EBUSY, "EBUSY")

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(files, "open", open_in_place, raising=False)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old content"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path):
    (tmp_path / "victim").write_bytes(b"somebody's")
    (tmp_path / ".file.tmp").symlink_to("victim")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "victim").read_bytes() == b"somebody's"
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["file", "victim"]


@pytest.mark.parametrize("without", ["module", "file system"])
def test_without_locks_each_writer_has_a_file_of_its_own(tmp_path, monkeypatch, without):
    fsync, both = os.fsync, threading.Barrier(2)
    if without == "module":
        monkeypatch.setattr(files, "fcntl", None)
    else:

        def flock(*arguments):
            both.wait(60)  # until both have opened the file that they would share
            no_locks()

        monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", flock)

    def sync(descriptor):
        both.wait(60)  # until both have written
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    contents = [b"A" * 1000, b"BB"]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda data: write_atomically(tmp_path / "file", data), contents))
    assert (tmp_path / "file").read_bytes() in contents
    assert os.listdir(tmp_path) == ["file"]


def no_locks():
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="POSIX")
def test_a_device_without_a_standard_output(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    write_atomically(Path("/dev/null"), b"new")
