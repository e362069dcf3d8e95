"""The shapes of posteriors and compressed weights: tails, spread, and where the bits go.

arXiv 2307.07816 claims that Mean-KL leads to more meaningful variational distributions, with
heavier tails.  Heavy tails are measured as excess kurtosis and as a tail index; "more
meaningful" is read as information that is concentrated on few variables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from refmiracle.drawing import Draw
from refmiracle.nn.contract import Tensor
from refmiracle.studies import tails_figures as figures
from refmiracle.studies.comparison import Comparison, FinishedRun, by_pairs, layers_of, open_runs
from refmiracle.studies.results import Claim, claim_above, interval, paired, write_study
from refmiracle.studies.runs import attempt
from refmiracle.studies.subject import Subject
from refmiracle.studies.views import FirstDense, first_dense, first_kernels
from refmiracle.training.data import Data
from refmiracle.training.settings import Settings

STUDY = "tails"
TAIL = 0.05  # the part of a distribution that its tail index is measured on
LEAST = 20  # variables of a layer that has a tail
PROBABILITIES = np.linspace(0.005, 0.995, 100)
ALL = "all"
Rows = list[dict[str, Any]]
Array = NDArray[np.float64]


def quantities(run: FinishedRun) -> dict[str, Array]:
    """Return what distributions are drawn of, by name; arrays of shape (variables,).

    Of the posterior at the end of training mu, sigma, both in units of rho, the KL in bits and
    the signal-to-noise ratio; of the compressed weights w, and w in units of rho.
    """
    q, w = run.posterior, run.decoded
    return {
        "mu": q.mu,
        "sigma": q.sigma,
        "mu/rho": q.mu / q.rho,
        "sigma/rho": q.sigma / q.rho,
        "KL, bits": run.posterior.kl_bits(),
        "|mu|/sigma": np.abs(q.mu) / q.sigma,
        "w": w,
        "w/rho": w / q.rho,
    }


def tail_index(values: ArrayLike) -> float:
    """Return Hill's estimate of the tail index (Hill 1975, Annals of Statistics 3(5)).

    Of the n distances x from the median let x_1 >= ... >= x_k be the largest 5 %; then
    1 / alpha = (1/k) sum_i log(x_i / x_(k+1)).  A smaller index is a heavier tail: of a law with
    P(X > x) = x^-alpha it is alpha.
    """
    values = np.asarray(values, dtype=np.float64)
    x = np.sort(np.abs(values - np.median(values)))[::-1]
    k = max(1, int(TAIL * len(x)))
    return float(1.0 / np.mean(np.log(x[:k] / x[k])))


def gini(values: ArrayLike) -> float:
    """Return the Gini coefficient of shares: 0 if all are equal, near 1 if one has all.

    With x sorted, G = sum_i (2 i - n - 1) x_i / (n sum_i x_i), i = 1, ..., n.
    """
    x = np.sort(np.asarray(values, dtype=np.float64))
    n = len(x)
    return float(np.sum((2 * np.arange(1, n + 1) - n - 1) * x) / (n * x.sum()))


def statistics(values: Array) -> Iterator[tuple[str, float]]:
    """Yield the statistics of one distribution by name."""
    yield "mean", float(values.mean())
    yield "standard deviation", float(values.std())
    yield "excess kurtosis", float(scipy.stats.kurtosis(values))
    yield "tail index", tail_index(values)
    for percent in (1, 5, 25, 50, 75, 95, 99):
        yield f"{percent} % quantile", float(np.quantile(values, percent / 100))


def parts(run: FinishedRun) -> dict[str, slice]:
    """Return the variables of the weights of each layer that has a tail, and of everything."""
    layers = {n: part for n, part in run.layers().items() if part.stop - part.start >= LEAST}
    return {**layers, ALL: slice(0, len(run.decoded))}


def labels(run: FinishedRun) -> dict[str, Any]:
    """Return the columns that name a run."""
    return {"parameterization": run.settings.parameterization, "seed": run.settings.seed}


def moment_rows(run: FinishedRun) -> Rows:
    """Return all statistics of all distributions of a run, for each layer."""
    rows = [
        {**labels(run), "layer": layer, "quantity": name, "statistic": statistic, "value": value}
        for name, values in quantities(run).items()
        for layer, part in parts(run).items()
        for statistic, value in statistics(values[part])
    ]
    concentration = {
        **labels(run),
        "layer": ALL,
        "quantity": "KL, bits",
        "statistic": "Gini coefficient",
        "value": gini(run.posterior.kl_bits()),
    }
    return [*rows, concentration]


def interval_rows(moments: Rows) -> Rows:
    """Return what tells tails apart, of each layer: median over the seeds, and its interval."""
    values: dict[tuple[str, ...], list[float]] = {}
    names = ("layer", "quantity", "statistic", "parameterization")
    for row in moments:
        if row["statistic"] in ("excess kurtosis", "tail index"):
            values.setdefault(tuple(row[name] for name in names), []).append(row["value"])
    rows = []
    for key, of_seeds in values.items():
        found = interval(of_seeds)
        rows.append(
            {
                **dict(zip(names, key, strict=True)),
                "median": found.estimate,
                "low": found.low,
                "high": found.high,
                "seeds": found.count,
            }
        )
    return rows


def bit_rows(run: FinishedRun) -> Rows:
    """Return how many bits each tensor has."""
    bits = run.posterior.kl_bits()
    return [
        {
            **labels(run),
            "tensor": name,
            "variables": part.stop - part.start,
            "bits": float(bits[part].sum()),
            "bits_a_variable": float(bits[part].mean()),
            "share": float(bits[part].sum() / bits.sum()),
        }
        for name, part in run.tensors().items()
    ]


def quantile_rows(run: FinishedRun) -> Rows:
    """Return quantiles beside a normal's, of mu/rho and w/rho, for each layer.

    Values are standardised by the median and by the interquartile range of a normal, so that
    a normal distribution gives a straight line whatever its tails.
    """
    width = 2 * scipy.stats.norm.ppf(0.75)
    rows = []
    for name in ("mu/rho", "w/rho"):
        for layer, part in parts(run).items():
            values = quantities(run)[name][part]
            low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
            found = (np.quantile(values, PROBABILITIES) - middle) * width / (high - low)
            rows += [
                {
                    **labels(run),
                    "layer": layer,
                    "quantity": name,
                    "normal": float(z),
                    "quantile": float(value),
                }
                for z, value in zip(scipy.stats.norm.ppf(PROBABILITIES), found, strict=True)
            ]
    return rows


TABLES = {"moments": moment_rows, "quantiles": quantile_rows, "bits": bit_rows}


def measure(run: FinishedRun) -> dict[str, Rows]:
    """Return the rows of one run for each table."""
    return {table: rows_of(run) for table, rows_of in TABLES.items()}


def make_claims(moments: Rows) -> list[Claim]:
    """Return the claims: heavier tails, and information on fewer variables."""
    heavier = "Mean-KL's variational distributions have heavier tails (arXiv 2307.07816, abstract)"
    found = []
    for quantity, what in (("mu/rho", "posterior means"), ("w/rho", "compressed weights")):
        for statistic, sign, text in (
            ("excess kurtosis", 1, "excess kurtosis, Mean-KL's minus Mean-Var's"),
            ("tail index", -1, "Hill's tail index, Mean-Var's minus Mean-KL's"),
        ):
            ours, theirs = paired(
                moments, "value", quantity=quantity, statistic=statistic, layer=ALL
            )
            found.append(
                claim_above(
                    f"{statistic} of the {what}",
                    f"{heavier}: {what}, in units of rho",
                    text,
                    sign * np.subtract(ours, theirs),
                    0.0,
                )
            )
    ours, theirs = paired(moments, "value", statistic="Gini coefficient")
    found.append(
        claim_above(
            "information on fewer variables",
            "Mean-KL's posteriors are more meaningful (arXiv 2307.07816, abstract), which we read"
            " as information that is concentrated on fewer variables",
            "Gini coefficient of the variables' KL, Mean-KL's minus Mean-Var's",
            np.subtract(ours, theirs),
            0.0,
        )
    )
    return found


def draw(
    paired_runs: Mapping[str, Mapping[int, FinishedRun]], tables: Mapping[str, Rows]
) -> dict[str, Draw]:
    """Return what draws each figure, by name."""
    some = {name: next(iter(runs.values())) for name, runs in paired_runs.items()}
    settings = next(iter(some.values())).settings
    drawn: dict[str, Draw] = {
        "densities": lambda: figures.draw_densities(
            {name: pooled(list(runs.values())) for name, runs in paired_runs.items()}
        ),
        "quantile-quantile": lambda: figures.draw_quantiles(tables["quantiles"]),
        "bits": lambda: figures.draw_bits(tables["bits"]),
    }
    layer = dense_of_places(settings)
    if layer is not None:
        drawn["pixels"] = lambda: figures.draw_pixels(
            {
                name: np.mean([position_bits(run, layer) for run in runs.values()], axis=0)
                for name, runs in paired_runs.items()
            },
            layer,
        )
    kernels = seen_kernels(settings)
    if kernels is not None:
        drawn["filters"] = lambda: figures.draw_filters(
            {name: first_filters(run, kernels) for name, run in some.items()}
        )
    return drawn


def notes_of(settings: Settings) -> tuple[str, ...]:
    """Return a line for each part of the study that a network does not have."""
    notes = []
    layers = layers_of(settings).items()
    small = [name for name, part in layers if part.stop - part.start < LEAST]
    if small:
        notes.append(f"fewer than {LEAST} variables have no tail: {', '.join(small)} left out")
    if dense_of_places(settings) is None:
        notes.append(
            "figure pixels left out: there is no dense layer whose units read places of the image"
            " behind convolutions and pools alone, all of a unit's weights shared alike"
        )
    if seen_kernels(settings) is None:
        notes.append(
            "figure filters left out: the first layer is no convolution whose weights have a"
            " variable each"
        )
    return tuple(notes)


def pooled(runs: Sequence[FinishedRun]) -> dict[str, dict[str, Array]]:
    """Return the values of some quantities of all runs together, by layer and quantity."""
    return {
        layer: {
            quantity: np.concatenate([quantities(run)[quantity][part] for run in runs])
            for quantity in ("mu/rho", "sigma/rho", "w/rho")
        }
        for layer, part in parts(runs[0]).items()
    }


def seen_kernels(settings: Settings) -> Tensor | None:
    """Return the weights of the first layer, if it is a convolution with a variable for each."""
    return first_kernels(settings.network) if settings.hash_factors[0] == 1 else None


def first_filters(run: FinishedRun, kernels: Tensor) -> dict[str, Array]:
    """Return the first layer's weights as some quantities, by name; shape (kh, kw, in, out)."""
    part = run.tensors()[kernels.name]
    shown = ("mu/rho", "sigma/rho", "KL, bits", "w/rho")
    return {what: quantities(run)[what][part].reshape(kernels.shape) for what in shown}


