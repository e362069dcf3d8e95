"""Formulas keep their digits up to the ends of their ranges: a small grid of the scan in tools."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools" / "figures"))

from scan_formulas import FORMULAS, Formula, scan

from refmiracle.conformance.operations import OPERATIONS

POINTS = 24
MOST_LOST = 12.0
# Their argument is the level itself, of which log L is a rounded logarithm, and 8 nodes integrate.
MOST_LOST_OF = {("residual", "numba"): 2e3}


def thinned(formula: Formula):
    """What is found on about POINTS points of a formula's grid."""
    return list(scan(formula, math.ceil(len(formula.points()) / POINTS) | 1))


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda f: f.name)
def test_no_more_is_lost_than_the_inputs_rounding(formula):
    """Errors stay within some times 1 + condition, in units of the precision."""
    for found in thinned(formula):
        most = MOST_LOST_OF.get((found.formula, found.engine), MOST_LOST)
        assert found.lost <= most, f"{found.engine}: {found.output} at {found.lost_where}"
        assert found.elements >= 3  # float32 holds a sixth of the powers of ten of float64


def test_every_formula_of_the_suite_is_scanned():
    """But what is one product, or a sum of products, whose terms the inputs decide."""
    stages = ("numerics", "posterior", "optimiser")
    wanted = {name for name, o in OPERATIONS.items() if o.stage in stages}
    wanted |= {"log_weights", "softmax_cross_entropy", "group_norm", "group_norm_backward"}
    wanted -= {"codebook", "expand_hash", "expand_hash_backward"}
    wanted -= {name for name in OPERATIONS if name.endswith("_around")}  # and a sum with nu
    assert wanted <= {f.name for f in FORMULAS}


def sum_less_its_own(x):
    return x.sum(axis=1, keepdims=True) - x


def like_squares(y, delta, log_s):
    return 0.5 * ((y + delta) ** 2 - y**2 * np.exp(-log_s) - log_s)


def by_a_difference_of_squares(x, groups):
    parts = x.reshape(groups, -1, x.shape[3])
    mean = parts.mean(axis=1, keepdims=True)
    variance = np.maximum((parts**2).mean(axis=1, keepdims=True) - mean**2, 0.0)
    deviation = np.sqrt(variance + 1e-5)
    return ((parts - mean) / deviation).reshape(x.shape), deviation


@pytest.mark.parametrize(
    ("name", "function", "value"),
    [
        ("mean_kl_backward", "posterior.others", sum_less_its_own),
        ("log_weights", "mrc._log_weights", like_squares),
        ("softmax_cross_entropy", "layers.np.log1p", lambda x: np.log(1.0 + x)),
        ("group_norm", "normalisation._normalised", by_a_difference_of_squares),
    ],
    ids=["mean_kl_backward", "log_weights", "softmax_cross_entropy", "group_norm"],
)
def test_a_formula_that_cancels_is_found(monkeypatch, name, function, value):
    monkeypatch.setattr(f"refmiracle.engines.numpy_engine.{function}", value)
    formula = next(f for f in FORMULAS if f.name == name)
    assert max(f.lost for f in thinned(formula) if f.engine == "numpy") > 1e3
