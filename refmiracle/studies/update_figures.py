"""The figures of the study of updates; the first is what the study is about."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from refmiracle.drawing import Draw, log_axis, new_figure
from refmiracle.studies.drift import DRIFTS
from refmiracle.studies.figures import COLOURS
from refmiracle.studies.rivals import LARGEST_CHANGES
from refmiracle.studies.update_plan import (
    CHAIN,
    CLASSES,
    DRIFTED,
    MEASURED,
    MIXED,
    NEW,
    UNCHANGED,
    UPDATE,
)

Rows = Sequence[Mapping[str, Any]]
PERCENT = 100.0
COLUMNS = 4  # of panels
MARKERS = "osD^vP*X"
# Below which span of a logarithmic axis which numbers stand between powers of ten.
BETWEEN = ((3, (1.1, 1.2, 1.5, 2, 3)), (20, (2, 3, 5)), (1000, (2, 5)), (math.inf, (1,)))


def draw(tables: Mapping[str, Rows]) -> dict[str, Draw]:
    """Return what draws each figure, by name, of what was measured."""
    measured = {
        table: [row for row in rows if row["status"] == MEASURED] for table, rows in tables.items()
    }
    points, chain = measured[DRIFTED], measured[CHAIN]
    updates = [row for row in points if row["method"] == UPDATE]
    figures: dict[str, Draw] = {}
    if updates:
        first = [row for row in points if _drift(row) == _drift(updates[0])]
        mixed = [*(r for r in first if r["method"] == UPDATE), *measured[MIXED]]
        figures["error"] = lambda: draw_error(first)
        figures["drifts"] = lambda: draw_drifts(points)
        figures["forgetting"] = lambda: draw_parts(mixed)
    learned = [row for row in measured[CLASSES] if row["method"] == UPDATE]
    if learned:
        figures["classes"] = lambda: draw_parts(learned)
    if chain:
        figures["chain"] = lambda: draw_chain(chain)
    return figures


def _drift(row: Mapping[str, Any]) -> tuple[str, float]:
    return row["drift"], row["strength"]


def _band(
    axes: Any, rows: Iterable[Mapping[str, Any]], x: str, y: str, colour: str, **line: Any
) -> None:
    """Draw the mean over seeds of a column, in percent, against another; and their range."""
    of_x: dict[float, list[float]] = {}
    for row in rows:
        of_x.setdefault(row[x], []).append(PERCENT * row[y])
    at = sorted(of_x)
    axes.plot(at, [mean(of_x[v]) for v in at], color=colour, **{"marker": "o", "ms": 4, **line})
    low, high = ([pick(of_x[v]) for v in at] for pick in (min, max))
    axes.fill_between(at, low, high, color=colour, alpha=0.2, lw=0)


def _by(rows: Rows, name: str, value: Any) -> list[Mapping[str, Any]]:
    return [row for row in rows if row[name] == value]


def _number(axis: Any) -> None:
    """Write an axis's numbers as they are; of a logarithmic one more the less it spans."""
    axis.set_major_formatter("{x:g}")
    if axis.get_scale() != "log":
        return
    low, high = axis.get_view_interval()
    span = high / low
    between = next(numbers for most, numbers in BETWEEN if span < most)
    axis.get_minor_locator().set_params(subs=between)
    axis.set_minor_formatter("{x:g}")


def _finish(axes: Any, rows: Rows, xlabel: str, ylabel: str, columns: Sequence[str]) -> None:
    axes.set(xlabel=xlabel, ylabel=ylabel)
    log_axis(axes.yaxis, [PERCENT * row[column] for row in rows for column in columns])
    for axis in (axes.xaxis, axes.yaxis):
        _number(axis)
    axes.grid(visible=True, which="both", alpha=0.3)


