"""Since 1.4: what a writer of files does: the bytes of files of all codes, and the best candidates.

Files are those of `edges_of_files`, put together by hand; here their fields are the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from golden import coding
from golden.coded_files import NODES, payload_of
from golden.containers import Fields, header_of, seal
from golden.edges_of_files import described, files_of_all_kinds
from golden.related import family
from golden.selection import Codebook
from golden.writer import BOTH, make_case, write_file

Case = dict[str, Any]

SINCE = "1.4"
EXACT = {"exact": 0}
LARGEST_NODE = 2**62 - 1


def write(golden: Path) -> None:
    """Write both operations."""
    write_files(golden)
    write_choices(golden)


def write_files(golden: Path) -> None:
    """Write the files of all codes, and fields that none has."""
    write_file(
        golden,
        "bits",
        "compose_file",
        source="files put together by hand, byte by byte, from docs/SPEC.md section 2",
        notes={},
        cases=[*composed(), *refused(), *composed_alike()],
    )


def write_choices(golden: Path) -> None:
    """Write the best candidates."""
    write_file(
        golden,
        "coding",
        "best_indices",
        source="docs/derivations.md (34) in mpmath, 50 digits; gap: nats between best and second",
        notes={
            "tail": "log-weights thousands of nats apart",
            "short-block": "places that hold no weight have delta = 0 and log s = 0",
            "tie": "the two best are equal to the last bit; the gap is that to the third",
        },
        cases=[*best(), *best_alike()],
    )


# --- compose_file


def composed() -> list[Case]:
    """Return fields and bytes of files of every code, and of code 0 a few."""
    cases = []
    for name, data, note in files_of_all_kinds():
        fields = described(name, data, note)["outputs"]
        if fields["code"] == 0 and len(data) > 80:
            continue  # as `write_container` has them
        inputs = {k: np.asarray(v) for k, v in fields.items()}
        cases.append(
            make_case(
                f"bits/compose_file/{name}",
                inputs,
                {"data": data},
                {"data": EXACT},
                note=note,
                since=SINCE,
            )
        )
    return cases


def fields_of(code: int, messages: Sequence[int], **changed: Any) -> dict[str, Any]:
    """Return the fields of the file of docs/SPEC.md section 9.3, but for some."""
    by_name = {name: data for name, data, _ in files_of_all_kinds()}
    fields = described("small", by_name["gprs-s-small"], "")["outputs"]
    given = {**fields, "code": code, "messages": np.array(messages, dtype=np.int64), **changed}
    return {k: np.asarray(v) for k, v in given.items()}


def refused() -> list[Case]:
    """Return fields that no file may have."""
    nodes, rows, bins = NODES, (39, 32, 62), (40, 33, 63)
    outside = "a message is out of range"
    small = {"bits": 6}
    many = "more or fewer messages than the file holds"
    faults = [
        ("theta-0", "theta out of range", fields_of(11, nodes, theta=0)),
        ("theta-65536", "theta out of range", fields_of(11, nodes, theta=2**16)),
        ("theta-negative", "theta out of range", fields_of(11, nodes, theta=-1)),
        ("theta-of-code-0", "code 0 has no theta", fields_of(0, (9, 31, 18), theta=1)),
        ("code-13", "unknown code", fields_of(13, nodes)),
        ("code-256", "unknown code", fields_of(256, nodes)),
        ("bits-0", "bits out of range", fields_of(11, nodes, bits=0)),
        ("bits-25", "bits out of range", fields_of(11, nodes, bits=25)),
        ("seed-2-to-the-32", "seed out of range", fields_of(11, nodes, seed=2**32)),
        ("block-size-9", "block size out of range", fields_of(11, nodes, block_size=9)),
        ("scale-zero", "a scale is not normal", fields_of(11, nodes, rho=_scales(0))),
        ("scale-nan", "a scale is not normal", fields_of(11, nodes, rho=_scales(0x7E00))),
        ("node-0", outside, fields_of(7, (0, *nodes[1:]))),
        ("node-negative", outside, fields_of(9, (-1, *nodes[1:]))),
        ("node-2-to-the-62", outside, fields_of(4, (*nodes[:-1], LARGEST_NODE + 1))),
        ("nodes-of-a-short-block-too", many, fields_of(12, (*nodes, 1))),
        ("node-missing", many, fields_of(5, nodes[:-1])),
        ("a-message-for-each-block", many, fields_of(6, nodes[:3])),
        ("a-message-for-each-variable", many, fields_of(2, nodes)),
        ("orc-row-2-to-the-bits", outside, fields_of(1, (*rows[:2], 64), **small)),
        ("orc-row-negative", outside, fields_of(1, (-1, *rows[1:]), **small)),
        ("pfr-row-2-to-the-32", outside, fields_of(2, (*rows[:2], 2**32), **small)),
        ("sp-pfr-candidate-0", outside, fields_of(3, (31, *bins[1:]))),
        ("sp-pfr-candidate-2-to-the-32", outside, fields_of(3, (*bins[:2], 2**37))),
        ("mrc-index-2-to-the-bits", outside, fields_of(0, (9, 32, 18), theta=0)),
    ]
    return [
        make_case(f"bits/compose_file/{name}", inputs, fault=fault, since=SINCE)
        for name, fault, inputs in faults
    ]


def _scales(first: int) -> Any:
    return np.array([first, *range(0x3100, 0x3800, 0x100)], dtype=np.uint16)


def composed_alike() -> list[Case]:
    """Return a file of nodes, and for each field one that differs in it alone."""

    def answer(**inputs: Any) -> Any:
        given = {k: v.tolist() for k, v in inputs.items()}
        code, theta, messages = (given.pop(name) for name in ("code", "theta", "messages"))
        given["factors"], given["rho"] = tuple(given["factors"]), tuple(given["rho"])
        data = seal(header_of(Fields(**given), code) + payload_of(theta, tuple(messages)))
        return {"data": data}, None

    # The first tensor, of 500 weights, has two variables.
    factors = np.array([400, *fields_of(11, NODES)["factors"].tolist()[1:]])
    base = fields_of(11, (*NODES, 9), factors=factors)
    changes = {
        "grouping": 1,
        "signs": 2,
        "code": 12,
        "bits": 6,
        "theta": 50000,
        "block_size": 4,
        "seed": 8,
        "factors": np.array([300, *factors.tolist()[1:]]),
        "rho": _scales(0x3001),
        "messages": np.array((*NODES, 10), dtype=np.int64),
    }
    arrays = {k: np.asarray(v) for k, v in changes.items()}
    return family("bits/compose_file", answer, base, arrays, since=SINCE)


# --- best_indices


def best_case(name: str, seed: int, bits: int, delta: Any, log_s: Any, **more: Any) -> Case:
    """Return a case of best_indices; its gap is the least of its blocks."""
    codebook = Codebook(seed, bits, delta.shape[1])
    tie = "tie" in more.get("flags", ())
    rows = zip(delta.tolist(), log_s.tolist(), strict=True)
    choices = [codebook.best(d, ls, tie) for d, ls in rows]
    return make_case(
        f"coding/best_indices/{name}",
        {"seed": seed, "bits": bits, "delta": delta, "log_s": log_s},
        {"indices": np.array([c.index for c in choices])},
        {"indices": EXACT},
        dtypes=BOTH,
        gap=min(c.gap for c in choices),
        since=SINCE,
        **more,
    )


def equal_candidates(seed: int, bits: int) -> tuple[int, int, float]:
    """Return the two candidates of one normal that lie furthest apart, and the normal."""
    first: dict[float, int] = {}
    pairs = []
    for k, (z,) in enumerate(Codebook(seed, bits, 1).rows):
        pairs.append((k - first.setdefault(z, k), first[z], k, z))
    _, one, other, z = max(pairs)
    return one, other, z


def best() -> list[Case]:
    """Return choices by the weights alone."""
    delta, log_s = coding.posterior(301, 3, 11, 7)
    short = coding.shortened((delta, log_s), 4)
    seed = 97
    one, other, z = equal_candidates(seed, 14)
    same = best_case(
        "equal-candidates",
        seed,
        14,
        np.array([[z]]),
        np.array([[-18.0]]),
        flags=("tie",),
        note=f"candidates {one} and {other} are the same number",
    )
    if same["outputs"]["indices"].tolist() != [one]:
        raise ValueError("another candidate is better than the two")
    wide = np.array([[1.0, -0.5, 0.25], [0.0, 2.0, -1.0]])
    return [
        best_case("typical", 1, 8, *coding.posterior(303, 24, 6, 8)),
        best_case("one-block-one-place", 2, 6, *coding.posterior(305, 1, 1, 4)),
        best_case("block-size-11", 3, 7, delta, log_s),
        best_case("short-block", 3, 7, *short, flags=("short-block",)),
        best_case("bits-1", 4, 1, *coding.posterior(307, 2, 3, 2), note="of two candidates"),
        best_case("bits-12", 2**32 - 1, 12, *coding.posterior(309, 4, 5, 10)),
        best_case("tail", 6, 8, wide, np.full((2, 3), -9.0), flags=("tail",)),
        best_case("wider-than-p", 7, 6, 0.5 * wide, np.full((2, 3), 0.5), note="best far out"),
        same,
        *[
            make_case(
                f"coding/best_indices/{name}",
                {"seed": 1, "bits": 5, "delta": d, "log_s": ls},
                dtypes=BOTH,
                fault="a target is not finite",
                since=SINCE,
            )
            for name, d, ls in (
                ("mean-nan", np.array([[np.nan]]), np.zeros((1, 1))),
                ("mean-infinite", np.array([[np.inf]]), np.zeros((1, 1))),
                ("variance-nan", np.zeros((1, 1)), np.array([[np.nan]])),
                ("variance-zero", np.zeros((1, 1)), np.array([[-np.inf]])),
            )
        ],
    ]


def best_alike() -> list[Case]:
    """Return a question, and for each argument one that differs in it alone, all answers too."""

    def answer(**inputs: Any) -> Any:
        case = best_case("kept", **inputs)
        return case["outputs"], case["gap"]

    for seed in range(400, 1000, 4):
        (delta, log_s), (others, narrow) = (coding.posterior(seed + i, 3, 4, 5) for i in (0, 2))
        base = {"seed": 81, "bits": 6, "delta": delta, "log_s": log_s}
        changes = {"seed": 82, "bits": 3, "delta": others, "log_s": narrow}
        try:
            cases = family("coding/best_indices", answer, base, changes, dtypes=BOTH, since=SINCE)
        except ValueError:  # a close one
            continue
        if len({tuple(c["outputs"]["indices"].tolist()) for c in cases}) == len(cases):
            return cases
    raise ValueError("no question has another answer for each argument")
