"""The Mean-KL Gaussian on arrays of any shape: golden cases, mpmath to the ends, complex steps."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from mpmath import mpf
from oracles import complex_gradient, mp_log_s, relative_error

import refmiracle
from refmiracle.conformance.bounds import compare
from refmiracle.conformance.vectors import default_golden, load_file

# The ends: no budget, an underflow of kappa, one of s, one of sigma, the largest; a mean that has
# nothing or (nearly) everything.
KAPPAS = [5e-324, 1e-310, 1e-300, 1e-30, 1e-9, 0.01, 1.0, 30.0, 360.0, 1500.0, 1e6, 1e150, 1e300]
TAUS = [1e-8, 0.5, -2.0, 18.0, -40.0, 300.0]
INFINITE = {"infinite-tau"}


def cases_of(operation):
    """Golden cases in float64; NaN and infinite arguments are refused here, but for tau."""
    cases = load_file(default_golden() / "posterior" / f"{operation}.json").cases
    kept = [
        c
        for c in cases
        if "float64" in c.dtypes
        and ("not-finite" not in c.flags or c.id.rpartition("/")[2] in INFINITE)
    ]
    assert len(kept) >= 30
    return pytest.mark.parametrize("case", kept, ids=lambda c: c.id.rpartition("/")[2])


def posterior_of(case, rho=1.0):
    """A case's blocks by the two functions: rows are groups."""
    tau, phi, nats = (case.inputs[name] for name in ("tau", "phi", "budget"))
    shares = refmiracle.budget(phi, nats, groups=np.arange(len(phi))[:, None])
    return shares, refmiracle.mean_kl(tau, rho=rho, reach=shares.reach)


def check(case, **found):
    for name, got in found.items():
        bound = case.bounds[name]
        compared = compare(
            got, case.outputs[name], bound.get("float64", bound.get("any")), "float64"
        )
        assert compared.ok, f"{name} {compared.detail}"


@cases_of("mean_kl")
def test_golden_moments(case):
    _, q = posterior_of(case)
    check(case, delta=q.mu, log_s=2.0 * q.log_sigma)


@cases_of("mean_kl_forward")
def test_golden_samples(case):
    if not np.all(np.isfinite(case.inputs["rho"]) & np.isfinite(case.inputs["eps"])):
        pytest.skip("an infinite rho is refused, an infinite eps belongs to its sample")
    _, q = posterior_of(case, case.inputs["rho"])
    check(case, w=q.sample(case.inputs["eps"]))


@cases_of("mean_kl_backward")
def test_golden_gradients(case):
    shares, q = posterior_of(case, case.inputs["rho"])
    d = q.vjp(case.inputs["g"], case.inputs["eps"])
    check(case, dtau=d.tau, dphi=shares.vjp(dreach=d.reach), dlog_rho=d.log_rho)


def mp_moments(tau, kappa):
    """mu and log sigma of rho = 1 and nu = 0, in mpmath."""
    r = mpmath.sqrt(2 * kappa)
    x = r * mpmath.sech(tau)
    return r * mpmath.tanh(tau), mp_log_s(x) / 2


def mp_slope(f, value):
    """value * f'(value): central differences of a scaled argument."""
    h = mpf(10) ** -15
    return (f(value * (1 + h)) - f(value * (1 - h))) / (2 * h)


def assert_close(got, want, ulps):
    """Whether a float is within so many units in the last place of an mpmath number."""
    unit = mpf(float(np.spacing(abs(float(want))))) if want else mpf(5e-324)
    assert abs(mpf(float(got)) - want) <= ulps * unit, (got, mpmath.nstr(want, 20))


