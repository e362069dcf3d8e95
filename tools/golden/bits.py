"""Stage bits: exact answers for words, indices, containers and the layout of weights.

Random123's published vectors for Philox; plain Python integers written from docs/SPEC.md for
what is made of its words; files put together by hand, byte by byte, for the container.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from golden import containers, hostile, integers
from golden.containers import Fields
from golden.sources import spec_decoder
from golden.writer import make_case, write_file

Case = dict[str, Any]

EXACT = {"exact": 0}
LARGEST = 2**32 - 1
FIXED_SEED = 20111115  # the default seed of C++26's std::philox4x32

# DEShawResearch/random123, tests/kat_vectors, philox4x32 10.
PUBLISHED = {
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": (
        (LARGEST, LARGEST, LARGEST, LARGEST),
        (LARGEST, LARGEST),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}


def uint32(values: Any) -> Any:
    """Return an array of words."""
    return np.array(values, dtype=np.uint32)


def write(golden: Path) -> None:
    """Write the files of the stage bits."""
    write_philox(golden)
    write_stream_words(golden)
    write_permutations(golden)
    write_pack_indices(golden)
    write_unpack_indices(golden)
    write_read_container(golden)
    write_write_container(golden)
    integers.write_read_integers(golden)
    integers.write_write_integers(golden)
    write_layouts(golden)


# --- Philox and the streams


def philox_case(name: str, counters: Any, key: Any, words: Any, **more: Any) -> Case:
    """Return a case of philox4x32."""
    return make_case(
        f"bits/philox4x32/{name}",
        {"counter": uint32(counters), "key": uint32(key)},
        {"words": uint32(words)},
        {"words": EXACT},
        **more,
    )


def write_philox(golden: Path) -> None:
    """Write known answers first; then one bit at a time, to tell apart words that are swapped."""
    cases = [
        philox_case(f"published-{name}", [counter], key, [words], flags=("published",))
        for name, (counter, key, words) in PUBLISHED.items()
    ]
    last = spec_decoder.philox4x32((2499, 0, 0, 0), (FIXED_SEED, 0))
    assert last[3] == 1955073260
    cases.append(
        philox_case(
            "published-cpp26-10000th-output",
            [(2499, 0, 0, 0)],
            (FIXED_SEED, 0),
            [last],
            flags=("published",),
            note="word 3 is 1955073260, the 10000th output of a default std::philox4x32",
        )
    )
    for number in range(2):
        key = [0, 0]
        key[number] = 0x80000000
        cases.append(one_bit(f"top-bit-of-key-word-{number}", [(0, 0, 0, 0)], key))
    units = [tuple(int(i == j) for j in range(4)) for i in range(4)]
    cases.append(one_bit("one-in-each-counter-word", units, (0, 0)))
    high = [tuple(0x80000000 * c for c in unit) for unit in units]
    cases.append(one_bit("top-bit-of-each-counter-word", high, (1, 2)))
    cases.append(
        one_bit(
            "key-increment-wraps",
            [(7, 0, 0, 0), (LARGEST, 1, 2, 3)],
            (0x61C88647, 0x44984A7B),
            note="after the first round the key is (0, 0): sums are modulo 2^32",
        )
    )
    write_file(
        golden,
        "bits",
        "philox4x32",
        source="Random123 tests/kat_vectors and C++26 [rand.predef] where flagged; the rest"
        " computed in plain Python integers from docs/SPEC.md section 4.1",
        notes={"published": "a known answer that others published"},
        cases=cases,
    )


def one_bit(name: str, counters: Any, key: Any, **more: Any) -> Case:
    """Return a case of philox4x32 whose answer comes from plain Python."""
    words = [spec_decoder.philox4x32(c, key) for c in counters]
    return philox_case(name, counters, key, words, **more)


def stream_case(
    name: str, seed: int, stream: int, row: int, first: int, count: int, **more: Any
) -> Case:
    """Return a case of stream_words."""
    words = spec_decoder.words(seed, stream, row, first + count)[first:]
    return make_case(
        f"bits/stream_words/{name}",
        {"seed": seed, "stream": stream, "row": row, "first": first, "count": count},
        {"words": uint32(words)},
        {"words": EXACT},
        **more,
    )


def write_stream_words(golden: Path) -> None:
    """Write each part of the address in turn: seed, stream, row, place in the row."""
    cases = [
        stream_case("row-0-of-codebook", 0, 3, 0, 0, 6),
        stream_case("row-1-of-codebook", 0, 3, 1, 0, 6, note="the row is counter word 1"),
        stream_case("seed-1", 1, 5, 0, 0, 6, note="the seed is key word 0"),
        stream_case("largest-seed", LARGEST, 6, 4, 0, 6),
        stream_case("largest-row", 300, 4, LARGEST, 0, 5),
        stream_case("starts-within-a-block", 5, 4, 9, 3, 7, note="first is no multiple of 4"),
        stream_case("starts-at-a-block", 5, 4, 9, 4, 4),
        stream_case("one-word", 5, 4, 9, 6, 1),
        stream_case("far-into-a-row", 5, 4, 2, 4095, 9, note="first counts words, not blocks"),
    ]
    cases += [stream_case(f"stream-{s}", 12345, s, 2, 0, 8) for s in range(8)]
    write_file(
        golden,
        "bits",
        "stream_words",
        source="plain Python integers from docs/SPEC.md section 4.2",
        notes={},
        cases=cases,
    )


def permutation_of(seed: int, stream: int, row: int, count: int) -> list[int]:
    """Return the numbers below count sorted by their words; Python's sort is stable."""
    words = spec_decoder.words(seed, stream, row, count)
    return sorted(range(count), key=words.__getitem__)


