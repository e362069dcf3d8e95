"""The page's charts: matplotlib's SVG, made a part of the page so that it follows its colours."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.drawing import load, log_axis, new_figure, save_figure
from refmiracle.reports.content import Move, TensorBits
from refmiracle.reports.example import Example
from refmiracle.studies.comparison import FinishedRun

Array = NDArray[np.float64]

# Stand-ins that matplotlib writes, and the page's own colours, which differ in the dark.
INK, LINE, BLUE, ORANGE, SHADE = "#010203", "#010204", "#010205", "#010206", "#010207"
COLOURS = {
    INK: "var(--ink)",
    LINE: "var(--line)",
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
    SHADE: "var(--shade)",
}
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 9,
    "savefig.facecolor": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.titlesize": 10,
    "grid.color": LINE,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color", "axes.titlecolor"), INK),
}
MU, RHO, SIGMA = "\u03bc", "\u03c1", "\u03c3"
PANEL, SMALL = (5.0, 2.8), (2.9, 1.9)
# Odd, so that a value in the middle falls within a bar.
BINS = 41
# Of a distribution: all but so many per cent at either end are drawn where they are.
TAIL = 0.1


def inline_svg(figure: Any, name: str, label: str) -> str:
    """Return a figure as an <svg> element of a page.

    Parameters
    ----------
    figure : matplotlib Figure
    name : str
        Goes before its ids: those of several figures of a page would clash.
    label : str
        What it shows, for those who do not see it.
    """
    text = save_figure(figure, "svg").decode()
    # A page needs neither XML's head nor metadata; both name addresses, and the page has none.
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"(font: [^']*?)'[^;\"]*", r"\1system-ui, sans-serif", text)
    for stand_in, colour in COLOURS.items():
        text = text.replace(stand_in, colour)
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1)


def _mark_phases(axes: Any, trained: int, end: int) -> None:
    axes.axvspan(trained, end, color=SHADE, lw=0, zorder=0)
    axes.set_xlim(0, end)
    for x, text in ((trained / 2, "train"), ((trained + end) / 2, "encode")):
        axes.text(x, 1.01, text, transform=axes.get_xaxis_transform(), ha="center", va="bottom")


def draw_curves(metrics: Sequence[Mapping[str, Any]], trained: int, end: int) -> dict[str, str]:
    """Return the course of a run by name of the figure; those without a value are left out.

    Parameters
    ----------
    metrics : sequence of dict
    trained, end : int
        Steps before the first block was sent, and all steps.
    """
    curves: dict[str, tuple[str, Callable[[Any], float]]] = {
        "validation_error": ("validation error, %", lambda value: 100 * value),
        "loss_nats": ("loss, nats per image", float),
        "kl_bits": ("KL of all blocks, bits", float),
        "sent_bits": ("bits sent", float),
    }
    found = {}
    for name, (title, scale) in curves.items():
        points = [(m["step"], scale(m[name])) for m in metrics if m[name] is not None]
        points = [(step, value) for step, value in points if math.isfinite(value)]
        if not points:
            continue
        figure, axes = new_figure(PANEL)
        _mark_phases(axes, trained, end)
        axes.plot(*zip(*points, strict=True), "o-", ms=3, color=BLUE)
        axes.set(xlabel="training steps", ylabel=title)
        # From zero: Mean-KL's KL is constant but for rounding, and should look so.
        axes.set_ylim(0, 1.1 * max(value for _, value in points) or 1)
        first, last = points[0], points[-1]
        label = f"{title}: {first[1]:.4g} at step {first[0]}, {last[1]:.4g} at step {last[0]}"
        found[name] = inline_svg(figure, name, label)
    return found


def draw_block_bits(bits: Array, budget: int, dashed: str) -> str:
    """Return how the blocks' KL is spread, beside what has `budget` bits, in words `dashed`."""
    low, high = min(bits.min(), budget), max(bits.max(), budget)
    margin = max(1.0, 0.08 * (high - low))
    figure, axes = new_figure(PANEL)
    counts, edges = np.histogram(bits, BINS, (low - margin, high + margin))
    axes.stairs(counts, edges, fill=True, color=BLUE)
    axes.axvline(budget, color=ORANGE, ls="--")
    axes.text(budget, 1.01, dashed, color=ORANGE, transform=axes.get_xaxis_transform(), ha="center")
    axes.set(xlabel="KL of a block, bits", ylabel="blocks")
    label = (
        f"Histogram of the KL of {len(bits)} blocks: from {bits.min():.2f} to {bits.max():.2f}"
        f" bits; {dashed} has {budget}"
    )
    return inline_svg(figure, "blocks", label)


def draw_tensor_bits(tensors: Sequence[TensorBits]) -> str:
    """Return the information in each tensor as bars."""
    figure, axes = new_figure(PANEL)
    bars = axes.barh([t.name for t in tensors], [t.bits for t in tensors], color=BLUE)
    axes.bar_label(bars, [f"{t.bits:,.0f}" for t in tensors], padding=3)
    axes.set(xlabel="KL at the end of training, bits")
    axes.set_xlim(0, 1.2 * max(t.bits for t in tensors) or 1)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    label = "Bits of each tensor: " + ", ".join(f"{t.name} {t.bits:,.0f}" for t in tensors)
    return inline_svg(figure, "tensors", label)


