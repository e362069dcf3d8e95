"""What is measured of a relative entropy code at one target: length, truth and speed."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from refmiracle.codes import lengths
from refmiracle.engines import get_engine
from refmiracle.engines.contract import Engine
from refmiracle.errors import InputError
from refmiracle.studies.codes_points import Array, Point, Variant, draw, encode
from refmiracle.studies.results import CONFIDENCE, Interval, interval

MEASURED, SKIPPED = "measured", "skipped"
LAWS = ("log_geometric", "zipf")
RESAMPLES = 999
MOST_AT_ONCE = 2**16  # targets of a timed call
COUNTING_SEEDS = 1, 2  # of the calls that find out how many it has
MEASURES = (
    "samples",
    "mean_e",
    "mean_n",
    "mean_n_error",
    "log_geometric_bits",
    "log_geometric_low",
    "log_geometric_high",
    "overhead_bits",
    "zipf_bits",
    "zipf_low",
    "zipf_high",
    "bound_bits",
    "tests",
    "distance",
    "bias_bound",
)


def mean_interval(values: ArrayLike) -> Interval:
    """Return the mean with its bootstrap interval (percentile, 95 %)."""
    values = np.asarray(values, dtype=np.float64)
    mean, n = float(values.mean()), len(values)
    if np.all(values == values[0]):
        return Interval(mean, mean, mean, n)
    rng = np.random.default_rng(0)
    means = [values[rng.integers(n, size=n)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2))
    return Interval(mean, float(low), float(high), n)


def distances(point: Point, samples: ArrayLike) -> list[float]:
    """Return the Kolmogorov-Smirnov distances of samples to the target.

    With y = (z - delta) / sqrt(s): of y in one place; in several of sum_d y_d / sqrt(D), which is
    normal, and of sum_d y_d^2, which is chi-squared with D degrees of freedom.
    """
    y = (np.asarray(samples, dtype=np.float64) - point.delta) * math.exp(-0.5 * point.log_s)
    sums = y.sum(axis=1) / math.sqrt(point.places)
    found = [scipy.stats.kstest(sums, scipy.stats.norm.cdf).statistic]
    if point.places > 1:
        found.append(
            scipy.stats.kstest((y**2).sum(axis=1), scipy.stats.chi2(point.places).cdf).statistic
        )
    return [float(distance) for distance in found]


def total_variation_bound(point: Point, bits: int) -> float:
    """Return sqrt(chi^2 / K) / 2, K = 2^bits, at most 1: the bias of minimal random coding.

    1 + chi^2 = prod exp(delta^2 / (2 - s)) / sqrt(s (2 - s)).  `orc` has the same law.
    """
    s = math.exp(point.log_s)
    log_ratio = point.delta**2 / (2.0 - s) - 0.5 * (point.log_s + math.log(2.0 - s))
    return min(1.0, 0.5 * math.sqrt(math.expm1(point.places * log_ratio) / 2.0**bits))


def code_lengths(
    variant: Variant, point: Point, messages: Array
) -> tuple[NDArray[np.int64], dict[str, Array]]:
    """Return the integers n >= 1 of messages, and their lengths in bits under each law.

    `mrc` has an index of fixed length, whatever the law.  `sp-pfr` n 2^K + j has K bits of fixed
    length for j, and n has what is left of the KL.  Theta is the best for the messages; Zipf's
    lambda is the papers' for the KL.
    """
    bits, code = variant.bits(point), variant.kind
    fixed, left = code.raw_bits(bits), code.left_bits(point.kl_bits, bits)
    n = code.to_positive(messages) >> fixed
    if code.fixed_length:
        return n, dict.fromkeys(LAWS, np.full(len(n), float(bits)))
    theta = lengths.best_theta(n)
    # Where all n are 1, theta tends to 0 and the length with it.
    own = lengths.log_geometric_bits(n, theta) if theta > 0.0 else np.zeros(len(n))
    zipf = lengths.zipf_bits(n, lengths.zipf_lambda(left))
    return n, dict(zip(LAWS, (fixed + own, fixed + zipf), strict=True))


def key(variant: Variant, point: Point) -> dict[str, Any]:
    """Return the columns that name a row."""
    return {
        "code": variant.code,
        "oversampling_bits": variant.oversampling,
        "sweep": point.sweep,
        "places": point.places,
        "kl_bits": point.kl_bits,
        "d_inf_bits": point.d_inf_bits,
    }


def skipped_row(variant: Variant, point: Point, reason: str) -> dict[str, Any]:
    """Return the row of a point that is not measured, and why."""
    return {**key(variant, point), "status": f"{SKIPPED}: {reason}", **dict.fromkeys(MEASURES)}


def measure(
    engine_name: str, variant: Variant, point: Point, seed: int, count: int
) -> dict[str, Any]:
    """Return the row of a code at a point: columns of `key`, status, and `MEASURES`.

    Lengths are in bits a block; theta of the log-geometric law is that of the mean of e.

    Parameters
    ----------
    engine_name : str
    variant : Variant
    point : Point
    seed : int
    count : int
        Targets to send.
    """
    engine = get_engine(engine_name)
    messages, samples = draw(engine, variant, point, seed, count)
    if not np.all(np.isfinite(samples)):
        raise InputError(f"{variant.name} at {point.name}: a sample is not finite")
    n, of_law = code_lengths(variant, point, messages)
    bits = {law: mean_interval(values) for law, values in of_law.items()}
    found = distances(point, samples)
    # Those that choose among 2^bits candidates of the codebook.
    approximate = variant.kind.shares_codebook and not variant.kind.exact
    values: dict[str, Any] = {
        "samples": count,
        "mean_e": float(np.mean(lengths.exponents(n))),
        "mean_n": float(np.mean(n)),
        "mean_n_error": float(np.std(n) / math.sqrt(count)),
        "overhead_bits": bits["log_geometric"].estimate - point.kl_bits,
        "bound_bits": variant.kind.mean_bits_bound(point.kl_bits),
        "tests": len(found),
        "distance": max(found),
        "bias_bound": total_variation_bound(point, variant.bits(point)) if approximate else None,
    }
    for law, of in bits.items():
        values |= {f"{law}_bits": of.estimate, f"{law}_low": of.low, f"{law}_high": of.high}
    return {
        **key(variant, point),
        "status": MEASURED,
        **{name: values[name] for name in MEASURES},
    }


def time_codes(
    engine_name: str, variants: Sequence[Variant], point: Point, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """Time codes at a point: one call of each in turn, round by round, each with another seed.

    So none meets candidates that an engine has kept from the call before.

    Parameters
    ----------
    engine_name : str
    variants : sequence of Variant
    point : Point
    rounds : int
    seconds : float
        How long a call is to take; it has as many targets as that needs, at least one.

    Returns
    -------
    list of dict
        The median of the rounds with its interval, microseconds a block or variable.
    """
    engine = get_engine(engine_name)
    counts = {variant: _count_for(engine, variant, point, seconds) for variant in variants}
    taken: dict[Variant, list[float]] = {variant: [] for variant in counts}
    seeds = itertools.count(max(COUNTING_SEEDS) + 1)
    for _ in range(rounds):
        for variant, count in counts.items():
            spent = _seconds(engine, variant, point, next(seeds), count)
            taken[variant].append(1e6 * spent / count)
    rows = []
    for variant, values in taken.items():
        found = interval(values)
        rows.append(
            {
                **key(variant, point),
                "targets": counts[variant],
                "rounds": found.count,
                "microseconds": found.estimate,
                "low": found.low,
                "high": found.high,
            }
        )
    return rows


def _seconds(engine: Engine, variant: Variant, point: Point, seed: int, count: int) -> float:
    started = time.perf_counter()
    encode(engine, variant, point, seed, 0, count)
    return time.perf_counter() - started


def _count_for(engine: Engine, variant: Variant, point: Point, seconds: float) -> int:
    """Return for how many targets a call takes about as long as wanted."""
    encode(engine, variant, point, 0, 0, 2)  # compiles
    count = 1
    while count < MOST_AT_ONCE:
        # The better of two, as another process may get in the way of one.
        taken = min(_seconds(engine, variant, point, seed, count) for seed in COUNTING_SEEDS)
        if taken > 0.5 * seconds:
            break
        count *= 2
    return count
