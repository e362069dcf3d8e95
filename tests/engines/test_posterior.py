"""What holds of the posteriors whatever their values, and how the weights of a block hang together.

The values themselves, and every gradient, are held against mpmath in test_formulas.py and in the
golden vectors of the stage `posterior`, in both engines; the KL here too, to float64's digits.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf
from oracles import as_stored, by_engine, mp_relative_error, relative_error

from refmiracle.engines import get_engine

ENGINES = pytest.mark.parametrize("name", ["numpy", "numba"])

# (log10 kappa, tau) of each weight of a block: from 1e-12 to 50 nats, and means from none to all
# of the budget.
WEIGHTS = st.lists(
    st.tuples(st.floats(-12.0, float(np.log10(50.0))), st.floats(-30.0, 30.0)),
    min_size=1,
    max_size=12,
)


def block(engine, weights):
    """Turn (log10 kappa, tau) pairs into tau, phi and budget: kappa = C softmax(phi).

    Also the kappa of each weight after phi was rounded to what the engine stores.
    """
    log_kappa, tau = np.array(weights, dtype=np.float64).T
    budget = float((10.0**log_kappa).sum())
    tau, phi = as_stored(engine, tau[None], log_kappa[None] * np.log(10.0))
    share = np.exp(phi - phi.max())
    return tau, phi, budget, budget * share / share.sum()


def mp_kl(delta, log_s):
    return (delta**2 + mpmath.exp(log_s) - 1 - log_s) / 2


DELTAS = [0.0, 1e-20, -1e-6, 0.5, -30.0]
LOG_S = [1e-15, 1e-8, 0.019, 0.021, 0.4999, 0.5001, 3.0]


@pytest.mark.parametrize("log_s", [-40.0, -1000.0, *LOG_S, *(-v for v in LOG_S)])
def test_gaussian_kl(engine, log_s):
    """To float64's digits of the stored values, also near s = 1, where the terms cancel."""
    delta, log_s = as_stored(engine, np.array(DELTAS), np.full(len(DELTAS), log_s))
    got = engine.gaussian_kl(delta, log_s)
    assert got.dtype == np.float64
    with mpmath.workdps(100):
        want = [mp_kl(mpf(float(d)), mpf(float(ls))) for d, ls in zip(delta, log_s, strict=True)]
        assert mp_relative_error(got, want) <= by_engine(engine, 2e-15, 2e-14)


@ENGINES
@given(weights=WEIGHTS)
def test_the_block_spends_its_budget(name, weights):
    """Each weight spends its kappa, so the block spends C, by construction."""
    engine = get_engine(name)
    tau, phi, budget, kappa = block(engine, weights)
    delta, log_s = engine.mean_kl(tau, phi, budget)
    assert delta.dtype == log_s.dtype == engine.dtype
    kl = engine.gaussian_kl(delta, log_s)
    assert relative_error(kl, kappa) <= by_engine(engine, 1e-12, 1e-5)
    assert relative_error(kl.sum(), budget) <= by_engine(engine, 1e-12, 1e-5)


@ENGINES
@given(weights=WEIGHTS)
def test_mean_and_variance_stay_in_their_ranges(name, weights):
    """|delta| <= sqrt(2 kappa), with the sign of tau, and s <= 1."""
    engine = get_engine(name)
    tau, phi, budget, kappa = block(engine, weights)
    delta, log_s = engine.mean_kl(tau, phi, budget)
    assert np.all(np.abs(delta) <= np.sqrt(2.0 * kappa) * (1.0 + by_engine(engine, 1e-14, 1e-5)))
    assert np.all(delta * tau >= 0.0)
    assert np.all(log_s <= 0.0)


@ENGINES
@given(weights=WEIGHTS, seed=st.integers(0, 2**32 - 1))
def test_gradients_are_finite(name, weights, seed):
    """Also where kappa -> 0 and |tau| -> inf, where ds/dkappa is infinite."""
    engine = get_engine(name)
    tau, phi, budget, _ = block(engine, weights)
    eps, g = np.random.default_rng(seed).normal(size=(2, *tau.shape)) * 3.0
    rho = np.full(tau.shape, 0.1)
    assert np.isfinite(engine.mean_kl_forward(tau, phi, rho, budget, eps)).all()
    for gradient in engine.mean_kl_backward(tau, phi, rho, budget, eps, g):
        assert gradient.dtype == engine.dtype
        assert np.isfinite(gradient).all()


