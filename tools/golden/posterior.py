"""Stage posterior: Mean-KL and Mean-Var, forward and backward, and the hashing trick."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from golden import gaussians
from golden.gaussians import numbers
from golden.nonfinite import write_file
from golden.sources import noise, spec_decoder, to_floats
from golden.writer import BOTH, make_case, single
from mpmath import mpf

Case = dict[str, Any]
Bounds = dict[str, dict[str, float]]

DOUBLE = ("float64",)
BUDGET = float(single(14 * math.log(2.0)))  # 14 bits a block, as by default
NOTHING = -math.inf

FLAGS = {
    "branch-point": "x = r sech(tau) near 0, where s is near 1 and W0 has an infinite slope",
    "underflow": "s, a share or sech(tau) underflows",
    "softmax": "exp(phi) overflows or underflows unless the maximum is subtracted",
    "one-takes-all": "one weight has the whole budget of its block",
    "short-block": "phi = -inf marks places that hold no weight",
    "tail": "large parameters or budgets",
    "scales": "rho across thirty orders of magnitude",
    "typical": "what training meets",
    "cancellation": "s - 1 is a small difference",
}


def notes_of(cases: Sequence[Case]) -> dict[str, str]:
    """Return the notes of the flags that occur."""
    used = {flag for case in cases for flag in case["flags"]}
    return {flag: note for flag, note in FLAGS.items() if flag in used}


def ulp(double: int, single_: int) -> Bounds:
    """Return bounds in units in the last place, for both precisions."""
    return {"float64": {"ulp": double}, "float32": {"ulp": single_}}


def relative(double: float, single_: float) -> Bounds:
    """Return relative bounds for both precisions."""
    return {"float64": {"relative": double}, "float32": {"relative": single_}}


def scaled(double: float, single_: float) -> Bounds:
    """Return bounds relative to the largest element, for both precisions."""
    return {"float64": {"scaled": double}, "float32": {"scaled": single_}}


def absolute(double: float, single_: float) -> Bounds:
    """Return absolute bounds for both precisions."""
    return {"float64": {"absolute": double}, "float32": {"absolute": single_}}


NEAR = ulp(16, 32)
SUMS = scaled(5e-15, 2e-6)
# sqrt(s) = exp(log(s) / 2) multiplies the rounding of log s by its size.
FAR = relative(1e-12, 5e-5)


@dataclass(frozen=True)
class Point:
    """Parameters of some blocks; rho, eps and g are drawn unless they are given.

    Attributes
    ----------
    bounds : Bounds
        For w, dtau and dlog_rho; for dphi, a sum over the block, see `sums`.
    digits : int
        Working precision: the answer must be right where it is smallest.
    """

    name: str
    tau: Any
    phi: Any
    budget: float = BUDGET
    rho: Any = None
    eps: Any = None
    g: Any = None
    dtypes: tuple[str, ...] = BOTH
    flags: tuple[str, ...] = ()
    note: str = ""
    bounds: Bounds = field(default_factory=lambda: NEAR)
    sums: Bounds = field(default_factory=lambda: SUMS)
    digits: int = 60
    since: str = "1.0"

    def posterior(self) -> dict[str, Any]:
        """Return tau, phi and the budget."""
        return {
            "tau": np.array(self.tau, dtype=np.float64),
            "phi": np.array(self.phi, dtype=np.float64),
            "budget": np.float64(self.budget),
        }

    def sample(self) -> dict[str, Any]:
        """Return rho, eps and g.

        Unless given, eps has the sign of tau where it would cancel the mean: a relative bound
        then holds for every element.
        """
        tau = np.array(self.tau, dtype=np.float64)
        seed = sum(map(ord, self.name))
        drawn = np.abs(noise(seed, tau.shape)) + 0.125
        eps = np.where(tau < 0, -drawn, drawn) if self.eps is None else np.array(self.eps)
        g = np.abs(noise(seed + 1, tau.shape)) + 0.25 if self.g is None else np.array(self.g)
        rho = np.full(tau.shape, 0.125) if self.rho is None else np.array(self.rho)
        return {"rho": rho, "eps": eps, "g": g}


def row(*values: float) -> list[list[float]]:
    """Return one block."""
    return [list(values)]


def grid(values: Any) -> Any:
    """Round to a grid of 1/1024."""
    return np.round(np.asarray(values) * 1024) / 1024


def typical(seed: int, shape: tuple[int, int], spread: float) -> tuple[Any, Any]:
    """Return tau and phi as training has them."""
    return noise(seed, shape, 0.3), noise(seed + 1, shape, spread)


def points() -> list[Point]:
    """Return the points at which forward and backward are posed."""
    tau, phi = typical(1, (4, 8), 1.0)
    even = noise(3, (2, 30), 0.3)
    short = [[0.25, 0.5, -0.75, 1.0], [-0.5, 0.125, 0.0, 0.0]]
    scales = [float(single(float(f"1e{e}"))) for e in range(-15, 16, 2)]
    return [
        Point("typical", tau, phi, flags=("typical",)),
        Point(
            "equal-shares",
            even,
            np.zeros((2, 30)),
            flags=("typical",),
            note="blocks of 30 as they begin",
        ),
        Point(
            "budget-in-nats",
            row(0.5),
            row(0.0),
            budget=1.0,
            note="one weight and one nat: bits for nats would be off by ln 2",
        ),
        Point(
            "shares-of-each-block",
            [[0.25, -0.5, 0.75]] * 3,
            [[0.0, 1.0, 2.0], [10.0, 11.0, 12.0], [-5.0, -4.0, -3.0]],
            note="the softmax is over each block, so these blocks have equal shares",
        ),
        Point(
            "softmax-without-max",
            [[0.25, -0.5, 0.75]] * 2,
            [[1000.0, 1001.0, 999.5], [-1000.0, -1001.0, -999.5]],
            flags=("softmax",),
            note="exp(1000) overflows, exp(-1000) underflows",
        ),
        Point(
            "one-takes-all",
            row(0.5, 0.25, -0.5, 1.0),
            row(0.0, -2000.0, -3000.0, -2500.0),
            flags=("one-takes-all", "underflow", "branch-point"),
            note="the other shares are 0 in float64",
        ),
        Point(
            "one-takes-nearly-all",
            row(0.5, 0.25, -0.5, 1.0),
            row(0.0, -8.0, -10.0, -12.0),
            flags=("one-takes-all", "branch-point"),
            note="dphi of the first is a small difference of large terms",
            sums=scaled(1e-13, 5e-5),
        ),
        Point(
            "branch-point-small-kappa",
            row(0.5, 1.5, -0.25, 1.0, 0.125, 0.75, 0.5),
            row(0.0, 0.0, -16.0, -32.0, -48.0, -64.0, -80.0),
            budget=0.5,
            flags=("branch-point",),
            note="kappa down to 1e-35 nats; a logarithm of the shares costs some ulp",
            bounds=relative(2e-14, 1e-5),
            sums=relative(2e-14, 1e-5),
        ),
        Point(
            "branch-point-large-tau",
            row(0.0, 1.0, -5.0, 10.0, -20.0, 40.0, -80.0, 18.5),
            row(*[0.0] * 8),
            flags=("branch-point",),
            note="sech(tau) down to 1e-35",
        ),
        Point(
            "tau-700",
            row(700.0, -700.0, 500.0, -100.0, 0.5),
            row(*[0.0] * 5),
            dtypes=DOUBLE,
            flags=("branch-point", "tail"),
            note="cosh(tau) = 5e303; sech(tau) still counts in dtau",
            digits=400,
        ),
        Point(
            "tau-700-overflows-cosh-in-single",
            row(700.0, -700.0, 0.5, 120.0),
            row(*[0.0] * 4),
            flags=("tail", "underflow", "branch-point"),
            note="cosh(tau) overflows float32: no NaN, the mean takes the whole budget",
            digits=400,
        ),
        Point(
            "tau-overflows-cosh",
            row(800.0, -1000.0, 2.0**100, 0.5),
            row(*[0.0] * 4),
            flags=("tail", "underflow", "branch-point"),
            note="cosh(tau) overflows float64",
            digits=400,
        ),
        Point(
            "tau-0",
            row(0.0, 0.0, 0.0),
            row(0.0, 1.0, -2.0),
            note="mean 0: all budget goes to the variance",
        ),
        Point(
            "kappa-1e-300-to-700-nats",
            row(0.5, 1.5, -0.25, 1.0, 0.125, 0.75, 0.5, -1.0),
            row(0.0, 0.0, -46.0, -230.0, -345.0, -460.0, -600.0, -697.0),
            budget=700.0,
            dtypes=DOUBLE,
            flags=("branch-point", "tail"),
            bounds=relative(1e-12, 1.0),
            sums=relative(1e-12, 1.0),
            note="two weights share the budget of 700; the other shares fall to 1e-303",
            digits=200,
        ),
        Point(
            "underflow-of-s",
            [[0.0], [0.125], [-0.5], [2.0]],
            [[0.0]] * 4,
            budget=60.0,
            flags=("underflow",),
            note="s underflows float32 though sqrt(s) does not",
            bounds=FAR,
            sums=scaled(1e-12, 5e-5),
        ),
        Point(
            "underflow-of-s-in-double",
            [[0.0], [0.125], [-0.5], [3.0]],
            [[0.0]] * 4,
            budget=700.0,
            dtypes=DOUBLE,
            flags=("underflow", "tail"),
            note="log s = -1401: s underflows though sqrt(s) does not",
            bounds=FAR,
            sums=scaled(1e-12, 1.0),
            digits=100,
        ),
        Point(
            "underflow-of-sigma",
            [[0.0], [0.25]],
            [[0.0]] * 2,
            budget=5000.0,
            flags=("underflow", "tail"),
            note="even sqrt(s) underflows: the weight is its mean",
            digits=100,
        ),
        Point(
            "wide-spread-of-budgets",
            row(0.0, 0.125, -0.5, 1.0, -2.0, 3.0, 5.0, -8.0),
            row(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0),
            budget=float(single(24 * math.log(2.0))),
            note="24 bits a block",
        ),
        Point(
            "scales-across-30-orders",
            [[0.5, -0.25]] * len(scales),
            [[0.0, 0.5]] * len(scales),
            rho=[[s, s] for s in scales],
            flags=("scales",),
            note="one rho for each block, 1e-15 to 1e15",
            sums=relative(1e-13, 1e-5),
        ),
        Point(
            "short-block",
            short,
            [[0.0, 0.5, -0.5, 0.25], [0.0, 0.25, NOTHING, NOTHING]],
            flags=("short-block",),
            note="no budget and no gradient in dtau and dphi for places that are not used",
        ),
        Point(
            "short-block-of-one",
            row(0.5, 0.0, 0.0, 0.0, 0.0),
            row(3.0, *[NOTHING] * 4),
            flags=("short-block", "one-takes-all"),
        ),
        Point(
            "signs-of-noise-and-mean-differ",
            row(0.5, -0.5, 0.25, -1.0),
            row(0.0, 0.25, 0.5, -0.25),
            eps=row(-0.5, 0.75, -2.0, 1.5),
            g=row(1.0, -2.0, -0.5, 0.25),
            bounds=SUMS,
        ),
    ]


# Of each element of dphi, however small: sums that leave out the own term lose no digits.
EACH = relative(1e-14, 2e-6)
SIX = (0.5, 0.25, -0.5, 1.0, 0.75, -0.125)


def points_at_the_ends() -> list[Point]:
    """Return points where a share is next to all, and parameters at the ends of their range."""
    common: dict[str, Any] = {"flags": ("one-takes-all",), "sums": EACH, "since": "1.3"}
    ends: dict[str, Any] = {"flags": ("tail",), "sums": EACH, "since": "1.3"}
    everywhere = np.where(np.eye(6) > 0, 40.0, grid(noise(9, (6, 6))))
    halves = [[0.0, 0.0, -40.0], [0.0, 2.0**-20, -3.0], [2.0**-6, 0.0, -9.0], [0.5, 0.0, NOTHING]]
    tiny = row(2.0**-100, -(2.0**-70), 2.0**-40, -(2.0**-24), 2.0**-12, 2.0**-120)
    return [
        Point(
            "all-but-e-to-minus-60",
            row(*SIX),
            row(60.0, 0.0, -1.0, -2.0, 1.0, 2.0),
            budget=float(single(16 * math.log(2.0))),
            note="1 - share is 1e-25: dphi of the first is the sum of what the others leave",
            digits=120,
            **common,
        ),
        Point(
            "one-takes-nearly-all-at-each-place",
            [list(SIX)] * 6,
            everywhere,
            note="the large share first, in the middle and last",
            digits=120,
            **common,
        ),
        Point(
            "one-takes-nearly-all-by-element",
            row(0.5, 0.25, -0.5, 1.0),
            row(0.0, -8.0, -10.0, -12.0),
            note="the case one-takes-nearly-all, each element by itself",
            **common,
        ),
        Point(
            "one-takes-nearly-all-of-a-short-block",
            row(0.5, 0.25, 0.0, 0.0),
            row(-30.0, 5.0, NOTHING, NOTHING),
            note="the sums pass over unused places",
            **common,
        ),
        Point(
            "shares-down-to-1e-295",
            row(*SIX),
            row(-340.0, -1.0, 340.0, 0.0, 300.0, 40.0),
            dtypes=DOUBLE,
            note="float64 alone can hold them",
            digits=1000,
            **common,
        ),
        Point(
            "large-share-with-a-small-gradient",
            [list(SIX)] * 2,
            row(50.0, 0.0, -1.0, -2.0, 1.0, 2.0) * 2,
            g=[[2.0**-40, 1.0, 0.5, 2.0, 1.5, 0.25], [2.0**40, 1.0, 0.5, 2.0, 1.5, 0.25]],
            note="either term of dphi may be the larger one",
            digits=120,
            **common,
        ),
        Point(
            "shares-about-one-half",
            [[0.5, 0.25, -0.5]] * 4,
            halves,
            note="where a code hands over from one form to another",
            **common,
        ),
        Point(
            "tiny-tau",
            tiny,
            row(*[0.0] * 6),
            note="tanh(tau) is tau: no difference of exponentials",
            **ends,
        ),
        Point("budget-of-1e-30-nats", row(*SIX), row(0.0, 1.0, -3.0, 5.0, 9.0, -20.0),
              budget=float(single(1e-30)), note="x = 1e-15 and below", **ends),
        Point("budget-of-1e6-nats", row(*SIX), row(0.0, 1.0, -3.0, 2.0, 0.5, -2.0),
              budget=1e6, note="log s = -1e6: the weight is its mean", digits=100, **ends),
        Point("tiny-budget-and-share", row(*SIX), row(0.0, -600.0, -680.0, -690.0, 1.0, 2.0),
              budget=1e-20, note="kappa underflows, its root does not", digits=1000,
              dtypes=DOUBLE, **ends),
    ]  # fmt: skip


def write(golden: Path) -> None:
    """Write the files of the stage posterior."""
    write_mean_kl(golden)
    write_mean_var(golden)
    write_expand_hash(golden)


# --- Mean-KL


def case_of(operation: str, point: Point, inputs: Any, outputs: Any, bounds: Any) -> Case:
    """Return a case in the precisions of its point."""
    return make_case(
        f"posterior/{operation}/{point.name}",
        inputs,
        outputs,
        {name: {d: bound[d] for d in point.dtypes} for name, bound in bounds.items()},
        dtypes=point.dtypes,
        flags=point.flags,
        note=point.note,
        since=point.since,
    )


def mean_kl_cases(point: Point) -> tuple[Case, Case, Case]:
    """Return the cases of mean_kl, mean_kl_forward and mean_kl_backward at a point."""
    posterior, sample = point.posterior(), point.sample()
    tau, phi, budget = posterior["tau"], posterior["phi"], posterior["budget"]
    rho, eps, g = sample["rho"], sample["eps"], sample["g"]
    with mpmath.workdps(point.digits):
        ours = numbers(tau), numbers(phi), mpf(float(budget))
        noisy = ours[0], ours[1], numbers(rho), ours[2], numbers(eps)
        delta, log_s = map(to_floats, gaussians.mean_kl(*ours))
        w = to_floats(gaussians.mean_kl_forward(*noisy))
        gradients = gaussians.mean_kl_backward(*noisy, numbers(g))
        dtau, dphi, dlog_rho = map(to_floats, gradients)
    inputs = {"tau": tau, "phi": phi, "rho": rho, "budget": budget, "eps": eps}
    # Where all of dphi cancels, what is left follows the terms, which are about these.
    terms = float(max(1.0, np.abs(dtau).max(), np.abs(dlog_rho).max()))
    cancelled = None if np.any(dphi) else absolute(1e-14 * terms, 2e-6 * terms)
    whitened = point.bounds if "scaled" not in point.bounds["float64"] else NEAR
    return (
        case_of(
            "mean_kl",
            point,
            posterior,
            {"delta": delta, "log_s": log_s},
            {"delta": whitened, "log_s": whitened},
        ),
        case_of("mean_kl_forward", point, inputs, {"w": w}, {"w": point.bounds}),
        case_of(
            "mean_kl_backward",
            point,
            {**inputs, "g": g},
            {"dtau": dtau, "dphi": dphi, "dlog_rho": dlog_rho},
            {"dtau": point.bounds, "dphi": cancelled or point.sums, "dlog_rho": point.bounds},
        ),
    )


def write_mean_kl(golden: Path) -> None:
    """Write the three operations of Mean-KL at the same points."""
    triples = [mean_kl_cases(point) for point in [*points(), *points_at_the_ends()]]
    sources = {
        "mean_kl": "mpmath, 60 digits or more: docs/derivations.md (4) to (9)",
        "mean_kl_forward": "mpmath, 60 digits or more: docs/derivations.md (8)",
        "mean_kl_backward": "mpmath, 60 digits or more: the forward pass differentiated by central"
        " differences, without the formulas of docs/derivations.md section 4",
    }
    for (operation, source), cases in zip(sources.items(), zip(*triples, strict=True), strict=True):
        write_file(
            golden, "posterior", operation, source=source, notes=notes_of(cases), cases=list(cases)
        )


# --- Mean-Var


@dataclass(frozen=True)
class MeanVarPoint:
    """Parameters of some blocks under Mean-Var."""

    name: str
    mu: Any
    log_sigma: Any
    rho: Any
    beta: Any
    eps: Any
    g: Any
    flags: tuple[str, ...] = ()
    note: str = ""
    bounds: Bounds = field(default_factory=lambda: scaled(5e-15, 2e-6))
    dtypes: tuple[str, ...] = BOTH


def mean_var_points() -> list[MeanVarPoint]:
    """Return the points at which Mean-Var is posed."""
    shape = (3, 6)
    mu, eps, g = noise(11, shape, 0.1), noise(12, shape), noise(13, shape)
    log_sigma = grid(noise(14, shape, 0.5) - 3.0)
    rho = np.full(shape, 0.125)
    scales = np.array([float(single(float(f"1e{e}"))) for e in range(-15, 16, 2)])[:, None]
    ones = np.ones((1, 1))
    return [
        MeanVarPoint("typical", mu, log_sigma, rho, [0.5, 1.0, 2.0], eps, g, ("typical",)),
        MeanVarPoint(
            "beta-of-each-block",
            mu,
            log_sigma,
            rho,
            [0.0, float(single(1e-8)), 1000.0],
            eps,
            g,
            note="beta 0 leaves g alone",
        ),
        MeanVarPoint(
            "penalty-alone",
            mu,
            log_sigma,
            rho,
            [1.0, 1.0, 1.0],
            eps,
            np.zeros(shape),
            note="the gradients of KL, halves and signs included",
        ),
        MeanVarPoint(
            "loss-alone",
            mu,
            log_sigma,
            rho,
            [0.0, 0.0, 0.0],
            eps,
            g,
            note="no gradient by log rho: the sample does not depend on it",
        ),
        MeanVarPoint(
            "q-equals-p",
            np.zeros((1, 3)),
            np.zeros((1, 3)),
            np.ones((1, 3)),
            [1.0],
            [[0.5, -1.0, 2.0]],
            [[1.0, 2.0, -1.0]],
            ("cancellation",),
            "KL has its minimum: no gradient of the penalty",
        ),
        MeanVarPoint(
            "wider-than-p",
            [[0.25, -0.5]],
            [[1.0, 2.0]],
            [[0.5, 0.25]],
            [0.25],
            [[0.5, -1.0]],
            [[1.0, 3.0]],
            note="sigma > rho",
        ),
        MeanVarPoint(
            "tiny-sigma",
            [[0.5, -0.25, 1.0]],
            [[-30.0, -40.0, -20.0]],
            [[0.5, 0.5, 0.5]],
            [0.5],
            [[1.0, -2.0, 0.5]],
            [[1.0, 1.0, -1.0]],
            ("tail",),
            "s = 0 for all purposes",
        ),
        *(
            MeanVarPoint(
                f"scale-1e{exponent:+d}",
                0.5 * s * ones,
                single(np.log(0.25 * s) * ones),
                s * ones,
                [1.0],
                0.5 * ones,
                2.0 * ones,
                ("scales",),
            )
            for s, exponent in zip(scales[::3], range(-15, 16, 6), strict=True)
        ),
    ]


def mean_var_cases(point: MeanVarPoint) -> tuple[Case, Case]:
    """Return the cases of mean_var_forward and mean_var_backward at a point."""
    names = ("mu", "log_sigma", "rho", "beta", "eps", "g")
    inputs = {n: np.array(getattr(point, n), dtype=np.float64) for n in names}
    with mpmath.workdps(60):
        mu, log_sigma, rho, eps, g = (numbers(inputs[n]) for n in names if n != "beta")
        beta = [mpf(float(b)) for b in inputs["beta"]]
        w = to_floats(gaussians.mean_var_forward(mu, log_sigma, eps))
        gradients = gaussians.mean_var_backward(mu, log_sigma, rho, beta, eps, g)
    outputs = dict(zip(("dmu", "dlog_sigma", "dlog_rho"), map(to_floats, gradients), strict=True))
    common: dict[str, Any] = {"dtypes": point.dtypes, "flags": point.flags, "note": point.note}
    forward = {n: inputs[n] for n in ("mu", "log_sigma", "eps")}
    return (
        make_case(
            f"posterior/mean_var_forward/{point.name}",
            forward,
            {"w": w},
            {"w": point.bounds},
            **common,
        ),
        make_case(
            f"posterior/mean_var_backward/{point.name}",
            inputs,
            outputs,
            dict.fromkeys(outputs, point.bounds),
            **common,
        ),
    )


def write_mean_var(golden: Path) -> None:
    """Write both operations of Mean-Var at the same points."""
    pairs = [mean_var_cases(point) for point in mean_var_points()]
    forward, backward = (list(cases) for cases in zip(*pairs, strict=True))
    write_file(
        golden,
        "posterior",
        "mean_var_forward",
        source="mpmath, 60 digits: mu + exp(log sigma) eps",
        notes=notes_of(forward),
        cases=forward,
    )
    write_file(
        golden,
        "posterior",
        "mean_var_backward",
        source="mpmath, 60 digits: sum g w + sum beta KL differentiated by central differences",
        notes=notes_of(backward),
        cases=backward,
    )


# --- the hashing trick


def hash_tables(seed: int, weights: int, count: int) -> tuple[Any, Any]:
    """Return places below count and signs, at random."""
    words = spec_decoder.words(seed, 98, 0, 2 * weights)
    places = np.array([w * count >> 32 for w in words[:weights]])
    signs = np.array([-1 if w >> 31 else 1 for w in words[weights:]])
    return places, signs


def expand_points() -> list[tuple[str, Any, Any, Any, str]]:
    """Return name, variables, places, signs and note."""
    values = noise(31, (3, 4))
    places, signs = hash_tables(32, 40, 12)
    return [
        ("shared-variables", values, places, signs, ""),
        ("missing-sign", values, np.arange(12), -np.ones(12, dtype=int), "all are negated"),
        (
            "places-not-variables",
            values,
            np.array([11, 0, 5, 5, 2]),
            np.array([1, 1, 1, -1, -1]),
            "weight i takes the variable at place i of the table, blocks read as flat",
        ),
        ("one-variable", np.array([[0.375]]), np.zeros(6, dtype=int), signs[:6], ""),
        ("unused-variables", values, np.array([3, 3, 8]), np.array([1, -1, 1]), ""),
    ]


def write_expand_hash(golden: Path) -> None:
    """Write exact answers: sums of numbers on a grid of 1/1024 have no rounding."""
    exact = {"float64": {"exact": 0}, "float32": {"exact": 0}}
    forward, backward = [], []
    for number, (name, values, places, signs, note) in enumerate(expand_points()):
        flat = values.ravel().tolist()
        table = list(zip(signs.tolist(), places.tolist(), strict=True))
        forward.append(
            make_case(
                f"posterior/expand_hash/{name}",
                {"variables": values, "places": places, "signs": signs},
                {"w": np.array([sign * flat[place] for sign, place in table])},
                {"w": exact},
                dtypes=BOTH,
                note=note,
            )
        )
        g = noise(40 + number, (len(table),))
        backward.append(
            make_case(
                f"posterior/expand_hash_backward/{name}",
                {"g": g, "places": places, "signs": signs, "count": values.size},
                {"dvariables": sums(g.tolist(), table, values.size)},
                {"dvariables": exact},
                dtypes=BOTH,
                note="" if name == "places-not-variables" else note,
            )
        )
    places, signs = hash_tables(50, 2000, 7)
    table = list(zip(signs.tolist(), places.tolist(), strict=True))
    g = noise(51, (2000,)) / 3.0
    g = single(g)
    backward.append(
        make_case(
            "posterior/expand_hash_backward/long-sums",
            {"g": g, "places": places, "signs": signs, "count": 9},
            {"dvariables": sums(g.tolist(), table, 9)},
            {"dvariables": scaled(5e-15, 5e-6)},
            dtypes=BOTH,
            note="some 290 weights to a variable; two variables have none",
        )
    )
    source = "plain Python; sums by math.fsum, correctly rounded"
    for operation, cases in (("expand_hash", forward), ("expand_hash_backward", backward)):
        write_file(golden, "posterior", operation, source=source, notes={}, cases=cases)


def sums(g: Sequence[float], table: Sequence[tuple[int, int]], count: int) -> Any:
    """Return for each variable the sum of its weights' signed gradients."""
    terms: list[list[float]] = [[] for _ in range(count)]
    for value, (sign, place) in zip(g, table, strict=True):
        terms[place].append(sign * value)
    return np.array([math.fsum(t) for t in terms])
