"""Since 1.3: large indices, messages, blocks and rows, and just beyond what is legal.

A search among 2^20 candidates and more is made with NumPy, which proposes the best few; mpmath
chooses among these, as in selection.py and arrivals.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mpmath
import numpy as np
from golden import arrivals, codes, coding, edges, partition, selection
from golden.edges import ENDS, POWERS, SINCE, WORD, new_case
from golden.sources import spec_decoder
from golden.writer import BOTH, later, make_case

Case = dict[str, Any]

EXACT = {"exact": 0}
AT_ONCE = 2**19
FINALISTS = 8


def words_of(seed: int, stream: int, rows: Any, count: int, first: int = 0) -> Any:
    """Return words of rows of a stream, shape (rows, count); first is a multiple of 4."""
    low, shift = np.uint64(WORD - 1), np.uint64(32)
    blocks = np.arange(first // 4, -(-(first + count) // 4), dtype=np.uint64)
    c0, c1 = np.meshgrid(blocks, np.asarray(rows, dtype=np.uint64))
    c2, c3 = np.zeros_like(c0), np.zeros_like(c0)
    for k0, k1 in spec_decoder.round_keys(seed, stream):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            p1 >> shift ^ c1 ^ np.uint64(k0),
            p1 & low,
            p0 >> shift ^ c3 ^ np.uint64(k1),
            p0 & low,
        )
    return np.stack([c0, c1, c2, c3], axis=-1).reshape(len(rows), -1)[:, :count]


def rough_quantile(p: Any) -> Any:
    """Return the normal quantile, nearly: docs/SPEC.md section 6.3 with NumPy's logarithm."""
    q = p - 0.5
    r = np.sqrt(-np.log(np.where(q < 0.0, p, 1.0 - p)))
    parts = (
        (np.abs(q) <= 0.425, spec_decoder.CENTRAL, 0.180625 - q * q, np.abs(q)),
        (r <= 5.0, spec_decoder.MIDDLE, r - 1.6, 1.0),
        (True, spec_decoder.FAR, r - 5.0, 1.0),
    )
    z = [
        spec_decoder.polynomial(top, x) / spec_decoder.polynomial(bottom, x) * times
        for _, (top, bottom), x, times in parts
    ]
    return np.sign(q) * np.select([condition for condition, *_ in parts], z)


def rough_scores(seed: int, first: int, count: int, delta: Any, log_s: Any) -> Any:
    """Return log q / p of candidates, nearly."""
    words = words_of(seed, selection.CODEBOOK, np.arange(first, first + count), len(delta))
    z, d, ls = rough_quantile((words + 0.5) * 2.0**-32), np.array(delta), np.array(log_s)
    return (z**2 / 2 - (z - d) ** 2 / (2 * np.exp(ls)) - ls / 2).sum(axis=1)


# --- minimal random coding


def choose(seed: int, bits: int, block: int, delta: Any, log_s: Any) -> tuple[int, float]:
    """Return the index of a block and its gap, as `selection.Codebook` does.

    Raises
    ------
    ValueError
        If float32 could not tell the best from the second.
    """
    found: list[tuple[float, int]] = []
    for first in range(0, 2**bits, AT_ONCE):
        count = min(AT_ONCE, 2**bits - first)
        words = words_of(seed, selection.SELECTION, [block], count, first)[0]
        scores = rough_scores(seed, first, count, delta, log_s)
        scores -= np.log(-np.log((words + 0.5) * 2.0**-32))
        best = np.argpartition(-scores, min(FINALISTS, count - 1))[:FINALISTS]
        found += [(scores[k], first + int(k)) for k in best]
    finalists = [k for _, k in sorted(found, reverse=True)[:FINALISTS]]
    dimension, exact = len(delta), {}
    for k in finalists:
        z = selection.candidate(seed, k, dimension)
        (word,) = edges.words_from(seed, selection.SELECTION, block, k, 1)
        exact[k] = selection.log_weight(z, delta, log_s) + selection.gumbel(word)
    order = sorted(finalists, key=lambda k: (-exact[k], k))
    gap = float(exact[order[0]] - exact[order[1]])
    magnitude = max(
        sum(map(abs, selection.terms(selection.candidate(seed, k, dimension), delta, log_s, float,
                                     math.exp)))
        for k in order[:2]
    )  # fmt: skip
    if gap < max(selection.TOLERANCE, selection.SHARE_OF_TERMS * magnitude):
        raise ValueError(f"block {block}: the best leads by {gap} only")
    return order[0], gap


