"""Where refmiracle is installed and how Python, numba and BLAS are set: docs/RELIABILITY.md, 6."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import refmiracle

PACKAGE = Path(refmiracle.__file__).parent
ROOT = PACKAGE.parent
MODEL = "lenet5-891.rmc"
NOBODY = 65534


def run(command, folder, *flags, path=ROOT, **environment):
    """Run a command of refmiracle in a process of its own."""
    whole = {**os.environ, "PYTHONPATH": str(path), **environment}
    module, *arguments = command
    return subprocess.run(
        [sys.executable, *flags, "-m", f"refmiracle.{module}", *arguments],
        cwd=folder,
        env=whole,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The SHA-256 of a model's weights as the reference engine decodes them."""
    folder = tmp_path_factory.mktemp("expected")
    done = run(["decode", MODEL, "--engine", "numpy", "--out", "w.npz"], folder)
    assert done.returncode == 0, done.stderr
    return digest(folder / "w.npz")


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("NUMBA_DISABLE_JIT", "1", "NUMBA_DISABLE_JIT is set, and engine numba is compiled"),
        ("NUMBA_NUM_THREADS", "0", "NUMBA_NUM_THREADS=0); mend that, or use --engine numpy"),
        ("NUMBA_NUM_THREADS", "many", "'NUMBA_NUM_THREADS' is defined but its associated value"),
        ("NUMBA_CPU_FEATURES", "avx2", "NUMBA_CPU_FEATURES holds 'avx2'; expected features like"),
        ("NUMBA_FUNCTION_CACHE_SIZE", "-1", "NUMBA_FUNCTION_CACHE_SIZE=-1)"),
    ],
)
def test_settings_that_numba_cannot_work_with_are_one_line(tmp_path, name, value, says):
    done = run(["decode", MODEL, "--out", "w.npz"], tmp_path, **{name: value})
    assert done.returncode == 2
    assert done.stderr.startswith("refmiracle: error: ")
    assert done.stderr.count("\n") == 1
    assert "--engine numpy" in done.stderr or "expected features" in done.stderr
    assert says in done.stderr
    assert os.listdir(tmp_path) == []
    done = run(["decode", MODEL, "--engine", "numpy", "--out", "w.npz"], tmp_path, **{name: value})
    assert (done.returncode, done.stderr) == (0, "")


def test_a_library_of_numba_that_cannot_be_loaded_is_one_line(tmp_path):
    """As llvmlite says it where its shared object is missing."""
    (tmp_path / "llvmlite").mkdir()
    (tmp_path / "llvmlite" / "__init__.py").write_text(
        "raise OSError('Could not find/load shared object file: libllvmlite.so\\nNo such file')\n"
    )
    paths = os.pathsep.join((str(tmp_path), str(ROOT)))
    done = run(["decode", MODEL, "--out", "w.npz"], tmp_path, path=paths)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "engine numba cannot be loaded (Could not find/load shared object" in done.stderr