def write_permutations(golden: Path) -> None:
    """Write sizes small and odd, and one where two words are equal."""
    rows = [
        ("worked-example", (7, 5, 0, 8), (), "docs/SPEC.md section 9.2"),
        ("one", (7, 5, 0, 1), (), ""),
        ("order-not-rank", (2, 5, 0, 5), (), "the sorted list, not the rank of each number"),
        ("unsigned-words", (3, 5, 0, 64), (), "words above 2^31 come after those below"),
        ("another-row", (3, 7, 20, 31), (), ""),
        (
            "equal-words-keep-their-order",
            (1462, 5, 0, 1000),
            ("tie",),
            "words 827 and 865 are equal",
        ),
    ]
    cases = [
        make_case(
            f"bits/stream_permutation/{name}",
            dict(zip(("seed", "stream", "row", "count"), address, strict=True)),
            {"permutation": np.array(permutation_of(*address))},
            {"permutation": EXACT},
            flags=flags,
            note=note,
        )
        for name, address, flags, note in rows
    ]
    write_file(
        golden,
        "bits",
        "stream_permutation",
        source="plain Python integers from docs/SPEC.md section 7.2",
        notes={"tie": "equal words: only a stable sort gives this answer"},
        cases=cases,
    )


# --- indices as bits


def spread_indices(bits: int, count: int) -> list[int]:
    """Return the upper bits of a Weyl sequence, the first two replaced by both extremes."""
    weyl = [(k * 2654435761 % 2**32) >> (32 - bits) for k in range(count)]
    return [2**bits - 1, 0, *weyl[2:]]


def write_pack_indices(golden: Path) -> None:
    """Write every width from 1 to 24 bits, and indices that do not fit."""

    def case(name: str, indices: Sequence[int], bits: int, **more: Any) -> Case:
        return make_case(
            f"bits/pack_indices/{name}",
            {"indices": np.array(indices, dtype=np.int64), "bits": bits},
            {"payload": containers.pack(indices, bits)},
            {"payload": EXACT},
            **more,
        )

    def refused(name: str, indices: Sequence[int], bits: int) -> Case:
        return make_case(
            f"bits/pack_indices/{name}",
            {"indices": np.array(indices, dtype=np.int64), "bits": bits},
            fault="index out of range",
        )

    cases = [case("worked-example", [9, 31, 18], 5, note="docs/SPEC.md section 2.3: 4f e4")]
    cases += [case(f"bits-{bits}", spread_indices(bits, 11), bits) for bits in range(1, 25)]
    cases += [
        case("one-index", [5], 3, note="the highest bit of an index comes first"),
        case("no-padding", [0x1234, 0xABCD], 16),
        refused("index-out-of-range-by-one", [3, 32], 5),
        refused("index-out-of-range-by-far", [0, 2**40], 14),
        refused("index-out-of-range-negative", [-1, 3], 5),
        refused("index-out-of-range-of-1-bit", [0, 1, 2], 1),
    ]
    write_file(
        golden,
        "bits",
        "pack_indices",
        source="strings of 0 and 1 in plain Python, from docs/SPEC.md section 2.3",
        notes={},
        cases=cases,
    )


