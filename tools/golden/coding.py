"""Stage coding: log-weights, the choice of an index, and blocks from indices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from golden import gaussians, selection
from golden.gaussians import numbers
from golden.nonfinite import write_file
from golden.selection import Codebook
from golden.sources import noise, spec_decoder, to_float, to_floats
from golden.writer import BOTH, make_case, single
from mpmath import mpf

Case = dict[str, Any]

DIGITS = 50
EXACT = {"exact": 0}


def write(golden: Path) -> None:
    """Write the files of the stage coding."""
    with mpmath.workdps(DIGITS):
        write_log_weights(golden)
        write_selections(golden)
        write_decode_blocks(golden)


def posterior(seed: int, blocks: int, size: int, bits: float, spread: float = 0.5) -> Any:
    """Return delta and log s, in float32, of blocks that spend so many bits each."""
    budget = mpf(bits) * mpmath.log(2)
    tau, phi = noise(seed, (blocks, size), 0.3), noise(seed + 1, (blocks, size), spread)
    delta, log_s = gaussians.mean_kl(numbers(tau), numbers(phi), budget)
    return single(to_floats(delta)), single(to_floats(log_s))


def shortened(posteriors: Any, used: int) -> Any:
    """Return delta and log s with zeros behind the first so many places."""
    return [np.where(np.arange(a.shape[1]) < used, a, 0.0) for a in posteriors]


# --- log-weights


def log_weight_points() -> list[tuple[str, Any, Any, Any, tuple[str, ...], str, Any]]:
    """Return name, candidates, delta, log s, flags, note and bound."""
    z = np.array([selection.candidate(1, k, 6) for k in range(16)])
    delta, log_s = posterior(61, 3, 6, 8)
    sums = {"float64": {"scaled": 5e-15}, "float32": {"scaled": 2e-6}}
    near = 1.0 + np.array([[k] for k in (-9, -4, -1, 0, 1, 2, 6, 12)]) * 2.0**-23
    direct = {"float64": {"relative": 1e-13}, "float32": {"relative": 1e-5}}
    one = np.array([[0.0], [1.0], [-2.0], [0.5]])
    return [
        ("typical", z, delta, log_s, (), "nats, not bits", sums),
        (
            "q-equals-p",
            z,
            np.zeros((2, 6)),
            np.zeros((2, 6)),
            (),
            "all are 0: the candidates are as likely under Q as under P",
            {"float64": EXACT, "float32": EXACT},
        ),
        (
            "mean-alone",
            one,
            np.array([[0.5]]),
            np.array([[0.0]]),
            (),
            "delta z - delta^2 / 2",
            sums,
        ),
        (
            "scale-of-the-density",
            one,
            np.array([[0.0]]),
            np.array([[-2.0]]),
            (),
            "the term -log(s) / 2 counts",
            sums,
        ),
        ("wider-than-p", z, delta, np.full((3, 6), 0.5), (), "s > 1", sums),
        (
            "differ-by-1e4",
            z,
            np.array([[1.0, -0.5, 0.25, 0.0, 2.0, -1.0]]),
            np.array([[-6.0, -7.0, -9.0, -8.0, -5.0, -6.5]]),
            ("tail",),
            "log-weights from 0 to -1e4 and below",
            sums,
        ),
        (
            "tiny-variance",
            near,
            np.array([[1.0]]),
            single([[-31.0]]),
            ("cancellation",),
            "z within some sigma of delta: z^2 / s expanded is a difference of 1e13",
            direct,
        ),
        (
            "one-weight-takes-all",
            z,
            np.array([[0.0, 0.5, 0.0, 0.0, 0.0, 0.0]]),
            np.array([[0.0, -18.0, 0.0, 0.0, 0.0, 0.0]]),
            ("tail",),
            "",
            sums,
        ),
        (
            "short-block",
            z,
            *shortened((delta[:1], log_s[:1]), 4),
            ("short-block",),
            "unused places have delta = 0 and log s = 0 and count nothing",
            sums,
        ),
        (
            "q-next-to-p",
            np.array([[-6.25], [-0.5], [0.75], [2.0]]),
            single([[1e-12], [-1e-9], [1e-6], [0.0], [0.0], [1e-4]]),
            single([[0.0], [0.0], [-1e-12], [-1e-9], [-1e-5], [-1e-6]]),
            ("cancellation",),
            "z^2 / 2 and (z - delta)^2 / (2 s) are alike: each ratio by itself",
            {"float64": {"relative": 1e-14}, "float32": {"relative": 2e-6}},
        ),
    ]


def write_log_weights(golden: Path) -> None:
    """Write log q(z) / p(z) of all candidates for all blocks."""
    cases = []
    for name, z, delta, log_s, flags, note, bound in log_weight_points():
        want = [
            [to_float(selection.log_weight(row, d, ls)) for row in z.tolist()]
            for d, ls in zip(delta.tolist(), log_s.tolist(), strict=True)
        ]
        case = make_case(
            f"coding/log_weights/{name}",
            {"candidates": z, "delta": delta, "log_s": log_s},
            {"log_w": np.array(want)},
            {"log_w": bound},
            dtypes=BOTH,
            flags=flags,
            note=note,
            since="1.3" if name == "q-next-to-p" else "1.0",
        )
        cases.append(case)
    write_file(
        golden,
        "coding",
        "log_weights",
        source="mpmath, 50 digits: docs/derivations.md (34)",
        notes={
            "cancellation": "the expanded square loses all digits; (z - delta)^2 / s does not",
            "tail": "log-weights thousands of nats apart",
            "short-block": "places that hold no weight",
        },
        cases=cases,
    )


# --- the choice of an index


def selection_case(
    name: str,
    seed: int,
    bits: int,
    blocks: Sequence[int],
    delta: Any,
    log_s: Any,
    **more: Any,
) -> Case:
    """Return a case of select_indices; its gap is the least of its blocks."""
    codebook = Codebook(seed, bits, delta.shape[1])
    tie = "tie" in more.get("flags", ())
    rows = zip(blocks, delta.tolist(), log_s.tolist(), strict=True)
    choices = [codebook.choose(b, d, ls, tie) for b, d, ls in rows]
    return make_case(
        f"coding/select_indices/{name}",
        {
            "seed": seed,
            "bits": bits,
            "blocks": np.array(blocks, dtype=np.int64),
            "delta": delta,
            "log_s": log_s,
        },
        {"indices": np.array([c.index for c in choices])},
        {"indices": EXACT},
        dtypes=BOTH,
        gap=min(c.gap for c in choices),
        **more,
    )


def flat(blocks: int, size: int) -> tuple[Any, Any]:
    """Return targets that are P."""
    return np.zeros((blocks, size)), np.zeros((blocks, size))


def write_selections(golden: Path) -> None:
    """Write choices by the weights, by the Gumbel variates, and by both."""
    peaked = np.array([[1.0, -0.5, 0.25], [0.0, 2.0, -1.0]])
    narrow = np.full((2, 3), -7.0)
    cases = [
        selection_case(
            "typical", 1, 8, range(24), *posterior(71, 24, 6, 8), note="weights and Gumbel variates"
        ),
        selection_case(
            "default-blocks",
            1,
            10,
            range(3),
            *posterior(73, 3, 30, 10),
            note="blocks of 30 weights",
        ),
        selection_case(
            "gumbel-alone",
            300,
            6,
            range(16),
            *flat(16, 2),
            note="all weights are equal, so the largest word of the stream SELECTION wins",
        ),
        selection_case(
            "gumbel-against-small-weights",
            5,
            6,
            range(48),
            *posterior(75, 48, 2, 1),
            note="a Gumbel variate of another law or scale changes some of the 48",
        ),
        selection_case(
            "rows-of-other-blocks",
            7,
            7,
            (5, 0, 885, 2**20),
            *posterior(77, 4, 4, 7),
            note="the row of a Gumbel variate is the number of the block, not its place here",
        ),
        selection_case(
            "same-block-again",
            7,
            7,
            (3, 3),
            *(np.repeat(a, 2, axis=0) for a in posterior(79, 1, 4, 7)),
            note="the choice is a function of seed, block and posterior",
        ),
        selection_case("bits-1", 9, 1, range(12), *posterior(81, 12, 3, 1)),
        selection_case(
            "bits-15-in-many-chunks",
            11,
            15,
            (0, 1, 2),
            *posterior(83, 3, 2, 9),
            note="more candidates than pass at a time",
        ),
        selection_case(
            "differ-by-1e4",
            13,
            8,
            (0, 1),
            peaked,
            narrow,
            flags=("tail",),
            note="log-weights spread over 1e4 nats: the best weight wins",
        ),
        selection_case(
            "one-weight-takes-all",
            13,
            10,
            (4,),
            np.array([[0.0, 0.75, 0.0, 0.0]]),
            np.array([[0.0, -9.0, 0.0, 0.0]]),
            flags=("tail",),
        ),
        selection_case(
            "short-block",
            15,
            8,
            (9, 10),
            *shortened(posterior(85, 2, 5, 8), 3),
            flags=("short-block",),
        ),
        selection_case("largest-seed", 2**32 - 1, 5, (0, 1, 2, 3), *posterior(87, 4, 3, 5)),
        *(
            selection_case(
                f"equal-maxima-{name}",
                1,
                13,
                (block,),
                *flat(1, 1),
                flags=("tie",),
                note=f"candidates {first} and {second} have equal words: the lower wins",
            )
            for name, block, first, second in TIES
        ),
    ]
    write_file(
        golden,
        "coding",
        "select_indices",
        source="docs/derivations.md (34) and (35) in mpmath, 50 digits, on the words of"
        " docs/SPEC.md section 4.2; gap: nats between best and second",
        notes={
            "tail": "log-weights thousands of nats apart",
            "short-block": "places that hold no weight have delta = 0 and log s = 0",
            "tie": "the two best are equal to the last bit; the gap is that to the third",
        },
        cases=cases,
    )


# Blocks of seed 1 whose largest of 8192 words stands twice, found by search.
TIES = (("far-apart", 368892, 3339, 5826), ("again", 2008977, 2650, 6344))


# --- blocks from indices


def write_decode_blocks(golden: Path) -> None:
    """Write scale times normal, one float32 product each."""
    default = [(0x2400 + 0x111 * (k % 8)) for k in range(30)]
    rows: list[tuple[str, int, Sequence[int], Sequence[int], tuple[str, ...], str]] = [
        ("worked-example", 7, (9,), (0x3600, 0x3700, 0x3300), (), "docs/SPEC.md section 9.2"),
        ("default-blocks", 1, (16383, 0, 77), default, (), ""),
        ("scale-1", 5, (3,), (0x3C00,) * 5, (), "the normals themselves"),
        (
            "smallest-and-largest-scales",
            5,
            (3, 4),
            (0x0400, 0x7BFF, 0x0401, 0x7BFE),
            (),
            "float16 bits: exponents from -14 to 15",
        ),
        (
            "product-rounded-once",
            300,
            tuple(range(8)),
            (0x3555, 0x2E66, 0x3BFF, 0x3801, 0x2FFF),
            (),
            "the normal is rounded to float32 before the product, the product once after it",
        ),
        ("bits-24", 1, (2**24 - 1, 2**23, 1), (0x3000,) * 3, (), "indices of 24 bits"),
        ("equal-indices", 1, (6, 6), (0x3000, 0x3100, 0x3200), (), "equal normals"),
    ]
    cases = []
    for name, seed, indices, pattern, flags, note in rows:
        rho = np.array([pattern] * len(indices), dtype=np.uint16)
        scales = [half(bits) for bits in pattern]
        values = [
            [spec_decoder.to_float32(r * z) for r, z in zip(scales, row, strict=True)]
            for row in (selection.candidate(seed, k, len(pattern)) for k in indices)
        ]
        case = make_case(
            f"coding/decode_blocks/{name}",
            {"seed": seed, "indices": np.array(indices), "dimension": len(pattern), "rho": rho},
            {"w": np.array(values, dtype=np.float32)},
            {"w": EXACT},
            flags=flags,
            note=note,
        )
        cases.append(case)
    write_file(
        golden,
        "coding",
        "decode_blocks",
        source="docs/SPEC.md sections 4 to 6 and 8.3 in plain Python",
        notes={},
        cases=cases,
    )


def half(bits: int) -> float:
    """Return a normal float16 from its bits: docs/SPEC.md section 2.1."""
    return math.ldexp(1024 + bits % 1024, bits // 1024 - 25)
