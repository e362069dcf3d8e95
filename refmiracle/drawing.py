"""Figures with a style and a backend of their own (extra ``plot``).

Nobody's matplotlibrc, MPLBACKEND or rcParams changes them, and they change nobody's: they are
drawn without pyplot, which would choose a backend, and always within `own_style`.
"""

from __future__ import annotations

import io
import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from refmiracle.errors import InputError
from refmiracle.extras import import_extra

EXTRA = "plot"
BACKEND = "MPLBACKEND"
OF_A_NOTEBOOK = "module://"
READS = f"the variable {BACKEND} or the file matplotlibrc"
FORMATS = ("png", "svg")
STYLE: dict[str, Any] = {"svg.hashsalt": "refmiracle", "savefig.dpi": 150}
# Without the time of day.
METADATA: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
_turn = threading.RLock()
# A function that draws a figure; called within `own_style`.
Draw = Callable[[], Any]


def load(module: str = "", extra: str = EXTRA, asked_by: str = "") -> Any:
    """Return matplotlib or one of its modules.

    Raises
    ------
    InputError
        If it is not installed or cannot be loaded.
    """
    with _backend_set_aside():
        import_extra("matplotlib", extra, ("get_data_path", "rc_context"), asked_by, READS)
    return import_extra(f"matplotlib.{module}" if module else "matplotlib", extra)


@contextmanager
def _backend_set_aside() -> Iterator[None]:
    """Import matplotlib where a notebook has left its backend to the programs that it starts.

    They may not have it, and matplotlib is not even loaded with a backend that is not there.
    """
    backend = os.environ.get(BACKEND, "")
    if "matplotlib" in sys.modules or not backend.startswith(OF_A_NOTEBOOK):
        yield
        return
    del os.environ[BACKEND]
    try:
        yield
    finally:
        os.environ[BACKEND] = backend
    with suppress(ValueError):  # set it as matplotlib would have done, where it is there
        sys.modules["matplotlib"].rcParams["backend"] = backend


@contextmanager
def own_style(settings: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Draw in matplotlib's own style and ours, whatever was set; afterwards it is set again.

    One thread at a time, since matplotlib has one style for all.

    Parameters
    ----------
    settings : mapping, optional
        By name as in rcParams: what differs for these figures.
    """
    with _turn, load("style").context(["default", {**STYLE, **(settings or {})}]):
        yield


def new_figure(figsize: tuple[float, float], **settings: Any) -> tuple[Any, Any]:
    """Return a figure and its axes, as ``Figure.subplots`` makes them of the other settings."""
    figure = load("figure").Figure(figsize=figsize, layout="constrained")
    return figure, figure.subplots(**settings)


def save_figure(figure: Any, suffix: str) -> bytes:
    """Return a figure as a file of a format; its bytes depend on nothing but the figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, metadata=METADATA.get(suffix))
    return buffer.getvalue()


def figure_bytes(draw: Draw, formats: Sequence[str] = FORMATS) -> list[bytes]:
    """Draw a figure, and return it as a file of each format."""
    with own_style():
        figure = draw()
        return [save_figure(figure, suffix) for suffix in formats]


def check_drawing(formats: Sequence[str] = FORMATS, extra: str = EXTRA, asked_by: str = "") -> None:
    """Draw and save a small figure: what would stop the figures is known before the work.

    Raises
    ------
    InputError
        If matplotlib is not installed, cannot be loaded or does not draw.
    """
    load("", extra, asked_by)
    try:
        figure_bytes(_draw_sample, formats)
    except InputError:
        raise
    except Exception as e:  # matplotlib has no class of its own for it
        reason = " ".join(f"{type(e).__name__}: {e}".split())
        raise InputError(
            f"matplotlib cannot draw ({reason}); install it again:"
            " pip install --force-reinstall matplotlib"
        ) from e


def _draw_sample() -> Any:
    """Return a figure with what all others have: lines, text, a formula, a logarithmic axis."""
    figure, axes = new_figure((1, 1))
    axes.plot([1, 2], [1, 2], "o-", label=r"$D_\infty$")
    log_axis(axes.yaxis, [1, 2])
    axes.legend()
    return figure


def log_axis(axis: Any, values: Iterable[float]) -> bool:
    """Make an axis logarithmic; linear below the smallest positive value where some are 0.

    An error of 0 % is a result like any other, and has no logarithm.

    Parameters
    ----------
    axis : matplotlib Axis
        ``axes.xaxis`` or ``axes.yaxis``.
    values : iterable of float
        All that is drawn along it, none below 0.

    Returns
    -------
    bool
        Whether it is logarithmic throughout.
    """
    values = [value for value in values if math.isfinite(value)]
    positive = [value for value in values if value > 0]
    throughout = len(positive) == len(values) > 0
    set_scale = getattr(axis.axes, f"set_{axis.axis_name}scale")
    if throughout:
        set_scale("log")
    elif positive:
        set_scale("symlog", linthresh=min(positive))
    return throughout
