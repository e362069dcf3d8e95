"""NaN, infinities, zeros of either sign and subnormal numbers, in every stage but `layers`.

The answers follow from IEEE 754: what touches a NaN is NaN, and nothing else is.  Finite ones
beside it are those of mpmath for the same arguments.  `write_file` adds these cases behind those
that an operation's own part has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from golden import gaussians, writer
from golden.gaussians import numbers
from golden.sources import noise, to_floats
from golden.writer import BOTH, make_case, single
from mpmath import mpf

Case = dict[str, Any]

NAN, INF, TINY, TINIEST = math.nan, math.inf, 2.0**-149, 2.0**-1074
# Subnormal cases: name, the smallest number, and the precision that has it.
DENORMALS = (("denormal", TINY, BOTH[1:]), ("denormal-of-double", TINIEST, BOTH[:1]))
DIGITS = 60
EXACT = {"exact": 0}
NOTES = {
    "not-finite": "NaN or an infinity among the arguments: what it touches is not finite, and what"
    " it does not touch is as ever",
    "signed-zero": "zeros of both signs are one number; the sign of a zero in the answer is free",
    "denormal": "subnormal numbers: a backend that flushes them to zero fails here alone",
}
ULPS = {"float64": {"ulp": 8}, "float32": {"ulp": 16}}
NEAR = {"float64": {"relative": 1e-12}, "float32": {"relative": 1e-5}}
SUMS = {"float64": {"scaled": 1e-13}, "float32": {"scaled": 5e-6}}


def write_file(
    golden: Path,
    stage: str,
    operation: str,
    *,
    source: str,
    notes: dict[str, str],
    cases: list[Case],
) -> None:
    """Write the file of an operation with the cases that are here; see `writer.write_file`."""
    with mpmath.workdps(DIGITS):
        more = MORE.get(operation, list)()
    used = {flag for case in more for flag in case["flags"]}
    own = {flag: text for flag, text in NOTES.items() if flag in used}
    writer.write_file(
        golden, stage, operation, source=source, notes={**own, **notes}, cases=[*cases, *more]
    )


def case(
    name: str,
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    bound: dict[str, Any],
    note: str = "",
    flag: str = "not-finite",
    dtypes: tuple[str, ...] = BOTH,
) -> Case:
    """Return a case; `name` is its whole id."""
    return make_case(
        name,
        inputs,
        outputs,
        dict.fromkeys(outputs, bound),
        dtypes=dtypes,
        flags=(flag,),
        note=note,
        since="1.3",
    )


def marked(array: Any, value: float, *places: Any) -> Any:
    """Return a copy with a value at some places."""
    copy = np.array(array, dtype=np.float64)
    for place in places:
        copy[place] = value
    return copy


# --- numerics


def quantiles() -> list[Case]:
    """Probabilities that are none."""
    p = np.array([NAN, INF, -INF, 0.5])
    note = "the logarithm of what is no probability"
    return [
        case(
            "numerics/normal_quantile/not-finite",
            {"p": p},
            {"z": marked([0.0] * 4, NAN, slice(0, 3))},
            EXACT,
            note,
            dtypes=(),
        )
    ]


def log_s() -> list[Case]:
    """Return s(x) of NaN, and of -0, which is not below 0."""
    x = single([0.25, 1.0, 3.0])
    want = to_floats([gaussians.log_s(mpf(float(v))) for v in x])
    return [
        case(
            "numerics/log_s/nan",
            {"x": marked(x, NAN, 1)},
            {"log_s": marked(want, NAN, 1)},
            ULPS,
            "between numbers that stay what they are",
        ),
        case(
            "numerics/log_s/minus-zero",
            {"x": np.array([-0.0])},
            {"log_s": np.zeros(1)},
            EXACT,
            flag="signed-zero",
        ),
    ]


def slopes() -> list[Case]:
    """Return its slope at the same."""
    x = single([0.25, 1.0, 2.0])
    want = to_floats([gaussians.slope(mpf(float(v))) for v in x])
    return [
        case(
            "numerics/ds_dx/nan",
            {"x": marked(x, NAN, 1)},
            {"slope": marked(want, NAN, 1)},
            NEAR,
            "not the limit -sqrt(2), which a comparison that is false may fall back on",
        ),
        case(
            "numerics/ds_dx/minus-zero",
            {"x": np.array([-0.0])},
            {"slope": to_floats([-mpmath.sqrt(2)])},
            ULPS,
            flag="signed-zero",
        ),
    ]


def divergences() -> list[Case]:
    """Return the KL of means and variances that are not finite."""
    delta = np.array([NAN, 0.5, INF, -INF, 0.0, 2.0])
    log_variance = np.array([0.0, NAN, 0.0, -1.0, -INF, -2.0])
    last = to_floats([gaussians.kl(mpf(2), mpf(-2))])[0]
    return [
        case(
            "numerics/gaussian_kl/not-finite",
            {"delta": delta, "log_s": log_variance},
            {"kl": np.array([NAN, NAN, INF, INF, INF, last])},
            NEAR,
            "a mean that is infinitely far, and a variance of 0, cost infinitely much",
        ),
        case(
            "numerics/gaussian_kl/minus-zero",
            {"delta": np.array([-0.0, 0.0]), "log_s": np.array([0.0, -0.0])},
            {"kl": np.zeros(2)},
            EXACT,
            flag="signed-zero",
        ),
    ]


# --- Mean-KL, two blocks of three weights

SHAPE = (2, 3)
PLACE = (0, 1)
BUDGET = 4.0


def mean_kl_inputs() -> dict[str, Any]:
    """Return finite arguments of mean_kl_backward."""
    return {
        "tau": noise(301, SHAPE, 0.5),
        "phi": noise(302, SHAPE),
        "rho": np.full(SHAPE, 0.125),
        "budget": np.array(BUDGET),
        "eps": noise(303, SHAPE),
        "g": noise(304, SHAPE),
    }


def mean_kl_answers(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the finite results of the three operations by mpmath."""
    tau, phi, rho, eps, g = (numbers(inputs[n]) for n in ("tau", "phi", "rho", "eps", "g"))
    budget = mpf(float(inputs["budget"]))
    names = ("delta", "log_s", "w", "dtau", "dphi", "dlog_rho")
    delta, log_variance = gaussians.mean_kl(tau, phi, budget)
    w = gaussians.mean_kl_forward(tau, phi, rho, budget, eps)
    gradients = gaussians.mean_kl_backward(tau, phi, rho, budget, eps, g)
    return dict(zip(names, map(to_floats, (delta, log_variance, w, *gradients)), strict=True))


