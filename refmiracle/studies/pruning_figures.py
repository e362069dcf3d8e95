"""The figures of the study of pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from refmiracle.drawing import log_axis, new_figure
from refmiracle.studies.figures import NAMES, draw_band

Rows = Sequence[Mapping[str, Any]]
TICKS = (1, 2, 5, 10, 20, 50, 90)  # per cent
COLUMNS = 3


def _draw(panels: Any, curves: Rows, column: str, values: Sequence[str], **of: str) -> None:
    """Draw a panel for each value of a column, of the rows that have what `of` says."""
    errors = [100 * row["test_error"] for row in curves]
    for axes, value in zip(panels.flat, values, strict=False):
        for name in NAMES:
            wanted = {**of, column: value, "parameterization": name}
            rows = [r for r in curves if all(r[k] == v for k, v in wanted.items())]
            draw_band(axes, rows, ("fraction", 100), ("test_error", 100), name)
        axes.set(title=value, xlim=(0, 100))
        positive = log_axis(axes.yaxis, errors)
        axes.set_yticks(TICKS if positive else [0, *TICKS])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.grid(visible=True, alpha=0.3)
    for axes in panels.flat[len(values) :]:
        axes.set_axis_off()
    columns = panels.shape[1]
    for axes in panels.flat[max(0, len(values) - columns) : len(values)]:  # the lowest of a column
        axes.set_xlabel("coded variables set to zero, %")
        axes.tick_params(labelbottom=True)
    for axes in panels[:, 0]:
        axes.set_ylabel("test error, %")
    panels[0, 0].legend()


def draw_orders(curves: Rows) -> Any:
    """Return error against the fraction set to zero over all layers, a panel for each order."""
    figure, panels = new_figure((9, 6.5), nrows=2, ncols=2, sharex=True, sharey=True)
    orders = list(dict.fromkeys(row["order"] for row in curves))
    _draw(panels, curves, "order", orders, scope="global")
    return figure


def draw_layers(curves: Rows) -> Any:
    """Return error against the fraction by |w|: over all, alike in all tensors, in each layer."""
    scopes = list(dict.fromkeys(row["scope"] for row in curves))
    rows = -(-len(scopes) // COLUMNS)
    size = (11, 3.25 * rows)
    figure, panels = new_figure(
        size, nrows=rows, ncols=COLUMNS, sharex=True, sharey=True, squeeze=False
    )
    _draw(panels, curves, "scope", scopes, order="|w|")
    return figure