@pytest.mark.parametrize(("kappa", "tau"), [*itertools.product(KAPPAS, [0.0, 1e-300, *TAUS])])
def test_moments_against_mpmath(kappa, tau):
    q = refmiracle.mean_kl(tau, kappa)
    with mpmath.workdps(60):
        mu, log_sigma = mp_moments(mpf(tau), mpf(kappa))
        assert_close(q.mu, mu, 4)
        assert_close(q.log_sigma, log_sigma, 4)
        # An error in log sigma of its own last place is this many of sigma's.
        assert_close(q.sigma, mpmath.exp(log_sigma), 4 + 4 * abs(float(log_sigma)))
    assert q.kl == kappa


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("kappa", KAPPAS)
def test_gradients_against_mpmath(kappa, tau):
    """Each part of each gradient by itself, so that nothing cancels."""
    rho = 0.125
    q = refmiracle.mean_kl(tau, kappa, rho)
    # tanh(300) is 1 but for 10^-260.
    with mpmath.workdps(350):
        kappa, tau = mpf(kappa), mpf(tau)
        for which, scale in ((0, mpf(rho)), (1, mpf(1))):
            d = q.vjp_moments(dmu=1.0) if which == 0 else q.vjp_moments(dlog_sigma=1.0)
            by_tau = mp_slope(lambda t, w=which: mp_moments(t, kappa)[w], tau)
            by_kappa = mp_slope(lambda k, w=which: mp_moments(tau, k)[w], kappa)
            assert_close(d.tau, scale * by_tau / tau, 16)
            if abs(by_kappa / kappa * scale) < 1.7e308:
                assert_close(d.kappa, scale * by_kappa / kappa, 16)
            assert_close(d.reach, scale * 2 * by_kappa / mpmath.sqrt(2 * kappa), 16)
        assert_close(q.vjp_moments(dmu=1.0).log_rho, rho * mp_moments(tau, kappa)[0], 16)
    assert q.vjp_moments(dlog_sigma=1.0).log_rho == 1.0
    assert q.vjp_moments(dmu=3.0).nu == 3.0


@pytest.mark.parametrize("kappa", KAPPAS)
def test_the_slope_of_sigma_by_a_tiny_tau(kappa):
    """It is proportional to tau: what mpmath would need 700 digits for at 1e-300."""
    tiny, small = (refmiracle.mean_kl(t, kappa).vjp_moments(dlog_sigma=1.0) for t in (1e-200, 1e-8))
    if tiny.tau > 1e-300:
        assert relative_error(tiny.tau / 1e-200, small.tau / 1e-8) <= 1e-14


def complex_moments(tau, kappa, log_rho, nu):
    """mu and sigma for complex numbers, s by Newton's method on (7) in NumPy."""
    r = np.sqrt(2.0 * kappa)
    x = r / np.cosh(tau)
    y = np.sqrt(2.0) * x + x * x
    for _ in range(40):
        y = y - (np.exp(-y) - 1.0 + y - x * x) / (1.0 - np.exp(-y))
    return nu + np.exp(log_rho) * r * np.tanh(tau), np.exp(log_rho - 0.5 * y)


def test_gradients_by_complex_steps():
    """All arguments of one loss, with one scale for each row, one mean and three samples."""
    rng = np.random.default_rng(1)
    tau, kappa = rng.normal(size=(4, 5)), rng.uniform(0.5, 6.0, size=(5,))
    log_rho, nu = rng.normal(size=(4, 1)), np.asarray(0.3)
    eps, g = rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 4, 5))
    given = [tau, kappa, log_rho, nu]
    q = refmiracle.mean_kl(tau, kappa, np.exp(log_rho), nu)
    got = q.vjp(dw=g, eps=eps)
    for place, found in enumerate((got.tau, got.kappa, got.log_rho, got.nu)):

        def loss(z, place=place):
            mu, sigma = complex_moments(*(z if i == place else v for i, v in enumerate(given)))
            return np.sum(g * (mu + sigma * eps))

        assert found.shape == given[place].shape
        assert relative_error(found, complex_gradient(loss, given[place])) <= 1e-12
    assert relative_error(got.reach, got.kappa * np.sqrt(2.0 * kappa)) <= 1e-15


