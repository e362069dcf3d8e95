"""Stage posterior, since 1.5: coding distributions around nu, as an update has them.

Where nu is 0 these are the operations without it, and only there is a port right that left it out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from golden import gaussians
from golden.gaussians import numbers
from golden.posterior import BUDGET, NOTHING, grid, row, scaled, typical
from golden.related import family
from golden.sources import noise, to_floats
from golden.writer import BOTH, make_case, single, write_file
from mpmath import mpf

Case = dict[str, Any]

SINCE = "1.5"
BOUNDS = scaled(5e-15, 2e-6)
NOTES = {
    "zero": "nu = 0 changes nothing",
    "cancellation": "the sample, or the mean from nu, is a small difference",
    "short-block": "phi = -inf marks places that hold no weight",
    "scales": "nu far above and far below rho",
}


@dataclass(frozen=True)
class Point:
    """What some blocks hold: nu, and what the two parameterizations add."""

    name: str
    nu: Any
    tau: Any
    phi: Any
    rho: Any
    flags: tuple[str, ...] = ()
    note: str = ""
    exact: bool = False

    def inputs(self) -> dict[str, Any]:
        """Return arrays by name, with noise and gradients drawn."""
        nu, tau, phi, rho = (np.array(a, float) for a in (self.nu, self.tau, self.phi, self.rho))
        seed = 1000 + sum(map(ord, self.name))
        rho = np.broadcast_to(rho, nu.shape).copy()
        return {
            "nu": nu,
            "tau": tau,
            "phi": phi,
            "rho": rho,
            "budget": np.float64(BUDGET),
            "eps": noise(seed, nu.shape),
            "g": noise(seed + 1, nu.shape),
            # Of Mean-Var: means about nu, on a grid so that their differences are exact.
            "mu": nu if self.exact else single(nu + rho * grid(noise(seed + 2, nu.shape))),
            "log_sigma": grid(single(np.log(rho)) + noise(seed + 3, nu.shape, 0.5) - 0.5),
            "beta": np.abs(noise(seed + 4, (len(nu),))) + 0.25,
        }


def sized(name: str, shape: tuple[int, int]) -> Point:
    """Return a point of some size."""
    tau, phi = typical(sum(shape), shape, 1.0)
    nu = noise(7 * sum(shape), shape, 0.25)
    return Point(name, nu, tau, phi, 0.125, note="one more than a power of two")


def points() -> list[Point]:
    """Return the points at which each operation is posed."""
    tau, phi = typical(201, (4, 8), 1.0)
    nu = noise(203, (4, 8), 0.25)
    far = [2.0**k for k in range(-24, 25, 8)]
    return [
        Point("typical", nu, tau, phi, 0.125, note="what an update meets: rho below |nu|"),
        Point("nu-0", np.zeros((4, 8)), tau, phi, 0.125, ("zero",), "as without nu"),
        Point(
            "nu-of-each-place",
            [[1.0, 2.0, 4.0], [-8.0, 16.0, -32.0]],
            np.full((2, 3), 0.25),
            np.zeros((2, 3)),
            0.5,
            note="neither one nu for all, nor one for a block or a tensor",
        ),
        Point(
            "start-of-an-update",
            nu,
            np.zeros((4, 8)),
            np.zeros((4, 8)),
            2.0**-6,
            note="tau = 0: the mean is nu itself",
            exact=True,
        ),
        Point(
            "nu-far-above-rho",
            row(1000.0, -1000.0, 4096.0, 0.5),
            row(0.5, -0.25, 0.75, 1.0),
            row(0.0, 0.5, -0.5, 1.0),
            2.0**-7,
            ("cancellation", "scales"),
            "mu - nu has few digits left, and dmu only those",
        ),
        Point(
            "scales",
            [far, far],
            np.full((2, 7), 0.5),
            np.zeros((2, 7)),
            [[2.0**-10], [2.0**10]],
            ("scales",),
        ),
        Point(
            "nu-against-the-change",
            row(-0.125, 0.125, 0.0625, -0.0625),
            row(1.0, -1.0, 0.5, -0.5),
            row(0.0, 0.0, 0.0, 0.0),
            0.0625,
            ("cancellation",),
            "the sample is nearer to 0 than nu",
        ),
        Point(
            "short-block",
            [[0.25, -0.5, 0.75, 1.0], [-0.25, 0.5, 0.0, 0.0]],
            [[0.25, 0.5, -0.75, 1.0], [-0.5, 0.125, 0.0, 0.0]],
            [[0.0, 0.5, -0.5, 0.25], [0.0, 0.25, NOTHING, NOTHING]],
            0.125,
            ("short-block",),
        ),
        sized("places-9", (1, 9)),
        sized("places-65", (1, 65)),
        sized("blocks-9", (9, 2)),
        sized("blocks-65", (65, 1)),
    ]


Answer = Callable[..., Any]


def answer_of(names: str, function: Callable[..., Any]) -> Answer:
    """Return a function of arrays and a budget, by name, from one of mpmath's numbers."""

    def answer(**inputs: Any) -> Any:
        with mpmath.workdps(60):
            taken = {n: mpf(float(a)) if np.ndim(a) == 0 else _exact(a) for n, a in inputs.items()}
            results = function(**taken)
            outputs = names.split()
            arrays = map(to_floats, results if len(outputs) > 1 else (results,))
        return dict(zip(outputs, arrays, strict=True)), None

    return answer


