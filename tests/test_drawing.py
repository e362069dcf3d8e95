"""Figures: the same bytes in whatever surroundings, and no surroundings changed by them."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from oracles import run_python

from refmiracle import drawing
from refmiracle.drawing import check_drawing, figure_bytes, log_axis, new_figure, own_style
from refmiracle.errors import InputError
from refmiracle.studies import (
    codes_figures,
    convergence_figures,
    pruning_figures,
    tails_figures,
    uncertainty_figures,
)
from refmiracle.studies.figures import draw_frontier

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytestmark = pytest.mark.filterwarnings("error")

NOTEBOOK = "module://matplotlib_inline.backend_inline"
# What somebody may have set: fonts and TeX that are not here, sizes, and how files are written.
SOMEBODYS = """
text.usetex: True
font.family: serif
font.size: 23
lines.linewidth: 9
figure.dpi: 31
savefig.dpi: 47
savefig.transparent: True
savefig.bbox: tight
svg.fonttype: none
svg.hashsalt: somebody
pdf.fonttype: 42
axes.grid: True
axes.formatter.limits: -1, 1
path.sketch: 1, 100, 2
xtick.direction: in
image.cmap: gray
backend: pdf
"""
DIGESTS = """
import hashlib, sys
from refmiracle import drawing
from refmiracle.reports import figures
from refmiracle.studies.figures import draw_frontier
from refmiracle.studies.foreign import foreign_digits

points = [
    {"bits_per_block": 10, "bytes": 900 + n, "validation_error": 0.05 / n, "test_error": 0.04 / n,
     "on_frontier": True}
    for n in (1, 2, 3)
]
parts = drawing.figure_bytes(lambda: draw_frontier(points), ("png", "svg", "pdf"))
with drawing.own_style(figures.STYLE):
    parts.append(figures.draw_pruning([(0, 0.02), (0.5, 0.1), (0.9, 0.7)]).encode())
parts.append(foreign_digits(1).tobytes())
print(*(hashlib.sha256(part).hexdigest() for part in parts))
assert "matplotlib.pyplot" not in sys.modules
"""


@pytest.fixture(scope="module")
def digests():
    return run_python(DIGESTS, MPLBACKEND="")


@pytest.fixture
def somebodys(tmp_path):
    path = tmp_path / "matplotlibrc"
    path.write_text(SOMEBODYS)
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("backend", [NOTEBOOK, "module://no.such.backend", "svg", "tkagg"])
def test_a_backend_in_the_environment_changes_nothing(digests, backend):
    assert run_python(DIGESTS, MPLBACKEND=backend) == digests


@pytest.mark.slow
def test_settings_of_somebody_change_nothing(digests, somebodys):
    assert run_python(DIGESTS, MATPLOTLIBRC=somebodys) == digests


@pytest.mark.slow
def test_warnings_as_errors_change_nothing(digests):
    assert run_python(DIGESTS, PYTHONWARNINGS="error") == digests


SETTINGS_AFTER = """
import matplotlib
from matplotlib import pyplot
matplotlib.rcParams["lines.linewidth"] = 7
pyplot.figure()
before = dict(matplotlib.rcParams), matplotlib.get_backend(), pyplot.get_fignums()
from refmiracle import drawing
drawing.check_drawing(("png", "svg", "pdf"))
after = dict(matplotlib.rcParams), matplotlib.get_backend(), pyplot.get_fignums()
assert before == after
print(after[1].lower())
"""


def test_the_callers_backend_and_settings_stay(somebodys):
    assert run_python(SETTINGS_AFTER, MATPLOTLIBRC=somebodys, MPLBACKEND="svg") == "svg\n"


def test_one_thread_at_a_time_has_the_style():
    with drawing.own_style(), ThreadPoolExecutor(1) as other:
        assert not other.submit(drawing._turn.acquire, blocking=False).result(60)


def test_a_notebooks_backend_stays_where_it_is_there(tmp_path):
    """It is set as matplotlib itself would have set it."""
    (tmp_path / "own_backend.py").write_text("from matplotlib.backends.backend_agg import *\n")
    code = """
