"""The figures of the studies (extra ``plot``): the same bytes for the same results."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from statistics import median
from typing import Any

from refmiracle.errors import InputError

FORMATS = ("png", "svg")
# Okabe and Ito's palette, which colour-blind readers tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


NAMES = {"mean-kl": "Mean-KL", "mean-var": "Mean-Var"}
STYLES = dict(zip(NAMES, COLOURS, strict=False))


def check_figures() -> None:
    """Refuse to start where figures could not be drawn.

    Raises
    ------
    InputError
        If matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("matplotlib is not installed; pip install 'refmiracle[plot]'")


def figure_bytes(figure: Any, formats: Sequence[str] = FORMATS) -> list[bytes]:
    """Return a figure as one file a format, of bytes that depend on nothing else; close it."""
    from matplotlib import pyplot, rc_context  # noqa: PLC0415 (an extra)

    files = []
    for suffix in formats:
        buffer = io.BytesIO()
        metadata = {"svg": {"Date": None}}.get(suffix)
        with rc_context({"svg.hashsalt": "refmiracle"}):
            figure.savefig(buffer, format=suffix, metadata=metadata, dpi=150)
        files.append(buffer.getvalue())
    pyplot.close(figure)
    return files


def new_figure(**settings: Any) -> tuple[Any, Any]:
    """Return a figure and its axes, drawn without a display."""
    import matplotlib  # noqa: PLC0415 (an extra)

    matplotlib.use("agg")
    from matplotlib import pyplot  # noqa: PLC0415

    return pyplot.subplots(layout="constrained", **settings)


def draw_band(
    axes: Any,
    rows: Iterable[Mapping[str, Any]],
    x: tuple[str, float],
    y: tuple[str, float],
    parameterization: str,
) -> None:
    """Draw the median over seeds of one column against another, and the range of the seeds.

    `x` and `y` are a column's name and what to multiply it by.
    """
    of_x: dict[float, list[float]] = {}
    for row in rows:
        of_x.setdefault(x[1] * row[x[0]], []).append(y[1] * row[y[0]])
    at = sorted(of_x)
    colour = STYLES[parameterization]
    axes.plot(at, [median(of_x[v]) for v in at], color=colour, label=NAMES[parameterization])
    low, high = ([pick(of_x[v]) for v in at] for pick in (min, max))
    axes.fill_between(at, low, high, color=colour, alpha=0.2, lw=0)


def draw_frontier(points: Sequence[Mapping[str, Any]]) -> Any:
    """Return a plot of error against bytes: all points, and the frontier through the best."""
    figure, axes = new_figure(figsize=(7, 4.5))
    for bits, colour in zip(sorted({p["bits_per_block"] for p in points}), cycle(COLOURS)):
        some = [p for p in points if p["bits_per_block"] == bits]
        axes.plot(
            [p["bytes"] for p in some],
            [100 * p["validation_error"] for p in some],
            "o",
            color=colour,
            label=f"{bits} bits a block, validation",
        )
    best = sorted((p for p in points if p["on_frontier"]), key=lambda p: p["bytes"])
    sizes = [p["bytes"] for p in best]
    axes.plot(sizes, [100 * p["validation_error"] for p in best], color="0.5", label="frontier")
    axes.plot(sizes, [100 * p["test_error"] for p in best], "k_", ms=12, label="frontier, test")
    axes.set(xlabel="size of the file, bytes", ylabel="error, %", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small")
    return figure