@given(mutually_broadcastable_shapes(num_shapes=4, max_dims=3, max_side=3), st.integers(0, 2**32))
def test_broadcasting_is_repeating(shapes, seed):
    """As though every argument had been repeated; gradients are summed over the repetitions."""
    rng = np.random.default_rng(seed)
    tau, kappa, rho, nu = (rng.normal(size=shape) for shape in shapes.input_shapes)
    given_, whole = [tau, kappa**2, np.exp(rho), nu], shapes.result_shape
    q = refmiracle.mean_kl(*given_)
    repeated = refmiracle.mean_kl(*(np.broadcast_to(a, whole) for a in given_))
    assert q.mu.shape == q.sigma.shape == q.log_sigma.shape == q.kl.shape == whole
    assert np.array_equal(q.mu, repeated.mu)
    assert np.array_equal(q.sigma, repeated.sigma)
    g, eps = rng.normal(size=whole), rng.normal(size=whole)
    d, each = q.vjp(g, eps), repeated.vjp(g, eps)
    for found, summed, argument in zip(
        (d.tau, d.reach, d.log_rho, d.nu),
        (each.tau, each.reach, each.log_rho, each.nu),
        given_,
        strict=True,
    ):
        assert found.shape == argument.shape
        before = len(whole) - argument.ndim
        axes = [*range(before)]
        axes += [before + i for i, n in enumerate(argument.shape) if n != whole[before + i]]
        want = summed.sum(axis=tuple(axes)).reshape(argument.shape)
        assert np.allclose(found, want, rtol=1e-12, atol=1e-12)


@given(st.floats(0.0, 1e4), st.floats(-50.0, 50.0), st.floats(1e-3, 1e3), st.floats(-10.0, 10.0))
def test_the_divergence_is_what_was_asked_for(kappa, tau, rho, nu):
    """By the formula of KL, from mu and log sigma as they come."""
    q = refmiracle.mean_kl(tau, kappa, rho)
    with mpmath.workdps(50):
        log_s = 2 * (mpf(float(q.log_sigma)) - mpmath.log(mpf(rho)))
        found = (mpf(float(q.mu)) / mpf(rho)) ** 2 + mpmath.exp(log_s) - 1 - log_s
        assert abs(found / 2 - kappa) <= 1e-13 * (kappa + 1)
    moved = refmiracle.mean_kl(tau, kappa, rho, nu)
    assert moved.mu == nu + q.mu
    assert moved.log_sigma == q.log_sigma
    assert q.sigma <= rho


def test_no_budget_is_p():
    q = refmiracle.mean_kl([0.0, 3.0], 0.0, rho=2.0, nu=-1.0)
    assert q.mu.tolist() == [-1.0, -1.0]
    assert q.sigma.tolist() == [2.0, 2.0]
    d = q.vjp_moments(dmu=[0.0, 1.0], dlog_sigma=[-1.0, 0.0])
    assert d.tau.tolist() == [0.0, 0.0]
    # kappa is one number for both: rho tanh(3) of the one mean, 1 / sqrt(2) of the other log sigma
    assert math.isclose(d.reach, 2.0 * math.tanh(3.0) + math.sqrt(0.5), rel_tol=1e-15)
    assert d.kappa == math.inf
    assert q.vjp_moments([0.0, -1.0]).kappa == -math.inf
    assert q.vjp_moments(0.0).kappa == 0.0  # no loss, no gradient


def test_infinite_tau_is_all_mean():
    q = refmiracle.mean_kl([-math.inf, math.inf], bits=2.0 / math.log(2.0))
    assert q.mu.tolist() == [-2.0, 2.0]
    assert q.sigma.tolist() == [1.0, 1.0]
    assert q.vjp([1.0, 1.0], [1.0, 1.0]).tau.tolist() == [0.0, 0.0]


def test_units():
    nats = refmiracle.mean_kl(0.5, kappa=3.0 * math.log(2.0))
    for other in (
        refmiracle.mean_kl(0.5, bits=3.0),
        refmiracle.mean_kl(0.5, reach=math.sqrt(6.0 * math.log(2.0))),
    ):
        assert (
            relative_error([other.mu, other.sigma, other.kl], [nats.mu, nats.sigma, nats.kl])
            < 1e-15
        )