def write_unpack_indices(golden: Path) -> None:
    """Write every width from 1 to 24 bits, and payloads of another length or with padding set."""

    def case(name: str, indices: Sequence[int], bits: int, **more: Any) -> Case:
        payload = containers.pack(indices, bits)
        return make_case(
            f"bits/unpack_indices/{name}",
            {"payload": payload, "bits": bits, "count": len(indices)},
            {"indices": np.array(indices, dtype=np.int64)},
            {"indices": EXACT},
            **more,
        )

    def refused(name: str, payload: str, bits: int, count: int, fault: str) -> Case:
        inputs = {"payload": bytes.fromhex(payload), "bits": bits, "count": count}
        return make_case(f"bits/unpack_indices/{name}", inputs, fault=fault)

    cases = [case("worked-example", [9, 31, 18], 5, note="docs/SPEC.md section 2.3: 4f e4")]
    cases += [case(f"bits-{bits}", spread_indices(bits, 11), bits) for bits in range(1, 25)]
    cases += [
        case("no-padding", [0x1234, 0xABCD], 16),
        refused("one-byte-short", "4f", 5, 3, "payload too short"),
        refused("no-bytes", "", 5, 3, "payload too short"),
        refused("one-byte-long", "4fe400", 5, 3, "payload too long"),
        refused("byte-behind-whole-bytes", "1234abcd00", 16, 2, "payload too long"),
        refused("last-padding-bit-set", "4fe5", 5, 3, "padding bits not zero"),
        refused("first-padding-bit-set", "ec", 5, 1, "padding bits not zero"),
        refused("padding-of-one-bit-index", "7f", 1, 1, "padding bits not zero"),
    ]
    write_file(
        golden,
        "bits",
        "unpack_indices",
        source="strings of 0 and 1 in plain Python, from docs/SPEC.md section 2.3",
        notes={},
        cases=cases,
    )


# --- the container


def header_arrays(fields: Fields) -> dict[str, Any]:
    """Return fields as the operations name them."""
    return {
        "network": fields.network,
        "grouping": fields.grouping,
        "signs": fields.signs,
        "bits": fields.bits,
        "block_size": fields.block_size,
        "seed": fields.seed,
        "factors": np.array(fields.factors, dtype=np.int64),
        "rho": np.array(fields.rho, dtype=np.uint16),
        "indices": np.array(fields.indices, dtype=np.int64),
    }


def write_read_container(golden: Path) -> None:
    """Write valid files at the edges of each field; then every way to be no valid file."""

    def valid(name: str, fields: Fields, note: str, **more: Any) -> Case:
        header = header_arrays(fields)
        return make_case(
            f"bits/read_container/{name}",
            {"data": containers.assemble(fields)},
            header,
            dict.fromkeys(header, EXACT),
            note=note,
            **more,
        )

    cases = [valid(*row) for row in containers.VALID]
    cases += [
        make_case(
            f"bits/read_container/{name}",
            {"data": data},
            fault=fault,
            note=note,
            since=containers.SINCE.get(name, "1.0"),
        )
        for name, fault, data, note in containers.faults()
    ]
    cases += [valid(*row, since="1.2") for row in containers.VALID_2]
    cases += hostile.cases("bits/read_container", hostile.containers_of_indices())
    write_file(
        golden,
        "bits",
        "read_container",
        source="files put together by hand, byte by byte, from docs/SPEC.md section 2; the"
        " checksum by zlib",
        notes={},
        cases=cases,
    )


