"""What is printed never decides the exit code of work that succeeded."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from refmiracle import streams
from refmiracle.streams import Output

MODEL = "lenet5-891.rmc"


class Broken(io.StringIO):
    """A stream that takes nothing."""

    def __init__(self, error):
        super().__init__()
        self.asked, self.failure = 0, error

    def write(self, text):
        self.asked += 1
        raise self.failure

    def fileno(self):
        raise io.UnsupportedOperation


def test_a_stream_that_is_whole_gets_everything():
    stream = io.StringIO()
    output = Output(stream)
    assert output.write("mu\n") == 3
    output.flush()
    assert stream.getvalue() == "mu\n"
    assert output.error is None
    assert output.encoding == stream.encoding
    assert not output.isatty()


def test_no_stream_takes_everything():
    output = Output(None)
    print("mu", file=output, flush=True)
    assert not output.isatty()
    with pytest.raises(OSError, match="there is no stream"):
        output.fileno()


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(errno.ENOSPC, "full"), ValueError("closed")]
)
def test_a_stream_that_breaks_is_asked_once(error):
    stream = Broken(error)
    output = Output(stream)
    for _ in range(3):
        print("mu", file=output, flush=True)
    assert stream.asked == 1
    assert output.error is error


@pytest.mark.parametrize(
    ("encoding", "text", "expected"),
    [
        ("cp1252", "модель", rb"\u043c\u043e\u0434\u0435\u043b\u044c"),
        ("ascii", "na\u00efve", rb"na\xefve"),
        ("utf-8", "l\udce4", rb"l\udce4"),
        ("utf-8", "модель", "модель".encode()),
    ],
)
def test_letters_that_the_stream_lacks_are_numbers(encoding, text, expected):
    bytes_ = io.BytesIO()
    output = Output(io.TextIOWrapper(bytes_, encoding=encoding))
    print(text, file=output, end="", flush=True)
    assert bytes_.getvalue() == expected


def decode(folder, *arguments, **options):
    """Decode a model in a process of its own; the reference engine starts soonest."""
    command = [sys.executable, "-m", "refmiracle.decode", MODEL, "--engine", "numpy", *arguments]
    return subprocess.run(command, cwd=folder, check=False, **options)


@pytest.mark.skipif(os.name == "nt", reason="a shell closes them here")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_without_a_console(tmp_path, closed):
    """As under pythonw, or in a service; nothing gets into the file that has their number."""
    command = f'"{sys.executable}" -m refmiracle.decode {MODEL} --engine numpy --out w.npz {closed}'
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0
    assert not done.stderr
    assert decode(tmp_path, "--out", "again.npz", capture_output=True).returncode == 0
    assert (tmp_path / "w.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()


def test_missing_descriptors_are_not_given_to_files(monkeypatch):
    opened, closed = iter([0, 2, 3]), []
    monkeypatch.setattr(streams.os, "open", lambda *_: next(opened))
    monkeypatch.setattr(streams.os, "close", closed.append)
    monkeypatch.setattr(streams.os, "set_inheritable", lambda *_: None)
    streams.open_missing_descriptors()
    assert closed == [3]


@pytest.mark.parametrize(
    ("name", "encoding"), [("модель.npz", "cp1252"), ("модель.npz", "ascii"), ("w.npz", "utf-16")]
)
def test_a_name_that_standard_output_cannot_write(tmp_path, name, encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = decode(tmp_path, "--out", name, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"431080 float32 weights" in done.stdout.replace(b"\0", b"")
    assert (tmp_path / name).stat().st_size > 1_700_000


@pytest.mark.skipif(sys.platform != "linux", reason="names are no bytes there")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8:strict", "cp1252"])
def test_a_name_of_other_bytes(tmp_path, encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = decode(tmp_path, "--out", b"l\xe4.npz", env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\udce4.npz: 431080 float32 weights" in done.stdout
    assert os.listdir(os.fsencode(tmp_path)) == [b"l\xe4.npz"]
    done = subprocess.run(
        [sys.executable, "-m", "refmiracle.evaluate", b"l\xe4.rmc"],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == rb"refmiracle: error: l\udce4.rmc: No such file or directory" + b"\n"


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="it has no name there")
def test_standard_output_by_its_name(tmp_path):
    """The bytes and nothing else, whether it is a pipe or a file; the line goes elsewhere."""
    decode(tmp_path, "--out", "w.npz")
    whole = (tmp_path / "w.npz").read_bytes()
    pipe = decode(tmp_path, "--out", "/dev/stdout", capture_output=True)
    assert pipe.stdout == whole
    assert pipe.stderr.startswith(b"/dev/stdout: 431080 float32 weights")
    with open(tmp_path / "redirected", "wb") as f:
        f.write(b"before")
        f.flush()
        decode(tmp_path, "--out", "/dev/stdout", stdout=f, stderr=subprocess.DEVNULL)
    assert (tmp_path / "redirected").read_bytes() == b"before" + whole
    assert stat.S_ISLNK(os.lstat("/dev/stdout").st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_figures_that_could_not_be_printed_are_a_failure(few_images_folder):
    """Where what is printed is all that was asked for."""
    command = [sys.executable, "-m", "refmiracle.evaluate", MODEL, "--engine", "numpy"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*command, "--data", str(few_images_folder)],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == b"refmiracle: error: standard output: No space left on device\n"


def test_a_simple_stand_in_for_a_stream():
    """As some notebooks and services have it: it writes, and nothing else."""

    class Written(list):
        write = list.append

    written = Written()
    output = Output(written)
    print("mu", file=output, flush=True)
    assert "".join(written) == "mu\n"
    assert not output.isatty()


def test_commands_in_several_threads_leave_the_streams_as_they_were():
    before = sys.stdout, sys.stderr
    inside, leave = threading.Barrier(3), threading.Barrier(3)

    def command():
        with streams.guarded_streams():
            inside.wait(60)
            leave.wait(60)

    with ThreadPoolExecutor(2) as threads:
        done = [threads.submit(command) for _ in range(2)]
        inside.wait(60)
        assert isinstance(sys.stdout, Output)
        assert not isinstance(sys.stdout.stream, Output)
        leave.wait(60)
        assert [d.result() for d in done] == [None, None]
    assert (sys.stdout, sys.stderr) == before


def test_of_two_commands_that_overlap_the_last_one_takes_the_guard_away():
    before = sys.stdout, sys.stderr
    first, second = streams.guarded_streams(), streams.guarded_streams()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert isinstance(sys.stdout, Output)
    second.__exit__(None, None, None)
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_lines_are_written_one_after_the_other(stream):
    Output(stream).writelines(["mu\n", "sigma\n"])
    assert stream is None or stream.getvalue() == "mu\nsigma\n"