def test_reach_where_kappa_underflows():
    q = refmiracle.mean_kl(0.5, reach=1e-200)
    assert q.kl == 0.0
    assert relative_error(q.mu, 1e-200 * math.tanh(0.5)) <= 1e-15


def test_sigma_where_its_parts_underflow():
    """exp(log s / 2) is e^-850, rho 1e300."""
    q = refmiracle.mean_kl(0.0, 850.0 - 0.5, rho=1e300)
    with mpmath.workdps(40):
        want = mpf(1e300) * mpmath.exp(mp_log_s(mpmath.sqrt(mpf(1699))) / 2)
    assert q.sigma > 0.0
    assert abs(float(q.sigma / float(want)) - 1.0) < 1e-12


def test_log_prob():
    rng = np.random.default_rng(2)
    q = refmiracle.mean_kl(rng.normal(size=(2, 3)), 2.0, rho=0.7, nu=0.2)
    w = q.sample(rng.normal(size=(5, 2, 3)))
    assert w.shape == (5, 2, 3)
    assert relative_error(q.log_prob(w), scipy.stats.norm.logpdf(w, q.mu, q.sigma)) <= 1e-12


def test_log_prob_where_sigma_underflows():
    q = refmiracle.mean_kl([0.0, 0.5], 1000.0)
    assert np.all(q.sigma == 0.0)
    assert np.array_equal(q.log_prob(q.mu), -q.log_sigma - 0.5 * math.log(2.0 * math.pi))
    assert q.log_prob(q.mu + 1.0).tolist() == [-math.inf, -math.inf]
    # z = 1e-310 e^1000.5 may be squared; float64 holds all of it but sigma.
    with mpmath.workdps(40):
        z = mpf(1e-310) * mpmath.exp(mpf(-float(q.log_sigma[0])))
        want = -z * z / 2 - mpf(float(q.log_sigma[0])) - mpmath.log(2 * mpmath.pi) / 2
    assert abs(q.log_prob([1e-310, 0.0])[0] / float(want) - 1.0) <= 1e-12


def test_what_is_returned_stays():
    tau = np.zeros(3)
    q = refmiracle.mean_kl(tau, 1.0)
    tau[0] = 9.0
    assert (
        q.vjp_moments(1.0).tau.tolist()
        == refmiracle.mean_kl(np.zeros(3), 1.0).vjp_moments(1.0).tau.tolist()
    )
    for name in ("mu", "sigma", "log_sigma", "kl"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(q, name)[...] = 0.0
    with pytest.raises(AttributeError):
        q.mu = 1.0


def test_kinds_of_arrays():
    """float32, lists, whole numbers, foreign bytes and strides: float64 of the same numbers."""
    rng = np.random.default_rng(3)
    tau = rng.normal(size=(6, 4)).astype(np.float32)
    want = refmiracle.mean_kl(tau.astype(np.float64), 2.0)
    strided = np.zeros((12, 4))
    strided[::2] = tau
    for other in (tau, tau.tolist(), tau.astype(">f8"), strided[::2], np.asfortranarray(tau)):
        q = refmiracle.mean_kl(other, 2)
        assert q.mu.dtype == np.float64
        assert np.array_equal(q.mu, want.mu)
        assert np.array_equal(q.vjp(tau, 1).tau, want.vjp(tau, 1).tau)


def test_nothing_warns_under_strict_settings():
    with np.errstate(all="raise"):
        q = refmiracle.mean_kl([0.0, 800.0, 3.0], [1e300, 1.0, 5e-324])
        q.vjp(1.0, 1.0)
        q.log_prob(q.mu)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tau": 0.0}, "none given; expected one of kappa, bits, reach"),
        ({"tau": 0.0, "kappa": 1.0, "bits": 1.0}, "kappa and bits given; expected one of"),
        ({"tau": 0.0, "kappa": -1.0}, "kappa is out of range; expected 0 to 1e\\+300 nats"),
        ({"tau": 0.0, "bits": math.nan}, "bits is out of range; expected 0 to 1e\\+300 nats"),
        ({"tau": 0.0, "reach": math.inf}, "reach is out of range; expected 0 to 1.4"),
        ({"tau": math.nan, "kappa": 1.0}, "tau has NaN; expected numbers"),
        ({"tau": "x", "kappa": 1.0}, "tau of <U1; expected real numbers"),
        ({"tau": 1j, "kappa": 1.0}, "tau of complex128; expected real numbers"),
        ({"tau": [[1], [1, 2]], "kappa": 1.0}, "tau is no array"),
        ({"tau": np.ma.masked_array([1.0], [True]), "kappa": 1.0}, "tau has a mask"),
        ({"tau": 0.0, "kappa": 1.0, "rho": 0.0}, "rho is not above 0 everywhere"),
        ({"tau": 0.0, "kappa": 1.0, "nu": math.inf}, "nu is not finite everywhere"),
        (
            {"tau": np.zeros(2), "kappa": np.ones(3)},
            r"the shapes do not go together: tau \(2,\), kappa \(3,\), rho \(\), nu \(\)",
        ),
    ],
)
def test_refused(arguments, said):
    with pytest.raises(refmiracle.InputError, match=said) as caught:
        refmiracle.mean_kl(**arguments)
    assert "\n" not in str(caught.value)