BLOCK, HERE = (slice(0, 1),), (PLACE,)
# Where a NaN at PLACE of an argument shows: a share is of its whole block, as is a sum over it.
TOUCHED = {
    "tau": {"delta": HERE, "log_s": HERE, "w": HERE, "dtau": HERE, "dphi": BLOCK, "dlog_rho": HERE},
    "phi": dict.fromkeys(("delta", "log_s", "w", "dtau", "dphi", "dlog_rho"), BLOCK),
    "rho": {"w": HERE, "dtau": HERE, "dphi": BLOCK, "dlog_rho": HERE},
    "eps": {"w": HERE, "dtau": HERE, "dphi": BLOCK, "dlog_rho": HERE},
    "g": {"dtau": HERE, "dphi": BLOCK, "dlog_rho": HERE},
}
MEAN_KL = {
    "mean_kl": (("tau", "phi", "budget"), ("delta", "log_s")),
    "mean_kl_forward": (("tau", "phi", "rho", "budget", "eps"), ("w",)),
    "mean_kl_backward": (
        ("tau", "phi", "rho", "budget", "eps", "g"),
        ("dtau", "dphi", "dlog_rho"),
    ),
}


def mean_kl(operation: str) -> list[Case]:
    """Return NaN in each argument; for the forward pass also infinite ones and tiny means."""
    taken, given = MEAN_KL[operation]
    inputs, cases = mean_kl_inputs(), []
    answers = mean_kl_answers(inputs)
    for argument in taken:
        if argument == "budget":
            continue
        touched = TOUCHED[argument]
        cases.append(
            case(
                f"posterior/{operation}/nan-in-{argument}",
                {n: marked(inputs[n], NAN, PLACE) if n == argument else inputs[n] for n in taken},
                {n: marked(answers[n], NAN, *touched[n]) for n in given},
                NEAR if operation == "mean_kl" else SUMS,
                "the other block is untouched",
            )
        )
    return (
        cases
        + {"mean_kl": infinite_means, "mean_kl_forward": infinite_samples}.get(operation, list)()
    )


