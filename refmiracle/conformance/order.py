"""The order in which cases are posed again: what a backend keeps between calls shows there.

A backend that keeps something under a part of what it depends on answers right until it meets a
question that shares this part with an earlier one.  So each case is posed again behind its
relative, the last case before it in its file that has all inputs but one in common with it, and
the relative once more behind it; and all of them in an order drawn from a seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from refmiracle.conformance.vectors import Case, VectorFile

Question = tuple[VectorFile, Case]
ORDER = 1


def differing_inputs(one: Case, other: Case) -> list[str]:
    """Return the names of the inputs that are not the same, bit for bit."""
    pairs = ((name, value, other.inputs[name]) for name, value in one.inputs.items())
    return [name for name, a, b in pairs if a.shape != b.shape or a.tobytes() != b.tobytes()]


def are_related(one: Case, other: Case) -> bool:
    """Tell whether two cases of an operation share all inputs but one, and this one's shape."""
    if one.dtypes != other.dtypes:
        return False
    differ = differing_inputs(one, other)
    if len(differ) != 1:
        return False
    return bool(np.shape(one.inputs[differ[0]]) == np.shape(other.inputs[differ[0]]))


def families(questions: Sequence[Question]) -> list[list[Question]]:
    """Return each case between two posings of its relative, or alone where it has none."""
    found = []
    for i, (file, case) in enumerate(questions):
        earlier = (q for q in reversed(questions[:i]) if q[0] is file)
        relative = next((q for q in earlier if are_related(q[1], case)), None)
        found.append([(file, case)] if relative is None else [relative, (file, case), relative])
    return found


def in_another_order(questions: Sequence[Question], seed: int) -> list[list[Question]]:
    """Return the families in an order that is the same everywhere for one seed."""
    source = random.Random(seed)  # whose `random`, not `shuffle`, Python keeps as it is
    found = families(questions)
    keys = [source.random() for _ in found]
    return [found[i] for i in sorted(range(len(found)), key=keys.__getitem__)]
