"""Where `scan_formulas.py` evaluates the formulas: grids up to the ends of their ranges.

All numbers are ones that float32 holds, but those beyond its range, which only float64 is given.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from refmiracle.numerics.limits import VARIABLE_REACH

Point = dict[str, Any]


def held(values: Iterable[float]) -> list[float]:
    """Return values rounded to float32 where it has them among its normal numbers."""
    wide = np.array(list(values), dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        narrow = wide.astype(np.float32).astype(np.float64)
    inside = (np.abs(narrow) > 1.2e-38) & np.isfinite(narrow)
    return np.where(inside, narrow, wide).tolist()


def both_signs(*values: float) -> list[float]:
    """Return 0, and values with both signs."""
    return [0.0, *held(values), *held(-v for v in values)]


def powers(low: float, high: float, count: int) -> list[float]:
    """Return so many powers of ten."""
    return held(10.0 ** np.linspace(low, high, count))


def points(**axes: Iterable[Any]) -> list[Point]:
    """Return all combinations; a number stands for an array of one."""
    return [
        {name: np.atleast_1d(value) for name, value in zip(axes, values, strict=True)}
        for values in itertools.product(*axes.values())
    ]


def blocks(**axes: Iterable[Any]) -> list[Point]:
    """Return all combinations of rows, each as a block of shape (1, size); a budget is a number."""
    return [
        {
            name: np.array(v if np.ndim(v) == 0 else [v])
            for name, v in zip(axes, values, strict=True)
        }
        for values in itertools.product(*axes.values())
    ]


SIZES = (1e-300, 1e-30, 1e-8, 1e-3, 0.0199, 0.0201, 0.5, 1.0, 5.0, 19.0, 40.0, 300.0)
SPREADS = (0.0, 0.75, 8.0, 30.0, 60.0, 340.0, 680.0)
BUDGETS = held([1e-30, 1e-8, 0.5, 11.09, 700.0])


def rows_of_phi(spreads: Iterable[float]) -> list[tuple[float, ...]]:
    """Return rows with the large share first, and last."""
    return [row for s in spreads for row in ((s, 0.0, -1.0), (-s, 0.5, 0.0))]


def mean_kl_points() -> list[Point]:
    """Return blocks of three over all means, shares and budgets."""
    taus = [(t, 0.5, -1.0) for t in both_signs(*SIZES)]
    return blocks(tau=taus, phi=rows_of_phi(SPREADS), budget=BUDGETS)


def sample_points() -> list[Point]:
    """Return fewer of the same, with scales and noise."""
    return blocks(
        tau=[(t, 0.5, -1.0) for t in held([0.0, 1e-300, -1e-8, 0.0201, 1.0, -5.0, 40.0, -300.0])],
        phi=rows_of_phi((0.75, 8.0, 60.0, 340.0, 680.0)),
        rho=[(0.125, 0.5, 2.0**-14)],
        budget=held([1e-30, 0.5, 11.09, 700.0]),
        eps=[(e, 0.5, -1.0) for e in held([0.0, 1e-10, -0.5, 5.0])],
    )


def gradient_points() -> list[Point]:
    """Return the same with gradients."""
    return [{**p, "g": np.array([[1.0, -0.5, 2.0]])} for p in sample_points()]


def gaussian_points() -> list[Point]:
    """Return means and variances from those of P to where s underflows, or is large."""
    logs = both_signs(1e-150, 1e-30, 1e-12, 1e-8, 1e-4, 0.0199, 0.0201, 0.499, 0.501, 1.0, 30.0)
    means = both_signs(1e-150, 1e-20, 1e-8, 1e-3, 1.0, 40.0, 1e15)
    return points(delta=means, log_s=[*logs, -700.0, -1e4, 80.0])


def mean_var_points() -> list[Point]:
    """Return sigma far below rho, next to it on both sides, and above."""
    near = (1e-12, 1e-7, 1e-3, 0.25)
    log_sigmas = [*both_signs(*near), *held([-2.0794415, -20.0, -80.0, 1.0, 9.0])]
    return blocks(
        mu=[(m,) for m in held([0.0, 1e-30, -0.5])],
        log_sigma=[(v,) for v in log_sigmas],
        rho=[(r,) for r in held([1.0, 1.0 + 2.0**-20, 0.125, 6.1e-5, 65504.0])],
        beta=[(b,) for b in held([0.0, 1e-8, 1e3])],
        eps=[(e,) for e in (0.75, -2.0)],
        g=[(g,) for g in held([0.0, 1e-8, -3.0])],
    )


def one_block(all_points: list[Point]) -> list[Point]:
    """Return the points with beta as an array over blocks."""
    return [{**p, "beta": p["beta"][0]} for p in all_points]


def logit_points() -> list[Point]:
    """Return a label that has all but e^-gap, or e^-gap, or a half; the largest at each place."""
    out = []
    for gap, label, turn in itertools.product(
        (0.0, 0.5, 5.0, 17.0, 40.0, 80.0), range(3), range(3)
    ):
        column = np.roll([gap, 0.0, -0.5], turn) + 3.0
        out.append({"logits": column[:, None], "labels": np.array([label])})
    return out


def norm_points() -> list[Point]:
    """Return spreads from far below the epsilon to far above it, around means of any size."""
    out = []
    shape = np.array([-1.0, 0.5, 2.0, -0.25, 1.0, -0.75]).reshape(2, 3, 1, 1)
    for mean, spread, gain in itertools.product(
        (0.0, 1.0, -1e3, 1e6), (1e-12, 1e-5, 1e-3, 0.1, 1.0, 1e3, 1e9), (0.0, -0.75, -1.0001, 1e3)
    ):
        x = np.float64(np.float32(mean + spread * shape))
        own = {"x": x, "gain": np.float64(np.float32([gain, 0.5]))}
        out.append({**own, "bias": np.array([0.25, -3.0]), "groups": np.array(1)})
    return out


def norm_gradient_points() -> list[Point]:
    """Return the same with gradients, in general and all but along the input."""
    out = []
    for point, along in itertools.product(norm_points(), (0.0, 1.0)):
        own = {k: v for k, v in point.items() if k != "bias"}
        dy = np.array([0.6875, -1.25, 0.75, 2.0, -0.125, 1.0]).reshape(2, 3, 1, 1)
        near = np.float64(np.float32(1.0 + 1e-4 * dy))
        out.append({**own, "dy": near if along else dy})
    return out


def adam_points() -> list[Point]:
    """Return gradients from 1e-150 to 1e150, alone and after moments, at steps 1 to 10^6."""
    out = []
    for g, step in itertools.product(both_signs(1e-150, 1e-30, 1e-15, 1e-8, 1e-3, 1.0, 1e15, 1e150),
                                     (1, 2, 10, 1000, 10**6)):  # fmt: skip
        for old in (0.0, 0.5) if step > 1 else (0.0,):
            one = {"theta": 0.0, "g": g, "m": old * g, "v": old * g * g}
            own = {k: np.array([v]) for k, v in one.items()}
            out.append({**own, "step": np.array(step), "rate": np.array(0.0625)})
    return out


def ratio_points() -> list[Point]:
    """Return candidates next to Q's mean and far from it, Q from P to 26 bits and beyond."""
    targets = itertools.product(
        both_signs(1e-12, 1e-6, 0.5, 4.0), held([0.0, -1e-12, -1e-6, -0.1, -2.0, -36.0, -60.0])
    )
    return [
        {"candidates": np.array([[z, 0.75]]), "delta": np.array([[d, 0.25]]),
         "log_s": np.array([[v, -0.5]])}
        for (d, v), z in itertools.product(targets, held([-6.3, -0.5, 1e-9, 2.0]))
    ] + [
        {"candidates": np.array([[z]]), "delta": np.array([[d]]), "log_s": np.array([[v]])}
        for d, v, z in itertools.product(
            held([1e-12, 1e-6, 0.5]), held([0.0, -1e-12, -1e-6, -0.1]), held([-6.3, 0.5, 2.0])
        )
    ]  # fmt: skip


