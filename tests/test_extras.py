"""Libraries that are missing, hidden or broken: one line each, before any work."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import refmiracle
from refmiracle import extras
from refmiracle.errors import InputError
from refmiracle.extras import NotInstalledError, import_extra

ROOT = Path(refmiracle.__file__).parent
MODEL = ROOT.parent / "data" / "models" / "lenet5-1551.rmc"
# Import name, and a command that needs it.
NEEDED = {
    "onnx": ["export", str(MODEL), "--to", "onnx"],
    "safetensors": ["export", str(MODEL), "--to", "safetensors"],
    "torch": ["export", str(MODEL), "--to", "torch"],
    "matplotlib": ["study", "rate-distortion", "--preset", "smoke", "--out", "out"],
    "jinja2": ["report", "nowhere"],
    "distributed": ["study", "codes", "--out", "out", "--dask", "tcp://127.0.0.1:9"],
}
FAULTS = {
    "raise ImportError('DLL load failed')": "ImportError: DLL load failed",
    "raise OSError('libcudart.so.12: cannot open')": "OSError: libcudart.so.12: cannot open",
    "import a_part_that_is_missing": "No module named 'a_part_that_is_missing'",
    "raise SystemExit('a script of the same name')": "SystemExit: a script of the same name",
    "": "has no ",
}


def refused(arguments, folder, **environment):
    """What a command says in its one line; it has decoded, trained and written nothing."""
    before = sorted(folder.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-B", "-m", "refmiracle", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert sorted(folder.rglob("*")) == before
    return done.stderr


def write_package(folder, name, code):
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)
    return folder / name


@pytest.mark.parametrize("library", NEEDED)
def test_a_library_that_cannot_be_loaded_is_one_line(library, tmp_path):
    fakes, here = tmp_path / "fakes", tmp_path / "here"
    here.mkdir()
    fake = write_package(fakes, library, "raise ImportError('DLL load failed')")
    error = refused(NEEDED[library], here, PYTHONPATH=str(fakes))
    assert f"{library} is installed but cannot be loaded from {fake}" in error
    assert "ImportError: DLL load failed" in error
    assert f"install it again: pip install --force-reinstall {library}" in error


@pytest.mark.parametrize("library", ["onnx", "matplotlib", "distributed"])
def test_a_package_in_the_current_folder_is_named(library, tmp_path):
    fake = write_package(tmp_path, library, "")
    error = refused(NEEDED[library], tmp_path)
    assert f"{fake} is taken for {library}" in error
    assert f"({library} has no " in error
    assert "rename it, or start in another folder" in error


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Write a library of a name that nothing has; it is forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda code: write_package(tmp_path, "no_such_library", code)
    for name in [n for n in sys.modules if n.split(".")[0] == "no_such_library"]:
        del sys.modules[name]


@pytest.mark.parametrize("code", FAULTS)
def test_whatever_a_library_raises_is_one_line(fake, code):
    place = fake(code)
    with pytest.raises(InputError) as caught:
        import_extra("no_such_library", "onnx", ("save",), "--to")
    message = str(caught.value)
    assert message.startswith("--to: no_such_library is installed but cannot be loaded from")
    assert str(place) in message
    assert FAULTS[code] in message
    assert not isinstance(caught.value, NotInstalledError)


def test_what_is_installed_under_another_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    write_package(tmp_path, "sklearn", "raise ImportError('DLL load failed')")
    for name in [n for n in sys.modules if n.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InputError, match=r"pip install --force-reinstall scikit-learn$"):
        import_extra("sklearn.base", "sklearn")


def test_a_library_that_is_missing_is_told_from_a_broken_one():
    with pytest.raises(NotInstalledError, match=r"^no_such_library is not installed; pip install"):
        import_extra("no_such_library.part", "onnx")


def test_a_folder_of_that_name_is_no_library(fake):
    place = fake("")
    (place / "__init__.py").unlink()
    with pytest.raises(InputError, match="is taken for it") as caught:
        import_extra("no_such_library", "onnx")
    assert str(place) in str(caught.value)
    assert 'pip install "refmiracle[onnx]"' in str(caught.value)
    assert not isinstance(caught.value, NotInstalledError)


def test_a_folder_that_hides_an_installed_library_is_named(fake, monkeypatch):
    place = fake("")
    (place / "__init__.py").unlink()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
    with pytest.raises(InputError, match="hides no_such_library; rename it") as caught:
        import_extra("no_such_library", "onnx")
    assert str(place) in str(caught.value)


def test_a_module_of_a_library_and_what_it_says_while_it_is_loaded(fake, capsys):
    place = fake("import warnings, logging; warnings.warn('old'); logging.warning('busy')")
    (place / "part.py").write_text("value = 7")
    assert import_extra("no_such_library.part", "onnx", ("value",)).value == 7
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_no_other_module_imports_an_extra_by_itself():
    extras = {*NEEDED, "PIL", "jax", "tqdm", "onnxruntime", "sklearn"}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            elif not isinstance(node, ast.Import):
                continue
            assert not extras & {name.split(".")[0] for name in names}, path


def test_hints_work_in_every_shell():
    """cmd.exe takes single quotes for a part of the name."""
    root = ROOT.parent
    for path in (*ROOT.rglob("*.py"), *root.glob("docs/**/*.md"), root / "README.md"):
        if path.exists():
            assert "install 'refmiracle[" not in path.read_text(encoding="utf-8"), path


def test_one_thread_at_a_time_silences_what_a_library_says():
    """Warnings and logging are everybody's: a second one would keep the silence of the first."""
    with extras._unheard(), ThreadPoolExecutor(1) as other:
        assert not other.submit(extras._turn.acquire, blocking=False).result(60)
