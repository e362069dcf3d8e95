"""How the error of a compressed network grows as its variables are set to zero.

arXiv 2307.07816 claims that compressed samples of Mean-KL are more robust to pruning.  What is
set to zero are coded variables of the decoded file, in four orders and, of LeNet-5, six scopes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.drawing import Draw
from refmiracle.nn.evaluation import classes
from refmiracle.posterior.parameterizations import COMPARED
from refmiracle.studies.comparison import Comparison, FinishedRun, open_runs
from refmiracle.studies.pruning_figures import draw_layers, draw_orders
from refmiracle.studies.results import Claim, claim_above, paired, write_study
from refmiracle.studies.runs import run_tasks
from refmiracle.studies.subject import Subject
from refmiracle.training.data import Data, check_split, load_split

STUDY = "pruning"
FRACTIONS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
# What is set to zero first: the smallest of these.
ORDERS = {
    "|w|": "smallest |w|",
    "|w|/rho": "smallest |w| / rho",
    "|mu|/sigma": "smallest |mu| / sigma",
    "random": "at random",
}
GLOBAL, UNIFORM = "global", "uniform"
Rows = list[dict[str, Any]]
Scores = NDArray[np.float64]


def scores(run: FinishedRun, order: str) -> Scores:
    """Return a number for each variable, shape (variables,); the smallest goes first.

    w is the decoded value, rho the scale of P, and abs(mu) / sigma the signal-to-noise ratio of
    the posterior at the end of training.  The random order is NumPy's, seeded by the run's seed.
    """
    w, q = np.abs(run.decoded), run.posterior
    if order == "|w|":
        return w
    if order == "|w|/rho":
        return w / q.rho
    if order == "|mu|/sigma":
        return np.abs(q.mu) / q.sigma
    return np.random.default_rng(run.settings.seed).random(len(w))


def pruned(values: Scores, groups: Sequence[slice], fraction: float) -> NDArray[np.bool_]:
    """Return which variables are set to zero: of each group the fraction of smallest score.

    Parameters
    ----------
    values : ndarray, shape (variables,)
    groups : sequence of slice
        Ranked each on its own; what is in none of them stays.
    fraction : float
        Of each group, rounded to whole variables.
    """
    mask = np.zeros(len(values), dtype=bool)
    for group in groups:
        ranked = np.argsort(values[group], kind="stable")
        mask[group.start + ranked[: round(fraction * len(ranked))]] = True
    return mask


def scopes(run: FinishedRun) -> dict[str, list[slice]]:
    """Return the groups of each scope.

    ``global`` ranks all variables together, ``uniform`` takes the same fraction of each tensor,
    and a layer's name stands for its weights alone.
    """
    everything = [slice(0, len(run.decoded))]
    tensors = list(run.tensors().values())
    layers = {name: [part] for name, part in run.layers().items()}
    return {GLOBAL: everything, UNIFORM: tensors, **layers}


def prune_run(run: FinishedRun, data: Data) -> Rows:
    """Return the test error of a run for each scope, order and fraction.

    Parameters
    ----------
    run : FinishedRun
    data : Path or DataSet
        Folder of the images.
    """
    test = load_split(data, "t10k")
    rows = []
    for order in ORDERS:
        values = scores(run, order)
        for scope, groups in scopes(run).items():
            for fraction in FRACTIONS:
                w = np.where(pruned(values, groups, fraction), 0.0, run.decoded)
                predicted = classes(run.logits(w, test.images))
                rows.append(
                    {
                        "parameterization": run.settings.parameterization,
                        "seed": run.settings.seed,
                        "scope": scope,
                        "order": order,
                        "fraction": fraction,
                        "test_error": float(np.mean(predicted != test.labels)),
                    }
                )
    return rows


def area_rows(curves: Sequence[Mapping[str, Any]]) -> Rows:
    """Return the area below each curve, over its width, and its rise: the mean errors.

    The area is the trapezoids' sum over the fractions, divided by the largest fraction; the
    rise is the area less the error of what is not pruned, as a low error to begin with is no
    robustness.
    """
    found: dict[tuple[Any, ...], dict[float, float]] = {}
    names = ("parameterization", "seed", "scope", "order")
    for row in curves:
        key = tuple(row[name] for name in names)
        found.setdefault(key, {})[row["fraction"]] = row["test_error"]
    rows = []
    for key, curve in found.items():
        x = np.array(sorted(curve))
        y = np.array([curve[f] for f in x])
        area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / (x[-1] - x[0]))
        rows.append({**dict(zip(names, key, strict=True)), "area": area, "rise": area - y[0]})
    return rows


def make_claims(areas: Rows) -> list[Claim]:
    """Return the claims: for each order, that the curve of Mean-KL lies lower, or rises less."""
    claims = []
    for order, text in ORDERS.items():
        for column, what in (("area", "error"), ("rise", "rise of the error")):
            ours, theirs = paired(areas, column, scope=GLOBAL, order=order)
            if ours:
                claims.append(
                    claim_above(
                        f"{what}, {text}",
                        "Mean-KL's compressed weights are more robust to pruning"
                        f" (arXiv 2307.07816, abstract): {what}, {text}, over the whole network",
                        f"mean {what} over the fractions, Mean-Var's minus Mean-KL's,"
                        " percentage points",
                        100 * np.subtract(theirs, ours),
                        0.0,
                    )
                )
    return claims


def pruning(
    comparison: Comparison,
    data: Data,
    out: Path,
    executor: Executor,
    at_once: int | None = None,
) -> dict[str, Any]:
    """Prune the decoded files of both parameterizations, and compare how their errors grow.

    Writes curves.csv, areas.csv, results.json and figures; see `results.write_study`.  The runs
    are those of the comparison's longest training.

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
    # What prune_run would miss is known before the work.
    check_split(load_split(data, "t10k"), comparison.base.layout().network, open_choice=True)
    runs, failures = open_runs(STUDY, comparison, data, out, executor, at_once)
    tasks = {name: (run, data) for name, run in runs.items()}
    found: dict[str, Rows] = {}
    failures |= run_tasks(executor, prune_run, tasks, found.__setitem__, at_once)
    curves = [row for name in tasks if name in found for row in found[name]]
    areas = area_rows(curves)
    figures: dict[str, Draw] = {}
    if {row["parameterization"] for row in curves} == set(COMPARED):
        figures = {"curves": lambda: draw_orders(curves), "layers": lambda: draw_layers(curves)}
    return write_study(
        out / STUDY,
        STUDY,
        comparison.to_dict(),
        make_claims(areas),
        failures,
        {"curves": curves, "areas": areas},
        figures,
        subject=Subject(comparison.base.network),
    )
