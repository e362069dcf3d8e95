"""What the study of updates puts to the test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from refmiracle.studies.results import Claim, claim_above
from refmiracle.studies.rivals import LARGEST_CHANGES
from refmiracle.studies.update_plan import (
    DRIFTED,
    MEASURED,
    NEW,
    OLD,
    REFERENCE,
    ROTATION,
    UNCHANGED,
    UPDATE,
)

Rows = list[dict[str, Any]]
PERCENT = 100.0
# Test error in percent, of an update of so many bytes for digits turned by 25 degrees.
PROMISED = {51: 3.0, 115: 1.8, 140: 1.6, 222: 1.25}
DIGITS = 6  # of points: errors are counts of images, and on a bound they are on it
NO_HARM = 0.1  # points that an update with nothing to say may cost


def make_claims(tables: Mapping[str, Rows]) -> list[Claim]:
    """Return all claims that the rows can say something of."""
    points = [row for row in tables[DRIFTED] if row["status"] == MEASURED]
    return [*promises(points), *beaten(points), *harmless(tables[OLD])]


def promises(points: Rows) -> list[Claim]:
    """Return the claims of how much an update errs at most after a turn by 25 degrees."""
    claims = []
    for limit, bound in PROMISED.items():
        errors = [
            PERCENT * row["test_error"]
            for row in points
            if (row["drift"], row["strength"]) == (ROTATION, REFERENCE)
            and (row["method"], row["limit"]) == (UPDATE, limit)
        ]
        if errors:
            claims.append(
                claim_above(
                    f"{limit} bytes",
                    f"for digits turned by {REFERENCE:g} degrees an update of {limit} bytes errs by"
                    f" at most {bound:g} %",
                    f"{bound:g} % less the test error, points",
                    np.round(bound - np.array(errors), DIGITS),
                    0.0,
                    or_at=True,
                )
            )
    return claims


def beaten(points: Rows) -> list[Claim]:
    """Return the claims that an update errs less than what else fits in its bytes."""
    claims = []
    others = {
        "a new file": (NEW,),
        "the largest changes": tuple(LARGEST_CHANGES.values()),
    }
    for limit in sorted({row["limit"] for row in points if row["method"] == UPDATE}):
        updates = _errors(points, (UPDATE,), limit)
        for what, methods in others.items():
            rivals = _errors(points, methods, limit)
            both = [PERCENT * (rivals[k] - updates[k]) for k in rivals if k in updates]
            if both:
                claims.append(
                    claim_above(
                        f"less than {what} in {limit} bytes",
                        f"an update of {limit} bytes errs less than {what} in as many",
                        "its test error less the update's, over drifts and seeds, points",
                        both,
                        0.0,
                    )
                )
    return claims


def _errors(points: Rows, methods: Iterable[str], limit: int) -> dict[tuple[Any, ...], float]:
    """Return the least error of some methods by drift, strength and seed."""
    found: dict[tuple[Any, ...], float] = {}
    for row in points:
        if row["method"] in methods and row["limit"] == limit:
            key = row["drift"], row["strength"], row["seed"]
            found[key] = min(row["test_error"], found.get(key, np.inf))
    return found


def harmless(rows: Rows) -> list[Claim]:
    """Return the claims that an update with nothing to say costs nothing."""
    measured = [row for row in rows if row["status"] == MEASURED]
    before = [row["test_error"] for row in measured if row["method"] == UNCHANGED]
    claims = []
    for limit in sorted({row["limit"] for row in measured if row["method"] == UPDATE}):
        after = [row["test_error"] for row in measured if row["limit"] == limit]
        if before:
            claims.append(
                claim_above(
                    f"nothing new in {limit} bytes",
                    f"an update of {limit} bytes with nothing new to say costs at most {NO_HARM:g}"
                    " points",
                    f"{NO_HARM:g} less the points by which the test error grows",
                    np.round(NO_HARM - PERCENT * (np.array(after) - before[0]), DIGITS),
                    0.0,
                    or_at=True,
                )
            )
    return claims
