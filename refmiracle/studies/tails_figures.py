"""The figures of the study of tails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.drawing import new_figure
from refmiracle.studies.figures import NAMES, STYLES, draw_band
from refmiracle.studies.views import FirstDense, Side

Array = NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]
BINS = 81
FILTERS = 32  # at most
TICKS = 7  # of a picture's side, or little more


def draw_densities(pooled: Mapping[str, Mapping[str, Mapping[str, Array]]]) -> Any:
    """Return histograms by parameterization, layer and quantity; rows are layers."""
    layers = list(next(iter(pooled.values())))
    columns = list(next(iter(next(iter(pooled.values())).values())))
    size, grid = (10, 2.1 * len(layers)), {"nrows": len(layers), "ncols": len(columns)}
    figure, panels = new_figure(size, **grid, sharex="col", squeeze=False)
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
    size, grid = (2.6 * max(len(layers), 2), 5.5), {"nrows": len(columns), "ncols": len(layers)}
    figure, panels = new_figure(size, **grid, sharex=True, sharey="row", squeeze=False)
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
    tensors = list(dict.fromkeys(row["tensor"] for row in bits))
    figure, panels = new_figure((10, max(4, 0.5 * len(tensors))), ncols=2, sharey=True)
    for axes, column, scale, label in (
        (panels[0], "bits_a_variable", 1, "bits a variable"),
        (panels[1], "share", 100, "share of all bits, %"),
    ):
        for name, shift in zip(NAMES, (-0.2, 0.2), strict=True):
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
    """Return filters, shape (kh, kw, in, out), as pictures side by side, in twice `in` rows.

    A row has half of the filters as one channel, or up to three, sees them; of more channels it is
    the mean.  Of many filters the first `FILTERS` are shown.
    """
    filters = filters[..., :FILTERS]
    if filters.shape[2] > 3:
        filters = filters.mean(axis=2, keepdims=True)
    kh, kw, channels, count = filters.shape
    columns = -(-count // 2)
    pictures = np.full((kh, kw, channels, 2 * columns), np.nan)
    pictures[..., :count] = filters
    sheet = np.full((2, channels, kh + 1, columns, kw + 1), np.nan)
    halves = pictures.reshape(kh, kw, channels, 2, columns)
    sheet[:, :, :kh, :, :kw] = halves.transpose(3, 2, 0, 4, 1)
    return sheet.reshape(2 * channels * (kh + 1), columns * (kw + 1))[:-1, :-1]


def draw_filters(pictures: Mapping[str, Mapping[str, Array]]) -> Any:
    """Return the first layer's filters of one seed: rows are quantities, columns kinds."""
    names = list(next(iter(pictures.values())))
    channels = min(next(iter(next(iter(pictures.values())).values())).shape[2], 3)
    size = (11, 1.5 * len(names) * channels)
    figure, panels = new_figure(size, nrows=len(names), ncols=2)
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


def over_pixels(places: Array, sides: tuple[Side, Side]) -> Array:
    """Return the bits of each place spread evenly over the pixels that it sees."""
    rows, columns = sides
    pixels = np.zeros((rows.pixels, columns.pixels))
    for (i, j), bits in np.ndenumerate(places):
        seen = pixels[rows.seen(i), columns.seen(j)]
        seen += bits / seen.size
    return pixels


def draw_pixels(maps: Mapping[str, Array], layer: FirstDense) -> Any:
    """Return the bits of a dense layer over the places of its input, and over pixels."""
    figure, panels = new_figure((7.5, 6.5), nrows=2, ncols=2)
    pixels = {name: over_pixels(places, layer.sides) for name, places in maps.items()}
    shown = {
        f"bits at each input place of {layer.path}": (dict(maps), (1, 1)),
        "bits, spread over the pixels seen": (pixels, [side.stride for side in layer.sides]),
    }
    for row, (label, (drawn, steps)) in enumerate(shown.items()):
        top = max(values.max() for values in drawn.values())
        for column, (name, values) in enumerate(drawn.items()):
            axes = panels[row, column]
            picture = axes.imshow(values, cmap="cividis", vmin=0, vmax=top)
            axes.set_title(NAMES[name])
            axes.set(xlabel="column", ylabel="row")
            ticks = [
                range(0, n, max(step, n // TICKS))
                for n, step in zip(values.shape, steps, strict=True)
            ]
            axes.set_yticks(ticks[0])
            axes.set_xticks(ticks[1])
        figure.colorbar(picture, ax=panels[row], label=label)
    return figure
