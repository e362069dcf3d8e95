"""Since 1.3: every field of a file, whatever its code, and files with large numbers in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from golden import bits, coded_files, containers, files
from golden.containers import COUNTS, COUNTS_2, SCALES, SMALL, SMALL_2, Fields
from golden.edges import EXACT, SINCE, new_case, uint8
from golden.sources import spec_decoder
from golden.writer import later, make_case, write_file

Case = dict[str, Any]

# Where a varint gets another byte, and where other widths end.
SEEDS = (127, 2**8, 2**14 - 1, 2**14, 2**16, 2**21 - 1, 2**21, 2**24, 2**28 - 1, 2**28, 2**31)
FACTORS = (256, 16, 2**14, 50, 2**16, 255, 128, 9)
UNSHARED = Fields(0, 1, 6, 11, (1,) * 8, bits=1)
WHOLE = replace(UNSHARED, block_size=431080, bits=24, given=(2**24 - 7,))
# 97,747 variables, each a block of its own.
MANY = Fields(0, 1, 1, 11, (1, 1, 1, 1, 6, 1, 1, 1), bits=1)
# 266,610 variables in one block.
LONG = Fields(0, 1, 266610, 5, (1,) * 6, 20, SCALES[:6], (2**20 - 9,), network=2)
LARGE = (
    *((f"seed-{n}", replace(SMALL, seed=n), "") for n in SEEDS),
    ("factors-at-the-ends-of-varints", Fields(0, 1, 9, 5, FACTORS), ""),
    ("block-size-256", Fields(1, 1, 256, 5, (*FACTORS[:4], 500, *FACTORS[5:])), ""),
    ("block-size-65536", replace(UNSHARED, block_size=2**16, bits=20), "no hashing"),
    ("block-size-431080", WHOLE, "one block that holds all weights"),
    ("block-2-to-the-16", UNSHARED, "71,847 blocks of one bit"),
    *(
        (f"index-of-{width}-bits", replace(SMALL, bits=width, given=(2 ** (width - 1), 1, top)), "")
        for width in (9, 17, 20, 24)
        for top in (2**width - 1,)
    ),
    ("lenet-300-100-block-size-266610", LONG, ""),
)


def header_of(fields: Fields) -> dict[str, Any]:
    """Return fields as the operations name them; many indices in few bytes."""
    header = bits.header_arrays(fields)
    if fields.blocks > 2048:
        header["indices"] = header["indices"].astype(np.uint8 if fields.bits <= 8 else np.uint32)
    return header


def too_large_factors() -> list[tuple[str, Changed]]:
    """Return files whose hash factor of one tensor is just above its number of weights."""
    rows = []
    for name, small, counts in (("", SMALL, COUNTS), ("lenet-300-100-", SMALL_2, COUNTS_2)):
        for t, count in enumerate(counts):
            factors = (*counts[:t], count + 1, *counts[t + 1 :])
            rows.append((f"{name}factor-above-weights-of-tensor-{t}", Changed(small, factors)))
    return rows


class Changed:
    """The fields of a file with other hash factors, whatever they would mean."""

    def __init__(self, fields: Fields, factors: tuple[int, ...]) -> None:
        self.header = {**bits.header_arrays(fields), "factors": np.array(factors)}
        coded = b"".join(map(containers.varint, fields.factors))
        other = b"".join(map(containers.varint, factors))
        body = containers.body_of(fields)
        self.data = containers.seal(body[:10] + other + body[10 + len(coded) :])


@later("read_container")
def read_container() -> list[Case]:
    """Files of code 0."""
    cases = []
    for name, fields, note in LARGE:
        data = containers.assemble(fields)
        inputs = {"data": uint8(data) if len(data) > 2048 else data}
        cases.append(new_case("bits/read_container", name, inputs, header_of(fields), note=note))
    fault = "hash factor out of range"
    return cases + [
        new_case("bits/read_container", name, {"data": changed.data}, fault=fault)
        for name, changed in too_large_factors()
    ]


@later("write_container")
def write_container() -> list[Case]:
    """Pose the same, the other way round."""
    cases = []
    for name, fields, note in LARGE:
        data = containers.assemble(fields)
        outputs = {"data": uint8(data) if len(data) > 2048 else data}
        cases.append(new_case("bits/write_container", name, header_of(fields), outputs, note=note))
    fault = "hash factor out of range"
    return cases + [
        new_case("bits/write_container", name, changed.header, fault=fault)
        for name, changed in too_large_factors()
    ]


# --- describe_file


def write(golden: Path) -> None:
    """Write files of all codes with all that they say, and files that must be refused."""
    cases = [described(name, data, note) for name, data, note in files_of_all_kinds()]
    cases += [
        new_case("bits/describe_file", name, {"data": data}, fault=fault, note=note)
        for name, fault, data, note in coded_files.faults()
    ]
    known = {name: (fault, data) for name, fault, data, _ in containers.faults()}
    cases += [
        new_case("bits/describe_file", name, {"data": known[name][1]}, fault=known[name][0])
        for name in files.REFUSED
    ]
    write_file(
        golden,
        "bits",
        "describe_file",
        source="files put together by hand, byte by byte, from docs/SPEC.md section 2; their"
        " fields are those that they were made of",
        notes={},
        cases=cases,
    )


def files_of_all_kinds() -> list[tuple[str, bytes, str]]:
    """Return name, bytes and note: each code with the same messages, theta, and all others."""
    rows = [(name, containers.assemble(fields), note)
            for name, fields, note in (*containers.VALID, *containers.VALID_2, *LARGE)
            if fields.blocks <= 2048]  # fmt: skip
    per_block, nodes = (40, 33, 63), coded_files.NODES
    for code, number in coded_files.NUMBERS.items():
        values = nodes if number >= 4 else per_block
        data = coded_files.assemble(replace(SMALL, bits=6 if number < 3 else 5), code, values)
        rows.append((f"{code}-small", data, "the same messages as in the others of its kind"))
    for theta in (1, 255, 256, 2**15, 65535):
        data = coded_files.assemble(SMALL, "gprs", (1,) * 8, theta)
        rows.append((f"theta-{theta}", data, ""))
    for width in (1, 9, 24):
        data = coded_files.assemble(replace(SMALL, bits=width), "grc-d", nodes)
        rows.append((f"grc-d-bits-{width}", data, "no decoder needs them, but the file has them"))
    # By another name where the same file stands there already.
    taken = {name for name, *_ in rows}
    rows += [(f"coded-{name}" if name in taken else name, data, note)
             for name, data, _, note in coded_files.valid() if len(data) < 4096]  # fmt: skip
    return rows


def described(name: str, data: bytes, note: str) -> Case:
    """Return a case of describe_file, its fields by the decoder in plain Python."""
    file = spec_decoder.parse(data)
    theta = 0
    if file.code:
        head = containers.header_of(
            Fields(file.grouping, file.signs, file.block_size, file.seed, tuple(file.factors),
                   file.bits, patterns(data, file), network=file.network),
            file.code,
        )  # fmt: skip
        assert data.startswith(head)
        theta = int.from_bytes(data[len(head) : len(head) + 2], "little")
    outputs = {
        "network": file.network,
        "grouping": file.grouping,
        "signs": file.signs,
        "code": file.code,
        "bits": file.bits,
        "theta": theta,
        "block_size": file.block_size,
        "seed": file.seed,
        "factors": np.array(file.factors, dtype=np.int64),
        "rho": np.array(patterns(data, file), dtype=np.uint16),
        "messages": np.array(file.indices, dtype=np.int64),
    }
    return make_case(
        f"bits/describe_file/{name}",
        {"data": data},
        outputs,
        dict.fromkeys(outputs, EXACT),
        note=note,
        since=SINCE,
    )


def patterns(data: bytes, file: Any) -> tuple[int, ...]:
    """Return the bits of the scales."""
    return tuple(np.array(file.rho, dtype=np.float16).view(np.uint16).tolist())


# --- whole files


@later("decode_model")
def decode_model() -> list[Case]:
    """Pose files whose rows, blocks, places and variables have numbers above 2^16."""
    ones = (1,) * MANY.variables
    bins = tuple(2 + b % 2 for b in range(MANY.blocks))
    code = coded_files.assemble
    rows = [
        ("place-2-to-the-18", containers.assemble(LONG), "one row of 266,610 normals"),
        ("block-2-to-the-16", containers.assemble(MANY), "97,747 blocks of one variable"),
        ("sp-pfr-block-2-to-the-16", code(MANY, "sp-pfr", bins, 1), "as many blocks"),
        ("variable-2-to-the-16", code(MANY, "grc-d", ones, 1), "as many rows of randomness"),
    ]
    cases = [files.decoded(name, data, note=note, since=SINCE) for name, data, note in rows]
    small = [(f"seed-{n}", containers.assemble(replace(SMALL, seed=n, signs=2))) for n in SEEDS[4:]]
    small += [
        (f"index-{n}", containers.assemble(replace(SMALL, bits=24, given=(n, n - 1, n + 1))))
        for n in (2**8, 2**16, 2**23)
    ]
    small += [
        (f"pfr-row-{n}", code(SMALL, "pfr", (n, n + 1, n + 2), 64000))
        for n in (2**16, 2**24, 2**31, 2**32 - 2)
    ]
    return cases + [files.decoded(name, data, since=SINCE) for name, data in small]
