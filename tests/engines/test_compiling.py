"""Compiled code that is kept: never old, never damaged, never in the way."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import refmiracle
from refmiracle.engines.numba_engine import compiling
from refmiracle.numerics.normal import normal_quantile

PACKAGE = Path(refmiracle.__file__).parent


def triple(x):
    return 3 * x


@pytest.fixture
def place(tmp_path, monkeypatch):
    """One folder for code, and nothing said yet."""
    folder = tmp_path / "cache" / "refmiracle-source-surroundings"
    monkeypatch.setattr(compiling, "folders", lambda: [folder])
    compiling.say_that_nothing_is_kept.cache_clear()
    compiling.clear_old.cache_clear()
    yield folder
    compiling.say_that_nothing_is_kept.cache_clear()


def compile_triple():
    """Compile the function anew, or load it; return how often it was found."""
    dispatcher = compiling.compiled(nogil=True)(triple)
    assert dispatcher(14) == 42
    return sum(dispatcher.stats.cache_hits.values())


def test_code_is_kept_and_found(place):
    assert compile_triple() == 0
    (file,) = place.iterdir()
    assert file.name.startswith("test_compiling.triple-")
    assert compile_triple() == 1


def test_a_second_signature_is_another_file(place):
    dispatcher = compiling.compiled(nogil=True)(triple)
    assert (dispatcher(1), dispatcher(1.5)) == (3, 4.5)
    assert len(list(place.iterdir())) == 2


def test_code_under_the_name_of_other_code_is_compiled_again(place):
    dispatcher = compiling.compiled(nogil=True)(triple)
    assert (dispatcher(1), dispatcher(1.5)) == (3, 4.5)
    one, other = place.iterdir()
    one.write_bytes(other.read_bytes())
    dispatcher = compiling.compiled(nogil=True)(triple)
    assert (dispatcher(1), dispatcher(1.5)) == (3, 4.5)
    assert sum(dispatcher.stats.cache_hits.values()) == 1


def outside_names(tree, inside):
    """What a module imports of the package from outside some parts of it, by name."""
    imported = (n for n in tree.body if isinstance(n, ast.ImportFrom))
    outside = [n for n in imported if n.module.startswith("refmiracle")]
    outside = [n for n in outside if not n.module.startswith(inside)]
    return {alias.asname or alias.name for n in outside for alias in n.names}


def test_all_that_is_compiled_is_in_the_digest():
    """A constant from elsewhere could change, and old code would still be found."""
    inside = ("refmiracle.engines.numba_engine", "refmiracle.numerics")
    compiled = 0
    for file in (PACKAGE / "engines" / "numba_engine").glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        outside = outside_names(tree, inside)
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        functions = [n for n in functions if n.decorator_list]
        constants = [n for n in tree.body if isinstance(n, ast.Assign)]
        compiled += len(functions)
        for node in functions + constants:
            used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            assert not used & outside, f"{file.name}: {used & outside}"
    assert compiled > 100


def damage(data):
    yield from (b"", data[:1], data[:32], data[: len(data) // 2], data[:-1], data + b"\0")
    for at in (0, 31, 32, 40, len(data) // 2, len(data) - 1):
        yield data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_code_that_is_cut_off_or_damaged_is_compiled_again(place):
    compile_triple()
    (file,) = place.iterdir()
    whole = file.read_bytes()
    for damaged in damage(whole):
        file.write_bytes(damaged)
        assert compile_triple() == 0
        assert compile_triple() == 1


def test_where_nothing_can_be_kept_it_is_compiled_and_said_once(place, caplog):
    place.parent.write_bytes(b"a file in the way")
    assert compile_triple() == compile_triple() == 0
    (said,) = caplog.messages
    assert said.startswith("refmiracle: compiled code cannot be kept, so each start")
    assert str(place.parent) in said
    assert "\n" not in said


def test_a_folder_where_the_file_belongs_is_no_failure(place):
    compile_triple()
    (file,) = place.iterdir()
    file.unlink()
    file.mkdir()
    assert compile_triple() == 0
    assert list(place.iterdir()) == [file]


def test_a_disk_that_is_full_is_said(place, caplog, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiling.os, "replace", full)
    assert compile_triple() == 0
    assert "No space left on device" in caplog.text
    assert not list(place.iterdir())


def test_the_second_folder_is_taken_where_the_first_is_closed(place, tmp_path, monkeypatch, caplog):
    (tmp_path / "closed").write_bytes(b"")
    monkeypatch.setattr(compiling, "folders", lambda: [tmp_path / "closed" / "x", place])
    assert compile_triple() == 0
    assert compile_triple() == 1
    assert not caplog.messages


def test_what_another_user_has_compiled_is_read(place, tmp_path, monkeypatch):
    compile_triple()
    monkeypatch.setattr(compiling, "folders", lambda: [place, tmp_path / "own"])
    monkeypatch.setattr(compiling, "write_whole", None)
    assert compile_triple() == 1


def test_old_code_is_cleared_away(tmp_path, monkeypatch):
    """That of another source at once where only one source can be, elsewhere after a month."""
    monkeypatch.setattr(compiling, "HERE", tmp_path / "package")
    for place, expected in ((tmp_path / "package" / "cache", False), (tmp_path / "user", True)):
        source = compiling.of_source()
        now, other_machine = (place / f"refmiracle-{source}-{end}" for end in ("here", "there"))
        another, ancient, foreign = (
            place / name for name in ("refmiracle-0123-here", "refmiracle-4567-here", "foreign")
        )
        for folder in (other_machine, another, ancient, foreign):
            folder.mkdir(parents=True)
            (folder / "code.bin").write_bytes(b"code")
        past = time.time() - compiling.KEPT_SECONDS - 60
        os.utime(ancient, (past, past))
        os.utime(foreign, (past, past))
        compiling.write_whole(now, "new.bin", b"new")
        assert (now / "new.bin").read_bytes() == b"new"
        assert other_machine.exists()
        assert foreign.exists()
        assert not ancient.exists()
        assert another.exists() is expected


def test_the_folder_of_the_code_itself_is_never_old(place):
    """Reading does not make a folder younger, so one that is full may be as old as it likes."""
    compiling.write_whole(place, "old.bin", b"old")
    past = time.time() - compiling.KEPT_SECONDS - 60
    os.utime(place, (past, past))
    compiling.clear_old.cache_clear()
    compiling.write_whole(place, "new.bin", b"new")
    assert sorted(os.listdir(place)) == ["new.bin", "old.bin"]


def test_folders_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setattr(compiling.numba.config, "CACHE_DIR", str(tmp_path))
    assert [f.parent for f in compiling.folders.__wrapped__()] == [tmp_path]
    monkeypatch.setattr(compiling.numba.config, "CACHE_DIR", "")
    beside, own = compiling.folders.__wrapped__()
    assert beside.parent == PACKAGE / "engines" / "numba_engine" / "__pycache__"
    assert own.is_absolute()
    assert beside.name == own.name


@pytest.mark.skipif(os.name == "nt", reason="Windows knows its folders otherwise")
def test_without_a_home_no_folder_is_made_up(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert len(compiling.folders.__wrapped__()) == 1


def test_what_numba_is_told_decides_the_folder(monkeypatch):
    def digest():
        return compiling.of_surroundings.__wrapped__()

    before = digest()
    monkeypatch.setattr(compiling.numba.config, "NUMBA_NUM_THREADS", 77)
    assert digest() == before
    monkeypatch.setattr(compiling.numba.config, "BOUNDSCHECK", 1)
    assert digest() != before


WORDS = """
import numpy as np
from refmiracle.engines import get_engine
words = get_engine("numba").philox4x32(np.zeros(4, np.uint32), np.zeros(2, np.uint32))
print(*words, sep=",")
"""


# Of Philox4x32-10 for counter and key 0 (Random123, kat_vectors).
KNOWN_ANSWER = "1713891541,3781805453,3159862348,2600524760\n"
# The same words, as normals.
NORMALS = """
from refmiracle.engines import get_engine
print(*get_engine("numba").normals(0, 0, [0], 4)[0], sep=",")
"""


def run_copy(folder, code=WORDS, **environment):
    """Run that on the copy of the package in a folder; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(folder), **environment}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stderr
    return done.stdout


