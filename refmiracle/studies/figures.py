"""What the figures of the studies share, and the frontier's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from statistics import median
from typing import Any

from refmiracle.drawing import log_axis, new_figure
from refmiracle.posterior.parameterizations import COMPARED, PARAMETERIZATIONS

# Okabe and Ito's palette, which colour-blind readers tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


NAMES = {name: PARAMETERIZATIONS[name].title for name in COMPARED}
STYLES = dict(zip(NAMES, COLOURS, strict=False))


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
    figure, axes = new_figure((7, 4.5))
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
    tested = [p for p in best if p["test_error"] is not None]
    axes.plot(
        [p["bytes"] for p in tested],
        [100 * p["test_error"] for p in tested],
        "k_",
        ms=12,
        label="frontier, test",
    )
    axes.set(xlabel="size of the file, bytes", ylabel="error, %")
    errors = [p["validation_error"] for p in points] + [p["test_error"] for p in tested]
    log_axis(axes.yaxis, [100 * error for error in errors])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small")
    return figure