def wide_case(
    name: str, seed: int, bits: int, blocks: Sequence[int], targets: Any, least: int, note: str = ""
) -> Case:
    """Return a case of select_indices whose largest index is at least `least`."""
    delta, log_s = targets
    with mpmath.workdps(coding.DIGITS):
        rows = zip(blocks, delta.tolist(), log_s.tolist(), strict=True)
        choices = [choose(seed, bits, b, d, ls) for b, d, ls in rows]
    indices = [k for k, _ in choices]
    if max(indices) < least:
        raise ValueError(f"{name}: no index is as large as {least}")
    return make_case(
        f"coding/select_indices/{name}",
        codes.block_inputs(seed, bits, blocks, delta, log_s),
        {"indices": codes.int64(indices)},
        {"indices": EXACT},
        dtypes=BOTH,
        gap=min(gap for _, gap in choices),
        note=note,
        since=SINCE,
    )


def bad_targets(operation: str, bits: int | None) -> list[Case]:
    """Return negative cases: seed, block or bits beyond what is legal."""
    targets = np.full((2, 3), 0.25), np.full((2, 3), -1.0)

    def refused(name: str, fault: str, **change: Any) -> Case:
        inputs = {**codes.block_inputs(1, bits, (0, 1), *targets), **change}
        return new_case(f"coding/{operation}", name, inputs, dtypes=BOTH, fault=fault)

    cases = [
        refused("seed-2-to-the-32", "the seed is no 32-bit word", seed=WORD),
        refused("seed-negative", "the seed is no 32-bit word", seed=-1),
        refused("block-2-to-the-32", "a block's number is no 32-bit word",
                blocks=codes.int64((0, WORD))),
        refused("block-negative", "a block's number is no 32-bit word",
                blocks=codes.int64((-1, 0))),
    ]  # fmt: skip
    if bits is not None:
        most = 26 if operation == "ordered_indices" else 24
        cases += [
            refused(f"bits-{most + 1}", "bits out of range", bits=most + 1),
            refused("bits-negative", "bits out of range", bits=-1),
        ]
    return cases


@later("select_indices")
def select_indices() -> list[Case]:
    """Pose indices of 16 to 20 bits, and large numbers of blocks and seeds."""

    def posterior(seed: int, *shape_and_bits: Any) -> Any:
        with mpmath.workdps(coding.DIGITS):
            return coding.posterior(seed, *shape_and_bits)

    cases = [
        wide_case("index-2-to-the-15", 21, 16, range(4), posterior(401, 4, 2, 9), 2**15),
        wide_case("index-2-to-the-16", 22, 17, range(4), posterior(403, 4, 2, 9), 2**16,
                  "an index cut to 16 bits is another one"),
        wide_case("bits-20", 23, 20, (0, 1, 885), posterior(405, 3, 3, 16), 2**19,
                  "the bits of a default file"),
    ]  # fmt: skip
    rows = tuple(POWERS.values())
    cases.append(wide_case("blocks-at-the-ends", 25, 6, rows, posterior(409, 4, 3, 6), 1))
    cases += [
        wide_case(f"seed-2-to-the-{width}", n, 6, (0, 1, 2), posterior(411, 3, 3, 6), 1)
        for width, n in POWERS.items()
    ]
    return cases + bad_targets("select_indices", 6)


@later("decode_blocks")
def decode_blocks() -> list[Case]:
    """Rows of every size."""
    pattern = (0x3555, 0x2E66, 0x3BFF)

    def inputs(seed: int, indices: Sequence[int]) -> dict[str, Any]:
        rho = np.array([pattern] * len(indices), dtype=np.uint16)
        return {"seed": seed, "indices": codes.int64(indices), "dimension": 3, "rho": rho}

    def case(name: str, seed: int, indices: Sequence[int]) -> Case:
        values = [
            [spec_decoder.to_float32(coding.half(p) * z) for p, z in zip(pattern, row, strict=True)]
            for row in (selection.candidate(seed, k, 3) for k in indices)
        ]
        outputs = {"w": np.array(values, dtype=np.float32)}
        return new_case("coding/decode_blocks", name, inputs(seed, indices), outputs)

    cases = [case("ends-of-indices", 31, ENDS)]
    cases += [case(f"seed-2-to-the-{width}", n, (4,)) for width, n in POWERS.items()]
    faults = [
        ("index-2-to-the-32", inputs(1, (0, WORD)), "an index is no 32-bit word"),
        ("index-negative", inputs(1, (0, -1)), "an index is no 32-bit word"),
        *edges.no_word(inputs(1, (0,)), "seed"),
    ]
    return cases + [
        new_case("coding/decode_blocks", name, arguments, fault=fault)
        for name, arguments, fault in faults
    ]


# --- arrivals