@pytest.mark.slow
def test_an_edit_of_one_file_is_seen_by_all_that_call_into_it(tmp_path):
    """numba's own cache looks at `normals`, whose function calls one of `philox`."""
    shutil.copytree(PACKAGE, tmp_path / "refmiracle", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "refmiracle" / "engines" / "numba_engine" / "philox.py"
    cache = file.parent / "__pycache__"
    text = file.read_text(encoding="utf-8")
    u = (np.array(KNOWN_ANSWER.split(","), dtype=np.float64) + 0.5) / 2**32
    known = ",".join(map(str, normal_quantile(u).astype(np.float32))) + "\n"
    assert run_copy(tmp_path, NORMALS) == known
    (kept,) = cache.glob("refmiracle-*")
    assert run_copy(tmp_path, NORMALS) == known
    assert "0xD2511F53" in text
    file.write_text(text.replace("0xD2511F53", "0xD2511F55"), encoding="utf-8", newline="\n")
    assert run_copy(tmp_path, NORMALS) != known
    assert not kept.exists()
    file.write_text("this is no Python\n", encoding="utf-8")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run_copy(tmp_path, NORMALS)
    assert "cannot be loaded" in failed.value.stderr


@pytest.mark.slow
def test_processes_that_compile_at_once(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "missing" / "folder")}
    command = [sys.executable, "-c", WORDS]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    answers = {p.communicate() for p in running}
    assert len(answers) == 1
    assert not next(iter(answers))[1]
    (kept,) = (tmp_path / "missing" / "folder").iterdir()
    assert kept.name.startswith("refmiracle-")
    assert all(path.suffix == ".bin" for path in kept.iterdir())
