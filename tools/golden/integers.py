"""The range coder of docs/SPEC.md section 2.7, its L an integer of any size, and its cases.

The reader that checks it, `spec_decoder.read_integers`, was written apart from it.
"""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from golden.writer import make_case, write_file

Case = dict[str, Any]

EXACT = {"exact": 0}
SINCE = "1.2"
HALF = 32768
LARGEST = 2**62 - 1
SOURCE = "docs/SPEC.md section 2.7 in plain Python, with integers of any size"
NOTES = {
    "carry": "a carry runs through a byte ff that was written before",
    "long-end": "the code word has N + 2 bytes, not N + 1",
}


# --- the code


@functools.lru_cache(maxsize=2**12)
def decisions(m: int, theta: int, raw: int) -> tuple[tuple[int, int], ...]:
    """Return bit and probability of the decisions of an integer, `raw` low bits of it first."""
    n, j = divmod(m, 2**raw)
    head = f"{j:b}".zfill(raw) if raw else ""
    below = f"{n:b}"[1:]
    return (
        *((int(bit), HALF) for bit in head),
        *((1, theta) for _ in below),
        (0, theta),
        *((int(bit), HALF) for bit in below),
    )


def states(values: Sequence[int], theta: int, raw: int = 0) -> Iterator[tuple[int, int, int]]:
    """Yield L, R and N at the start and behind each decision."""
    low, width, count = 0, 2**32 - 1, 0
    yield low, width, count
    for m in values:
        for bit, p in decisions(m, theta, raw):
            bound = width // 2**16 * p
            if bit:
                width = bound
            else:
                low, width = low + bound, width - bound
            while width < 2**24:
                low, width, count = 256 * low, 256 * width, count + 1
            yield low, width, count


def interval(values: Sequence[int], theta: int, raw: int = 0) -> tuple[int, int, int]:
    """Return L, R and N behind the last decision."""
    (last,) = collections.deque(states(values, theta, raw), maxlen=1)
    return last


