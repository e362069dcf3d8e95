"""Since 1.3: what faults that were planted without a look at the cases showed to be missing.

Since 1.7: what reading the backends did.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from golden import codes, coding, edges, gaussians, integers, selection
from golden.containers import SMALL, body_of, seal
from golden.edges import SINCE, new_case
from golden.related import digits
from golden.sources import noise, spec_decoder, to_floats
from golden.tiles import EXACT_IN_BOTH
from golden.tiles_of_codes import TRIES
from golden.writer import BOTH, later, make_case
from mpmath import mpf

Case = dict[str, Any]

WORD = 2**32

# --- bits


@later("philox4x32")
def philox() -> list[Case]:
    """Products whose lower half is all ones: as a float64 their upper half is rounded up."""
    c0, c2 = (-pow(m, -1, WORD) % WORD for m in (0xD2511F53, 0xCD9E8D57))
    counters = [(c0, 1, 2, 3), (1, 2, c2, 3), (c0, 0, c2, 0)]
    return [edges.philox_case("products-next-to-a-power", counters, (5, 6))]


def no_streams(operation: str, inputs: dict[str, int]) -> list[Case]:
    """Return cases of numbers that no stream has: a stream's is a word of the key."""
    return [
        make_case(f"bits/{operation}/{name}", posed, fault=fault, since="1.7")
        for name, posed, fault in edges.no_word(inputs, "stream")
    ]


@later("stream_words")
def stream_words() -> list[Case]:
    """Pose streams that are none."""
    return no_streams("stream_words", edges.address(300, 4, 2, 0, 6))


@later("stream_permutation")
def stream_permutation() -> list[Case]:
    """Pose streams that are none."""
    return no_streams("stream_permutation", {"seed": 3, "stream": 5, "row": 0, "count": 12})


@later("pack_indices")
def pack_indices() -> list[Case]:
    """No index at all."""
    inputs = {"indices": np.array([], dtype=np.int64), "bits": 7}
    return [new_case("bits/pack_indices", "no-indices", inputs, {"payload": b""})]


def longest_carry(values: list[int], theta: int) -> int:
    """Return how many bytes ff a carry runs through at most."""
    longest, before = 0, None
    for now in integers.states(values, theta):
        if before is not None:
            old, new = before[0] >> 32, now[0] >> (32 + 8 * (now[2] - before[2]))
            if new == old + 1:
                run = 0
                while old % 256 == 255:
                    old, run = old // 256, run + 1
                longest = max(longest, run)
        before = now
    return longest


CARRY_THETA = 41000


def holds(values: list[int], point: int) -> bool:
    """Tell whether `point` / 256 is a code word of integers that begin with these."""
    low, width, count = integers.interval(values, CARRY_THETA)
    return low <= point * 256 ** (count + 3) < low + width


def carries_far() -> list[int]:
    """Return integers whose code word stays just below 80 00 00, then steps over it."""
    values: list[int] = []
    while len(values) < 40:
        for last in range(1, 60):
            if longest_carry([*values, last], CARRY_THETA) >= 2:
                return [*values, last, 3, 1]
        values.append(next(m for m in range(1, 10_000) if holds([*values, m], 0x80)))
    raise ValueError("no list carries that far")


@later("write_integers")
def write_integers() -> list[Case]:
    """Pose a carry through several bytes."""
    values = carries_far()
    inputs = {"integers": np.array(values), "theta": CARRY_THETA, "raw": 0}
    outputs = {"payload": integers.code_word(values, CARRY_THETA)}
    note = "a carry runs through two bytes ff"
    return [new_case("bits/write_integers", "carry-through-two-bytes", inputs, outputs, note=note)]


@later("read_container")
def read_container() -> list[Case]:
    """Pose flags whose upper bits no layout has."""
    body, cases = body_of(SMALL), []
    for bit in (4, 5, 6, 7):
        flags = body[6] | 1 << bit
        if (flags >> 4) <= 2:  # a layout after all
            continue
        data = seal(body[:6] + bytes([flags]) + body[7:])
        cases.append(new_case("bits/read_container", f"flag-{bit}", {"data": data},
                              fault="unknown layout flags"))  # fmt: skip
    return cases


# --- numerics


