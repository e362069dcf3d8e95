"""Files are written whole or not at all."""

import errno
import os

import pytest

from refmiracle.errors import InputError
from refmiracle.files import write_atomically


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