def code_word(values: Sequence[int], theta: int, raw: int = 0) -> bytes:
    """Return the code word."""
    low, width, count = interval(values, theta, raw)
    for k in (count + 1, count + 2):
        unit = 256 ** (count + 4 - k)
        v = -(-low // unit)
        if (v + 1) * unit <= low + width:
            return v.to_bytes(k, "big")
    raise ValueError("the last interval holds no code word")


def next_word(values: Sequence[int], theta: int, raw: int = 0) -> bytes:
    """Return the word behind the code word, which names the same integers.

    Raises
    ------
    ValueError
        If it does not.
    """
    word = code_word(values, theta, raw)
    low, width, count = interval(values, theta, raw)
    v = int.from_bytes(word, "big") + 1
    if (v + 1) * 256 ** (count + 4 - len(word)) > low + width:
        raise ValueError("the next word names other integers")
    return v.to_bytes(len(word), "big")


# --- the cases


def spread(count: int, largest: int) -> list[int]:
    """Return integers of all sizes up to `largest` bits."""
    out = []
    for t in range(count):
        x = (t + 1) * 2654435761 % 2**32
        e = x * (largest + 1) // 2**32
        out.append(2**e + (x * 0x9E3779B97F4A7C15 + t) % 2**e)
    return out


def search(theta: int, has: Callable[[Sequence[int], int], bool]) -> list[int]:
    """Return the first of some lists that has a property."""
    for start in range(10_000):
        values = [1 + x * x % 7 for x in range(start % 97, start % 97 + 24)] + [start + 1]
        if has(values, theta):
            return values
    raise ValueError("no list has the property")


def has_carry(values: Sequence[int], theta: int) -> bool:
    """Tell whether a decision adds 1 to what stands before a byte ff."""
    for before, after in itertools.pairwise(states(values, theta)):
        old, new = before[0] >> 32, after[0] >> (32 + 8 * (after[2] - before[2]))
        if new == old + 1 and old % 256 == 255:
            return True
    return False


def has_long_end(values: Sequence[int], theta: int) -> bool:
    """Tell whether N + 1 bytes are not enough."""
    return len(code_word(values, theta)) == interval(values, theta)[2] + 2


LISTS: tuple[tuple[str, Sequence[int], int, int, tuple[str, ...], str], ...] = (
    ("worked-example", (1, 3, 200), 36864, 0, (), "docs/SPEC.md section 2.7: b3 9e 74"),
    ("nodes-of-a-file", (1, 6, 2, 1, 3, 1, 45, 1), 34696, 0, (), "docs/SPEC.md section 9.3"),
    ("no-integers", (), 1000, 0, (), "one byte all the same"),
    ("one", (1,), 32768, 0, (), ""),
    ("ones-at-little-cost", (1,) * 500, 1, 0, (), "theta 1: a 0 costs next to nothing"),
    ("ones-at-great-cost", (1,) * 40, 65535, 0, (), "theta 65535: a 0 costs sixteen bits"),
    ("larger-at-great-cost", (2, 2**20, 3), 1, 0, (), "theta 1: each 1 costs sixteen bits"),
    ("larger-at-little-cost", (LARGEST, 2**61), 65535, 0, (), "theta 65535"),
    ("largest-integers", (LARGEST, 1, LARGEST - 1, 2**61), 60000, 0, (), "e = 61"),
    ("all-sizes", spread(60, 61), 63000, 0, (), ""),
    ("many-small", spread(1500, 6), 50000, 0, (), "more than a thousand bytes"),
    ("powers-of-two", [2**e for e in range(62)], 62000, 0, (), ""),
    ("carry", search(41000, has_carry), 41000, 0, ("carry",), ""),
    ("two-bytes-at-the-end", search(52000, has_long_end), 52000, 0, ("long-end",), ""),
    ("raw-1", (2, 3, 4, 5, 1001), 40000, 1, (), "the low bit of each comes first"),
    ("raw-16", [n << 16 | n * 40503 % 2**16 for n in spread(20, 9)], 45000, 16, (), ""),
    ("raw-24-largest", (LARGEST, 2**24, 2**56 + 1), 61000, 24, (), "e = 37"),
)


def int64(values: Sequence[int]) -> Any:
    """Return integers as an array."""
    return np.array(list(values), dtype=np.int64)


def write_read_integers(golden: Path) -> None:
    """Write code words; then bytes that are the code word of no list of that length."""

    def case(name: str, values: Sequence[int], theta: int, raw: int, *rest: Any) -> Case:
        flags, note = rest
        inputs = reader_inputs(code_word(values, theta, raw), len(values), theta, raw)
        return make_case(
            f"bits/read_integers/{name}",
            inputs,
            {"integers": int64(values)},
            {"integers": EXACT},
            flags=flags,
            note=note,
            since=SINCE,
        )

    cases = [case(*row) for row in LISTS]
    cases += [
        make_case(f"bits/read_integers/{name}", inputs, fault=fault, since=SINCE)
        for name, fault, inputs in unreadable()
    ]
    from golden import hostile  # noqa: PLC0415 (which needs this module)

    cases += hostile.cases_of_integers()
    write_file(golden, "bits", "read_integers", source=SOURCE, notes=NOTES, cases=cases)


def reader_inputs(payload: bytes, count: int, theta: int, raw: int = 0) -> dict[str, Any]:
    """Return the arguments of read_integers."""
    return {"payload": payload, "count": count, "theta": theta, "raw": raw}


def unreadable() -> list[tuple[str, str, dict[str, Any]]]:
    """Return name, fault and arguments of what a reader must refuse."""
    example, theta = (1, 3, 200), 36864
    word = code_word(example, theta)
    cut, behind = "the integers are cut off", "bytes behind the end"
    other, large = "not the code word of its integers", "integer out of range"
    flipped = word[:-1] + bytes([word[-1] ^ 1])
    rows = [
        ("empty", cut, b"", 3, theta, 0),
        ("cut-off", cut, word[:-1], 3, theta, 0),
        ("one-integer-more", cut, word, 4, theta, 0),
        ("many-integers-more", cut, word, 10**6, theta, 0),
        ("zero-behind-the-end", behind, word + b"\0", 3, theta, 0),
        ("bytes-behind-the-end", behind, word + b"more", 3, theta, 0),
        ("one-integer-less", behind, code_word((*example, 9, 9), theta), 4, theta, 0),
        ("no-integers-but-two-bytes", behind, bytes(2), 0, theta, 0),
        ("not-the-lowest-word", other, next_word((1, 1, 1), 30000), 3, 30000, 0),
        ("last-bit-flipped", other, flipped, 3, theta, 0),
        ("integer-2-to-the-62", large, code_word((2**62,), 60000), 1, 60000, 0),
        ("integer-2-to-the-80", large, code_word((5, 2**80), 65000), 2, 65000, 0),
        ("raw-24-integer-2-to-the-62", large, code_word((2**62 + 9,), 60000, 24), 1, 60000, 24),
        ("theta-0", "theta out of range", word, 3, 0, 0),
        ("theta-65536", "theta out of range", word, 3, 65536, 0),
    ]
    return [(name, fault, reader_inputs(*rest)) for name, fault, *rest in rows]


def write_write_integers(golden: Path) -> None:
    """Write the same lists, and integers that no code word has."""

    def inputs(values: Sequence[int], theta: int, raw: int) -> dict[str, Any]:
        return {"integers": int64(values), "theta": theta, "raw": raw}

    def case(name: str, values: Sequence[int], theta: int, raw: int, *rest: Any) -> Case:
        flags, note = rest
        return make_case(
            f"bits/write_integers/{name}",
            inputs(values, theta, raw),
            {"payload": code_word(values, theta, raw)},
            {"payload": EXACT},
            flags=flags,
            note=note,
            since=SINCE,
        )

    integer, theta = "integer out of range", "theta out of range"
    refused = (
        ("integer-0", integer, (1, 0, 3), 30000, 0),
        ("integer-negative", integer, (1, -1), 30000, 0),
        ("integer-2-to-the-62", integer, (1, 2**62), 30000, 0),
        ("integer-below-its-raw-bits", integer, (16, 15), 30000, 4),
        ("raw-24-integer-2-to-the-62", integer, (2**62,), 30000, 24),
        ("theta-0", theta, (1, 2), 0, 0),
        ("theta-65536", theta, (1, 2), 65536, 0),
        ("theta-negative", theta, (1, 2), -1, 0),
    )
    cases = [case(*row) for row in LISTS]
    cases += [
        make_case(f"bits/write_integers/{name}", inputs(*rest), fault=fault, since=SINCE)
        for name, fault, *rest in refused
    ]
    write_file(golden, "bits", "write_integers", source=SOURCE, notes=NOTES, cases=cases)
