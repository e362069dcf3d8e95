"""Draw docs/frontier.svg: the shipped models beside the published points.

    python tools/figures/frontier_plot.py            # needs pip install -e ".[plot]"

Ours are read from the summaries in data/models, the published ones stand below; docs/FRONTIER.md
says where each comes from.
"""

from __future__ import annotations

import json
from pathlib import Path

from refmiracle.drawing import figure_bytes, new_figure
from refmiracle.files import write_atomically
from refmiracle.studies.figures import COLOURS

ROOT = Path(__file__).resolve().parents[2]
# Label, marker, and (bytes, test error in per cent) of each point.
PUBLISHED = (
    ("LeNet-5, uncompressed", "*", ((1_724_320, 0.70),)),
    ("Deep Compression", "v", ((44_000, 0.80),)),
    ("Weightless", "^", ((4_520, 1.00),)),
    ("Bayesian Compression", "P", ((2_300, 1.00),)),
    ("MIRACLE, paper", "s", ((1_553, 0.96), (3_107, 0.69))),
    ("MIRACLE, public .mrcl files", "D", ((1_140, 0.97), (1_694, 0.83))),
)
OURS = (("refmiracle", False), ("refmiracle, images shifted in training", True))
# The smallest and the largest of these have labels of their own size.
TICKS = {1_000: "1 kB", 2_000: "2 kB", 5_000: "5 kB", 44_000: "44 kB", 1_724_320: "1.7 MB"}


def shipped():
    """Return the summaries of the shipped models, without those of updates."""
    paths = sorted((ROOT / "data" / "models").glob("*.json"))
    summaries = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [summary for summary in summaries if "base" not in summary]


def best_of(points):
    """Return the points that no other beats in both bytes and error, by size."""
    best = []
    for size, error in sorted(points):
        if not best or error < best[-1][1]:
            best.append((size, error))
    return best


def draw():
    """Return the figure."""
    figure, axes = new_figure((8, 4.8))
    for (label, marker, points), colour in zip(PUBLISHED, COLOURS[1:], strict=True):
        axes.plot(*zip(*points, strict=True), marker, ms=7, color=colour, label=label)
    summaries = shipped()
    for (label, shifted), style in zip(OURS, ("o-", "o:"), strict=True):
        points = [
            (s["bytes"], 100 * s["test_error"])
            for s in summaries
            if (s["config"]["shift"] > 0) == shifted
        ]
        if points:
            line = zip(*best_of(points), strict=True)
            axes.plot(
                *line, style, lw=2, color=COLOURS[0], label=label, mfc="w" if shifted else None
            )
    axes.set(xscale="log", xlabel="size of the network's file", ylabel="test error, %")
    axes.set_xticks(list(TICKS), list(TICKS.values()))
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    return figure


def main():
    """Draw and write the figure."""
    write_atomically(ROOT / "docs" / "frontier.svg", figure_bytes(draw, ["svg"])[0])


if __name__ == "__main__":
    main()