# One place, and r reaches 2^15.
FAR_TARGET = [0.75], [-20.5]
# None of the first 2^16 candidates of this seed is near the target; found by search.
RARE_SEED = 87


def rare_arrival(seed: int, block: int, bits: int | None) -> tuple[int, float]:
    """Return the index of `FAR_TARGET` by the Poisson representation, or among 2^bits.

    Raises
    ------
    ValueError
        If the best is not clear, or might come later than what was looked at.
    """
    delta, log_s = FAR_TARGET
    count = AT_ONCE if bits is None else 2**bits
    words = words_of(seed, selection.SELECTION, [block], count)[0]
    gaps = -np.log((words + 0.5) * 2.0**-32)
    times = np.cumsum(gaps if bits is None else gaps * count / (count - np.arange(count)))
    scores = np.log(times) - rough_scores(seed, 0, count, delta, log_s)
    if bits is None and math.log(times[-1]) - arrivals.log_bound(delta, log_s) < scores.min() + 0.1:
        raise ValueError("a later candidate may be better")
    finalists = np.argsort(scores, kind="stable")[:4].tolist()
    exact = arrivals.exact_arrivals(
        words[: max(finalists) + 1].tolist(), None if bits is None else count
    )
    rows = {k: selection.candidate(seed, k, 1) for k in finalists}
    final = {
        k: mpmath.log(exact[k]) - selection.log_weight(rows[k], delta, log_s) for k in finalists
    }
    return arrivals.least(final, lambda k: selection.terms(rows[k], delta, log_s, float, math.exp))


def rare_case(operation: str, name: str, seed: int, bits: int | None, *blocks: int) -> Case:
    """Return a case of an index above 2^16."""
    with mpmath.workdps(codes.DIGITS):
        found = [rare_arrival(seed, block, bits) for block in blocks]
    if min(index for index, _ in found) < 2**16:
        raise ValueError(f"{operation}: {found} are not all above 2^16")
    delta, log_s = (np.array([a] * len(blocks)) for a in FAR_TARGET)
    return new_case(
        f"coding/{operation}",
        name,
        codes.block_inputs(seed, bits, blocks, delta, log_s),
        {"indices": codes.int64([index for index, _ in found])},
        dtypes=BOTH,
        gap=min(gap for _, gap in found),
    )


def arrivals_at(operation: str, bits: int | None) -> list[Case]:
    """Return cases of large seeds and blocks."""
    with mpmath.workdps(codes.DIGITS):
        targets = coding.posterior(421, 4, 3, 3)
        one = [a[:1] for a in targets]
        cases = [
            codes.arrival_case("blocks-at-the-ends", 41, bits, tuple(POWERS.values()), targets)
        ]
        cases += [
            codes.arrival_case(f"seed-2-to-the-{width}", n, bits, (3,), one)
            for width, n in POWERS.items()
        ]
    for case in cases:
        case["since"] = SINCE
    return cases + bad_targets(operation, bits)


@later("ordered_indices")
def ordered_indices() -> list[Case]:
    """Pose an index above 2^16 among 2^18, and the ends of other numbers."""
    rare = rare_case("ordered_indices", "index-2-to-the-16", RARE_SEED, 18, 0)
    return [rare, *arrivals_at("ordered_indices", 6)]


@later("poisson_indices")
def poisson_indices() -> list[Case]:
    """Pose an index above 2^16, and the ends of other numbers."""
    rare = rare_case("poisson_indices", "index-2-to-the-16", RARE_SEED, None, 0)
    return [rare, *arrivals_at("poisson_indices", None)]


@later("partition_messages")
def partition_messages() -> list[Case]:
    """Large seeds and blocks; messages above 2^24."""
    with mpmath.workdps(codes.DIGITS):
        targets = coding.posterior(431, 4, 3, 4)
        one = [a[:1] for a in targets]
        cases = [codes.partition_case("blocks-at-the-ends", 44, 5, tuple(POWERS.values()), targets)]
        cases += [
            codes.partition_case(f"seed-2-to-the-{width}", n, 5, (3,), one)
            for width, n in POWERS.items()
        ]
        cases.append(
            codes.partition_case("bits-24", 45, 24, (0, 1), coding.posterior(433, 2, 3, 5))
        )
    for case in cases:
        case["since"] = SINCE
    return cases + bad_targets("partition_messages", 5)


