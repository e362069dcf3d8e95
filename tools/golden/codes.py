"""Stage coding, the other relative entropy codes of docs/CODES.md: encoders and decoders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from golden import arrivals, coded_files, gaussians, partition, searches
from golden.arrivals import Candidates
from golden.coding import flat, posterior
from golden.integers import int64
from golden.sources import noise, spec_decoder
from golden.trees import Draws, find_node
from golden.writer import BOTH, make_case, write_file
from mpmath import mpf

Case = dict[str, Any]

DIGITS = 60
EXACT = {"exact": 0}
DOUBLE = ("float64",)
SINCE = "1.1"
WORDS = 2**32
NUMBERS = {c: number for c, number in coded_files.NUMBERS.items() if c in searches.TREES}
ON_TREES = tuple(code for code, tree in searches.TREES.items() if tree != "none")
# Each has a file of its own, which `write` makes.
OPERATIONS = (
    "ordered_indices",
    "poisson_indices",
    "partition_messages",
    "partition_rows",
    "variable_messages",
    "variable_samples",
)
SOURCE = "docs/CODES.md in mpmath, 60 digits, on words of Philox in plain Python"
NOTES = {
    "q-equals-p": "the target is the coding distribution: r = 1 everywhere",
    "far-mean": "P has few samples where Q has its mass",
    "tiny-variance": "s = 1e-12: the sample is determined to twenty bits",
    "no-mode": "s = 1: r rises for ever, so its supremum is that within the reach of P's samples",
    "limit": "the tree without a limit has a better node",
    "deep": "a node 40 to 61 levels below the root",
    "clamp": "u is 1 - 2^-53",
    "high-word": "a node number above 2^32: counter word 2 is not 0",
}


# What cases of several operations say of themselves.
OF_P = {"flags": ("q-equals-p",)}
FIRST_OF_P = {**OF_P, "note": "the first to arrive wins: index 0"}
OTHER_ROWS = {"note": "variates from the row that bears the block's number"}
NO_MODE = {"flags": ("no-mode",)}
FAR = {"flags": ("far-mean",)}


def write(golden: Path) -> None:
    """Write the files of the codes of blocks and of variables."""
    with mpmath.workdps(DIGITS):
        write_ordered(golden)
        write_poisson(golden)
        write_partitions(golden)
        write_partition_rows(golden)
        write_messages(golden)
        write_samples(golden)


def finish(golden: Path, operation: str, source: str, cases: list[Case]) -> None:
    """Write a file with the notes that its flags need."""
    used = {flag for case in cases for flag in case["flags"]}
    notes = {flag: note for flag, note in NOTES.items() if flag in used}
    write_file(golden, "coding", operation, source=source, notes=notes, cases=cases)


def new_case(operation: str, name: str, *parts: Any, **more: Any) -> Case:
    """Return a case of this version."""
    return make_case(f"coding/{operation}/{name}", *parts, since=SINCE, **more)


def chosen(
    operation: str, name: str, inputs: Any, output: str, choices: list[Any], **more: Any
) -> Case:
    """Return a case of an encoder; a choice is what it sends and how near another one came."""
    outputs = {output: int64([k for k, _ in choices])}
    gap = min(gap for _, gap in choices)
    return new_case(operation, name, inputs, outputs, {output: EXACT}, gap=gap, **more)


# What no code takes: name, delta, log s, what is wrong.
FAULTS = (
    ("wider-than-p", 0.5, 0.25, "s > 1: the density ratio has no mode"),
    ("mean-nan", math.nan, -1.0, "the mean is NaN"),
    ("variance-zero", 0.0, -math.inf, "log s is infinite"),
    ("kl-43-bits", 0.25, -60.0, "a KL above 40 bits"),
    ("mean-9-out", 9.0, -2.0, "Q has its mass where P has none"),
    ("mean-7-out", 7.0, 0.0, "a sixth of Q lies beyond |z| = 8, though its KL is 35 bits only"),
)


# --- ordered random coding, and the Poisson functional representation


def arrival_case(
    name: str, seed: int, bits: int | None, blocks: Sequence[int], posteriors: Any, **more: Any
) -> Case:
    """Return a case of ordered_indices, or without bits of poisson_indices."""
    delta, log_s = posteriors
    candidates = Candidates(seed, delta.shape[1])
    rows = zip(blocks, delta.tolist(), log_s.tolist(), strict=True)
    choices = [arrivals.choose(candidates, b, d, ls, bits) for b, d, ls in rows]
    operation = "poisson_indices" if bits is None else "ordered_indices"
    inputs = block_inputs(seed, bits, blocks, delta, log_s)
    return chosen(operation, name, inputs, "indices", choices, dtypes=BOTH, **more)


def block_inputs(seed: int, bits: int | None, blocks: Sequence[int], *targets: Any) -> Any:
    """Return the arguments of the encoder of a code of blocks."""
    own = {} if bits is None else {"bits": bits}
    arrays = dict(zip(("delta", "log_s"), targets, strict=True))
    return {"seed": seed, **own, "blocks": int64(blocks), **arrays}


def block_faults(operation: str, bits: int | None) -> list[Case]:
    """Return negative cases: the second of two blocks is wrong in its second place."""
    cases = []
    for name, delta, log_s, fault in FAULTS:
        targets = np.zeros((2, 3)), np.full((2, 3), -1.0)
        for array, value in zip(targets, (delta, log_s), strict=True):
            array[1, 1] = value
        inputs = block_inputs(1, bits, (0, 1), *targets)
        cases.append(new_case(operation, name, inputs, dtypes=BOTH, fault=fault))
    return cases


def write_ordered(golden: Path) -> None:
    """Write indices among 2^bits candidates with ordered arrival times."""

    def case(name: str, *parts: Any, **more: Any) -> Case:
        return arrival_case(name, *parts, **more)

    cases = [
        case("typical", 1, 8, range(20), posterior(201, 20, 6, 7)),
        case("oversampled", 2, 12, range(6), posterior(203, 6, 4, 8), note="four bits above KL"),
        case("default-blocks", 1, 10, range(4), posterior(205, 4, 30, 9)),
        case("q-equals-p", 3, 6, range(4), flat(4, 3), **FIRST_OF_P),
        case("bits-too-few", 4, 4, range(24), posterior(207, 24, 3, 8),
             note="the last candidates arrive late: E_k N / (N - k)"),
        case("variates-against-small-weights", 6, 6, range(24), posterior(217, 24, 2, 1),
             note="arrival times of another law change some of the 24"),
        case("bits-1", 5, 1, range(12), posterior(209, 12, 2, 1)),
        case("bits-0", 5, 0, range(3), posterior(211, 3, 2, 1), note="one candidate"),
        case("rows-of-other-blocks", 7, 7, (5, 0, 885, WORDS - 1), posterior(213, 4, 4, 1),
             **OTHER_ROWS),
        case("mean-alone", 8, 9, range(6), (np.full((6, 2), 0.75), np.zeros((6, 2))), **NO_MODE),
        case("far-mean", 9, 11, range(3),
             (np.array([[3.0, 0.0], [-3.5, 0.25], [0.0, 4.0]]), np.full((3, 2), -0.5)), **FAR),
        case("largest-seed", WORDS - 1, 6, range(4), posterior(215, 4, 3, 5)),
    ]  # fmt: skip
    finish(golden, "ordered_indices", SOURCE, cases + block_faults("ordered_indices", 8))


def write_poisson(golden: Path) -> None:
    """Write indices among endlessly many candidates."""

    def case(name: str, seed: int, *parts: Any, **more: Any) -> Case:
        return arrival_case(name, seed, None, *parts, **more)

    cases = [
        case("typical", 1, range(12), posterior(221, 12, 4, 3)),
        case("small-kl", 2, range(24), posterior(223, 24, 3, 1)),
        case("large-kl", 2, range(4), posterior(225, 4, 2, 7), note="up to thousands of arrivals"),
        case("one-place", 3, range(12), posterior(227, 12, 1, 5)),
        case("q-equals-p", 3, range(4), flat(4, 3), **FIRST_OF_P),
        case("rows-of-other-blocks", 7, (5, 0, 885, WORDS - 1), posterior(229, 4, 4, 1),
             **OTHER_ROWS),
        case("mean-alone", 8, range(6), (np.full((6, 1), -0.75), np.zeros((6, 1))), **NO_MODE),
        case("largest-seed", WORDS - 1, range(4), posterior(231, 4, 3, 3)),
    ]  # fmt: skip
    inputs = block_inputs(1, None, (0,), np.zeros((1, 2)), np.full((1, 2), -20.0))
    too_long = new_case(
        "poisson_indices",
        "search-too-long",
        inputs,
        dtypes=BOTH,
        fault="r reaches 2^28.8, so the search may need more than 2^26 candidates",
    )
    faults = [*block_faults("poisson_indices", None), too_long]
    finish(golden, "poisson_indices", SOURCE, cases + faults)


# --- space partitioning


def partition_case(
    name: str, seed: int, bits: int, blocks: Sequence[int], posteriors: Any, **more: Any
) -> Case:
    """Return a case of partition_messages."""
    delta, log_s = posteriors
    rows = zip(blocks, delta.tolist(), log_s.tolist(), strict=True)
    choices = [partition.choose(seed, bits, b, d, ls) for b, d, ls in rows]
    inputs = block_inputs(seed, bits, blocks, delta, log_s)
    return chosen("partition_messages", name, inputs, "messages", choices, dtypes=BOTH, **more)


def write_partitions(golden: Path) -> None:
    """Write messages n 2^K + j."""
    case = partition_case
    cases = [
        case("typical", 1, 6, range(12), posterior(241, 12, 6, 6), note="one bit a place"),
        case("bits-0", 2, 0, range(6), posterior(243, 6, 3, 2), note="one bin: its number is 0"),
        case("bits-do-not-divide", 3, 4, range(10), posterior(245, 10, 6, 5),
             note="k_d is 0, 1, 1, 0, 1, 1"),
        case("bits-fewer-than-places", 4, 3, range(4), posterior(247, 4, 10, 4),
             note="most places are not divided"),
        case("several-bits-a-place", 5, 11, range(8), posterior(249, 8, 3, 9),
             note="k_d is 3, 4, 4"),
        case("one-place", 6, 5, range(12), posterior(251, 12, 1, 5)),
        case("large-n", 7, 2, range(8), posterior(253, 8, 2, 7),
             note="few bins: the candidates of each are many"),
        case("bound-above-2-to-26", 8, 20, range(3),
             (np.full((3, 4), 0.375), np.full((3, 4), -9.5)),
             note="r reaches 2^28, the bound of what the sender proposes far less"),
        case("q-equals-p", 9, 5, range(5), flat(5, 3), **OF_P,
             note="the first arrival: n is 1, and j any"),
        case("rows-of-other-blocks", 10, 5, (77, 0, WORDS - 1), posterior(255, 3, 5, 5),
             note="the block's number stands in both counters"),
        case("largest-seed", WORDS - 1, 4, range(4), posterior(257, 4, 4, 4)),
        case("five-words", 11, 9, range(3), posterior(259, 3, 9, 8),
             note="more than eight places: counters with another last word"),
        case("mean-alone", 1, 4, range(6), (np.full((6, 2), 0.75), np.zeros((6, 2))),
             note="s = 1: the supremum of r is where the samples of the last interval end"),
    ]  # fmt: skip
    finish(golden, "partition_messages", SOURCE, cases + block_faults("partition_messages", 4))


def row_inputs(
    seed: int, bits: int, blocks: Sequence[int], messages: Sequence[int], dimension: int
) -> Any:
    """Return the arguments of partition_rows."""
    own = {"blocks": int64(blocks), "messages": int64(messages), "dimension": dimension}
    return {"seed": seed, "bits": bits, **own}


def write_partition_rows(golden: Path) -> None:
    """Write the normals that messages name."""
    rows: list[tuple[str, int, int, Sequence[int], Sequence[int], int, str]] = [
        ("first-candidates", 1, 6, range(4), (64, 65, 127, 96), 6, "n = 1"),
        ("bits-0", 2, 0, (0, 5), (1, 77), 3, "one bin"),
        ("bits-do-not-divide", 3, 4, (0, 1, 2), (16 + 9, 32 + 5, 160 + 15), 6, ""),
        ("several-bits-a-place", 4, 11, (0, 1), (2048 + 1234, 3 * 2048 + 2047), 3, ""),
        ("many-bits-in-one-place", 5, 20, (3, 4), (2**20, 2**22 - 1), 1, "2^20 intervals"),
        ("bits-24", 5, 24, (1, 2), (2**24 + 0xABCDEF, 2**26 + 5), 7, ""),
        ("large-n", 6, 3, (1, 1, 1), (8 * 1000, 8 * 10**6 + 1, 8 * (WORDS - 1) + 7), 2, ""),
        ("other-blocks", 7, 5, (WORDS - 1, 2**31, 0), (33, 33, 33), 5, ""),
        ("more-than-eight-places", 8, 9, (0, 1), (512 + 341, 1024 + 170), 10, ""),
        ("largest-seed", WORDS - 1, 2, (0,), (6,), 4, ""),
    ]
    cases = []
    for name, seed, bits, blocks, messages, dimension, note in rows:
        pairs = list(zip(blocks, messages, strict=True))
        values = [partition.candidate(seed, bits, b, m, dimension) for b, m in pairs]
        inputs = row_inputs(seed, bits, blocks, messages, dimension)
        outputs = {"rows": to_float32(values)}
        cases.append(new_case("partition_rows", name, inputs, outputs, {"rows": EXACT}, note=note))
    for name, message, fault in (
        ("message-0", 0, "candidates are counted from 1"),
        ("candidate-0", 15, "n is 0 for a message below 2^K"),
        ("message-negative", -16, "a message is positive"),
    ):
        inputs = row_inputs(1, 4, (0,), (message,), 4)
        cases.append(new_case("partition_rows", name, inputs, fault=fault))
    finish(golden, "partition_rows", "docs/CODES.md sections 1 and 3 in plain Python", cases)


def to_float32(values: Any) -> Any:
    """Round nested lists of floats to float32."""
    flat_values = np.array(values, dtype=np.float64)
    rounded = [spec_decoder.to_float32(x) for x in flat_values.ravel().tolist()]
    return np.array(rounded, dtype=np.float32).reshape(flat_values.shape)


# --- codes of variables


def variable_inputs(code: str, seed: int, rows: Sequence[int], **own: Any) -> Any:
    """Return the arguments of variable_messages (delta, log_s), or _samples (messages)."""
    kinds = {"delta": np.float64, "log_s": np.float64, "messages": np.int64}
    arrays = {name: np.asarray(values, dtype=kinds[name]) for name, values in own.items()}
    return {"code": NUMBERS[code], "seed": seed, "rows": int64(rows), **arrays}


def message_case(
    code: str, name: str, seed: int, rows: Sequence[int], targets: Any, **more: Any
) -> Case:
    """Return a case of variable_messages."""
    delta, log_s = targets
    triples = zip(rows, delta, log_s, strict=True)
    choices = [searches.choose(code, seed, *triple) for triple in triples]
    if "q-equals-p" in more.get("flags", ()) and {m for m, _ in choices} != {1}:
        raise ValueError(f"{code}: the root is not the answer to Q = P")
    inputs = variable_inputs(code, seed, rows, delta=delta, log_s=log_s)
    name, more = f"{code}-{name}", {"dtypes": DOUBLE, **more}
    return chosen("variable_messages", name, inputs, "messages", choices, **more)


def spending(seed: int, bits: Sequence[float], spread: float) -> tuple[list[float], list[float]]:
    """Return delta and log s of targets that spend about so many bits, on a grid of 1/1024."""
    tau = noise(seed, (len(bits),), spread).tolist()
    pairs = [
        gaussians.whitened(mpf(t), mpf(1), b * mpmath.log(2))
        for t, b in zip(tau, bits, strict=True)
    ]
    grid = [[round(1024 * float(x)) / 1024 for x in pair] for pair in pairs]
    return [delta for delta, _ in grid], [log_s for _, log_s in grid]


TREE_BITS = (0.2, 0.5, *range(1, 13), 1.5, 2.5, 3.5, 4.5, 6.5, 9.5)
GLOBAL_BITS = (0.2, 0.4, 0.7, 1, 1.3, 1.6, 2, 2.3, 2.6, 3, 3.3, 3.6, 4, 4.5, 5, 5.5)


def messages_of(code: str) -> list[Case]:
    """Return the cases of a code of variables."""
    seed, bits = NUMBERS[code], TREE_BITS if code in ON_TREES else GLOBAL_BITS
    narrow = round(-1024 * 12 * math.log(10)) / 1024

    def case(name: str, *parts: Any, **more: Any) -> Case:
        return message_case(code, name, *parts, **more)

    cases = [
        case("typical", seed, range(len(bits)), spending(300 + seed, bits, 0.5)),
        case("equal-targets", seed, range(100, 112), ([0.75] * 12, [-3.0] * 12),
             note="the same target with the random numbers of twelve variables"),
        case("largest-rows-and-seed", WORDS - 1, (WORDS - 1, WORDS - 2, 2**31, 2**31 - 1, 0),
             spending(330 + seed, (1, 2, 3, 3.5, 4), 0.5),
             note="a variable's number is the second word of the counter"),
        case("q-equals-p", 7, range(5), ([0.0] * 5, [0.0] * 5), **OF_P, note="the answer is 1"),
        case("nearly-p", 8, range(5),
             ([0.03125, -0.0625, 0.0, 0.25, -0.125],
              [-(2.0**-20), -(2.0**-10), -(2.0**-5), -0.125, -0.25])),
        case("mean-alone", 9, range(8), ([1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 0.25, -2.0], [0.0] * 8),
             **NO_MODE),
    ]  # fmt: skip
    if code in ON_TREES:
        cases += [
            case("tiny-variance", 10, range(6), ([0.5, -1.25, 0.0, 2.0, 0.125, -3.0], [narrow] * 6),
                 flags=("tiny-variance",)),
            case("far-mean", 11, range(6),
                 ([3.0, -4.0, 5.0, -6.0, 3.5, 4.5], [-0.5, -1.0, -2.0, -4.0, -6.0, -3.0]), **FAR),
        ]  # fmt: skip
    if code == "dad-star":
        cases.append(limit_case())
    return cases


def limit_case() -> Case:
    """Return targets for which A* coding without the limit takes another node."""
    rows = range(24)
    delta = [0.5, -0.75, 1.0, 0.25, -0.75, 1.5] * 4
    log_s = [-2.0, -3.0, -2.0, -5.5, -8.0, -5.5] * 4
    case = message_case(
        "dad-star",
        "at-its-limit",
        12,
        rows,
        (delta, log_s),
        flags=("limit",),
        note="no node of 2^bits or above, bits = ceil(KL in bits)",
    )
    free = [searches.choose("ad-star", 12, *t)[0] for t in zip(rows, delta, log_s, strict=True)]
    if sum(case["outputs"]["messages"] != free) < len(free) // 4:
        raise ValueError("the limit counts too little")
    return case


def message_faults() -> list[Case]:
    """Return negative cases of variable_messages; the second of two targets is wrong."""

    def refused(name: str, code: str, delta: float, log_s: float, fault: str) -> Case:
        inputs = variable_inputs(code, 1, (0, 1), delta=[0.0, delta], log_s=[-1.0, log_s])
        return new_case("variable_messages", name, inputs, dtypes=DOUBLE, fault=fault)

    cases = []
    for code in NUMBERS:
        for name, delta, log_s, fault in FAULTS:
            cases.append(refused(f"{code}-{name}", code, delta, log_s, fault))
    for code in ("grc", "gprs"):
        fault = "r reaches 2^28, so the search may need more than 2^26 candidates"
        cases.append(refused(f"{code}-search-too-long", code, 0.5, -39.0, fault))
    return cases


def write_messages(golden: Path) -> None:
    """Write the messages of all codes of variables."""
    cases = [case for code in NUMBERS for case in messages_of(code)]
    finish(golden, "variable_messages", SOURCE, cases + message_faults())


def alternating(depth: int, first: int) -> int:
    """Return the node so many levels down on a path that turns at each level."""
    number = 1
    for level in range(depth):
        number = 2 * number + (first + level) % 2
    return number


SMALL = (1, 2, 3, 4, 5, 6, 7, 12, 100, 1000, 65537)
LEFT = tuple(2**depth for depth in (40, 45, 50, 53, 54, 61))
RIGHT = tuple(2 ** (depth + 1) - 1 for depth in (40, 45, 52, 53, 54, 61))
NEAR_ONE = {"as-star": range(24, 44), "ad-star": range(34, 54)}
MIXED = (
    *(alternating(depth, first) for depth in (40, 50, 61) for first in (0, 1)),
    0x2B992DDFA23249D6,
    2**62 - 2,
    2**61 + 1,
    2**61 - 1 - 2**20,
)
HIGH = (WORDS - 1, WORDS, WORDS + 1, WORDS + 7, 5 * WORDS + 7, 2**61 + 7, 2**62 - 1)


def sample_case(
    code: str, name: str, seed: int, rows: Sequence[int], numbers: Sequence[int], **more: Any
) -> Case:
    """Return a case of variable_samples."""
    tree = searches.TREES[code]
    nodes = [find_node(Draws(seed, r), tree, n) for r, n in zip(rows, numbers, strict=True)]
    if "clamp" in more.get("flags", ()) and 1 - 2.0**-53 not in {node.u() for node in nodes}:
        raise ValueError(f"{name}: no u is at its limit")
    inputs = variable_inputs(code, seed, rows, messages=numbers)
    outputs = {"samples": to_float32([node.z() for node in nodes])}
    return new_case(
        "variable_samples", f"{code}-{name}", inputs, outputs, {"samples": EXACT}, **more
    )


def samples_of(code: str) -> list[Case]:
    """Return the cases of a decoder: small numbers for all, the rest once for each tree."""

    def case(name: str, numbers: Sequence[int], seed: int = 1, first: int = 0, **more: Any) -> Case:
        rows = range(first, first + len(numbers))
        return sample_case(code, name, seed, rows, numbers, **more)

    cases = [
        case("small-numbers", SMALL, NUMBERS[code]),
        case("high-word", HIGH, 2, flags=("high-word",)),
        case("largest-rows-and-seed", SMALL, WORDS - 1, WORDS - len(SMALL)),
    ]  # fmt: skip
    if code in ("as-star", "ad-star"):
        cases += [
            case("always-left", LEFT, 3, flags=("deep",)),
            case("always-right", RIGHT, 4, flags=("deep", "clamp")),
            case("left-and-right", MIXED, 5, flags=("deep",)),
            case("rounding", [2**depth - 1 for depth in NEAR_ONE[code]], 7,
                 note="u is next to 1, where each rounding shows in the sample"),
        ]  # fmt: skip
    if code == "as-star":
        cases.append(case("one-path", [2**k + 2**k // 3 for k in range(1, 62)], 6, 0))
    return cases


def write_samples(golden: Path) -> None:
    """Write the samples that node numbers name."""
    cases = [case for code in NUMBERS for case in samples_of(code)]
    for code in ("as-star", "ad-star", "grc"):
        for name, message, fault in (
            ("message-0", 0, "nodes are counted from 1"),
            ("message-negative", -1, "a node number is positive"),
            ("message-2-to-62", 2**62, "node numbers are below 2^62"),
        ):
            inputs = variable_inputs(code, 1, (0, 1), messages=(1, message))
            cases.append(new_case("variable_samples", f"{code}-{name}", inputs, fault=fault))
    finish(golden, "variable_samples", "docs/CODES.md section 1 in plain Python", cases)
