"""Stage files: whole models, from posterior to file and from file to weights."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from golden import coded_files, containers, hostile
from golden.bits import header_arrays
from golden.coding import posterior
from golden.containers import Fields, assemble
from golden.selection import Codebook
from golden.sources import spec_decoder
from golden.writer import BOTH, make_case, write_file

Case = dict[str, Any]

EXACT = {"exact": 0}
SAMPLE_STRIDE = 997


def write(golden: Path) -> None:
    """Write the files of the stage files."""
    write_encode_model(golden)
    write_decode_model(golden)


# --- encoding

# 67 variables, in blocks of 8 the last of which holds 3.
SHORT_LAST = (50, 3, 2500, 7, 40000, 64, 500, 3)


def encode_case(name: str, fields: Fields, seed: int, **more: Any) -> Case:
    """Return a case of encode_model; its gap is the least of its blocks."""
    variables = sum(spec_decoder.variables_of(fields.factors))
    shape = (fields.blocks, fields.block_size)
    used = (np.arange(fields.blocks * fields.block_size) < variables).reshape(shape)
    delta, log_s = (np.where(used, a, 0.0) for a in posterior(seed, *shape, fields.bits))
    codebook = Codebook(fields.seed, fields.bits, fields.block_size)
    choices = [
        codebook.choose(block, d, ls)
        for block, (d, ls) in enumerate(zip(delta.tolist(), log_s.tolist(), strict=True))
    ]
    header = header_arrays(fields)
    order = ("block_size", "seed", "factors", "grouping", "signs", "bits", "rho")
    return make_case(
        f"files/encode_model/{name}",
        {**{k: header[k] for k in order}, "delta": delta, "log_s": log_s},
        {"data": assemble(replace(fields, given=tuple(c.index for c in choices)))},
        {"data": EXACT},
        dtypes=BOTH,
        gap=min(c.gap for c in choices),
        **more,
    )


def write_encode_model(golden: Path) -> None:
    """Write small models, so that a slow encoder is done soon."""
    short = ("short-block",)
    small = Fields(0, 1, 3, 7, containers.COUNTS, bits=5)
    cases = [
        encode_case("one-variable-each", small, 91, flags=short),
        encode_case("short-last-block", Fields(0, 1, 8, 300, SHORT_LAST, bits=8), 93, flags=short),
        encode_case(
            "inputs-and-signs-by-weight",
            Fields(1, 2, 8, 300, SHORT_LAST, bits=8),
            93,
            flags=short,
            note="the flags of the layout change the header, not the indices",
        ),
        encode_case("bits-1", Fields(0, 0, 1, 3, containers.COUNTS, bits=1), 95),
        encode_case("bits-12", Fields(0, 0, 4, 2**32 - 1, containers.COUNTS, bits=12), 97),
        encode_case("one-block", Fields(1, 0, 67, 5, SHORT_LAST, bits=6), 99),
    ]
    refused = {**cases[0]["inputs"], "rho": np.array([0, *small.rho[1:]], dtype=np.uint16)}
    fault = "scale not positive and normal"
    cases.append(make_case("files/encode_model/scale-zero", refused, dtypes=BOTH, fault=fault))
    write_file(
        golden,
        "files",
        "encode_model",
        source="indices by mpmath, 50 digits, as for select_indices; bytes put together by hand",
        notes={"short-block": "the last block has places that hold nothing"},
        cases=cases,
    )


# --- decoding


def from_document(flags: int, bits: int, size: int, seed: int, factors: Any) -> Fields:
    """Return a file of docs/SPEC.md section 10."""
    scales = tuple(0x2400 + 0x111 * t for t in range(8))
    return Fields(flags % 16, flags // 16, size, seed, factors, bits, scales)


DEFAULT = containers.DEFAULT
DECODED = (
    ("worked-example", containers.SMALL, ("short-block",), "docs/SPEC.md section 9.2"),
    ("default", from_document(0x10, 14, 30, 1, DEFAULT), (), "OUTPUTS, UNIT"),
    ("inputs", from_document(0x11, 10, 20, 2**32 - 1, DEFAULT), (), "INPUTS, UNIT"),
    (
        "factors-do-not-divide",
        from_document(0x20, 24, 7, 300, (3, 7, 13, 1, 49, 11, 9, 10)),
        ("short-block",),
        "OUTPUTS, WEIGHT, 24 bits",
    ),
    (
        "bits-1",
        from_document(0x01, 1, 1000, 0, (1, 3, 2, 50, 64, 500, 1, 1)),
        ("short-block",),
        "INPUTS, NONE",
    ),
    (
        "inputs-and-signs-by-weight",
        Fields(1, 2, 13, 9, (3, 7, 500, 3, 4999, 11, 9, 4), 12),
        ("short-block",),
        "INPUTS, WEIGHT",
    ),
    (
        "equal-words-in-the-permutation",
        from_document(0x21, 12, 400, 2, (1,) * 8),
        ("tie", "short-block"),
        "no hashing: 431,080 variables and 18 pairs of equal words",
    ),
    (
        "smallest-and-largest-scales",
        replace(containers.SMALL, rho=containers.EDGES),
        ("short-block",),
        "",
    ),
)
# What a decoder that reads no container apart must refuse too.
REFUSED = (
    "empty",
    "truncated-to-45",
    "magic-third-letter",
    "future-version",
    "bit-flipped-in-byte-41",
    "trailing-zero",
    "sealed-one-byte-short",
    "sealed-with-a-byte-more",
    "factor-0",
    "block-size-0",
    "bits-25",
    "padding-bit-set",
    "scale-nan",
)


def decoded(name: str, data: bytes, **more: Any) -> Case:
    """Return a case of decode_model."""
    flat = [x for tensor in spec_decoder.decode(data).values() for x in tensor]
    digest = hashlib.sha256(struct.pack(f"<{len(flat)}f", *flat)).digest()
    return make_case(
        f"files/decode_model/{name}",
        {"data": data},
        {"sha256": digest, "sample": np.array(flat[::SAMPLE_STRIDE], dtype=np.float32)},
        {"sha256": EXACT, "sample": EXACT},
        **more,
    )


def write_decode_model(golden: Path) -> None:
    """Write files with the digest of their weights, and files that must be refused."""

    def refused(name: str, fault: str, data: bytes, **more: Any) -> Case:
        return make_case(f"files/decode_model/{name}", {"data": data}, fault=fault, **more)

    cases = [
        decoded(name, assemble(fields), flags=flags, note=note)
        for name, fields, flags, note in DECODED
    ]
    faults = {name: (fault, data) for name, fault, data, _ in containers.faults()}
    cases += [refused(name, *faults[name]) for name in REFUSED]
    cases += [
        decoded(name, data, flags=flags, note=note, since="1.2")
        for name, data, flags, note in coded_files.valid()
    ]
    cases += [
        refused(name, fault, data, note=note, since="1.2")
        for name, fault, data, note in coded_files.faults()
    ]
    hostile_files = [*hostile.files(), *hostile.containers_of_indices()]
    cases += hostile.cases("files/decode_model", hostile_files)
    write_file(
        golden,
        "files",
        "decode_model",
        source="the decoder in plain Python that was written from docs/SPEC.md; SHA-256 of all"
        " weights as little-endian float32, and every 997th of them",
        notes={
            "short-block": "the last block has places that hold nothing",
            "tie": "equal words: only a stable sort gives this answer",
            "deep": "nodes 61 levels below the root",
        },
        cases=cases,
    )