def test_refused_by_what_was_made():
    q = refmiracle.mean_kl(np.zeros((2, 3)), 1.0)
    for call, said in (
        (lambda: q.sample(np.zeros(2)), r"eps \(2,\), mu \(2, 3\)"),
        (lambda: q.log_prob(["a"]), "w of <U1"),
        (lambda: q.vjp(np.zeros(2), 1.0), r"dw \(2,\), eps \(\), mu \(2, 3\)"),
        (
            lambda: q.vjp_moments(np.zeros((4, 2, 3))),
            r"dmu of shape \(4, 2, 3\); expected \(2, 3\)",
        ),
    ):
        with pytest.raises(refmiracle.InputError, match=said):
            call()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda q: refmiracle.mean_kl(1.0, 1e300, rho=1e308), "mean_kl"),
        (lambda q: refmiracle.mean_kl(1.0, 1.0, rho=1e308, nu=1.7e308), "mean_kl"),
        (lambda q: q.sample([1e308]), "a sample"),
        (lambda q: q.vjp([1e308], [1e308]), "a gradient"),
        (lambda q: q.vjp_moments(1e308, 1e308, 1e308), "a gradient"),
    ],
)
def test_numbers_beyond_float64_are_refused(call, what):
    with pytest.raises(refmiracle.InputError, match=f"^{what}: a number would be beyond 1.798e"):
        call(refmiracle.mean_kl([0.5], bits=3.0, rho=1e308))


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_is_handed_on():
    q = refmiracle.mean_kl([0.5, 1.0], kappa=[1000.0, 1.0])  # the first sigma underflows
    assert np.isnan(q.sample([math.nan, 0.0])).tolist() == [True, False]
    assert np.isnan(q.vjp([1.0, 0.0], [math.nan, 0.0]).tau).tolist() == [True, False]
    assert q.vjp_moments([math.inf, 0.0]).nu == math.inf
    assert q.log_prob([1e308, math.inf]).tolist() == [-math.inf, -math.inf]


def test_arrays_beyond_the_memory_are_refused():
    """Without a MemoryError, which says nothing of what was too large."""
    row = np.broadcast_to(0.5, (2**44, 1))
    q = refmiracle.mean_kl([0.5], bits=3.0)
    for call in (
        lambda: refmiracle.mean_kl(np.zeros((2**22, 1)), bits=np.ones((1, 2**22))),
        lambda: q.sample(row),
        lambda: q.log_prob(row),
    ):
        with pytest.raises(refmiracle.InputError, match="not enough memory: Unable to allocate"):
            call()


def test_what_it_says():
    assert repr(refmiracle.mean_kl([0.0, 1.0], bits=25.0)) == (
        "<MeanKLGaussian of shape (2,), 50 bits in all>"
    )
