"""The figures of the study of relative entropy codes: a panel for each group of codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from refmiracle.codes.table import CODES
from refmiracle.drawing import Draw, log_axis, new_figure
from refmiracle.studies.codes_measures import MEASURED
from refmiracle.studies.codes_points import BLOCKS, BY_D_INF, BY_KL, GROUPS, NO_TREE, TREES, Variant
from refmiracle.studies.figures import COLOURS

Rows = Sequence[Mapping[str, Any]]
MARKERS = "osD^vP*"
TITLES = {
    BLOCKS: "codes of blocks",
    NO_TREE: "codes of variables, no tree",
    TREES: "codes of variables, on a tree",
}
X = {BY_KL: ("kl_bits", "KL, bits"), BY_D_INF: ("d_inf_bits", r"$D_\infty$, bits")}


def _lines(
    axes: Any,
    variants: Sequence[Variant],
    rows: Rows,
    x: str,
    y: str,
    low: str = "",
    high: str = "",
) -> None:
    """Draw a column against another for each code that has rows; dashed with oversampling."""
    codes = list(dict.fromkeys(variant.code for variant in variants))
    for variant in variants:
        of = variant.code, variant.oversampling
        some = [r for r in rows if (r["code"], r["oversampling_bits"]) == of]
        if not some:
            continue
        at = codes.index(variant.code)
        values = np.array([r[y] for r in some], dtype=np.float64)
        ends = None
        if low:
            ends = np.abs([[r[end] for r in some] for end in (low, high)] - values)
        axes.errorbar(
            [r[x] for r in some],
            values,
            yerr=ends,
            color=COLOURS[at % len(COLOURS)],
            marker=MARKERS[at % len(MARKERS)],
            ls="--" if variant.oversampling else "-",
            ms=3.5,
            lw=1.2,
            label=variant.name,
        )


def _columns(variants: Sequence[Variant], rows: Rows) -> list[tuple[str, int, Rows]]:
    """Return group, places and rows of each column of panels, of those that have rows."""
    columns: list[tuple[str, int, Rows]] = []
    for group in GROUPS:
        codes = {variant.code for variant in variants if variant.group == group}
        own = [row for row in rows if row["code"] in codes]
        for places in sorted({row["places"] for row in own}):
            columns.append((group, places, [r for r in own if r["places"] == places]))
    return columns


def _panels(
    variants: Sequence[Variant],
    rows: Rows,
    y: tuple[str, str],
    theory: Callable[[Any, Rows, str], None],
    sweeps: Sequence[str] = (BY_KL, BY_D_INF),
    **ends: str,
) -> Any:
    """Return a figure with a column for each group and block size, and a row for each sweep.

    `y` is a column of the rows and its label, `theory` draws into the axes of a panel what is
    expected of its rows, and `ends` may name the columns of an interval, low and high.
    """
    columns = _columns(variants, rows)
    figure, panels = new_figure(
        (1 + 3.5 * len(columns), 1.8 + 2.9 * len(sweeps)),
        nrows=len(sweeps),
        ncols=len(columns),
        sharey=True,
        squeeze=False,
    )
    for column, (group, places, own) in enumerate(columns):
        for axes, sweep in zip(panels[:, column], sweeps, strict=True):
            some = [r for r in own if r["sweep"] == sweep]
            if not some:
                axes.set_axis_off()
                continue
            x, label = X[sweep]
            _lines(axes, [v for v in variants if v.group == group], some, x, y[0], **ends)
            theory(axes, some, sweep)
            of = f", {places} places" if places > 1 else ""
            axes.set(xlabel=label, title=f"{TITLES[group]}{of}" if sweep == BY_KL else "KL 5 bits")
            if sweep == BY_KL:
                axes.set_xscale("log")
                axes.xaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            axes.grid(visible=True, alpha=0.3)
        if group not in [g for g, _, _ in columns[:column]]:
            _legend(panels[:, column])
    for axes in panels[:, 0]:
        axes.set_ylabel(y[1])
    return figure


def _legend(panels: Any) -> None:
    """Draw the legend of the first panel of a column below the last."""
    drawn = [axes for axes in panels if axes.axison]
    drawn[-1].legend(
        *drawn[0].get_legend_handles_labels(),
        fontsize="small",
        ncols=2,
        handlelength=3,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        frameon=False,
    )


def draw_overhead(variants: Sequence[Variant], points: Rows) -> Any:
    """Return the mean length above the KL, against the KL and against D_inf, with the bounds."""

    def bounds(axes: Any, some: Rows, sweep: str) -> None:
        if sweep == BY_D_INF:
            return
        codes = [CODES[name] for name in sorted({r["code"] for r in some})]
        kl = np.geomspace(min(r["kl_bits"] for r in some), max(r["kl_bits"] for r in some), 50)
        term = np.log2(kl + 1)
        for code in codes:
            if code.constant is not None:
                label = rf"$\log_2$(KL + 1) + {code.constant:g}, bound of {code.name}"
                axes.plot(kl, term + code.constant, color="0.3", ls=":", label=label)
        axes.plot(kl, term, color="0.6", ls="-.", label=r"$\log_2$(KL + 1)")
        for factor in {code.log_factor for code in codes} - {1}:
            label = rf"{factor} $\log_2$(KL + 1)"
            axes.plot(kl, factor * term, color="0.6", ls=(0, (5, 1)), label=label)

    rows = [
        {**r, **{end: r[f"log_geometric_{end}"] - r["kl_bits"] for end in ("low", "high")}}
        for r in points
    ]
    y = "overhead_bits", "mean length less KL, bits"
    return _panels(variants, rows, y, bounds, low="low", high="high")


def draw_times(variants: Sequence[Variant], times: Rows) -> Any:
    """Return microseconds a target against the KL and against D_inf, with a line 2^D_inf."""
    measured = [r["microseconds"] for r in times]

    def growth(axes: Any, some: Rows, sweep: str) -> None:
        if log_axis(axes.yaxis, measured):
            axes.set_ylim(bottom=0.5 * min(measured))
        x, d_inf = np.array(sorted({(r[X[sweep][0]], r["d_inf_bits"]) for r in some})).T
        # It ends where the slowest code does: only its slope matters.
        y = max(r["microseconds"] for r in some) * 2.0 ** (d_inf - d_inf[-1])
        axes.plot(x, y, color="0.4", ls=":", label=r"grows as $2^{D_\infty}$")

    y = "microseconds", "time of a block or variable, µs"
    return _panels(variants, times, y, growth, low="low", high="high")


def draw_distances(variants: Sequence[Variant], points: Rows) -> Any:
    """Return the distance of samples to the target against the KL, with the critical values."""

    def critical(axes: Any, some: Rows, sweep: str) -> None:
        log_axis(axes.yaxis, [r["distance"] for r in points])
        x = sorted({r["kl_bits"] for r in some})
        for pick, ls, what in ((max, "-.", "fewest"), (min, ":", "most")):
            y = [pick(r["critical"] for r in some if r["kl_bits"] == kl) for kl in x]
            axes.plot(x, y, color="0.3", ls=ls, label=f"critical value, {what} samples")

    y = "distance", "Kolmogorov-Smirnov distance"
    return _panels(variants, points, y, critical, sweeps=(BY_KL,))


def draw(variants: Sequence[Variant], points: Rows, times: Rows) -> dict[str, Draw]:
    """Return what draws each figure, by name, of what was measured."""
    measured = [row for row in points if row["status"] == MEASURED]
    figures: dict[str, Draw] = {}
    if measured:
        figures["overhead"] = lambda: draw_overhead(variants, measured)
        figures["distances"] = lambda: draw_distances(variants, measured)
    if times:
        figures["times"] = lambda: draw_times(variants, times)
    return figures