def infinite_means() -> list[Case]:
    """Return tau at the ends of its range, at -0 and at subnormal numbers."""
    phi, ends, signs = np.zeros((1, 2)), np.array([[INF, -INF]]), np.array([[3.0, -5.0]])
    r = to_floats([mpmath.sqrt(2 * mpf(BUDGET) / 2)])[0]
    log_variance = to_floats([gaussians.log_s(mpmath.sqrt(mpf(BUDGET)))])[0]
    level = np.full((1, 2), log_variance)
    absolute = {"float64": {"absolute": 1e-15}, "float32": {"absolute": 1e-6}}

    def of(
        name: str,
        tau: Any,
        delta: Any,
        log_s: Any,
        bounds: Any,
        note: str,
        flag: str,
        dtypes: tuple[str, ...] = BOTH,
    ) -> Case:
        made = case(
            f"posterior/mean_kl/{name}",
            {"tau": tau, "phi": phi, "budget": np.array(BUDGET)},
            {"delta": delta, "log_s": log_s},
            bounds[0],
            note,
            flag,
            dtypes,
        )
        made["bounds"]["log_s"] = {d: bounds[1][d] for d in dtypes}
        return made

    return [
        of(
            "infinite-tau",
            ends,
            np.array([[r, -r]]),
            np.zeros((1, 2)),
            (NEAR, absolute),
            "tanh is 1 or -1, sech is 0: all of the budget is the mean's",
            "not-finite",
        ),
        of("minus-zero", -phi, phi, level, (EXACT, NEAR), "no mean", "signed-zero"),
        *(
            of(
                name,
                1024 * smallest * signs,
                r * 1024 * smallest * signs,
                level,
                ({"absolute": 2 * smallest}, NEAR),
                "delta = r tau",
                "denormal",
                dtypes,
            )
            for name, smallest, dtypes in DENORMALS
        ),
    ]


def infinite_samples() -> list[Case]:
    """Return infinite noise and scales."""
    inputs = mean_kl_inputs()
    w = mean_kl_answers(inputs)["w"]
    return [
        case(
            f"posterior/mean_kl_forward/infinite-{argument}",
            {
                n: marked(inputs[n], -INF if argument == "eps" else INF, PLACE)
                if n == argument
                else inputs[n]
                for n in MEAN_KL["mean_kl_forward"][0]
            },
            {"w": marked(w, -INF if argument == "eps" else math.copysign(INF, w[PLACE]), PLACE)},
            SUMS,
        )
        for argument in ("eps", "rho")
    ]


# --- Mean-Var, and the hashing trick


def mean_var_forward() -> list[Case]:
    """Mean and deviation that are not finite, and means below the normal numbers."""
    mu = np.array([[NAN, 1.0, 1.0, INF, -INF, 0.5, 2.0, 1.0]])
    log_sigma = np.array([[0.0, NAN, 0.0, 0.0, 0.0, -INF, INF, 0.0]])
    eps = np.array([[1.0, 1.0, NAN, 2.0, 2.0, 3.0, -1.0, INF]])
    tiny, none = np.array([[3.0, -5.0, 1.0]]), np.zeros((1, 3))
    names = ("mu", "log_sigma", "eps")
    return [
        case(
            "posterior/mean_var_forward/not-finite",
            dict(zip(names, (mu, log_sigma, eps), strict=True)),
            {"w": np.array([[NAN, NAN, NAN, INF, -INF, 0.5, -INF, INF]])},
            EXACT,
            "log sigma = -inf is sigma = 0: the sample is the mean",
        ),
        *(
            case(
                f"posterior/mean_var_forward/{name}",
                dict(zip(names, (tiny * smallest, none, none), strict=True)),
                {"w": tiny * smallest},
                EXACT,
                "eps = 0",
                "denormal",
                dtypes,
            )
            for name, smallest, dtypes in DENORMALS
        ),
    ]


def mean_var_backward() -> list[Case]:
    """NaN in each argument: the gradients that hold it are NaN, of no other place."""
    inputs = {
        "mu": noise(311, SHAPE, 0.125),
        "log_sigma": noise(312, SHAPE, 0.25) - 2.0,
        "rho": np.full(SHAPE, 0.25),
        "beta": np.array([0.5, 2.0]),
        "eps": noise(313, SHAPE),
        "g": noise(314, SHAPE),
    }
    mu, log_sigma, rho, eps, g = (numbers(inputs[n]) for n in inputs if n != "beta")
    beta = [mpf(float(b)) for b in inputs["beta"]]
    answers = gaussians.mean_var_backward(mu, log_sigma, rho, beta, eps, g)
    of = dict(zip(("dmu", "dlog_sigma", "dlog_rho"), map(to_floats, answers), strict=True))
    touched: dict[str, dict[str, Any]] = {
        "mu": {"dmu": HERE, "dlog_rho": HERE},
        "log_sigma": {"dlog_sigma": HERE, "dlog_rho": HERE},
        "rho": dict.fromkeys(of, HERE),
        "beta": dict.fromkeys(of, BLOCK),
        "eps": {"dlog_sigma": HERE},
        "g": {"dmu": HERE, "dlog_sigma": HERE},
    }
    return [
        case(
            f"posterior/mean_var_backward/nan-in-{argument.replace('_', '-')}",
            {
                n: marked(a, NAN, 0 if n == "beta" else PLACE) if n == argument else a
                for n, a in inputs.items()
            },
            {n: marked(a, NAN, *touched[argument].get(n, ())) for n, a in of.items()},
            SUMS,
        )
        for argument in inputs
    ]