def draw_error(rows: Rows) -> Any:
    """Return error against bytes of all that can be sent after one drift."""
    figure, axes = new_figure((8, 5))
    lines = {UPDATE: "-", NEW: "-", **dict.fromkeys(LARGEST_CHANGES.values(), "--")}
    for (method, style), colour in zip(lines.items(), COLOURS, strict=False):
        own = _by(rows, "method", method)
        if own:
            label = {"label": method, "ls": style, "lw": 2.5 if method == UPDATE else 1.2}
            _band(axes, own, "bytes", "test_error", colour, **label)
    others = [m for m in dict.fromkeys(r["method"] for r in rows) if m not in (*lines, UNCHANGED)]
    for number, method in enumerate(others):
        own = _by(rows, "method", method)
        axes.plot(
            [row["bytes"] for row in own],
            [PERCENT * row["test_error"] for row in own],
            MARKERS[number % len(MARKERS)],
            color=COLOURS[(number + len(lines)) % len(COLOURS)],
            label=method,
        )
    for row in _by(rows, "method", UNCHANGED):
        error = PERCENT * row["test_error"]
        axes.axhline(error, color="0.4", ls=":", label=f"{UNCHANGED}: {error:.1f} %")
    kind, strength = _drift(rows[0])
    axes.set_title(f"{kind}, {strength:g} {DRIFTS[kind].unit}")
    axes.set_xscale("log")
    _finish(axes, rows, "bytes sent, all counted", "test error, %", ("test_error",))
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def draw_drifts(points: Rows) -> Any:
    """Return a panel for each kind of drift: error against bytes at each strength."""
    kinds = list(dict.fromkeys(row["drift"] for row in points))
    columns = min(COLUMNS, len(kinds))
    count = math.ceil(len(kinds) / columns)
    figure, panels = new_figure(
        (3.2 * columns + 0.5, 2.9 * count + 0.4), nrows=count, ncols=columns, squeeze=False
    )
    for axes, kind in zip(panels.flat, kinds, strict=False):
        of_kind = _by(points, "drift", kind)
        for number, strength in enumerate(sorted({row["strength"] for row in of_kind})):
            own, colour = _by(of_kind, "strength", strength), COLOURS[number % len(COLOURS)]
            _band(
                axes,
                _by(own, "method", UPDATE),
                "bytes",
                "test_error",
                colour,
                label=f"{strength:g}",
            )
            new = _by(own, "method", NEW)
            _band(axes, new, "bytes", "test_error", colour, ls=":", marker="", lw=1)
            for row in _by(own, "method", UNCHANGED):
                axes.axhline(PERCENT * row["test_error"], color=colour, ls="--", lw=0.8)
        axes.set_title(kind)
        axes.set_xscale("log")
        shown = [row for row in of_kind if row["method"] in (UPDATE, NEW, UNCHANGED)]
        _finish(axes, shown, "bytes", "test error, %", ("test_error",))
        axes.legend(title=DRIFTS[kind].unit, fontsize="x-small", title_fontsize="x-small")
    for axes in panels.flat[len(kinds) :]:
        axes.set_axis_off()
    return figure


def draw_parts(rows: Rows) -> Any:
    """Return error on new and on old images against bytes, by the share of old ones."""
    figure, panels = new_figure((8, 3.6), ncols=2)
    for axes, column, what in zip(
        panels, ("test_error", "old_test_error"), ("new", "old"), strict=True
    ):
        for number, share in enumerate(sorted({row["share"] for row in rows})):
            own, label = _by(rows, "share", share), f"{PERCENT * share:g} % old images"
            _band(axes, own, "bytes", column, COLOURS[number % len(COLOURS)], label=label)
        _finish(axes, rows, "bytes", f"error on {what} test images, %", (column,))
        axes.legend(fontsize="small")
    return figure


def draw_chain(rows: Rows) -> Any:
    """Return error against the angle: of the base, of a chain, and of one update for each."""
    figure, axes = new_figure((6.5, 4))
    for number, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        own, colour = _by(rows, "method", method), COLOURS[number % len(COLOURS)]
        _band(axes, own, "strength", "test_error", colour, label=method)
    _finish(axes, rows, "rotation, degrees", "test error, %", ("test_error",))
    axes.legend(fontsize="small")
    return figure