import os
from refmiracle import drawing
drawing.check_drawing()
import matplotlib
print(matplotlib.get_backend(), os.environ["MPLBACKEND"])
"""
    found = run_python(code, MPLBACKEND="module://own_backend", PYTHONPATH=str(tmp_path))
    assert found == "module://own_backend module://own_backend\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"), [("MPLBACKEND", "garbage"), ("MATPLOTLIBRC", b"\xff\xfe no text")]
)
@pytest.mark.parametrize(
    "arguments",
    [
        ["study", "codes", "--preset", "smoke"],
        ["bench", "--plot", "growth.svg"],
        ["report", "nowhere"],
    ],
    ids=["study", "bench", "report"],
)
def test_what_matplotlib_refuses_is_one_line_before_the_work(tmp_path, arguments, name, value):
    here = tmp_path / "here"
    here.mkdir()
    if isinstance(value, bytes):
        (tmp_path / "matplotlibrc").write_bytes(value)
        value = str(tmp_path / "matplotlibrc")
    done = subprocess.run(
        [sys.executable, "-m", "refmiracle", *arguments],
        cwd=here,
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "matplotlib is installed but cannot be loaded" in done.stderr
    assert "mend the variable MPLBACKEND or the file matplotlibrc" in done.stderr
    assert not list(here.iterdir())


def test_what_cannot_be_saved_is_found_by_the_check(monkeypatch):
    check_drawing(("png", "svg", "pdf"))

    def broken(figure, suffix):
        raise RuntimeError(f"no\n{suffix}")

    monkeypatch.setattr(drawing, "save_figure", broken)
    with pytest.raises(InputError, match=r"matplotlib cannot draw \(RuntimeError: no png\)"):
        check_drawing()


# --- errors of 0 on logarithmic axes


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.0, 2.0], "log"),
        ([0.0, 0.5, 2.0], "symlog"),
        ([0.0, 0.0], "linear"),
        ([], "linear"),
        ([float("nan"), 3.0], "log"),
    ],
)
def test_zeros_have_a_place_on_the_axis(values, scale):
    with own_style():
        _, axes = new_figure((2, 2))
        axes.plot(values)
        assert log_axis(axes.yaxis, values) == (scale == "log")
        assert axes.get_yscale() == scale
        low, high = axes.get_ylim()
    assert all(low <= value <= high for value in values if value == 0)


KINDS = ("mean-kl", "mean-var")
ERRORS = ((0.0, 0.0), (0.0, 0.3), (0.2, 0.3))


def frontier(errors):
    return draw_frontier(
        [
            {
                "bits_per_block": 9,
                "bytes": 900 + n,
                "validation_error": error,
                "test_error": (error, None)[n],
                "on_frontier": True,
            }
            for n, error in enumerate(errors)
        ]
    )


def pruning(errors):
    rows = [
        {
            "parameterization": kind,
            "scope": "global",
            "order": order,
            "fraction": n / 2,
            "test_error": error,
        }
        for kind in KINDS
        for order in "abcd"
        for n, error in enumerate(errors)
    ]
    return pruning_figures.draw_orders(rows)


def courses(errors):
    rows = [
        {
            "parameterization": kind,
            "length": 9,
            "step": 1 + n,
            "seconds": 1.0 + n,
            "validation_error": error,
            "kl_bits": 8 * error,
            "budget_bits": 10.0,
        }
        for kind in KINDS
        for n, error in enumerate(errors)
    ]
    return convergence_figures.draw_curves(rows, 9, 1.02)


def ends(errors):
    rows = [
        {"parameterization": kind, "length": 9 + n, "posterior_error": error, "file_error": error}
        for kind in KINDS
        for n, error in enumerate(errors)
    ]
    return convergence_figures.draw_ends(rows)


def times(errors):
    variant = codes_figures.Variant("gprs")
    rows = [
        {
            "code": "gprs",
            "oversampling_bits": 0,
            "places": 1,
            "sweep": codes_figures.BY_KL,
            "kl_bits": 1.0 + n,
            "d_inf_bits": 3.0 + n,
            "microseconds": error,
            "low": error,
            "high": error,
        }
        for n, error in enumerate(errors)
    ]
    return codes_figures.draw_times([variant], rows)


def bits(errors):
    rows = [
        {"parameterization": kind, "tensor": str(n), "bits_a_variable": error, "share": error}
        for kind in KINDS
        for n, error in enumerate(errors)
    ]
    return tails_figures.draw_bits(rows)


def detection(errors):
    rows = [
        {"parameterization": kind, "predictor": "file", "images": "far", "auroc": error}
        for kind in KINDS
        for error in errors
    ]
    return uncertainty_figures.draw_detection(rows, ["file"])


@pytest.mark.parametrize("errors", ERRORS)
@pytest.mark.parametrize("draw", [frontier, pruning, courses, ends, times, bits, detection])
def test_figures_of_no_error_at_all_warn_of_nothing(draw, errors):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png, svg = figure_bytes(lambda: draw(errors))
    assert png.startswith(b"\x89PNG")
    assert b"<svg" in svg
