"""Since 1.3: the codes with 9 and 65 along each axis, as in tiles.py, and 300 blocks of a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from golden import codes, coding, files, selection
from golden.containers import COUNTS, Fields
from golden.edges import SINCE, new_case
from golden.gaussians import numbers
from golden.related import digits
from golden.sources import spec_decoder, to_floats
from golden.tiles import NOTE, SIZES, SLOW, sizes
from golden.writer import BOTH, later, make_case

Case = dict[str, Any]

SUMS = {"float64": {"scaled": 5e-15}, "float32": {"scaled": 2e-6}}
# Seeds of targets to try until no decision is close.
TRIES = range(40)


def first_clear(make: Callable[[int], Case]) -> Case:
    """Return the case of the first seed of targets that leaves no decision close."""
    for seed in TRIES:
        try:
            found = make(seed)
        except ValueError:
            continue
        return {**found, "since": SINCE, "note": NOTE}
    raise ValueError("some decision is always close")


@later("log_weights")
@digits
def log_weights() -> list[Case]:
    """Candidates, blocks and places."""

    def case(name: str, candidates: int, shape: tuple[int, int]) -> Case:
        z = np.array([selection.candidate(91, k, shape[1]) for k in range(candidates)])
        delta, log_s = coding.posterior(981, *shape, 5)
        rows = zip(numbers(delta), numbers(log_s), strict=True)
        log_w = [[selection.log_weight(own, d, ls) for own in z.tolist()] for d, ls in rows]
        return make_case(
            f"coding/log_weights/{name}",
            {"candidates": z, "delta": delta, "log_s": log_s},
            {"log_w": to_floats(log_w)},
            {"log_w": SUMS},
            dtypes=BOTH,
            note=NOTE,
            since=SINCE,
        )

    return (
        sizes("candidates", lambda name, size: case(name, size, (2, 3)))
        + sizes("blocks", lambda name, size: case(name, 4, (size, 3)))
        + sizes("places", lambda name, size: case(name, 4, (2, size)))
    )


def of_blocks(
    make: Callable[[str, range, Any], Case], bits: int, own: tuple[int, ...] = SIZES
) -> list[Case]:
    """Return cases of an encoder of blocks whose targets spend so many bits."""

    def case(name: str, blocks: int, size: int) -> Case:
        def posed(seed: int) -> Case:
            targets = coding.posterior(1000 + 2 * seed, blocks, size, bits)
            return make(name, range(blocks), targets)

        return first_clear(posed)

    blocks = sizes("blocks", lambda name, size: case(name, size, 2), own)
    return blocks + sizes("places", lambda name, size: case(name, 2, size), own)


@later("select_indices")
@digits
def select_indices() -> list[Case]:
    """Minimal random coding."""

    def make(name: str, blocks: range, targets: Any) -> Case:
        return coding.selection_case(name, 92, 4, blocks, *targets)

    return of_blocks(make, 3)


@later("ordered_indices")
@digits
def ordered_indices() -> list[Case]:
    """Ordered random coding; a search among 2^25 and 2^26 that ends soon."""

    def make(name: str, blocks: range, targets: Any) -> Case:
        return codes.arrival_case(name, 92, 5, blocks, targets)

    wide = [
        first_clear(
            lambda seed, bits=bits: codes.arrival_case(
                f"bits-{bits}", 93, bits, range(3), coding.posterior(1100 + 2 * seed, 3, 2, 2)
            )
        )
        for bits in (25, 26)
    ]
    return of_blocks(make, 2) + [{**case, "note": "the most are 2^26"} for case in wide]


@later("poisson_indices")
@digits
def poisson_indices() -> list[Case]:
    """Pose the Poisson functional representation."""

    def make(name: str, blocks: range, targets: Any) -> Case:
        return codes.arrival_case(name, 92, None, blocks, targets)

    return of_blocks(make, 1)


@later("partition_messages")
@digits
def partition_messages() -> list[Case]:
    """Space partitioning."""

    def make(name: str, blocks: range, targets: Any) -> Case:
        return codes.partition_case(name, 92, 3, blocks, targets)

    return of_blocks(make, 2, SLOW)


@later("variable_messages")
@digits
def variable_messages() -> list[Case]:
    """Variables, by the code that is the soonest done."""

    def case(name: str, size: int) -> Case:
        def posed(seed: int) -> Case:
            targets = codes.spending(1200 + seed, [0.5 + k % 5 for k in range(size)], 0.5)
            return codes.message_case("gprs-s", name, 92, range(size), targets)

        return first_clear(posed)

    return sizes("variables", case, SLOW)


@later("variable_samples")
def variable_samples() -> list[Case]:
    """Variables."""

    def case(name: str, size: int) -> Case:
        found = codes.sample_case("ad-star", name, 92, range(size), [1 + k for k in range(size)])
        return {**found, "note": NOTE, "since": SINCE}

    return sizes("variables", case)


@later("decode_blocks")
def decode_blocks() -> list[Case]:
    """Blocks, and places."""

    def case(name: str, blocks: int, dimension: int) -> Case:
        pattern = [0x2400 + 0x111 * (k % 8) for k in range(dimension)]
        indices = [5 * k for k in range(blocks)]
        inputs = {"seed": 91, "indices": codes.int64(indices), "dimension": dimension,
                  "rho": np.array([pattern] * blocks, dtype=np.uint16)}  # fmt: skip
        values = [
            [spec_decoder.to_float32(coding.half(p) * z) for p, z in zip(pattern, row, strict=True)]
            for row in (selection.candidate(91, k, dimension) for k in indices)
        ]
        outputs = {"w": np.array(values, dtype=np.float32)}
        return new_case("coding/decode_blocks", name, inputs, outputs, note=NOTE)

    return sizes("blocks", lambda name, size: case(name, size, 3)) + sizes(
        "places", lambda name, size: case(name, 2, size)
    )


@later("encode_model")
@digits
def encode_model() -> list[Case]:
    """Blocks of one variable each: 9, 65 and more than a byte counts."""
    cases = []
    for factor in (
        250,
        9,
        1,
    ):  # for the first tensor's 500 weights; the others have a variable each
        fields = Fields(0, 1, 1, 92, (factor, *COUNTS[1:]), bits=3)
        blocks = fields.blocks
        cases.append(
            first_clear(
                lambda seed, fields=fields, blocks=blocks: files.encode_case(
                    f"blocks-{blocks}", fields, 1300 + 2 * seed
                )
            )
        )
    return cases
