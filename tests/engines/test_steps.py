"""The posterior's part of a step: fused passes against the composition that defines them."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import scaled_error

from refmiracle.engines import get_engine
from refmiracle.engines.contract import Adam, MeanKLBlocks, MeanVarBlocks

NUMPY, NUMBA = get_engine("numpy"), get_engine("numba")
TENSORS, BUDGET, RATES = 3, 7.0, (0.01, 0.02)


def random_state(rng, blocks, size):
    """Parameters, scales, moments and a gradient; the last block is short where it can be."""
    used = np.ones((blocks, size), dtype=bool)
    used[-1, size // 2 + 1 :] = False
    first, second = rng.normal(size=(2, blocks, size))
    return {
        "first": first,
        "second": second,
        "rho": rng.uniform(0.1, 2.0, (blocks, size)),
        "tensor_of_place": rng.integers(0, TENSORS, (blocks, size)),
        "used": used,
        **{n: rng.normal(size=(blocks, size)) * used for n in ("g", "other")},
        "moments": tuple(tuple(rng.uniform(0.1, 1.0, (2, blocks, size))) for _ in range(2)),
    }


def run_step(engine, kind, state, single, mirrored=False, noise=1):
    """Sample and step in one engine, from `noise` times eps; return all that came out."""
    dtype = np.float32 if single else np.float64
    cast = {n: np.array(a, dtype=dtype) for n, a in state.items() if n in ("rho", "g", "other")}
    other = (cast["other"],) if mirrored else ()
    first, second = (np.array(state[n], dtype=dtype) for n in ("first", "second"))
    moments = tuple(
        (np.array(m, dtype=dtype), np.array(v, dtype=dtype)) for m, v in state["moments"]
    )
    w, eps = np.empty_like(first), np.empty_like(first)
    dlog_rho = np.empty(TENSORS)
    tensor_of_place, used = state["tensor_of_place"], state["used"]
    if kind == "mean-kl":
        second[~used] = -np.inf
        blocks = MeanKLBlocks(first, second, cast["rho"], tensor_of_place, BUDGET)
        engine.mean_kl_sample(blocks, 5, 6, w, eps)
        engine.mean_kl_step(
            blocks, noise * eps, cast["g"], Adam(moments, 7, RATES), dlog_rho, *other
        )
    else:
        beta = np.linspace(0.0, 1.0, len(first)).astype(dtype)
        blocks = MeanVarBlocks(first, second, cast["rho"], tensor_of_place, beta, used)
        engine.mean_var_sample(blocks, 5, 6, w, eps)
        engine.mean_var_step(
            blocks, noise * eps, cast["g"], Adam(moments, 7, RATES), dlog_rho, *other
        )
    return [first, second[used], *(a for pair in moments for a in pair), w, eps, dlog_rho]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("kind", ["mean-kl", "mean-var"])
@pytest.mark.parametrize(("blocks", "size"), [(1, 1), (3, 5), (41, 30), (2, 2000), (700, 3)])
def test_fused_is_the_composition(rng, kind, blocks, size, mirrored):
    state = random_state(rng, blocks, size)
    # From what float32 holds, so that both begin with the same.
    state = {
        n: np.float32(a) if n in ("first", "second", "rho", "g", "other") else a
        for n, a in state.items()
    }
    state["moments"] = tuple(tuple(np.float32(a) for a in pair) for pair in state["moments"])
    expected = run_step(NUMPY, kind, state, False, mirrored)
    for got, want in zip(run_step(NUMBA, kind, state, True, mirrored), expected, strict=True):
        assert scaled_error(got, want) < 2e-6


@pytest.mark.parametrize("engine", [NUMPY, NUMBA], ids=lambda e: e.name)
def test_around_nu_all_is_as_around_0_but_shifted(rng, engine):
    """Numbers on a grid, so that sums and differences with nu are exact."""
    shape, row = (3, 5), np.arange(15).reshape(3, 5)
    nu = (2.0 + row / 64).astype(engine.dtype)
    tau, phi, mu, log_sigma, g = (np.round(rng.normal(size=shape) * 64) / 64 for _ in range(5))
    tau, phi, mu, log_sigma, g = (a.astype(engine.dtype) for a in (tau, phi, mu, log_sigma, g))
    rho, beta = np.full(shape, 0.5, engine.dtype), np.ones(3, engine.dtype)
    drawn = [[np.empty_like(nu), np.empty_like(nu)] for _ in range(2)]
    tensor_of_place = row % TENSORS
    for own, given in zip(drawn, ((), (nu,)), strict=True):
        blocks = MeanKLBlocks(tau, phi, rho, tensor_of_place, BUDGET, *given)
        engine.mean_kl_sample(blocks, 5, 6, *own)
    (w, eps), (around, same) = drawn
    assert np.array_equal(eps, same)
    assert np.array_equal(around, nu + w)
    results = []
    for mean, given in ((mu, ()), (nu + mu, (nu,))):
        steps = mean.copy(), log_sigma.copy()
        moments = tuple((np.zeros_like(nu), np.zeros_like(nu)) for _ in range(2))
        sums, used = np.empty(TENSORS), np.ones(shape, bool)
        blocks = MeanVarBlocks(*steps, rho, tensor_of_place, beta, used, *given)
        engine.mean_var_step(blocks, eps, g, Adam(moments, 1, RATES), sums)
        results.append((steps[0] - (given[0] if given else 0), steps[1], *moments[0], sums))
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["mean-kl", "mean-var"])
def test_noise_is_the_row_of_the_stream(rng, kind):
    """So that what is trained does not depend on how a pass is cut into groups and threads."""
    state = random_state(rng, 41, 30)
    _, _, *_, eps, _ = run_step(NUMBA, kind, state, single=True)
    assert np.array_equal(eps, NUMBA.normals(5, 1, [6], eps.size).reshape(eps.shape))


@pytest.mark.parametrize("engine", [NUMPY, NUMBA], ids=lambda e: e.name)
@pytest.mark.parametrize("kind", ["mean-kl", "mean-var"])
def test_mirrored_is_the_step_from_the_mean_of_both_losses(rng, engine, kind):
    """Of steps of Adam only the first moments are linear in the gradients."""
    state = random_state(rng, 41, 30)
    single, zeros = engine.name == "numba", np.zeros((41, 30))
    state["moments"] = tuple((zeros, zeros) for _ in range(2))
    both = run_step(engine, kind, state, single, mirrored=True)
    one = run_step(engine, kind, state, single)
    other = run_step(engine, kind, {**state, "g": state["other"]}, single, noise=-1)
    for moment in (2, 4):
        mean = 0.5 * (one[moment] + other[moment])
        np.testing.assert_allclose(both[moment], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(both[-1], 0.5 * (one[-1] + other[-1]), rtol=1e-5, atol=1e-4)
