"""How cost grows with batch, bits and block size, as a plot (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refmiracle.bench.figures import OURS, Figure
from refmiracle.bench.timing import Samples, quartiles
from refmiracle.drawing import check_drawing, figure_bytes, log_axis, new_figure
from refmiracle.errors import InputError

PANELS = {
    "step": ("batch size", "a training step, ms"),
    "encode, by bits": ("bits in each block", "encoding a model, ms"),
    "encode, by block size": ("variables in each block", "encoding a model, ms"),
}
FORMATS = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Refuse a plot that could not be drawn, before anything is measured.

    Raises
    ------
    InputError
        If the file's format is unknown, or matplotlib is missing or does not draw.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"--plot {path}: expected a name that ends in {', '.join(FORMATS)}")
    check_drawing([path.suffix.removeprefix(".")], asked_by="--plot")


def draw_line(axes: Any, label: str, points: list[tuple[int, Samples]]) -> None:
    """Draw medians, with the quartiles as bars."""
    marks = [(at, *quartiles(samples)) for at, samples in sorted(points, key=lambda p: p[0])]
    x, low, median, high = zip(*marks, strict=True)
    below = [m - q for m, q in zip(median, low, strict=True)]
    above = [q - m for m, q in zip(median, high, strict=True)]
    axes.errorbar(x, median, yerr=(below, above), label=label, marker="o", capsize=2)


def draw_growth(figures: Sequence[Figure], suffix: str) -> bytes:
    """Return the plot as the bytes of a file."""
    (data,) = figure_bytes(lambda: _draw(figures), [suffix.removeprefix(".")])
    return data


def _draw(figures: Sequence[Figure]) -> Any:
    plot, panels = new_figure((4.5 * len(PANELS), 4), ncols=len(PANELS))
    for axes, (group, (x_label, y_label)) in zip(panels, PANELS.items(), strict=True):
        members = [(f.at, f) for f in figures if f.group == group and f.at is not None]
        lines: dict[str, list[tuple[int, Samples]]] = {}
        for at, figure in members:
            for label, samples in {OURS: figure.ours, **figure.peers}.items():
                lines.setdefault(label, []).append((at, samples))
        for label, points in lines.items():
            draw_line(axes, label, points)
        axes.set(xlabel=x_label, ylabel=y_label)
        every = [time for points in lines.values() for _, samples in points for time in samples]
        log_axis(axes.yaxis, every)
        if group != "encode, by bits":
            axes.set_xscale("log", base=2)
            ticks = sorted({at for at, _ in members})
            axes.set_xticks(ticks, [str(at) for at in ticks])
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend(fontsize="small")
    return plot
