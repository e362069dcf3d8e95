"""A divergence divided by a softmax: mpmath, the reference engine, groups of any size and order."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf
from oracles import relative_error

import refmiracle
from refmiracle.engines.numpy_engine import posterior


def mp_backward(phi, nats, dreach):
    """dL/dphi of one group from dL/dr, straight from (20), to 80 digits."""
    with mpmath.workdps(400):
        e = [mpmath.exp(mpf(float(v))) if np.isfinite(v) else mpf(0) for v in phi]
        p = [v / sum(e) for v in e]
        r = [mpmath.sqrt(2 * mpf(float(nats)) * v) for v in p]
        half = [v * mpf(float(g)) / 2 for v, g in zip(r, dreach, strict=True)]
        return [h - q * sum(half) for h, q in zip(half, p, strict=True)], p


PHIS = [
    [0.0, 0.0, 0.0],
    [60.0, 0.0, 1.0, -1.0],
    [1000.0, 999.0, -1000.0],
    [0.0, -600.0, -700.0, -2000.0],
    [0.0, -math.inf, 0.5],
    [3.0],
    [math.log(3.0), 0.0, 0.0, 0.0],
]


@pytest.mark.parametrize("phi", PHIS)
def test_against_mpmath(phi):
    dreach = np.random.default_rng(0).normal(size=len(phi))
    shares = refmiracle.budget(phi, 7.5)
    want, p = mp_backward(phi, 7.5, dreach)
    assert relative_error(shares.share, [float(v) for v in p]) <= 1e-13
    assert relative_error(shares.kappa, [float(7.5 * v) for v in p]) <= 1e-13
    assert relative_error(shares.vjp(dreach=dreach), [float(v) for v in want]) <= 1e-12
    assert math.isclose(shares.kappa.sum(), 7.5, rel_tol=1e-15)


@given(st.data())
def test_groups_in_any_order_against_mpmath(data):
    """Groups of unequal size, mixed, each with its own budget; one share may take nearly all."""
    count = data.draw(st.integers(1, 12))
    labels = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=count, max_size=count)))
    phi = np.array(data.draw(st.lists(st.floats(-80.0, 80.0), min_size=count, max_size=count)))
    names = np.unique(labels)
    nats = np.array(
        data.draw(st.lists(st.floats(1e-3, 1e3), min_size=len(names), max_size=len(names)))
    )
    dreach = np.random.default_rng(count).normal(size=count)
    shares = refmiracle.budget(phi, nats, groups=labels)
    got = shares.vjp(dreach=dreach)
    by_kappa = shares.vjp(dreach / shares.reach)
    for label, own in zip(names, nats, strict=True):
        mine = labels == label
        want, p = mp_backward(phi[mine], own, dreach[mine])
        assert relative_error(shares.kappa[mine], [float(own * v) for v in p]) <= 1e-13
        # Terms of different elements may cancel: the measure is what they are made of.
        half = np.abs(0.5 * shares.reach[mine] * dreach[mine])
        for j, found in enumerate(got[mine]):
            others = half.sum() - half[j] if mine.sum() > 1 else 0.0
            size = half[j] * float(1 - p[j]) + float(p[j]) * np.delete(half, j).sum()
            assert others >= 0.0
            assert abs(found - float(want[j])) <= 1e-12 * size + 1e-300
        assert np.allclose(got[mine], by_kappa[mine], rtol=1e-9, atol=1e-12)


def test_rows_are_the_blocks_of_the_engine():
    rng = np.random.default_rng(4)
    tau, phi, eps, g = rng.normal(size=(4, 5, 30))
    rho = np.full((5, 30), 0.3)
    shares = refmiracle.budget(phi, bits=14, groups=np.arange(5)[:, None])
    q = refmiracle.mean_kl(tau, shares.kappa, rho)
    nats = 14 * math.log(2.0)
    assert (
        relative_error(q.sample(eps), posterior.mean_kl_forward(tau, phi, rho, nats, eps)) < 1e-11
    )
    d = q.vjp(g, eps)
    want = posterior.mean_kl_backward(tau, phi, rho, nats, eps, g)
    got = d.tau, shares.vjp(d.kappa), d.log_rho
    for found, wanted in zip(got, want, strict=True):
        assert np.allclose(found, wanted, rtol=1e-11, atol=1e-14)


def test_a_share_of_nothing_takes_no_gradient():
    shares = refmiracle.budget([0.0, -math.inf], 1.0)
    d = refmiracle.mean_kl(0.5, shares.kappa).vjp([1.0, 1.0], [0.0, 0.0])
    assert d.kappa[1] == math.inf
    assert shares.vjp(d.kappa).tolist() == [0.0, 0.0]
    assert shares.vjp(dreach=d.reach).tolist() == [0.0, 0.0]


def test_no_budget():
    shares = refmiracle.budget([1.0, 2.0], bits=0)
    assert shares.kappa.tolist() == shares.vjp(dreach=[1.0, 1.0]).tolist() == [0.0, 0.0]


def test_shapes_and_kinds():
    phi = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    groups = np.array([[0], [1], [0]])
    want = refmiracle.budget(phi, bits=[3, 4], groups=np.broadcast_to(groups, (2, 3, 4)))
    for other in (phi, phi.tolist(), np.asfortranarray(phi), phi.astype(">f4")):
        found = refmiracle.budget(other, bits=[3, 4], groups=groups)
        assert found.kappa.shape == (2, 3, 4)
        assert np.array_equal(found.kappa, want.kappa)
        assert math.isclose(found.kappa[:, 1].sum(), 4 * math.log(2.0), rel_tol=1e-14)
    assert not (want.kappa.flags.writeable or want.reach.flags.writeable)
    assert refmiracle.budget(2.0, 1.0).kappa == 1.0
    assert repr(want) == "<Budget of 7 bits for shape (2, 3, 4), groups: 2>"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"phi": [0.0]}, "none given; expected one of nats, bits"),
        ({"phi": [0.0], "nats": 1, "bits": 1}, "nats and bits given"),
        ({"phi": [], "nats": 1}, r"phi of shape \(0,\); expected at least one element"),
        ({"phi": [math.nan], "nats": 1}, "phi has NaN or inf"),
        ({"phi": [math.inf], "nats": 1}, "phi has NaN or inf"),
        ({"phi": [-math.inf, 0.0], "nats": 1, "groups": [0, 1]}, "phi is -inf in all of a group"),
        (
            {"phi": [0.0, 0.0], "nats": [1, 2]},
            r"nats of shape \(2,\); expected one number, or \(1,\)",
        ),
        ({"phi": [0.0], "nats": -1}, "nats is out of range"),
        ({"phi": [0.0], "nats": 1, "groups": 0.5}, "groups of float64; expected whole numbers"),
        (
            {"phi": [0.0], "nats": 1, "groups": [0, 1]},
            r"groups of shape \(2,\); expected that of phi",
        ),
        ({"phi": [True], "nats": 1}, "phi of bool; expected real numbers"),
    ],
)
def test_refused(arguments, said):
    with pytest.raises(refmiracle.InputError, match=said) as caught:
        refmiracle.budget(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_numbers_at_the_end_of_float64():
    shares = refmiracle.budget([-1.7e308, 1.7e308], 1e300)
    assert shares.kappa.tolist() == [0.0, 1e300]
    with pytest.raises(
        refmiracle.InputError, match=r"a gradient: a number would be beyond 1\.798e"
    ):
        shares.vjp(dkappa=[1e308, 1e308])
    assert np.isnan(refmiracle.budget([0.0, 0.0], 1.0).vjp(dkappa=[math.inf, -math.inf])).any()


def test_elements_beyond_the_memory():
    with pytest.raises(refmiracle.InputError, match="budget: not enough memory"):
        refmiracle.budget(np.broadcast_to(0.0, 2**44), 1.0)


def test_refused_by_what_was_made():
    shares = refmiracle.budget([0.0, 0.0], 1.0)
    with pytest.raises(refmiracle.InputError, match="none given; expected one of dkappa, dreach"):
        shares.vjp()
    with pytest.raises(refmiracle.InputError, match=r"dreach of shape \(\); expected \(2,\)"):
        shares.vjp(dreach=1.0)
