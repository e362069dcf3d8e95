"""The figures of the study of uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refmiracle.drawing import new_figure
from refmiracle.studies.figures import NAMES, STYLES
from refmiracle.studies.foreign import FOREIGN, GLYPHS, Pixels

Rows = Sequence[Mapping[str, Any]]
BESIDE = 0.15  # of the way from one predictor to the next
FEW = 20  # images: the accuracy of fewer says little
PANELS = (
    ("error", "test error, %", 100),
    ("log_likelihood", "test log-likelihood, nats per image", 1),
    ("calibration_error", "expected calibration error,\npercentage points", 100),
    ("brier", "Brier score, squared probability", 1),
)


def _compare(axes: Any, rows: Rows, value: str, predictors: Sequence[str], scale: float) -> None:
    """Draw a point for each seed, and the median of them as a line, for each predictor."""
    for name, side in zip(NAMES, (-BESIDE, BESIDE), strict=True):
        for place, predictor in enumerate(predictors):
            values = [
                scale * row[value]
                for row in rows
                if row["parameterization"] == name and row["predictor"] == predictor
            ]
            x = place + side
            label = NAMES[name] if place == 0 else None
            axes.plot([x] * len(values), values, "o", ms=4, alpha=0.6, mew=0, color=STYLES[name])
            axes.plot(
                [x - 0.8 * BESIDE, x + 0.8 * BESIDE],
                [np.median(values)] * 2,
                lw=2,
                color=STYLES[name],
                label=label,
            )
    labels = [p.replace(" ", "\n") for p in predictors]
    axes.set_xticks(range(len(predictors)), labels, fontsize="small")
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=True, axis="y", alpha=0.3)


def draw_scores(rows: Rows, predictors: Sequence[str]) -> Any:
    """Return the four scores of each predictor: the seeds, and their median as a line."""
    figure, panels = new_figure((9, 6.5), nrows=2, ncols=2, sharex=True)
    for axes, (score, label, scale) in zip(panels.flat, PANELS, strict=True):
        _compare(axes, [r for r in rows if r["score"] == score], "value", predictors, scale)
        axes.set_ylabel(label)
    panels[0, 0].legend(fontsize="small")
    return figure


def draw_detection(rows: Rows, predictors: Sequence[str]) -> Any:
    """Return the AUROC of each predictor's entropy, a panel for each set of changed images."""
    sets = list(dict.fromkeys(row["images"] for row in rows))
    figure, panels = new_figure((11, 6), nrows=2, ncols=3)
    for axes, name in zip(panels.flat, sets, strict=False):
        _compare(axes, [r for r in rows if r["images"] == name], "auroc", predictors, 1)
        axes.set(title=name)
    for axes in panels[:, 0]:
        axes.set_ylabel("AUROC of the entropy")
    for axes in panels.flat[len(sets) :]:
        axes.set_axis_off()
    free = panels.flat[len(sets)]
    free.legend(*panels.flat[0].get_legend_handles_labels(), loc="center")
    return figure


def _pooled(rows: Rows, bins: int) -> tuple[Any, Any, Any]:
    """Return images, confidence and accuracy of the bins of all seeds together."""
    images, sums = np.zeros(bins), np.zeros((2, bins))
    for row in rows:
        if row["images"]:
            images[row["bin"]] += row["images"]
            sums[:, row["bin"]] += row["images"] * np.array([row["confidence"], row["accuracy"]])
    confidence, accuracy = sums / np.maximum(images, 1)
    return images, confidence, accuracy


def draw_reliability(rows: Rows, predictors: Sequence[str], bins: int) -> Any:
    """Return accuracy against confidence, all seeds pooled, and how many images each bin has."""
    figure, panels = new_figure(
        (3.5 * len(predictors), 5.5),
        nrows=2,
        ncols=len(predictors),
        sharex=True,
        sharey="row",
        gridspec_kw={"height_ratios": (3, 1)},
    )
    for column, predictor in enumerate(predictors):
        above, below = panels[:, column]
        above.plot([0, 1], [0, 1], ":", color="0.4", label="calibrated")
        for name in NAMES:
            some = [
                r for r in rows if r["parameterization"] == name and r["predictor"] == predictor
            ]
            images, confidence, accuracy = _pooled(some, bins)
            enough = images >= FEW
            above.plot(
                confidence[enough],
                accuracy[enough],
                "o-",
                ms=4,
                color=STYLES[name],
                label=NAMES[name],
            )
            below.stairs(images, np.linspace(0, 1, bins + 1), color=STYLES[name], lw=1.5)
        above.set(title=predictor)
        below.set(xlabel="confidence, probability", yscale="log")
        above.grid(visible=True, alpha=0.3)
        below.grid(visible=True, alpha=0.3)
    panels[0, 0].set_ylabel(f"accuracy, bins of {FEW} images or more")
    panels[1, 0].set_ylabel("images")
    panels[0, 0].legend(fontsize="small")
    return figure


def _row(images: Pixels) -> Any:
    """Return images side by side, shape (height, width) or (height, width, 3)."""
    if images.ndim == 4:
        images = np.moveaxis(images, 1, -1) if images.shape[1] == 3 else images.mean(axis=1)
    return np.hstack(list(images))


def draw_images(sets: Mapping[str, Pixels]) -> Any:
    """Return a sheet of the first images of each set, a row each.

    Parameters
    ----------
    sets : mapping of str to ndarray of uint8, shape (images, channels, height, width)
        One channel has no axis.  Three are taken for red, green and blue; of others the mean is
        shown.
    """
    columns = len(GLYPHS)
    figure, rows = new_figure((9, 0.75 * len(sets)), nrows=len(sets))
    for axes, (name, images) in zip(rows, sets.items(), strict=True):
        title = f"{name}, one of each" if name == FOREIGN else name
        axes.imshow(_row(images[:columns]), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, loc="left", fontsize="small", pad=2)
        axes.set_axis_off()
    return figure
