"""What parameterizations begin with, how Mean-Var's penalty moves, and whose settings are whose."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refmiracle.nn.networks import LENET5
from refmiracle.numerics.philox import Stream
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs, find_places
from refmiracle.posterior.mean_kl import MeanKL
from refmiracle.posterior.mean_var import ENCODING_FACTOR, SETTLING_FACTOR, MeanVar
from refmiracle.posterior.parameterizations import PARAMETERIZATIONS, OwnSettings, own_settings

BUDGET = 5 * math.log(2)
INITIAL_BETA = 1e-8
KINDS = list(PARAMETERIZATIONS.values())


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


@pytest.mark.parametrize("kind", KINDS)
def test_unused_places_cost_nothing_and_do_not_move(engine, places, rho, rng, kind):
    posterior, used = kind(engine, places, BUDGET), places.used
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


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_draws_the_start(engine, places, rho, kind):
    posterior = kind(engine, places, BUDGET)
    first, again, other = (posterior.initial(s, 0.3, rho) for s in (1, 1, 2))
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert any(not np.array_equal(first[n], other[n]) for n in first)
    assert {v.dtype for v in first.values()} == {engine.dtype}


def test_mean_var_begins_with_mu_and_sigma_in_units_of_rho(engine, places, rho):
    posterior = MeanVar(engine, places, BUDGET)
    parameters = posterior.initial(0, 0.5, rho)
    used = places.used
    assert np.allclose(np.exp(parameters["log_sigma"]), 0.05 * rho, rtol=1e-5)
    z = engine.normals(0, Stream.INITIALISATION, [0], used.size).reshape(used.shape)
    assert np.allclose(parameters["mu"], 0.5 * rho * z, rtol=1e-5, atol=0)
    assert abs(z.mean()) < 5 / math.sqrt(used.size)


def test_beta_rises_above_the_budget_and_falls_below(engine, places, rho):
    posterior = MeanVar(engine, places, BUDGET)
    parameters = posterior.initial(0, 0.5, rho)
    # sigma = rho and mu = 0 cost nothing: the first block is put below its budget.
    parameters["mu"][0] = 0.0
    parameters["log_sigma"][0] = np.log(rho[0])
    assert not posterior.move_penalties(parameters, rho, 1.5, falls=True)
    above = kl_of_blocks(posterior, parameters, rho).sum(axis=1) > BUDGET
    assert not above[0]
    assert above[1:-1].all()
    assert np.allclose(posterior.beta[above], INITIAL_BETA * 1.5, rtol=1e-6, atol=0)
    assert np.allclose(posterior.beta[~above], INITIAL_BETA / 1.5, rtol=1e-6, atol=0)
    assert posterior.state()["beta"] is posterior.beta


def test_beta_that_may_not_fall_rises_or_stays(engine, places, rho):
    posterior = MeanVar(engine, places, BUDGET)
    parameters = posterior.initial(0, 0.5, rho)
    assert not posterior.move_penalties(parameters, rho, 1.5, falls=False)
    assert np.allclose(posterior.beta, INITIAL_BETA * 1.5, rtol=1e-6, atol=0)
    parameters["mu"][:], parameters["log_sigma"][:] = 0.0, np.log(rho)
    assert posterior.move_penalties(parameters, rho, 1.5, falls=False)
    assert np.allclose(posterior.beta, INITIAL_BETA * 1.5, rtol=1e-6, atol=0)
    assert posterior.move_penalties(parameters, rho, 1.5, falls=True)
    assert np.allclose(posterior.beta, INITIAL_BETA, rtol=1e-6, atol=0)


def test_penalties_move_less_and_less(engine, places):
    posterior, steps = MeanVar(engine, places, BUDGET), 12
    factors = [posterior.penalty_factor(step, steps) for step in range(steps)]
    assert factors == sorted(factors, reverse=True)
    assert factors[0] == pytest.approx(10 ** (4 / (0.3 * steps)))
    assert posterior.penalty_factor(199_999, 200_000) == ENCODING_FACTOR


@pytest.mark.parametrize(
    ("step", "encoding", "rises", "falls"),
    [
        (5, False, None, True),
        (6, False, SETTLING_FACTOR, False),
        (9, False, SETTLING_FACTOR, False),
        (9, True, ENCODING_FACTOR, True),
    ],
)
def test_penalties_only_rise_while_the_training_settles(
    engine, places, rho, step, encoding, rises, falls
):
    posterior = MeanVar(engine, places, BUDGET)
    parameters = posterior.initial(0, 0.5, rho)
    parameters["mu"][0], parameters["log_sigma"][0] = 0.0, np.log(rho[0])  # costs nothing
    rises = rises or posterior.penalty_factor(step, 6)
    assert not posterior.steer(parameters, rho, step, 6, encoding)
    assert posterior.beta[1] == pytest.approx(INITIAL_BETA * rises, rel=1e-6, abs=0)
    fallen = INITIAL_BETA / (rises if falls else 1)
    assert posterior.beta[0] == pytest.approx(fallen, rel=1e-6, abs=0)


def test_what_holds_its_budget_has_settled_at_any_step(engine, places, rho):
    posterior = MeanKL(engine, places, BUDGET)
    parameters = posterior.initial(0, 0.5, rho)
    assert all(posterior.steer(parameters, rho, step, 6, step > 8) for step in (1, 6, 9))
    assert posterior.state() == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_says_what_it_is(kind):
    assert PARAMETERIZATIONS[kind.name] is kind
    assert kind.title
    assert kind.spends
    assert all(value > 0 for value in kind.own_settings().values())


def test_settings_of_one_kind_are_known_to_type_checkers():
    assert OwnSettings.__annotations__.keys() == own_settings().keys()
    assert own_settings()["initial_beta"] == INITIAL_BETA


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_that_share_a_setting_agree_on_it(kind):
    assert kind.own_settings().items() <= own_settings().items()