@ENGINES
@given(weights=WEIGHTS)
def test_the_gradient_ignores_a_shift_of_phi(name, weights):
    """Softmax(phi + c) = softmax(phi), so dL/dphi sums to zero over a block."""
    engine = get_engine(name)
    tau, phi, budget, _ = block(engine, weights)
    one = np.ones(tau.shape)
    _, dphi, _ = engine.mean_kl_backward(tau, phi, one, budget, 0.5 * one, one)
    # The terms r_i / 2 G_i are below r_i, whose sum is at most sqrt(2 C n) (Cauchy-Schwarz).
    terms = np.sqrt(2.0 * budget * tau.size)
    assert abs(dphi.astype(np.float64).sum()) <= by_engine(engine, 1e-14, 1e-6) * terms


def test_the_softmax_couples_the_weights_of_a_block(engine):
    """A loss on weight 0 alone moves phi of the others: they compete for the budget."""
    phi = np.array([[0.0, 1.0, -1.0]])
    one = np.ones((1, 3))
    _, dphi, _ = engine.mean_kl_backward(0.3 * one, phi, one, 2.0, 0 * one, one * [1.0, 0.0, 0.0])
    kappa = 2.0 * np.exp(phi) / np.exp(phi).sum()
    # With eps = 0, dw_0/dphi_j = tanh(tau) r_0 / 2 (1[j = 0] - kappa_j / C).
    half_w = 0.5 * np.sqrt(2.0 * kappa[0, 0]) * np.tanh(0.3)
    want = half_w * (np.array([[1.0, 0.0, 0.0]]) - kappa / 2.0)
    assert relative_error(dphi, want) <= by_engine(engine, 1e-13, 1e-6)


def test_unused_places(engine):
    """phi = -inf gives no budget and no gradient, and leaves the others as they are."""
    tau, phi = np.array([[0.4, -2.0, 0.9, 3.0]]), np.array([[0.2, -0.7, -np.inf, -np.inf]])
    one = np.ones(tau.shape)
    delta, log_s = engine.mean_kl(tau, phi, 3.0)
    assert not delta[:, 2:].any()
    assert not log_s[:, 2:].any()
    short = engine.mean_kl(tau[:, :2], phi[:, :2], 3.0)
    assert np.array_equal(delta[:, :2], short[0])
    assert np.array_equal(log_s[:, :2], short[1])
    dtau, dphi, _ = engine.mean_kl_backward(tau, phi, one, 3.0, one, one)
    for gradient in (dtau, dphi):
        assert not gradient[:, 2:].any()
        assert gradient[:, :2].all()


def test_blocks_do_not_touch_each_other(engine, rng):
    tau, phi, eps, g = rng.normal(size=(4, 7, 5))
    rho = np.full(tau.shape, 0.3)
    forward = engine.mean_kl_forward(tau, phi, rho, 4.0, eps)
    backward = engine.mean_kl_backward(tau, phi, rho, 4.0, eps, g)
    for b in range(7):
        own = tuple(a[b : b + 1] for a in (tau, phi, rho, eps, g))
        alone = engine.mean_kl_forward(*own[:3], 4.0, own[3])
        assert np.array_equal(forward[b : b + 1], alone)
        for all_blocks, one in zip(
            backward, engine.mean_kl_backward(*own[:3], 4.0, *own[3:]), strict=True
        ):
            assert np.array_equal(all_blocks[b : b + 1], one)


def test_gaussian_kl_of_the_prior_is_zero(engine):
    assert not engine.gaussian_kl(np.zeros((2, 3)), np.zeros((2, 3))).any()


def hashing(rng, weights=200, variables=(9, 5)):
    """Signed places of weights among variables; some variables are used by no weight."""
    places = rng.integers(0, np.prod(variables) - 3, size=weights)
    return rng.normal(size=variables), places, rng.choice([-1.0, 1.0], size=weights)


def test_expand_hash_backward_is_the_adjoint(engine, rng):
    """<expand(v), g> = <v, backward(g)> for every g; and no gradient where no weight is."""
    variables, places, signs = hashing(rng)
    g = rng.normal(size=len(places))
    back = engine.expand_hash_backward(g, places, signs, variables.size)
    left = engine.expand_hash(variables, places, signs).astype(np.float64) @ g
    assert back.shape == (variables.size,)
    assert back.dtype == engine.dtype
    assert relative_error(left, variables.ravel() @ back) <= by_engine(engine, 1e-12, 1e-5)
    assert not back[-3:].any()