def draw_moves(moves: Sequence[Move]) -> dict[str, str]:
    """Return how far an update moves each tensor, and how far it could, by name of the figure."""
    drawn = {}
    for name, title, values in (
        ("changes", "RMS change, % of the base's RMS", [100 * m.part for m in moves]),
        (
            "levels",
            f"{RHO} of the change, % of the model's {RHO}",
            [100 * m.of_root for m in moves],
        ),
    ):
        figure, axes = new_figure(PANEL)
        bars = axes.barh([m.name for m in moves], values, color=BLUE)
        axes.bar_label(bars, [f"{v:.3g}" if v else "kept" for v in values], padding=3)
        axes.set(xlabel=title)
        axes.set_xlim(0, 1.2 * max(values) or 1)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        told = ", ".join(f"{m.name} {v:.3g}" for m, v in zip(moves, values, strict=True))
        drawn[name] = inline_svg(figure, name, f"{title}, by tensor: {told}")
    return drawn


def _normal_density(x: Array) -> Array:
    return np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)


def draw_distributions(run: FinishedRun) -> dict[str, list[str]]:
    """Return by layer the distributions of mu / rho, sigma / rho and the decoded w / rho.

    Of an update they are those of what it adds to its base.
    """
    q = run.posterior_as_sent
    columns = {
        f"{MU} / {RHO}": q.mu / q.rho,
        f"{SIGMA} / {RHO}": q.sigma / q.rho,
        f"decoded {'change' if run.base else 'w'} / {RHO}": run.change / q.rho,
    }
    drawn: dict[str, list[str]] = {}
    for layer, part in run.layers().items():
        drawn[layer] = [
            _draw_distribution(values[part], f"{layer}-{number}", layer, title, number != 1)
            for number, (title, values) in enumerate(columns.items())
        ]
    return drawn


def _draw_distribution(values: Array, name: str, layer: str, title: str, signed: bool) -> str:
    low, high = np.percentile(values, [TAIL, 100 - TAIL])
    high = max(abs(low), high, 3.5) if signed else max(high, 1.1)
    low = -high if signed else 0.0
    figure, axes = new_figure(SMALL)
    counts, edges = np.histogram(np.clip(values, low, high), BINS, (low, high), density=True)
    axes.stairs(counts, edges, fill=True, color=BLUE)
    if signed:
        x = np.linspace(low, high, 121)
        axes.plot(x, _normal_density(x), color=ORANGE, lw=1)
    axes.set(xlabel=f"{layer}: {title}", xlim=(low, high), yticks=[])
    label = (
        f"{layer}, distribution of {title}: median {np.median(values):.3f},"
        f" standard deviation {values.std():.3f}"
    )
    return inline_svg(figure, name, label)


def draw_pruning(curve: Sequence[tuple[float, float]]) -> str:
    """Return the test error against the fraction of the variables that are set to zero."""
    x, y = (100 * np.array(values) for values in zip(*curve, strict=True))
    figure, axes = new_figure(PANEL)
    axes.plot(x, y, "o-", ms=4, color=BLUE)
    axes.set(xlabel="variables set to zero, %", ylabel="test error, %")
    if log_axis(axes.yaxis, y):
        axes.yaxis.set_major_locator(load("ticker").LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    label = "Test error against variables set to zero: " + ", ".join(
        f"{error:.2f} % at {part:.0f} %" for part, error in zip(x, y, strict=True)
    )
    return inline_svg(figure, "pruning", label)


def draw_log_weights(example: Example) -> str:
    """Return how log2 q / p is spread over other candidates, and where the one sent is."""
    others, sent = example.others, example.log_weight
    high = max(others.max(), sent)
    low = min(float(np.percentile(others, 1)), sent)
    margin = 0.05 * (high - low)
    figure, axes = new_figure(PANEL)
    counts, edges = np.histogram(
        np.clip(others, low - margin, None), BINS, (low - margin, high + margin)
    )
    axes.stairs(counts, edges, fill=True, color=BLUE)
    axes.axvline(sent, color=ORANGE)
    axes.text(
        *(sent, 1.01, f"number {example.index:,}, the one sent: {sent:.1f}"),
        **{"color": ORANGE, "transform": axes.get_xaxis_transform(), "ha": "right"},
    )
    axes.set(xlabel="log2 q / p of a candidate, bits", ylabel="candidates")
    better = int(np.count_nonzero(others > sent))
    label = (
        f"Histogram of log2 q / p of {len(others)} other candidates: median"
        f" {np.median(others):.1f}, largest {others.max():.1f}; the one sent has {sent:.1f},"
        f" and {better} of the others have more"
    )
    return inline_svg(figure, "candidates", label)