def log_of_quantile(p: float, terms: int) -> float:
    """Return the logarithm of docs/SPEC.md section 6.2, with so many terms of its series."""
    m, e = math.frexp(p)
    if m < 0.7071067811865476:
        m, e = m + m, e - 1
    f = (m - 1.0) / (m + 1.0)
    value = 0.0
    for k in range(2 * terms - 1, 0, -2):
        value = value * (f * f) + 1.0 / k
    return 2.0 * f * value + e * 0.6931471805599453


def quantile_of_tail(p: float, logarithm: float, far: bool) -> float:
    """Return z of a small p by a logarithm of its own and a chosen pair of polynomials."""
    r = math.sqrt(-logarithm)
    top, bottom = spec_decoder.FAR if far else spec_decoder.MIDDLE
    x = r - (5.0 if far else 1.6)
    return -(spec_decoder.polynomial(top, x) / spec_decoder.polynomial(bottom, x))


@later("normal_quantile")
def normal_quantile() -> list[Case]:
    """Pose r = 5 to the last bit, and numbers that show the last term of the series."""
    p, at_five = math.exp(-25.0), []
    for _ in range(4000):
        p = math.nextafter(p, 0.0)
    for _ in range(8000):
        p = math.nextafter(p, 1.0)
        logarithm = log_of_quantile(p, 11)
        if math.sqrt(-logarithm) == 5.0 and (
            quantile_of_tail(p, logarithm, far=True) != spec_decoder.quantile(p)
        ):
            at_five.append(p)
    shown = []
    for k in range(40000):
        p = (k + 0.5) * 2.0**-20
        short = quantile_of_tail(p, log_of_quantile(p, 10), far=False)
        if p < 0.07 and short != spec_decoder.quantile(p):
            shown.append(p)
    if not (at_five and shown):
        raise ValueError("no number shows the end of the middle, or the last term")
    rows = (
        ("end-of-the-middle", at_five[:3], "r is 5 to the last bit: the middle polynomials"),
        ("last-term-of-the-logarithm", shown[:5], "ten terms of the series give others"),
    )
    return [
        new_case("numerics/normal_quantile", name, {"p": np.array(values)},
                 {"z": np.array([spec_decoder.quantile(v) for v in values])}, note=note)
        for name, values, note in rows
    ]  # fmt: skip


@later("gaussian_kl")
@digits
def gaussian_kl() -> list[Case]:
    """Variances where a series around s = 1 does not do any more."""
    log_s = np.array([[-1.0, -1.5, -1.875, -1.9375, 1.5, 1.875]])
    kl = [[gaussians.kl(mpf(0), mpf(float(v))) for v in log_s[0]]]
    bound = {"float64": {"relative": 1e-14}, "float32": {"relative": 2e-6}}
    return [
        make_case(
            "numerics/gaussian_kl/beyond-a-series",
            {"delta": np.zeros_like(log_s), "log_s": log_s},
            {"kl": to_floats(kl)},
            {"kl": bound},
            dtypes=BOTH,
            note="17 terms of a series in log s are off by 1e-11 at 2",
            since=SINCE,
        )
    ]


# --- posterior


@later("mean_var_backward")
@digits
def mean_var_backward() -> list[Case]:
    """As many blocks as places, each block with a beta of its own."""
    shape = (3, 3)
    given = {k: noise(1001 + i, shape, 0.25) for i, k in enumerate(("mu", "log_sigma", "rho"))}
    given["rho"] = np.abs(given["rho"]) + 0.5
    given["beta"] = np.array([0.25, 1.0, 3.0])
    given |= {"eps": noise(1005, shape), "g": noise(1006, shape)}
    exact = [
        [mpf(float(b)) for b in v] if v.ndim == 1 else gaussians.numbers(v) for v in given.values()
    ]
    names = ("dmu", "dlog_sigma", "dlog_rho")
    found = dict(zip(names, map(to_floats, gaussians.mean_var_backward(*exact)), strict=True))
    bound = {"float64": {"scaled": 1e-13}, "float32": {"scaled": 5e-6}}
    return [
        make_case("posterior/mean_var_backward/as-many-blocks-as-places", given, found,
                  dict.fromkeys(names, bound), dtypes=BOTH,
                  note="a beta for each place has the same shape", since=SINCE)
    ]  # fmt: skip


