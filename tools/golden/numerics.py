"""Stage numerics: the normal quantile and codebook bit by bit; s(x) and KL from mpmath."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from golden import gaussians
from golden.nonfinite import write_file
from golden.posterior import relative
from golden.sources import spec_decoder, to_float, to_floats
from golden.writer import BOTH, make_case, single
from mpmath import mpf

Case = dict[str, Any]

DIGITS = 50
EXACT = {"exact": 0}
DOUBLE = ("float64",)


def write(golden: Path) -> None:
    """Write the files of the stage numerics."""
    with mpmath.workdps(DIGITS):
        write_quantiles(golden)
        write_codebooks(golden)
        write_log_s(golden)
        write_slopes(golden)
        write_gaussian_kl(golden)


def logspace(low: float, high: float, count: int) -> Any:
    """Return powers of ten, rounded to float32 where it can hold them."""
    exponents = [low + (high - low) * k / (count - 1) for k in range(count)]
    return single([to_float(mpf(10) ** e) for e in exponents])


# --- the normal quantile

# docs/SPEC.md section 6.4: words that common slips get wrong by one unit of float32.
FUSED = (0x20F8A25E, 0xDF075DA1)
EXTENDED = (0x20F8A25E, 0x47E8D521, 0xB8172ADE, 0xDF075DA1)
ORDER = (0x47E8D521, 0xB8172ADE)
HALFWAY = (0x113E7B38, 0x20F8A25E, 0x27E5A16C, 0x517A115C, 0xDF075DA1)
# Words whose float64 normal a square root of one unit too much or too little changes.
SQUARE_ROOT = (
    *(0x10765041, 0x0E49634F, 0x0EA9BF5B, 0x10F9C96C),
    *(0x053E32E9, 0x004755B5, 0x062E1027, 0x0D5DBD04),
)
EXTREMES = (0, 1, 0xFFFF, 0x01000000, 0xFFFFFFFE, 0xFFFFFFFF)
MIDDLE = (0x7FFFFFFE, 0x7FFFFFFF, 0x80000000, 0x80000001)
EDGE_OF_THE_CENTRE = (0x13333332, 0x13333333, 0xECCCCCCC, 0xECCCCCCD)


def uniforms(words: Sequence[int]) -> list[float]:
    """Return the midpoints that words stand for."""
    return [(w + 0.5) * 2.0**-32 for w in words]


def write_quantiles(golden: Path) -> None:
    """Write words that tell arithmetic apart, each branch, and both ends of each."""
    weyl = [k * 2654435761 % 2**32 for k in range(200)]
    # sqrt(1/2) splits the logarithm, r = 5 the tail: at exp(-25).
    split = [math.ldexp(0.7071067811865476, e) for e in (-4, -5, -20, -34)]
    around = [f(p) for p in split for f in (lambda p: math.nextafter(p, 0.0), float)]
    far = 1.3887943864964021e-11
    rows: list[tuple[str, Sequence[float], tuple[str, ...], str]] = [
        ("smallest-and-largest-words", uniforms(EXTREMES), ("tail",), ""),
        ("around-zero", [*uniforms(MIDDLE), 0.5], (), "p = 1/2 gives 0"),
        ("edge-of-the-centre", [*uniforms(EDGE_OF_THE_CENTRE), 0.075, 0.925], (), ""),
        ("fused-multiply-add", uniforms(FUSED), ("arithmetic",), "contraction changes these"),
        ("extended-precision", uniforms(EXTENDED), ("arithmetic",), "80 bits change these"),
        ("division-before-multiplication", uniforms(ORDER), ("arithmetic",), ""),
        (
            "square-root-not-correctly-rounded",
            uniforms(SQUARE_ROOT),
            ("arithmetic",),
            "torch.sqrt on a CPU is one unit off for some of these",
        ),
        ("halfway-between-two-float32", uniforms(HALFWAY), ("tie",), ""),
        ("many-words", uniforms(weyl), (), "an even spread of words"),
        ("split-of-the-logarithm", around, (), "m = sqrt(1/2) and just below"),
        (
            "far-tail",
            [1e-11, 1e-20, 1e-100, 1e-300, 5e-324, 0.9999999999999999],
            ("tail",),
            "beyond all words: the coefficients E and F",
        ),
        ("edge-of-the-far-tail", [far * 1.0001, far * 0.9999], ("tail",), "r = 5"),
    ]
    cases = [
        make_case(
            f"numerics/normal_quantile/{name}",
            {"p": np.array(p)},
            {"z": np.array([spec_decoder.quantile(x) for x in p])},
            {"z": EXACT},
            flags=flags,
            note=note,
        )
        for name, p, flags, note in rows
    ]
    write_file(
        golden,
        "numerics",
        "normal_quantile",
        source="the program of docs/SPEC.md section 6 in plain Python floats; within 1e-15 of the"
        " quantile by mpmath",
        notes={
            "arithmetic": "differs in the last bit with fused multiply-add, 80-bit"
            " registers or another order",
            "tail": "|p - 1/2| > 0.425: the quantile needs the logarithm",
            "tie": "halfway between two float32, so the last bit of float64 decides the rounding",
        },
        cases=cases,
    )


# --- the codebook


def codebook_case(
    name: str, seed: int, indices: Sequence[int], dimension: int, **more: Any
) -> Case:
    """Return a case of codebook."""
    rows = [
        [spec_decoder.normal(w) for w in spec_decoder.words(seed, 3, k, dimension)] for k in indices
    ]
    return make_case(
        f"numerics/codebook/{name}",
        {"seed": seed, "indices": np.array(indices), "dimension": dimension},
        {"rows": np.array(rows, dtype=np.float32)},
        {"rows": EXACT},
        **more,
    )


# (seed, index, position) of words whose normals common slips get wrong, found by search.
HARD_PLACES = (
    ("fused-multiply-add", 3, 10887398, 3, 0x20F8A25E),
    ("fused-multiply-add-again", 10, 4629153, 4, 0x20F8A25E),
    ("extended-precision", 32, 8042166, 0, 0xB8172ADE),
    ("rounds-halfway-up", 15, 14880140, 3, 0x113E7B38),
    ("rounds-halfway-up-again", 32, 16420051, 0, 0x27E5A16C),
    ("rounds-halfway-down", 29, 15217350, 3, 0x517A115C),
    ("largest-normal", 37, 9732108, 5, 0x00000000),
    ("nearest-zero-below", 0, 4961839, 4, 0x7FFFFFFF),
    ("nearest-zero-above", 4, 16466165, 4, 0x80000000),
)


def write_codebooks(golden: Path) -> None:
    """Write ordinary rows, edges of the address, and words that tell arithmetic apart."""
    cases = [
        codebook_case("worked-example", 7, (9, 31, 18), 3, note="docs/SPEC.md section 9.2"),
        codebook_case("first-row", 0, (0,), 8),
        codebook_case("dimension-1", 1, (0, 1, 2, 3), 1),
        codebook_case("dimension-no-multiple-of-4", 300, (5, 4), 30),
        codebook_case("unordered-and-repeated-indices", 1, (16383, 2, 16383, 0), 5),
        codebook_case("largest-index-of-24-bits", 1, (2**24 - 1,), 6),
        codebook_case("largest-seed", 2**32 - 1, (0, 77), 9),
    ]
    for name, seed, index, position, word in HARD_PLACES:
        assert spec_decoder.words(seed, 3, index, position + 1)[position] == word
        flags = ("arithmetic",) if name.startswith(("fused", "extended")) else ()
        note = f"position {position} comes from the word {word:08x}"
        case = codebook_case(name, seed, (index,), position + 1, flags=flags, note=note)
        cases.append(case)
    write_file(
        golden,
        "numerics",
        "codebook",
        source="the program of docs/SPEC.md sections 4 to 6 in plain Python",
        notes={"arithmetic": "differs with fused multiply-add or with 80-bit registers"},
        cases=cases,
    )


# --- s(x) and its slope

ULPS = {"float64": {"ulp": 4}, "float32": {"ulp": 8}}
DENORMAL = "a subnormal number: a backend that flushes them to zero fails here alone"


def write_log_s(golden: Path) -> None:
    """Write x from 0 and subnormals to 1e150; s itself underflows long before."""
    rows: list[tuple[str, Any, tuple[str, ...], tuple[str, ...], str]] = [
        ("zero", [0.0], BOTH, ("branch-point",), "log s(0) = 0"),
        ("branch-point", logspace(-10, -1, 37), BOTH, ("branch-point",), "s is near 1"),
        ("far-into-the-branch-point", logspace(-36, -11, 26), BOTH, ("branch-point",), ""),
        (
            "square-underflows",
            logspace(-37, -19, 19),
            BOTH,
            ("branch-point", "underflow"),
            "x^2 underflows float32, log s = -sqrt(2) x does not",
        ),
        (
            "square-underflows-in-double",
            [float(f"1e{e}") for e in range(-307, -150, 12)],
            DOUBLE,
            ("branch-point", "underflow"),
            "",
        ),
        ("principal-branch", single(np.arange(1, 41) / 16), BOTH, (), "s < 1: W0, not W-1"),
        ("middle", logspace(-1, 1, 41), BOTH, (), "where a series hands over to exp"),
        (
            "underflow",
            single([5.0, 9.25, 9.5, 10.0, 13.0, 26.5, 26.625, 30.0, 37.5, 40.0]),
            BOTH,
            ("underflow",),
            "s underflows float32 from x = 9.3 on and float64 from 26.6 on, log s does not",
        ),
        ("tail", logspace(1, 15, 29), BOTH, ("tail",), "log s tends to -1 - x^2"),
        ("tail-in-double", [float(f"1e{e}") for e in range(20, 151, 10)], DOUBLE, ("tail",), ""),
        ("denormal", [5e-324, 1e-310, 2e-308], DOUBLE, ("denormal", "branch-point"), ""),
        (
            "denormal-of-float32",
            single([2.0**-149, 1e-42, 1e-39]),
            BOTH,
            ("denormal", "branch-point"),
            "",
        ),
    ]
    cases = [
        make_case(
            f"numerics/log_s/{name}",
            {"x": np.array(x)},
            {"log_s": to_floats([gaussians.log_s(mpf(float(v))) for v in x])},
            {"log_s": {d: ULPS[d] for d in dtypes}},
            dtypes=dtypes,
            flags=flags,
            note=note,
        )
        for name, x, dtypes, flags, note in rows
    ]
    write_file(
        golden,
        "numerics",
        "log_s",
        source="mpmath, 50 digits: Newton's method on s - log s = 1 + x^2",
        notes={
            "branch-point": "x near 0, where W0 has an infinite slope and terms cancel",
            "underflow": "an intermediate that a careless formula needs underflows",
            "tail": "x^2 far above 1",
            "denormal": DENORMAL,
        },
        cases=cases,
    )


def write_slopes(golden: Path) -> None:
    """Write ds/dx, with its limit -sqrt 2 and its exponential tail."""
    near = {"float64": {"ulp": 8}, "float32": {"ulp": 16}}
    tail, far_tail = relative(1e-13, 2e-5), relative(1e-12, 2e-5)
    rows: list[tuple[str, Any, tuple[str, ...], tuple[str, ...], Any, str]] = [
        ("zero", [0.0], BOTH, ("branch-point",), near, "the limit -sqrt(2), not 0 and not 0 / 0"),
        ("branch-point", logspace(-10, -1, 37), BOTH, ("branch-point",), near, ""),
        (
            "far-into-the-branch-point",
            logspace(-36, -11, 26),
            BOTH,
            ("branch-point",),
            near,
            "1 - s rounds to 0",
        ),
        ("middle", logspace(-1, 0.3, 27), BOTH, (), near, "-2 x s / (1 - s)"),
        ("tail", single(np.arange(4, 19) / 2), BOTH, ("tail",), tail, "s falls as exp(-1 - x^2)"),
        ("tail-in-double", np.arange(20, 53) / 2, DOUBLE, ("tail",), far_tail, ""),
        ("underflow", single([40.0, 1e4]), BOTH, ("underflow",), near, "0, not inf times 0"),
        ("denormal", [5e-324, 1e-310], DOUBLE, ("denormal", "branch-point"), near, ""),
        (
            "denormal-of-float32",
            single([2.0**-149, 1e-39]),
            BOTH,
            ("denormal", "branch-point"),
            near,
            "",
        ),
    ]
    cases = [
        make_case(
            f"numerics/ds_dx/{name}",
            {"x": np.array(x)},
            {"slope": to_floats([gaussians.slope(mpf(float(v))) for v in x])},
            {"slope": {d: bound[d] for d in dtypes}},
            dtypes=dtypes,
            flags=flags,
            note=note,
        )
        for name, x, dtypes, flags, bound, note in rows
    ]
    write_file(
        golden,
        "numerics",
        "ds_dx",
        source="mpmath, 50 digits: central differences of s(x), of which the formula knows nothing",
        notes={
            "branch-point": "x near 0, where the slope tends to -sqrt(2)",
            "underflow": "s is below every float",
            "tail": "s = exp(log s): an ulp of log s is many of s",
            "denormal": DENORMAL,
        },
        cases=cases,
    )


# --- the divergence


def write_gaussian_kl(golden: Path) -> None:
    """Write mean and variance apart and together, from 1e-24 nats to 1e10."""
    tiny = [v for e in range(-12, -1) for v in (float(f"1e{e}"), float(f"-1e{e}"))]
    deltas, logs = np.meshgrid(
        [-3.0, -0.5, 0.0, 0.125, 2.0], [-20.0, -3.0, -0.75, 0.0, 0.5, 2.0], indexing="ij"
    )
    rows: list[tuple[str, Any, Any, tuple[str, ...], tuple[str, ...], str]] = [
        ("both", deltas, logs, BOTH, (), "KL[Q || P], in nats, with the half"),
        ("of-equals", [0.0], [0.0], BOTH, (), "0"),
        ("mean-alone", single([1e-10, 1e-3, -1.0, 5.0, 1e5]), [0.0] * 5, BOTH, (), "delta^2 / 2"),
        ("near-s-1", [0.0] * 22, single(tiny), BOTH, ("cancellation",), "log^2 s / 4"),
        (
            "budgets-of-1e-24-nats",
            single(np.array([1e-12, -1e-12, 3e-11])),
            single(np.array([1e-12, -1e-12, -2e-11])),
            BOTH,
            ("cancellation",),
            "mean and variance spend alike",
        ),
        (
            "hand-over-of-a-series",
            [0.0] * 8,
            single([-0.02, 0.02, -0.0199, 0.1, -0.1, -0.5, 0.5, -0.49]),
            BOTH,
            ("cancellation",),
            "",
        ),
        (
            "underflow",
            single([0.0, 1.0, 0.0, 37.0]),
            single([-90.0, -110.0, -750.0, -1401.0]),
            BOTH,
            ("underflow",),
            "s underflows, log s counts",
        ),
        ("wider-than-p", single([0.0, 1.0]), single([10.0, 20.0]), BOTH, ("tail",), "s > 1"),
        ("tail", single([1e5, -3e4]), single([-1e4, -1e9]), BOTH, ("tail",), ""),
        ("tiny-in-double", [1e-150, 0.0], [0.0, -1e-150], DOUBLE, ("cancellation",), ""),
    ]
    bound = {"float64": {"relative": 5e-15}, "float32": {"relative": 2e-6}}
    cases = []
    for name, means, logarithms, dtypes, flags, note in rows:
        delta, log_variance = np.array(means), np.array(logarithms)
        pairs = zip(delta.ravel().tolist(), log_variance.ravel().tolist(), strict=True)
        with mpmath.workdps(400):
            want = to_floats([gaussians.kl(mpf(d), mpf(ls)) for d, ls in pairs])
        cases.append(
            make_case(
                f"numerics/gaussian_kl/{name}",
                {"delta": delta, "log_s": log_variance},
                {"kl": want.reshape(delta.shape)},
                {"kl": {d: bound[d] for d in dtypes}},
                dtypes=dtypes,
                flags=flags,
                note=note,
            )
        )
    write_file(
        golden,
        "numerics",
        "gaussian_kl",
        source="mpmath, 400 digits: (delta^2 + s - 1 - log s) / 2",
        notes={
            "cancellation": "s - 1 - log s is a small difference of large terms",
            "underflow": "s is below every float, log s is not",
            "tail": "large parameters",
        },
        cases=cases,
    )