@later("partition_rows")
def partition_rows() -> list[Case]:
    """Pose the largest messages, and blocks and seeds of every size."""

    def inputs(seed: int, bits: int, blocks: Any, messages: Any, dimension: int) -> dict[str, Any]:
        arrays = {"blocks": codes.int64(blocks), "messages": codes.int64(messages)}
        return {"seed": seed, "bits": bits, **arrays, "dimension": dimension}

    def case(name: str, *rest: Any) -> Case:
        seed, bits, blocks, messages, dimension = rest
        values = [partition.candidate(seed, bits, b, m, dimension)
                  for b, m in zip(blocks, messages, strict=True)]  # fmt: skip
        outputs = {"rows": codes.to_float32(values)}
        return new_case("coding/partition_rows", name, inputs(*rest), outputs)

    cases = [
        case("ends-of-blocks", 51, 3, ENDS, (8,) * len(ENDS), 3),
        case("ends-of-candidates", 51, 3, (1,) * len(ENDS), [8 * n + 5 for n in ENDS], 3),
        case("bits-24-largest-message", 51, 24, (0, 1), (2**56 - 1, 2**55 + 3), 3),
        case("place-2-to-the-8", 51, 9, (2,), (1000,), 260),
        *(case(f"seed-2-to-the-{width}", n, 4, (1,), (29,), 3) for width, n in POWERS.items()),
    ]
    good = inputs(1, 4, (0,), (17,), 4)
    beyond = [
        ("candidate-2-to-the-32", {"messages": codes.int64((2**36,))}, "n has 32 bits"),
        ("block-2-to-the-32", {"blocks": codes.int64((WORD,))}, "a block is no 32-bit word"),
        ("block-negative", {"blocks": codes.int64((-1,))}, "a block is no 32-bit word"),
        ("bits-25", {"bits": 25, "messages": codes.int64((2**25,))}, "bits out of range"),
        ("bits-negative", {"bits": -1}, "bits out of range"),
        ("seed-2-to-the-32", {"seed": WORD}, "the seed is no 32-bit word"),
        ("seed-negative", {"seed": -1}, "the seed is no 32-bit word"),
    ]
    return cases + [
        new_case("coding/partition_rows", name, {**good, **change}, fault=fault)
        for name, change, fault in beyond
    ]


# --- codes of variables


@later("variable_messages")
def variable_messages() -> list[Case]:
    """Rows and seeds of every size; numbers that no code, row or seed has."""
    delta, log_s = [0.5, -0.75, 1.0, 0.25], [-2.0, -3.0, -2.5, -4.0]
    rows, cases = tuple(POWERS.values()), []
    with mpmath.workdps(codes.DIGITS):
        for code in ("as-star", "grc", "gprs-d"):
            cases.append(codes.message_case(code, "ends-of-rows", 61, rows, (delta, log_s)))
            cases.append(codes.message_case(code, "seed-2-to-the-16", 2**16, (0, 1, 2, 3),
                                            (delta, log_s)))  # fmt: skip
    for case in cases:
        case["since"] = SINCE
    good = codes.variable_inputs("grc", 1, (0, 1), delta=delta[:2], log_s=log_s[:2])
    return cases + [
        new_case("coding/variable_messages", name, {**good, **change}, dtypes=("float64",),
                 fault=fault)
        for name, change, fault in beyond_of_variables()
    ]  # fmt: skip


@later("variable_samples")
def variable_samples() -> list[Case]:
    """Rows, nodes and seeds of every size; numbers that no code, row or seed has."""
    cases = []
    for code in ("as-star", "ad-star", "grc"):
        cases += [
            codes.sample_case(code, "ends-of-rows", 71, ENDS, (5,) * len(ENDS)),
            codes.sample_case(code, "ends-of-nodes", 72, range(len(ENDS)), ENDS),
            *(codes.sample_case(code, f"seed-2-to-the-{width}", n, (1, 2), (3, 9))
              for width, n in POWERS.items()),
        ]  # fmt: skip
    for case in cases:
        case["since"] = SINCE
    good = {"code": 7, "seed": 1, "rows": codes.int64((0, 1)), "messages": codes.int64((1, 2))}
    return cases + [
        new_case("coding/variable_samples", name, {**good, **change}, fault=fault)
        for name, change, fault in beyond_of_variables()
    ]


def beyond_of_variables() -> list[tuple[str, dict[str, Any], str]]:
    """Return name, changed arguments and fault of both operations on variables."""
    return [
        ("code-3", {"code": 3}, "no code of variables"),
        ("code-13", {"code": 13}, "no code of variables"),
        ("row-2-to-the-32", {"rows": codes.int64((0, WORD))}, "a row is no 32-bit word"),
        ("row-negative", {"rows": codes.int64((-1, 0))}, "a row is no 32-bit word"),
        ("seed-2-to-the-32", {"seed": WORD}, "the seed is no 32-bit word"),
        ("seed-negative", {"seed": -1}, "the seed is no 32-bit word"),
    ]
