"""Small code words and files that claim as much as they can, each refused in the end.

Their costs are those that docs/SPEC.md section 2.6 speaks of: a reader that draws or allocates by
what is claimed, or goes on where it should stop, is found by its time and memory.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from golden import containers
from golden.coded_files import NUMBERS
from golden.containers import Fault, Fields, header_of, seal
from golden.integers import code_word, reader_inputs
from golden.writer import make_case

SINCE = "1.3"
LARGEST_COUNT = 2**20
CUT, BEHIND = "the integers are cut off", "bytes behind the end"
OTHER, TOO_LARGE = "not the code word of its integers", "integer above 2^62 - 1"
TOO_MANY = "more than 2^20 integers"
# No hashing, and a last block of one variable: as many places as there can be.
LENET5 = Fields(1, 2, 431_079, 2**32 - 1, (1,) * 8, 24)
DENSE = replace(LENET5, block_size=1, factors=(1,) * 6, rho=containers.SCALES[:6], network=2)


def lists() -> list[tuple[str, str, bytes, int, int, int]]:
    """Return name, fault, payload, count, theta and raw bits of what `read_integers` refuses."""
    ones, above = (code_word((1,) * n, 1) for n in (LARGEST_COUNT, LARGEST_COUNT + 1))
    return [
        ("one-integer-above-the-limit", TOO_MANY, above, LARGEST_COUNT + 1, 1, 0),
        ("2-to-the-24-integers-of-one-byte", TOO_MANY, b"\x80", 2**24, 1, 0),
        ("2-to-the-40-integers", TOO_MANY, bytes(3), 2**40, 1, 0),
        ("raw-24-above-the-limit", TOO_MANY, bytes(4), LARGEST_COUNT + 1, 1, 24),
        ("the-most-integers-cut-off", CUT, ones[:1], LARGEST_COUNT, 1, 0),
        ("the-most-integers-and-4000-bytes", BEHIND, ones + bytes(4000), LARGEST_COUNT, 1, 0),
        ("four-bytes-ff", OTHER, b"\xff" * 5, 3, 30000, 0),
        ("four-bytes-ff-and-the-most-integers", OTHER, b"\xff" * 4, LARGEST_COUNT, 1, 0),
    ]


def sealed(fields: Fields, code: str, theta: int, word: bytes) -> bytes:
    """Return a file with these bytes for its code word."""
    head = header_of(fields, NUMBERS[code])
    return seal(head + theta.to_bytes(2, "little") + word)


@functools.cache
def files() -> tuple[Fault, ...]:
    """Return name, fault, bytes and note of files of at most 4 kB that a reader must refuse."""
    ones = code_word((1,) * LENET5.variables, 1)
    large = code_word((*(1,) * (LENET5.variables - 1), 2**62), 100)
    dense, rows = (*(1,) * DENSE.variables, 2**50), replace(LENET5, block_size=1)
    behind = sealed(rows, "orc", 1, ones + bytes(4000))
    note = "431,080 variables"
    return (
        ("hostile-gprs-s-one-byte", CUT, sealed(LENET5, "gprs-s", 1, ones[:1]), note),
        ("hostile-as-star-last-node-too-large", TOO_LARGE,
         sealed(LENET5, "as-star", 100, large), note),
        ("hostile-orc-4000-bytes-behind", BEHIND, behind, note),
        ("hostile-pfr-ff", OTHER, sealed(rows, "pfr", 1, b"\xff" * 4), note),
        ("hostile-sp-pfr-bits-24", CUT, sealed(rows, "sp-pfr", 1, b"\xaa" * 4000), note),
        ("hostile-lenet-300-100-grc-one-integer-more", BEHIND,
         sealed(DENSE, "grc", 1, code_word(dense, 1)), "266,610 variables"),
    )  # fmt: skip


def containers_of_indices() -> list[Fault]:
    """Return the same of code 0, for the readers of containers."""
    short = "shorter than its header calls for"
    rows = replace(LENET5, block_size=1)
    return [
        ("hostile-431080-indices-of-24-bits", short, seal(header_of(rows) + bytes(4000)), ""),
        ("hostile-lenet-300-100-266610-indices", short, seal(header_of(DENSE) + bytes(4000)), ""),
    ]


def cases(operation: str, faults: Iterable[Fault]) -> list[dict[str, Any]]:
    """Return cases whose only argument is a file."""
    return [
        make_case(f"{operation}/{name}", {"data": data}, fault=fault, note=note, since=SINCE)
        for name, fault, data, note in faults
    ]


def cases_of_integers() -> list[dict[str, Any]]:
    """Return cases of read_integers."""
    return [
        make_case(f"bits/read_integers/{n}", reader_inputs(*rest), fault=fault, since=SINCE)
        for n, fault, *rest in lists()
    ]
