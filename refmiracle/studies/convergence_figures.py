"""The figures of the study of convergence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from refmiracle.drawing import log_axis, new_figure
from refmiracle.studies.figures import NAMES, STYLES, draw_band

Rows = Sequence[Mapping[str, Any]]
TICKS = (1, 2, 3, 5, 10, 20, 50, 100)  # per cent


def draw_curves(curves: Rows, length: int, within: float) -> Any:
    """Return validation error and KL against steps and seconds, for one length of training."""
    figure, panels = new_figure((9, 6), nrows=2, ncols=2, sharex="col", sharey="row")
    shown = [row for row in curves if row["length"] == length]
    for column, (x, label) in enumerate((("step", "training steps"), ("seconds", "seconds"))):
        error, kl = panels[:, column]
        for name in NAMES:
            rows = [row for row in shown if row["parameterization"] == name]
            draw_band(error, rows, (x, 1), ("validation_error", 100), name)
            draw_band(kl, rows, (x, 1), ("kl_bits", 1 / 8), name)
        budget = curves[0]["budget_bits"] / 8
        kl.axhline(within * budget, color="0.4", ls=":", label=f"{within:g} times the budget")
        kl.set(xlabel=label)
        log_axis(kl.yaxis, [row["kl_bits"] / 8 for row in shown])
        positive = log_axis(error.yaxis, [100 * row["validation_error"] for row in shown])
    panels[0, 0].set_ylabel("validation error of one sample, %")
    panels[1, 0].set_ylabel("KL[Q || P], bytes")
    panels[0, 0].set_yticks(TICKS if positive else [0, *TICKS], minor=False)
    panels[0, 0].yaxis.set_major_formatter("{x:g}")
    panels[0, 0].minorticks_off()
    panels[0, 1].legend()
    panels[1, 1].legend()
    for axes in panels.flat:
        axes.grid(visible=True, which="both", alpha=0.3)
    return figure


def draw_ends(ends: Rows) -> Any:
    """Return the errors of posterior and file against the length of training."""
    figure, panels = new_figure((9, 4), ncols=2, sharey=True)
    columns = (
        ("posterior_error", "posterior at the end of training"),
        ("file_error", "file, after encoding"),
    )
    for axes, (column, title) in zip(panels, columns, strict=True):
        for name in NAMES:
            rows = [r for r in ends if r["parameterization"] == name]
            draw_band(axes, rows, ("length", 1), (column, 100), name)
            axes.plot(
                [r["length"] for r in rows],
                [100 * r[column] for r in rows],
                "o",
                ms=4,
                color=STYLES[name],
            )
        axes.set(xscale="log", xlabel="training steps", title=title)
        axes.set_xticks(sorted({r["length"] for r in ends}), minor=False)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.minorticks_off()
        axes.grid(visible=True, alpha=0.3)
    panels[0].set_ylabel("validation error, %")
    panels[1].legend()
    return figure
