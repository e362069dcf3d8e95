"""What is claimed of relative entropy codes, and whether the measured rows bear it out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy

from refmiracle.codes.table import CODES
from refmiracle.studies.codes_measures import LAWS, MEASURED
from refmiracle.studies.codes_points import NO_TREE, Variant
from refmiracle.studies.results import FAILS, HOLDS, UNDECIDED, Claim, Interval

# That a distance of an exact code is above its critical value, over all points of all codes.
FALSE_ALARM = 0.001
# The constant of a bound, in bits, where no source states it: the largest that one does.
UNSTATED = max(code.constant or 0.0 for code in CODES.values())
# Candidates are so many if the mean is within this of 2^D_inf.
NEAR = 0.1
Rows = list[dict[str, Any]]


def add_critical(rows: Rows) -> None:
    """Add to measured rows the distance that an exact code exceeds with a small probability.

    Over all tests of all rows together it is at most `FALSE_ALARM` (Bonferroni).
    """
    tests = sum(row["tests"] for row in rows if row["status"] == MEASURED)
    for row in rows:
        row["critical"] = None
        if row["status"] == MEASURED:
            row["critical"] = float(scipy.stats.kstwo.isf(FALSE_ALARM / tests, row["samples"]))


def claim_at_most(
    name: str, claim: str, figure: str, values: Sequence[Interval], bound: float
) -> Claim:
    """Return a claim that is true if every one of some figures is at most a bound.

    It holds if all intervals lie at or below it, does not hold if a whole interval lies above
    it, and is undecided otherwise.  Its interval is that of the largest figure: the largest of
    the estimates, of the lower and of the upper ends.
    """
    low, high = max(v.low for v in values), max(v.high for v in values)
    verdict = HOLDS if high <= bound else FAILS if low > bound else UNDECIDED
    found = Interval(max(v.estimate for v in values), low, high, sum(v.count for v in values))
    return Claim(name, claim, f"largest {figure}; true at or below {bound:g}", found, verdict)


def _above(row: Mapping[str, Any], law: str, bits: float) -> Interval:
    """Return the mean length of a row above some bits."""
    mean, low, high = (row[f"{law}_{end}"] - bits for end in ("bits", "low", "high"))
    return Interval(mean, low, high, row["samples"])


def length_claim(variant: Variant, rows: Rows) -> Claim | None:
    """Return the claim about a code's length, or None where the length is fixed."""
    code = variant.kind
    if code.fixed_length or not rows:
        return None
    factor = f"{code.log_factor} " if code.log_factor > 1 else ""
    constant = code.constant
    stated = f"{constant:g}" if constant else f"O(1), which we read as {UNSTATED:g},"
    excess = [
        _above(row, law, row["kl_bits"] + code.log_factor * math.log2(row["kl_bits"] + 1.0))
        for row in rows
        for law in LAWS
    ]
    return claim_at_most(
        f"length of {variant.name}",
        f"{variant.name}: at most KL + {factor}log2(KL + 1) + {stated} bits on average"
        f" ({code.source})",
        f"mean length less KL + {factor}log2(KL + 1), of all points, under both laws, bits",
        excess,
        constant or UNSTATED,
    )


def truth_claim(variant: Variant, rows: Rows) -> Claim | None:
    """Return the claim about a code's samples, or None where theory gives nothing."""
    exact = variant.kind.exact
    if not rows or not (exact or rows[0]["bias_bound"] is not None):
        return None
    ratios = [row["distance"] / (row["critical"] + (row["bias_bound"] or 0.0)) for row in rows]
    what = (
        f"{variant.name}: its samples follow the target"
        if exact
        else f"{variant.name}: its bias is at most sqrt(chi^2 / K) / 2 in total variation"
    )
    limit = "the critical value" if exact else "the bound plus the critical value"
    return claim_at_most(
        f"samples of {variant.name}",
        f"{what} ({variant.kind.source})",
        f"Kolmogorov-Smirnov distance over {limit}, of all points"
        f" (false alarm {FALSE_ALARM:g} over all codes together)",
        [Interval(r, r, r, row["samples"]) for r, row in zip(ratios, rows, strict=True)],
        1.0,
    )


def candidates_claim(variant: Variant, rows: Rows) -> Claim | None:
    """Return the claim that a global code looks at 2^D_inf candidates."""
    if variant.group != NO_TREE or not rows:
        return None
    ratios = [row["mean_n"] / 2.0 ** row["d_inf_bits"] for row in rows]
    errors = [row["mean_n_error"] / 2.0 ** row["d_inf_bits"] for row in rows]
    weights = np.array([row["samples"] for row in rows], dtype=np.float64)
    mean = float(np.average(ratios, weights=weights))
    error = 2.0 * float(np.linalg.norm(weights * errors) / weights.sum())
    found = Interval(mean, mean - error, mean + error, int(weights.sum()))
    away = abs(mean - 1.0)
    verdict = HOLDS if away + error <= NEAR else FAILS if away - error > NEAR else UNDECIDED
    return Claim(
        f"candidates of {variant.name}",
        f"{variant.name}: its mean number of candidates is 2^D_inf ({variant.kind.source})",
        f"mean number of candidates over 2^D_inf; true within {NEAR:g} of 1",
        found,
        verdict,
    )


def depth_claim(variant: Variant, rows: Rows) -> Claim | None:
    """Return the claim that a code takes beta KL + O(1) steps, where its source says so."""
    beta = variant.kind.steps_per_bit
    if beta is None or not rows:
        return None
    steps = [row["mean_e"] + 1.0 - beta * row["kl_bits"] for row in rows]
    return claim_at_most(
        f"steps of {variant.name}",
        f"{variant.name}: beta KL + O(1) steps, beta = {beta:.3g} ({variant.kind.source}),"
        " which we read as: the constant is that of no KL at all, one step, plus beta",
        "mean number of steps less beta KL, of all points",
        [Interval(s, s, s, row["samples"]) for s, row in zip(steps, rows, strict=True)],
        1.0 + beta,
    )


def make_claims(variants: Sequence[Variant], rows: Rows) -> list[Claim]:
    """Return all claims about the codes, from the measured rows with their critical values."""
    claims = []
    for make in (length_claim, truth_claim, candidates_claim, depth_claim):
        for variant in variants:
            of = variant.code, variant.oversampling
            some = [
                row
                for row in rows
                if (row["code"], row["oversampling_bits"]) == of and row["status"] == MEASURED
            ]
            claim = make(variant, some)
            if claim is not None:
                claims.append(claim)
    return claims