def _exact(array: Any) -> Any:
    return numbers(array) if np.ndim(array) == 2 else [mpf(float(x)) for x in array]


def _added(one: Any, other: Any, sign: int = 1) -> Any:
    return [
        [a + sign * b for a, b in zip(*rows, strict=True)] for rows in zip(one, other, strict=True)
    ]


def forward(tau: Any, phi: Any, nu: Any, rho: Any, budget: Any, eps: Any) -> Any:
    """Return w = nu + rho (delta + sqrt(s) eps)."""
    return _added(nu, gaussians.mean_kl_forward(tau, phi, rho, budget, eps))


def backward(tau: Any, phi: Any, nu: Any, rho: Any, budget: Any, eps: Any, g: Any) -> Any:
    """Return the gradients, in which the constant nu is nothing."""
    return gaussians.mean_kl_backward(tau, phi, rho, budget, eps, g)


def var_backward(mu: Any, log_sigma: Any, nu: Any, rho: Any, beta: Any, eps: Any, g: Any) -> Any:
    """Return the gradients, with the mean counted from nu in KL; g w has them either way."""
    return gaussians.mean_var_backward(_added(mu, nu, -1), log_sigma, rho, beta, eps, g)


OF_KL = "tau phi nu rho budget eps"
DIFFERENCES = "mpmath, 60 digits: {} differentiated by central differences"
# Name: the arguments, the answer, and where it comes from.
OPERATIONS: dict[str, tuple[str, Answer, str]] = {
    "mean_kl_forward_around": (
        OF_KL,
        answer_of("w", forward),
        "mpmath, 60 digits: docs/derivations.md (8)",
    ),
    "mean_kl_backward_around": (
        f"{OF_KL} g",
        answer_of("dtau dphi dlog_rho", backward),
        DIFFERENCES.format("the forward pass"),
    ),
    "mean_var_backward_around": (
        "mu log_sigma nu rho beta eps g",
        answer_of("dmu dlog_sigma dlog_rho", var_backward),
        DIFFERENCES.format("sum g w + sum beta KL"),
    ),
}


def case_of(operation: str, point: Point) -> Case:
    """Return a case in both precisions."""
    names, answer, _ = OPERATIONS[operation]
    inputs = {n: point.inputs()[n] for n in names.split()}
    outputs, _ = answer(**inputs)
    return make_case(
        f"posterior/{operation}/{point.name}",
        inputs,
        outputs,
        dict.fromkeys(outputs, BOUNDS),
        dtypes=BOTH,
        flags=point.flags,
        note=point.note,
        since=SINCE,
    )


def kept(operation: str) -> list[Case]:
    """Return a case, and one that differs from it in each input alone."""
    names, answer, _ = OPERATIONS[operation]
    tau, phi = typical(221, (2, 3), 1.0)
    one, other = (
        Point("kept", noise(seed, (2, 3), 0.25), tau + 0.125 * n, phi[:, ::-1] if n else phi, rho)
        for n, (seed, rho) in enumerate(((231, 0.125), (232, 0.25)))
    )
    base = {n: one.inputs()[n] for n in names.split()}
    changes = {n: other.inputs()[n] for n in names.split()}
    changes |= {"budget": np.float64(2 * BUDGET)} if "budget" in names.split() else {}
    for n in changes:
        if np.array_equal(changes[n], base[n]):
            changes[n] = base[n] + 0.5
    return family(f"posterior/{operation}", answer, base, changes, BOUNDS, BOTH, SINCE)


def write(golden: Path) -> None:
    """Write the three operations at the same points."""
    for operation, (_, _, source) in OPERATIONS.items():
        cases = [case_of(operation, point) for point in points()] + kept(operation)
        notes = {f: NOTES[f] for case in cases for f in case["flags"]}
        write_file(golden, "posterior", operation, source=source, notes=notes, cases=cases)