def write_write_container(golden: Path) -> None:
    """Write the same valid files, and fields that no reader accepts."""

    def valid(name: str, fields: Fields, note: str, **more: Any) -> Case:
        return make_case(
            f"bits/write_container/{name}",
            header_arrays(fields),
            {"data": containers.assemble(fields)},
            {"data": EXACT},
            note=note,
            **more,
        )

    def refused(name: str, fault: str, changes: dict[str, Any], **more: Any) -> Case:
        inputs = {**header_arrays(containers.SMALL), **changes}
        return make_case(f"bits/write_container/{name}", inputs, fault=fault, **more)

    cases = [valid(*row) for row in containers.VALID]
    cases += [refused(*row) for row in refused_fields()]
    cases += [valid(*row, since="1.2") for row in containers.VALID_2]
    small_2 = header_arrays(containers.SMALL_2)
    cases += [
        refused("network-3", "unknown network", {"network": 3}, since="1.2"),
        refused(
            "network-2-with-eight-factors-and-scales",
            "wrong number of hash factors",
            {"network": 2},
            since="1.2",
        ),
        refused(
            "lenet-300-100-factor-too-large",
            "hash factor out of range",
            {**small_2, "factors": np.array([*containers.COUNTS_2[:5], 11])},
            since="1.2",
        ),
    ]
    write_file(
        golden,
        "bits",
        "write_container",
        source="files put together by hand, byte by byte, from docs/SPEC.md section 2; the"
        " checksum by zlib",
        notes={},
        cases=cases,
    )


def refused_fields() -> list[tuple[str, str, dict[str, Any]]]:
    """Return name, fault and the changed fields of what must not be written."""
    small = containers.SMALL

    def factors(first: int) -> Any:
        return np.array([first, *small.factors[1:]])

    def rho(first: int) -> Any:
        return np.array([first, *small.rho[1:]], dtype=np.uint16)

    return [
        ("index-out-of-range", "index out of range", {"indices": np.array([9, 32, 18])}),
        ("index-negative", "index out of range", {"indices": np.array([9, -1, 18])}),
        ("one-index-too-few", "wrong number of indices", {"indices": np.array([9, 31])}),
        ("one-index-too-many", "wrong number of indices", {"indices": np.array([9, 31, 18, 0])}),
        ("bits-0", "bits out of range", {"bits": 0, "indices": np.array([0, 0, 0])}),
        ("bits-25", "bits out of range", {"bits": 25}),
        ("block-size-0", "block size out of range", {"block_size": 0}),
        ("block-size-too-large", "block size out of range", {"block_size": 9}),
        ("seed-2-to-the-32", "varint too large", {"seed": 2**32}),
        ("seed-negative", "varint too large", {"seed": -1}),
        ("factor-0", "hash factor out of range", {"factors": factors(0)}),
        ("factor-too-large", "hash factor out of range", {"factors": factors(501)}),
        ("scale-zero", "scale not positive and normal", {"rho": rho(0x0000)}),
        ("scale-subnormal", "scale not positive and normal", {"rho": rho(0x03FF)}),
        ("scale-negative", "scale not positive and normal", {"rho": rho(0xB000)}),
        ("scale-infinite", "scale not positive and normal", {"rho": rho(0x7C00)}),
        ("scale-nan", "scale not positive and normal", {"rho": rho(0x7E00)}),
        ("unknown-grouping", "unknown layout flags", {"grouping": 2}),
        ("unknown-signs", "unknown layout flags", {"signs": 3}),
    ]


# --- where weights stand

STARTS = np.cumsum([0] + [math.prod(shape) for _, shape in spec_decoder.LENET5]).tolist()


