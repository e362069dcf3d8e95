"""What the two parameterizations begin with, and how Mean-Var's penalty moves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refmiracle.nn.networks import LENET5
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs, find_places
from refmiracle.posterior.mean_kl import MeanKL
from refmiracle.posterior.mean_var import MeanVar

BUDGET = 5 * math.log(2)
INITIAL_BETA = 1e-8


def make(kind, engine, places):
    return kind(engine, places, BUDGET, *([INITIAL_BETA] if kind is MeanVar else []))


@pytest.fixture
def places():
    """Few variables, the last block short by 4 of 7."""
    layout = BlockLayout(
        LENET5, (500, 20, 25_000, 10, 400_000, 20, 50, 10), Grouping.OUTPUTS, Signs.UNIT, 7, 3
    )
    found = find_places(layout)
    assert 0 < (~found.used).sum() < 7
    return found


@pytest.fixture
def rho(places, engine, rng):
    return rng.uniform(0.1, 2.0, places.used.shape).astype(engine.dtype)


def kl_of_blocks(posterior, parameters, rho):
    delta, log_s = posterior.whitened(parameters, rho)
    return posterior.engine.gaussian_kl(delta, log_s)


def test_mean_kl_begins_with_equal_shares_of_the_used_places(engine, places, rho):
    posterior = MeanKL(engine, places, BUDGET)
    kl = kl_of_blocks(posterior, posterior.initial(0, 0.3, rho), rho)
    share = BUDGET / places.used.sum(axis=1, keepdims=True)
    assert np.allclose(kl, np.where(places.used, share, 0.0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", [MeanKL, MeanVar])
def test_unused_places_cost_nothing_and_do_not_move(engine, places, rho, rng, kind):
    posterior, used = make(kind, engine, places), places.used
    parameters = posterior.initial(0, 0.3, rho)
    before = {name: values.copy() for name, values in parameters.items()}
    moments = {n: (np.zeros_like(p), np.zeros_like(p)) for n, p in parameters.items()}
    eps, g = rng.normal(size=(2, *used.shape)).astype(engine.dtype)
    dlog_rho = np.empty(8)
    posterior.update(parameters, moments, rho, eps, g * used, 1, (0.01, 0.01), dlog_rho)
    assert np.isfinite(dlog_rho).all()
    for values in posterior.whitened(parameters, rho):
        assert not values[~used].any()
        assert np.isfinite(values).all()
    for name, values in parameters.items():
        assert np.array_equal(values[~used], before[name][~used])
        assert (values[used] != before[name][used]).any()


@pytest.mark.parametrize("kind", [MeanKL, MeanVar])
def test_the_seed_draws_the_start(engine, places, rho, kind):
    posterior = make(kind, engine, places)
    first, again, other = (posterior.initial(s, 0.3, rho) for s in (1, 1, 2))
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert any(not np.array_equal(first[n], other[n]) for n in first)
    assert {v.dtype for v in first.values()} == {engine.dtype}


def test_mean_var_begins_with_mu_and_sigma_in_units_of_rho(engine, places, rho):
    posterior = MeanVar(engine, places, BUDGET, INITIAL_BETA)
    parameters = posterior.initial(0, 0.5, rho)
    used = places.used
    assert np.allclose(np.exp(parameters["log_sigma"]), 0.05 * rho, rtol=1e-5)
    z = (parameters["mu"] / rho)[used] / 0.5
    assert abs(z.mean()) < 5 / math.sqrt(used.sum())


def test_beta_rises_above_the_budget_and_falls_below(engine, places, rho):
    posterior = MeanVar(engine, places, BUDGET, INITIAL_BETA)
    parameters = posterior.initial(0, 0.5, rho)
    # sigma = rho and mu = 0 cost nothing: the first block is put below its budget.
    parameters["mu"][0] = 0.0
    parameters["log_sigma"][0] = np.log(rho[0])
    assert not posterior.anneal(parameters, rho, 1.5, falls=True)
    above = kl_of_blocks(posterior, parameters, rho).sum(axis=1) > BUDGET
    assert not above[0]
    assert above[1:-1].all()
    assert np.allclose(posterior.beta[above], INITIAL_BETA * 1.5)
    assert np.allclose(posterior.beta[~above], INITIAL_BETA / 1.5)
    assert posterior.state()["beta"] is posterior.beta


def test_beta_that_may_not_fall_rises_or_stays(engine, places, rho):
    posterior = MeanVar(engine, places, BUDGET, INITIAL_BETA)
    parameters = posterior.initial(0, 0.5, rho)
    assert not posterior.anneal(parameters, rho, 1.5, falls=False)
    assert np.allclose(posterior.beta, INITIAL_BETA * 1.5)
    parameters["mu"][:], parameters["log_sigma"][:] = 0.0, np.log(rho)
    assert posterior.anneal(parameters, rho, 1.5, falls=False)
    assert np.allclose(posterior.beta, INITIAL_BETA * 1.5)
    assert posterior.anneal(parameters, rho, 1.5, falls=True)
    assert np.allclose(posterior.beta, INITIAL_BETA)
