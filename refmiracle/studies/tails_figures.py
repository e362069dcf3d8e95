"""The figures of the study of tails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.drawing import new_figure
from refmiracle.studies.figures import NAMES, STYLES, draw_band

Array = NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]
BINS = 81
# A place of the first dense layer's input sees 16 x 16 pixels, and its neighbour those 4 on.
SEEN, STRIDE, PIXELS = 16, 4, 28


def draw_densities(pooled: Mapping[str, Mapping[str, Mapping[str, Array]]]) -> Any:
    """Return histograms by parameterization, layer and quantity; rows are layers."""
    layers = list(next(iter(pooled.values())))
    columns = list(next(iter(next(iter(pooled.values())).values())))
    figure, panels = new_figure(
        (10, 2.1 * len(layers)), nrows=len(layers), ncols=len(columns), sharex="col"
    )
    for column, quantity in enumerate(columns):
        everything = np.concatenate([pooled[name]["all"][quantity] for name in pooled])
        edges = np.linspace(everything.min(), everything.max(), BINS)
        for row, layer in enumerate(layers):
            axes = panels[row, column]
            for name in pooled:
                axes.hist(
                    pooled[name][layer][quantity],
                    edges,
                    density=True,
                    histtype="step",
                    log=True,
                    color=STYLES[name],
                    label=NAMES[name],
                )
            axes.minorticks_off()
            axes.grid(visible=True, alpha=0.3)
            if column == 0:
                axes.set_ylabel(f"{layer}\ndensity")
        panels[-1, column].set_xlabel(quantity)
    panels[0, 0].legend(fontsize="small")
    return figure


def draw_quantiles(quantiles: Rows) -> Any:
    """Return quantiles against a normal's: the median of the seeds, and their range."""
    layers = list(dict.fromkeys(row["layer"] for row in quantiles))
    columns = list(dict.fromkeys(row["quantity"] for row in quantiles))
    figure, panels = new_figure(
        (13, 5.5), nrows=len(columns), ncols=len(layers), sharex=True, sharey="row"
    )
    for row, quantity in enumerate(columns):
        for column, layer in enumerate(layers):
            axes = panels[row, column]
            for name in NAMES:
                wanted = [
                    r
                    for r in quantiles
                    if (r["layer"], r["quantity"], r["parameterization"]) == (layer, quantity, name)
                ]
                draw_band(axes, wanted, ("normal", 1), ("quantile", 1), name)
            axes.axline((0, 0), slope=1, color="0.4", ls=":", label="normal")
            axes.grid(visible=True, alpha=0.3)
            axes.set_title(layer if row == 0 else None)
        panels[row, 0].set_ylabel(f"{quantity}, standardised")
    for axes in panels[-1]:
        axes.set_xlabel("quantile of a normal")
    panels[0, 0].legend(fontsize="small")
    return figure


def draw_bits(bits: Rows) -> Any:
    """Return bits a variable, and each tensor's share, with a dot for each seed."""
    figure, panels = new_figure((10, 4), ncols=2, sharey=True)
    tensors = list(dict.fromkeys(row["tensor"] for row in bits))
    for axes, column, scale, label in (
        (panels[0], "bits_a_variable", 1, "bits a variable"),
        (panels[1], "share", 100, "share of all bits, %"),
    ):
        for shift, name in ((-0.2, "mean-kl"), (0.2, "mean-var")):
            for at, tensor in enumerate(tensors):
                values = [
                    scale * r[column]
                    for r in bits
                    if (r["tensor"], r["parameterization"]) == (tensor, name)
                ]
                axes.barh(
                    at + shift,
                    np.median(values),
                    0.36,
                    color=STYLES[name],
                    alpha=0.6,
                    label=NAMES[name] if at == 0 else None,
                )
                axes.plot(values, [at + shift] * len(values), "k.", ms=3)
        axes.set_xlabel(label)
        axes.grid(visible=True, axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(tensors)), tensors)
    panels[0].invert_yaxis()
    panels[1].legend()
    return figure


def _sheet(filters: Array) -> Array:
    """Return 20 filters of 5 x 5, shape (25 * 20,) with filters last, as two rows of pictures."""
    pictures = filters.reshape(5, 5, 2, 10)
    sheet = np.full((2, 6, 10, 6), np.nan)
    sheet[:, :5, :, :5] = pictures.transpose(2, 0, 3, 1)
    return sheet.reshape(12, 60)[:-1, :-1]


def draw_filters(pictures: Mapping[str, Mapping[str, Array]]) -> Any:
    """Return the first layer's filters of one seed: rows are quantities, columns kinds."""
    names = list(next(iter(pictures.values())))
    figure, panels = new_figure((11, 1.5 * len(names)), nrows=len(names), ncols=2)
    for row, what in enumerate(names):
        both = np.concatenate([pictures[name][what] for name in pictures])
        signed = what in ("mu/rho", "w/rho")
        top = np.abs(both).max()
        for column, name in enumerate(pictures):
            axes = panels[row, column]
            picture = axes.imshow(
                _sheet(pictures[name][what]),
                cmap="PuOr" if signed else "cividis",
                vmin=-top if signed else 0,
                vmax=top,
            )
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(NAMES[name])
        panels[row, 0].set_ylabel(what)
        figure.colorbar(picture, ax=panels[row], fraction=0.02)
    return figure


def spread(places: Array) -> Array:
    """Return the bits of 4 x 4 places spread evenly over the pixels that each sees, (28, 28)."""
    pixels = np.zeros((PIXELS, PIXELS))
    for (i, j), bits in np.ndenumerate(places):
        seen = np.s_[i * STRIDE : i * STRIDE + SEEN, j * STRIDE : j * STRIDE + SEEN]
        pixels[seen] += bits / SEEN**2
    return pixels


def draw_pixels(maps: Mapping[str, Array]) -> Any:
    """Return the bits of the first dense layer over its 4 x 4 input places, and over pixels."""
    figure, panels = new_figure((7.5, 6.5), nrows=2, ncols=2)
    shown = {
        "bits at each input place of dense1": dict(maps),
        "bits, spread over the pixels seen": {n: spread(places) for n, places in maps.items()},
    }
    for row, (label, drawn) in enumerate(shown.items()):
        top = max(values.max() for values in drawn.values())
        for column, (name, values) in enumerate(drawn.items()):
            axes = panels[row, column]
            picture = axes.imshow(values, cmap="cividis", vmin=0, vmax=top)
            axes.set_title(NAMES[name])
            axes.set(xlabel="column", ylabel="row")
            axes.set_xticks(range(0, len(values), STRIDE if len(values) == PIXELS else 1))
            axes.set_yticks(axes.get_xticks())
        figure.colorbar(picture, ax=panels[row], label=label)
    return figure