# Variables of numba, BLAS and Python, and flags of Python, with which all works.
SETTINGS = (
    {"PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"},
    {"PYTHONOPTIMIZE": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"},
    {"PYTHONMALLOC": "debug", "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "0"},
    {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "0", "OPENBLAS_NUM_THREADS": "0"},
    {"NUMBA_NUM_THREADS": "100", "OMP_NUM_THREADS": "x", "MKL_NUM_THREADS": "-1"},
    {"NUMBA_THREADING_LAYER": "omp", "OPENBLAS_CORETYPE": "Prescott"},
    {"NUMBA_OPT": "0"},
    {"NUMBA_BOUNDSCHECK": "1"},
    {"NUMBA_DEBUGINFO": "1", "NUMBA_FULL_TRACEBACKS": "1", "NUMBA_DEVELOPER_MODE": "1"},
    {"NUMBA_CPU_NAME": "generic"},
    {"NUMBA_ENABLE_AVX": "0", "NUMBA_LOOP_VECTORIZE": "0", "NUMBA_SLP_VECTORIZE": "1"},
    {"NUMBA_CACHE_LOCATOR_CLASSES": "Foreign", "NUMBA_CAPTURED_ERRORS": "old_style"},
)


def check_decode(settings, folder, expected):
    done = run(["decode", MODEL, "--out", "w.npz"], folder, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert digest(folder / "w.npz") == expected


def test_python_without_docstrings_and_with_warnings_as_errors(tmp_path, expected):
    check_decode(SETTINGS[0], tmp_path, expected)


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.parametrize("settings", SETTINGS[1:], ids="-".join)
def test_other_settings_of_python_numba_and_blas(settings, tmp_path, expected):
    check_decode(settings, tmp_path, expected)


# --- an installation that cannot be written to, of another user, who has no home


def unprivileged():
    """Return a command's beginning and options of subprocess for a user whom modes stop.

    Root is nobody; where nobody may not even run this Python, root without its powers.
    """
    if not hasattr(os, "geteuid") or os.geteuid():
        return [], {}
    nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        subprocess.run([sys.executable, "-c", ""], check=True, capture_output=True, **nobody)
    except (OSError, subprocess.CalledProcessError):
        drop = shutil.which("setpriv")
        if drop is None:
            pytest.skip("root writes everywhere, and nobody may not run this Python")
        return [drop, "--bounding-set=-all", "--inh-caps=-all"], {}
    return [], nobody


@pytest.fixture
def installed():
    """A copy of the package that may not be written to, and a folder that may.

    In a folder that everyone may enter, unlike those of pytest.
    """
    if os.name == "nt":
        pytest.skip("no permission bits")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    copy, work = folder / "installed", folder / "work"
    shutil.copytree(PACKAGE, copy / "refmiracle", ignore=shutil.ignore_patterns("__pycache__"))
    if not (PACKAGE / "data").exists():  # a checkout has it beside the package
        shutil.copytree(ROOT / "data", copy / "data")
    for path in (*copy.rglob("*"), copy):
        path.chmod(0o555 if path.is_dir() else 0o444)
    work.mkdir()
    work.chmod(0o777)
    yield copy, work
    for path in (copy, *copy.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def run_installed(installed, *command):
    copy, work = installed
    begin, options = unprivileged()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_"))}
    environment |= {"PYTHONPATH": str(copy), "HOME": str(copy)}
    return subprocess.run(
        [*begin, sys.executable, "-m", *command],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


NOTHING_KEPT = "refmiracle: compiled code cannot be kept, so each start compiles anew ("


def test_an_installation_of_another_user_that_cannot_be_written_to(installed, expected):
    done = run_installed(installed, "refmiracle.decode", MODEL, "--out", "w.npz")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(NOTHING_KEPT)
    assert done.stderr.count("\n") == 1
    assert digest(installed[1] / "w.npz") == expected
    assert not list(installed[0].rglob("__pycache__"))


@pytest.mark.slow
@pytest.mark.minutes
def test_every_command_of_such_an_installation(installed):
    for command, says in (
        (["train", "--preset", "smoke", "--out", "run"], "1589 bytes"),
        (["evaluate", "run/model.rmc"], "1589 bytes"),
        (["decode", "run/model.rmc", "--out", "w.npz"], "431080 float32 weights"),
        (["export", "run/model.rmc", "--to", "npz"], "431080 float32 weights"),
        (["report", "run"], "open it in a browser"),
        (
            [
                *("conformance", "--deadline", "600", "--backend"),
                "refmiracle.conformance.engine_backend:numba_backend",
            ],
            "refmiracle numba engine",
        ),
    ):
        done = run_installed(installed, f"refmiracle.{command[0]}", *command[1:])
        assert done.returncode == 0, done.stderr
        assert says in done.stdout
        assert done.stderr.count(NOTHING_KEPT) == 1
        assert "Traceback" not in done.stderr