def dense_of_places(settings: Settings) -> FirstDense | None:
    """Return the first dense layer, if its variables are those of units at places of the image."""
    layer = first_dense(settings.network)
    if layer is None:
        return None
    for tensor, factor in zip(settings.network.tensors(), settings.hash_factors, strict=True):
        if tensor.name == f"{layer.path}.weight":
            return layer if tensor.shape[1] % factor == 0 else None
    return None


def position_bits(run: FinishedRun, layer: FirstDense) -> Array:
    """Return the bits of a dense layer's weights at each place of its input, (rows, columns).

    Its inputs are channels of places, channels outermost.
    """
    bits = run.posterior.kl_bits()[run.tensors()[f"{layer.path}.weight"]]
    rows, columns = (side.places for side in layer.sides)
    return bits.reshape(layer.channels, rows, columns, -1).sum(axis=(0, 3))


def tails(
    comparison: Comparison,
    data: Data,
    out: Path,
    executor: Executor,
    at_once: int | None = None,
) -> dict[str, Any]:
    """Measure the distributions of both parameterizations, and compare their tails.

    Writes moments.csv, intervals.csv, quantiles.csv, bits.csv, results.json and figures; see
    `results.write_study`.  The runs are those of the comparison's longest training.

    Parameters
    ----------
    comparison : Comparison
    data : Path or DataSet
        The images, or their folder.
    out : Path
        Folder of the studies.
    executor, at_once
        See `runs.run_tasks`.
    """
    opened, failures = open_runs(STUDY, comparison, data, out, executor, at_once)
    measured, unmeasured = attempt(measure, {name: (run,) for name, run in opened.items()})
    failures |= unmeasured
    paired_runs = by_pairs({name: opened[name] for name in measured})
    names = [
        comparison.run_name(parameterization, comparison.lengths[-1], seed)
        for parameterization, by_seed in paired_runs.items()
        for seed in by_seed
    ]
    tables = {table: [row for name in names for row in measured[name][table]] for table in TABLES}
    tables["intervals"] = interval_rows(tables["moments"])
    return write_study(
        out / STUDY,
        STUDY,
        comparison.to_dict(),
        make_claims(tables["moments"]) if names else [],
        failures,
        tables,
        draw(paired_runs, tables) if names else {},
        subject=Subject(comparison.base.network, notes_of(comparison.base)),
    )