def quantile_points() -> list[Point]:
    """Return probabilities from 1e-300 to 1 - 1e-16, and next to 1/2."""
    steps = [2.0**-k for k in range(2, 54, 3)]
    p = [*(10.0 ** -np.linspace(1, 300, 40)), *(1.0 - s for s in steps if s >= 2.0**-53)]
    return points(p=[*p, *(0.5 + s for s in steps if s > 2.0**-53), *(0.5 - s for s in steps)])


def word_points() -> list[Point]:
    """Return 32-bit words: the ends, and the powers of two."""
    words = sorted({0, 1, *(2**k for k in range(32)), *(2**32 - 2**k for k in range(32))})
    return points(words=np.array(words, dtype=np.int64))


TARGETS = [(d, v) for d in (0.0, 1e-6, 0.5, 3.0, 6.0) for v in (-1e-9, -1e-3, -0.5, -4.0, -20.0)]


def supremum_points() -> list[Point]:
    """Return intervals that hold the mode, lie beside it, or are narrow, out to 6."""
    ends = [(-6.338, 6.338), (0.25, 0.25 + 2.0**-20), (-6.0, -5.0), (5.0, 6.338), (-0.01, 0.01)]
    return [
        {
            "delta": np.array([d]),
            "log_s": np.array([v]),
            "low": np.array([a]),
            "high": np.array([b]),
        }
        for (d, v), (a, b) in itertools.product(TARGETS, ends)
    ]


def mass_points() -> list[Point]:
    """Return targets within reach, next to its end, and beyond it."""
    deltas = [0.0, 3.0, -5.0, 6.0, 6.3, 6.5, 8.0]
    return points(delta=deltas, log_s=[-0.5, -1.0, -4.0], reach=[6.338, 7.0])


def residual_points() -> list[Point]:
    """Return levels from 1e-9 nats below the largest ratio down to e^-27 of it.

    Only of targets whose mode is where P has samples.
    """
    out = []
    for d, v in itertools.product((0.0, 1e-3, 0.5, 3.0, 6.0), (-1e-3, -0.5, -4.0, -8.0)):
        mode, top = d / -math.expm1(v), 0.5 * d * d / -math.expm1(v) - 0.5 * v
        for below in (1e-9, 1e-6, 1e-3, 0.3, 3.0, 27.0) if mode <= VARIABLE_REACH else ():
            out.append(points(delta=[d], log_s=[v], log_level=[top - below])[0])
    return out


def length_points() -> list[Point]:
    """Return integers from 1 to 2^61, theta from 1e-300 to next to 1."""
    thetas = [1e-300, 1e-16, 2.0**-16, 0.5, 1.0 - 2.0**-16, 1.0 - 2.0**-53]
    return points(n=np.array([1, 2, 2**32, 2**61]), theta=thetas)


def mean_length_points() -> list[Point]:
    """Return mean exponents from 1e-300 to 1e15."""
    return points(mean_exponent=10.0 ** np.linspace(-300, 15, 64))


def zipf_points() -> list[Point]:
    """Return lambda as `zipf_lambda` has it: 1 + 1e-6 to 1.65, of integers up to 2^61."""
    return points(n=np.array([1, 2, 3, 2**32, 2**61]), exponent=[1.000001, 1.02, 1.2, 1.5, 1.65])
