"""Draw docs/frontier.svg and docs/cifar.svg: the shipped models beside the published points.

    python tools/figures/frontier_plot.py            # needs pip install -e ".[plot]"

Ours are read from the summaries in data/models, the published ones stand below; docs/FRONTIER.md
and docs/CIFAR.md say where each comes from.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import NamedTuple

from refmiracle.drawing import figure_bytes, new_figure
from refmiracle.files import write_atomically
from refmiracle.studies.figures import COLOURS
from refmiracle.training.settings import settings_from_dict

ROOT = Path(__file__).resolve().parents[2]


class Frontier(NamedTuple):
    """A figure: its file, our networks, and what is published.

    Of each published kind label, marker, and (bytes, test error in per cent) of its points; of ours
    the label and whether augmentation was used.
    """

    name: str
    networks: tuple[str, ...]
    published: tuple[tuple[str, str, tuple[tuple[int, float], ...]], ...]
    ours: tuple[tuple[str, bool], ...]
    ticks: dict[int, str]


DIGITS = Frontier(
    "frontier",
    ("lenet5",),
    (
        ("LeNet-5, uncompressed", "*", ((1_724_320, 0.70),)),
        ("Deep Compression", "v", ((44_000, 0.80),)),
        ("Weightless", "^", ((4_520, 1.00),)),
        ("Bayesian Compression", "P", ((2_300, 1.00),)),
        ("MIRACLE, paper", "s", ((1_553, 0.96), (3_107, 0.69))),
        ("MIRACLE, public .mrcl files", "D", ((1_140, 0.97), (1_694, 0.83))),
    ),
    (("refmiracle", False), ("refmiracle, images shifted in training", True)),
    # The smallest and the largest of these have labels of their own size.
    {1_000: "1 kB", 2_000: "2 kB", 5_000: "5 kB", 44_000: "44 kB", 1_724_320: "1.7 MB"},
)
CIFAR = Frontier(
    "cifar",
    ("resnet8", "resnet8-24"),
    (
        ("MLPerf Tiny, ResNet-8, int8", "v", ((98_496, 13.03),)),
        ("MLPerf Tiny, ResNet-8, float32", "^", ((318_144, 12.81),)),
        ("MLPerf Tiny, large, int8", "P", ((512_024, 8.69),)),
        ("MIRACLE, VGG-16", "s", ((133_000, 9.8), (195_000, 7.5), (285_000, 7.1), (390_000, 6.6))),
    ),
    (("refmiracle, ResNet-8", True),),
    {25_000: "25 kB", 50_000: "50 kB", 100_000: "100 kB", 200_000: "200 kB", 500_000: "500 kB"},
)


def shipped(networks):
    """Return the summaries of the shipped models of some networks, without those of updates."""
    paths = sorted((ROOT / "data" / "models").glob("*.json"))
    summaries = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    models = [s for s in summaries if "base" not in s]
    return [s for s in models if settings_from_dict(s["config"]).network.name in networks]


def best_of(points):
    """Return the points that no other beats in both bytes and error, by size."""
    best = []
    for size, error in sorted(points):
        if not best or error < best[-1][1]:
            best.append((size, error))
    return best


def draw(frontier):
    """Return a figure: of our models those that no other of them beats in bytes and test error."""
    figure, axes = new_figure((8, 4.8))
    for (label, marker, points), colour in zip(frontier.published, COLOURS[1:], strict=False):
        axes.plot(*zip(*points, strict=True), marker, ms=7, color=colour, label=label)
    summaries = shipped(frontier.networks)
    for label, augmented in frontier.ours:
        points = [
            (s["bytes"], 100 * s["test_error"])
            for s in summaries
            if (s["config"]["shift"] > 0) == augmented
        ]
        if points:
            line, style = zip(*best_of(points), strict=True), "o:" if augmented else "o-"
            white = "w" if augmented else None
            axes.plot(*line, style, lw=2, color=COLOURS[0], label=label, mfc=white)
    axes.set(xscale="log", xlabel="size of the network's file", ylabel="test error, %")
    axes.set_xticks(list(frontier.ticks), list(frontier.ticks.values()))
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    return figure


def main():
    """Draw and write the figures."""
    for frontier in (DIGITS, CIFAR):
        data = figure_bytes(partial(draw, frontier), ["svg"])[0]
        write_atomically(ROOT / "docs" / f"{frontier.name}.svg", data)


if __name__ == "__main__":
    main()