TABLE = {
    "places": np.array([0, 1, 1, 2, 3, 4, 0, 4], dtype=np.int64),
    "signs": np.array([1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0]),
}


def expand_hash() -> list[Case]:
    """Return copies: what a variable is, its weights are."""
    variables = np.array([NAN, INF, -INF, -0.0, 1.0])
    w = np.array([NAN, -INF, INF, -INF, 0.0, 1.0, NAN, 1.0])
    whole = np.arange(1.0, 6.0)
    copies = TABLE["signs"] * whole[TABLE["places"]]
    rows = [("not-finite", variables, w, "not-finite", BOTH)]
    rows += [(n, whole * least, copies * least, "denormal", d) for n, least, d in DENORMALS]
    return [
        case(
            f"posterior/expand_hash/{name}",
            {"variables": values, **TABLE},
            {"w": want},
            EXACT,
            flag=flag,
            dtypes=dtypes,
        )
        for name, values, want, flag, dtypes in rows
    ]


def expand_hash_backward() -> list[Case]:
    """Return sums: inf - inf is NaN."""
    g = np.array([NAN, INF, INF, INF, -1.0, 3.0, 1.0, -1.0])
    whole = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.0])
    sums, count = np.array([-6.0, 1.0, 4.0, -5.0, 15.0]), {"count": np.array(5)}
    rows = [("not-finite", g, np.array([NAN, NAN, INF, 1.0, 2.0]), "not-finite", BOTH)]
    rows += [(n, whole * least, sums * least, "denormal", d) for n, least, d in DENORMALS]
    return [
        case(
            f"posterior/expand_hash_backward/{name}",
            {"g": values, **TABLE, **count},
            {"dvariables": want},
            EXACT,
            flag=flag,
            dtypes=dtypes,
        )
        for name, values, want, flag, dtypes in rows
    ]


# --- coding


def log_weights() -> list[Case]:
    """Return that a target with a NaN has no weights, and a candidate with a NaN none."""
    z, delta, log_variance = np.array([[0.5], [-1.0]]), np.array([[0.25]] * 3), -np.ones((3, 1))
    own = [
        to_floats([(mpf(v) ** 2 - (mpf(v) - mpf(0.25)) ** 2 * mpmath.e + 1) / 2])[0]
        for v in z[:, 0].tolist()
    ]
    want = np.array([own] * 3)
    return [
        case(
            "coding/log_weights/nan-in-a-target",
            {
                "candidates": z,
                "delta": marked(delta, NAN, 0),
                "log_s": marked(log_variance, NAN, 1),
            },
            {"log_w": marked(want, NAN, 0, 1)},
            NEAR,
            "one block after the other; the last is as ever",
        ),
        case(
            "coding/log_weights/nan-in-a-candidate",
            {"candidates": marked(z, NAN, 0), "delta": delta, "log_s": log_variance},
            {"log_w": marked(want, NAN, (slice(None), 0))},
            NEAR,
        ),
    ]


# Name, mean, log variance ratio, and what is wrong.
FAULTS = (
    ("mean-nan", NAN, -1.0, "the mean is NaN"),
    ("mean-infinite", -INF, -1.0, "the mean is infinite"),
    ("variance-nan", 0.5, NAN, "log s is NaN"),
    ("variance-zero", 0.5, -INF, "log s is infinite"),
)


def select_indices() -> list[Case]:
    """Return negative cases: an argmax over NaN is no choice."""
    return [
        make_case(
            f"coding/select_indices/{name}",
            {
                "seed": 1,
                "bits": 4,
                "blocks": np.array([0, 1], dtype=np.int64),
                "delta": marked(np.zeros((2, 3)), delta, (1, 1)),
                "log_s": marked(np.full((2, 3), -1.0), log_variance, (1, 1)),
            },
            dtypes=BOTH,
            fault=fault,
            flags=("not-finite",),
            note="the second of two blocks is wrong in its second place",
            since="1.3",
        )
        for name, delta, log_variance, fault in FAULTS
    ]


MORE: dict[str, Callable[[], list[Case]]] = {
    "normal_quantile": quantiles,
    "log_s": log_s,
    "ds_dx": slopes,
    "gaussian_kl": divergences,
    "mean_kl": lambda: mean_kl("mean_kl"),
    "mean_kl_forward": lambda: mean_kl("mean_kl_forward"),
    "mean_kl_backward": lambda: mean_kl("mean_kl_backward"),
    "mean_var_forward": mean_var_forward,
    "mean_var_backward": mean_var_backward,
    "expand_hash": expand_hash,
    "expand_hash_backward": expand_hash_backward,
    "log_weights": log_weights,
    "select_indices": select_indices,
}