@later("expand_hash")
def expand_hash() -> list[Case]:
    """Pose a place above 65,535."""
    places = np.array([65536, 65537, 65535, 1, 0])
    signs = np.array([1, -1, 1, -1, 1])
    variables = np.zeros((1, 65538), dtype=np.float32)  # which float64 holds
    variables[0, [0, 1, -3, -2, -1]] = 1.0, 2.0, 3.0, 4.0, 5.0
    inputs = {"variables": variables, "places": places, "signs": signs}
    w = signs * variables[0, places].astype(np.float64)
    return [
        make_case("posterior/expand_hash/place-2-to-the-16", inputs, {"w": w},
                  {"w": EXACT_IN_BOTH}, dtypes=BOTH, note="a place cut to 16 bits is another",
                  since=SINCE)
    ]  # fmt: skip


# --- coding

# Seed, bits and the first block that has a word within 12 of 2^32; found by search.
NEAR_ONE = 94, 8, 14493


@later("select_indices")
@digits
def select_indices() -> list[Case]:
    """Pose a word near 2^32 whose index wins by less than half a unit of it gives."""
    seed, width, block = NEAR_ONE
    words = spec_decoder.words(seed, selection.SELECTION, block, 2**width)
    k = max(range(2**width), key=words.__getitem__)
    below = -math.log(-math.log(words[k] / WORD))  # without the half
    for step in range(-4000, 4000):
        delta, log_s = np.array([[step / 512]]), np.array([[-0.5]])
        try:
            case = coding.selection_case("half-a-unit-of-a-word", seed, width, (block,), delta,
                                         log_s)  # fmt: skip
        except ValueError:
            continue
        lost = float(selection.gumbel(words[k])) - below
        if case["outputs"]["indices"][0] == k and 0.01 < case["gap"] < lost - 0.01:
            return [{**case, "since": SINCE, "note": "u is (word + 1/2) / 2^32, not word / 2^32"}]
    raise ValueError("no target is decided by half a unit")


def widest_targets(seed: int, count: int, mean: float, log_s: float = -0.5) -> Any:
    """Return targets nearly as wide as P, whose ratio is far larger beyond their mean."""
    delta = mean + 0.125 * np.abs(noise(seed, (count, 1), 1.0))
    return delta, np.full((count, 1), log_s)


def later_than_the_mean(operation: str, bits_: int | None) -> Case:
    """Return a case in which a bound by the ratio at the mean would end the search too early."""
    for seed in TRIES:
        targets = widest_targets(1100 + seed, 6, 2.0)
        try:
            case = codes.arrival_case("bound-beyond-the-mean", 95 + seed, bits_, range(6), targets)
        except ValueError:
            continue
        if max(case["outputs"]["indices"].tolist()) > 40:
            return {**case, "since": SINCE, "note": "the ratio is largest beyond the mean of Q"}
    raise ValueError("some decision is always close, or the search soon over")


@later("ordered_indices")
@digits
def ordered_indices() -> list[Case]:
    """Bounds that end the search."""
    return [later_than_the_mean("ordered_indices", 11)]


@later("poisson_indices")
@digits
def poisson_indices() -> list[Case]:
    """Pose the same without an end."""
    return [later_than_the_mean("poisson_indices", None)]


@later("partition_messages")
@digits
def partition_messages() -> list[Case]:
    """Many candidates of two bins: their numbers go on to the end of the search."""
    for seed in TRIES:
        targets = coding.posterior(1300 + 2 * seed, 3, 2, 7)
        try:
            case = codes.partition_case("many-of-a-bin", 97, 1, range(3), targets)
        except ValueError:
            continue
        return [{**case, "since": SINCE, "note": "a candidate is numbered within its bin"}]
    raise ValueError("some decision is always close")


@later("variable_messages")
@digits
def variable_messages() -> list[Case]:
    """Paths that must turn to the mode of the ratio, not to the mean or to 0."""
    for seed in TRIES:
        delta, log_s = widest_targets(1200 + seed, 12, 0.5, -0.25)
        targets = delta[:, 0].tolist(), log_s[:, 0].tolist()
        try:
            case = codes.message_case("gprs-s", "turns-to-the-mode", 96 + seed, range(12), targets)
        except ValueError:
            continue
        return [{**case, "since": SINCE, "note": "the mode of the ratio is far beyond the mean"}]
    raise ValueError("some decision is always close")
