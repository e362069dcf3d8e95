"""Constructions that tools/figures tries spend the budget, and their gradients are right."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from refmiracle.engines import get_engine
from refmiracle.nn.networks import LENET5
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs, find_places
from refmiracle.posterior.mean_kl import MeanKL

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools" / "figures"))
from constructions import CONSTRUCTIONS, Constructed, Construction, Projected

NAMES = [*CONSTRUCTIONS, "algebraic+falling", "softplus+moving"]
STEPS = 100


@pytest.fixture
def begun(rng):
    """Return what makes a construction early in a training, and its parameters on the move."""
    factors = (500, 20, 25_000, 10, 400_000, 20, 50, 10)
    layout = BlockLayout(LENET5, factors, Grouping.OUTPUTS, Signs.UNIT, 7, 3)
    places = find_places(layout)

    def make(name, step):
        fields = {k: v for part in name.split("+") for k, v in CONSTRUCTIONS[part].items()}
        kind = Projected if "projected" in name else Constructed
        made = kind(get_engine("numpy"), places, 5 * math.log(2))
        made.begin(Construction(**fields), STEPS).clock[0] = step
        rho = rng.uniform(0.1, 2.0, places.used.shape)
        parameters = made.initial(0, 0.3, rho)
        for values in parameters.values():
            values[places.used] += 0.2 * rng.normal(size=places.used.sum())
        return made, parameters, rho

    return make


@pytest.mark.parametrize("name", NAMES)
def test_blocks_spend_the_budget_once_times_are_over(begun, name):
    made, parameters, rho = begun(name, STEPS)
    kl = made.engine.gaussian_kl(*made.whitened(parameters, rho)).sum(axis=1)
    assert np.allclose(kl, made.budget, rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_sum_of_all_blocks_is_the_budget_of_the_step(begun, name):
    made, parameters, rho = begun(name, 10)
    kl = made.engine.gaussian_kl(*made.whitened(parameters, rho))
    assert kl.sum() == pytest.approx(made.total(), rel=1e-9)
    assert (made.total() > made.budget * len(kl)) == ("falling" in name)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_difference_quotients(begun, rng, name):
    made, parameters, rho = begun(name, 10)
    used, h = made.places.used, 1e-6
    eps, g = rng.normal(size=(2, *used.shape))
    g *= used

    def loss(parameters):
        delta, log_s = made.whitened(parameters, rho)
        return float((g * rho * (delta + np.exp(0.5 * log_s) * eps)).sum())

    gradients = made.gradients(parameters, rho, eps, g)
    way = {n: np.where(used, rng.normal(size=used.shape), 0) for n in parameters}
    way["tau"][np.abs(parameters["tau"]) > 0.99] = 0  # `clip` has a straight gradient there
    ahead, behind = ({n: p + d * way[n] for n, p in parameters.items()} for d in (h, -h))
    along = sum(float((d * way[n])[used].sum()) for n, d in zip(way, gradients, strict=False))
    assert along == pytest.approx((loss(ahead) - loss(behind)) / (2 * h), rel=1e-6, abs=1e-6)


def test_softmax_is_the_package_s_own(begun, rng):
    made, parameters, rho = begun("softmax", STEPS)
    own, used = MeanKL(made.engine, made.places, made.budget), made.places.used
    eps, g = rng.normal(size=(2, *used.shape))
    for got, want in zip(
        made.whitened(parameters, rho), own.whitened(parameters, rho), strict=True
    ):
        assert np.allclose(got[used], want[used], rtol=1e-12)
    want = made.engine.mean_kl_backward(*parameters.values(), rho, made.budget, eps, g * used)
    for d, e in zip(made.gradients(parameters, rho, eps, g * used), want, strict=True):
        assert np.allclose(d[used], e[used], rtol=1e-9, atol=1e-12)