def place_and_sign(fields: Fields, weights: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the place of each weight's variable, and its sign, by docs/SPEC.md section 8."""
    sizes = spec_decoder.variables_of(fields.factors)
    permutation = permutation_of(fields.seed, spec_decoder.PERMUTATION, 0, sum(sizes))
    place_of = {variable: place for place, variable in enumerate(permutation)}
    tables = [spec_decoder.sign_table(fields, number) for number in range(len(sizes))]
    places, signs = [], []
    for weight in weights:
        number = max(t for t in range(len(sizes)) if STARTS[t] <= weight)
        i = weight - STARTS[number]
        outputs = spec_decoder.LENET5[number][1][-1]
        inputs = math.prod(spec_decoder.LENET5[number][1]) // outputs
        by_outputs = fields.grouping == spec_decoder.OUTPUTS
        n = i if by_outputs else (i % outputs) * inputs + i // outputs
        places.append(place_of[sum(sizes[:number]) + n // fields.factors[number]])
        signs.append(int(tables[number][i % len(tables[number])]))
    return places, signs


def some_weights() -> list[int]:
    """Return the first dozen, some middle and the last three weights of each tensor."""
    chosen = []
    for start, stop in itertools.pairwise(STARTS):
        chosen += range(start, min(start + 12, stop))
        chosen += [start + k * (stop - start) // 9 for k in range(1, 9)]
        chosen += range(max(stop - 3, start), stop)
    return sorted(set(chosen))


LAYOUTS = (
    ("default", Fields(0, 1, 30, 1, (1, 1, 2, 1, 50, 1, 1, 1)), (), ""),
    (
        "grouped-along-inputs",
        Fields(1, 1, 30, 1, (1, 1, 2, 1, 50, 1, 1, 1)),
        (),
        "weights of one output share a variable",
    ),
    ("signs-none", Fields(0, 0, 20, 4, (5, 4, 25, 5, 500, 4, 50, 2)), (), ""),
    ("signs-by-weight", Fields(0, 2, 20, 4, (5, 4, 25, 5, 500, 4, 50, 2)), (), ""),
    (
        "signs-only-where-hashed",
        Fields(0, 1, 7, 9, (500, 1, 250, 50, 4000, 1, 5, 1)),
        (),
        "a tensor of factor 1 has no signs; the row is the tensor's number all the same",
    ),
    (
        "factors-do-not-divide",
        Fields(0, 2, 13, 300, (3, 7, 13, 3, 49, 11, 9, 4)),
        ("short-block",),
        "groups run over the ends of rows; the last is short; variables are rounded up",
    ),
    (
        "factors-do-not-divide-along-inputs",
        Fields(1, 2, 13, 300, (3, 7, 13, 3, 49, 11, 9, 4)),
        ("short-block",),
        "",
    ),
    ("one-variable-each", Fields(0, 1, 3, 7, containers.COUNTS), ("short-block",), "SPEC.md 9.2"),
    (
        "largest-seed",
        Fields(1, 1, 20, LARGEST, (1, 1, 2, 1, 50, 1, 1, 1)),
        (),
        "",
    ),
)


LAYOUT = ("block_size", "seed", "factors", "grouping", "signs")


def write_layouts(golden: Path) -> None:
    """Write both groupings, all signs, factors that do not divide, and equal sort keys."""
    weights = some_weights()
    rows = [(name, fields, weights, flags, note) for name, fields, flags, note in LAYOUTS]
    unhashed = Fields(0, 1, 40, 2, (1,) * 8)
    note = "18 pairs of the 431,080 words are equal; these weights include all of them"
    rows.append(("equal-words-keep-their-order", unhashed, equal_words(unhashed), ("tie",), note))
    cases = []
    for name, fields, chosen, flags, text in rows:
        places, signs = place_and_sign(fields, chosen)
        header = header_arrays(fields)
        cases.append(
            make_case(
                f"bits/block_layout/{name}",
                {**{k: header[k] for k in LAYOUT}, "weights": np.array(chosen)},
                {"places": np.array(places), "weight_signs": np.array(signs)},
                {"places": EXACT, "weight_signs": EXACT},
                flags=flags,
                note=text,
            )
        )
    write_file(
        golden,
        "bits",
        "block_layout",
        source="plain Python from docs/SPEC.md sections 7 and 8",
        notes={
            "short-block": "the block size does not divide the number of variables",
            "tie": "equal words: only a stable sort gives this answer",
        },
        cases=cases,
    )


def equal_words(fields: Fields) -> list[int]:
    """Return the variables of an unhashed network whose sort keys are not unique."""
    words = spec_decoder.words(fields.seed, spec_decoder.PERMUTATION, 0, STARTS[-1])
    first: dict[int, int] = {}
    twins = []
    for i, word in enumerate(words):
        if word in first:
            twins += [first[word], i]
        first.setdefault(word, i)
    return sorted(twins)
