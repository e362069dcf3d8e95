"""Stage files, since 1.6: chains of a model and updates (docs/SPEC.md, section 13)."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from golden import coded_files, containers, described, update_faults
from golden.coded_files import NUMBERS
from golden.containers import WORKED_EXAMPLE, Fields
from golden.sources import spec_updates
from golden.update_files import EIGHT, HASHED, OF_HASHED, SMALL, Chain, Update, chain, sizes_of
from golden.writer import make_case, write_file

Case = dict[str, Any]

SINCE = "1.6"
EXACT = {"exact": 0}
SAMPLE_STRIDE = 997

# --- roots

HASHED_2 = coded_files.of_the_document("sp-pfr", 16, 7, 2)
DEFAULT = containers.assemble(
    Fields(0, 1, 30, 1, containers.DEFAULT, 14, tuple(0x2400 + 0x111 * t for t in range(8)))
)
BY_WEIGHT = containers.assemble(Fields(1, 2, 13, 9, (3, 7, 500, 3, 4999, 11, 9, 4), 12))
PLAIN = containers.assemble(Fields(0, 0, 400, 11, (1,) * 8, 12))
EDGES = containers.assemble(replace(containers.SMALL, rho=containers.EDGES))
EXAMPLE = described.of_indices(described.fields_of(described.EXAMPLE, 0x10, 9, 20, 1))
EXAMPLE_HASHED = described.of_indices(
    described.fields_of(described.EXAMPLE, 0x21, 24, 7, 300, described.TWELVE)
)
MANY = described.of_indices(
    described.fields_of(described.MANY_TENSORS, 0x20, 8, 6, 16, (*(1,) * 120, 2, 2))
)

OF_HASHED_2 = Update(sizes_of(HASHED_2), (0, 128, 125, 0, 131, 128), 11, 7, 6)
OF_EXAMPLE = Update(sizes_of(EXAMPLE), (128, 0, 127, 0, 129, 0, 0, 126, 130, 0, 0, 128), 10, 8, 3)
BITS = {"mrc": 9, "orc": 14, "pfr": 9, "sp-pfr": 16}

# Name, files, what they are about.
Valid = tuple[str, Chain, str]


def of_codes() -> list[Valid]:
    """Return an update of each code, and chains of several."""
    codes = ("mrc", *NUMBERS)
    each = [replace(OF_HASHED, code=code, bits=BITS.get(code, 5)) for code in codes]
    three = replace(OF_HASHED, levels=(0, 130, 0, 0, 128, 120, 0, 0), seed=6)
    return [
        *((code, chain(HASHED, update), "") for code, update in zip(codes, each, strict=True)),
        ("three-files", chain(HASHED, OF_HASHED, three), "an update of an update"),
        ("three-files-of-three-codes",
         chain(HASHED, each[3], replace(three, code="gprs-d", bits=5)), ""),
        ("the-same-update-twice", chain(HASHED, OF_HASHED, OF_HASHED),
         "only the base differs: its normals are added twice"),
        ("six-files", chain(HASHED, each[12], each[3], three, each[0], each[7]), ""),
    ]  # fmt: skip


def of_roots() -> list[Valid]:
    """Return updates of models of every network, layout and size."""
    all_of = (127, 128, 129, 130, 128, 126, 128, 125)
    whole = Update(sizes_of(PLAIN), all_of, 12, 400, 2)
    default = Update(sizes_of(DEFAULT), (0, 0, 124, 0, 0, 0, 128, 130), 14, 500, 17)
    by_weight = Update(sizes_of(BY_WEIGHT), all_of, 10, 13, 8)
    last = Update(sizes_of(PLAIN), (*(0,) * 7, 128), 10, 5, 1)
    many = tuple(0 if t % 3 == 0 else 120 + t % 16 for t in range(122))
    return [
        ("lenet-300-100", chain(HASHED_2, OF_HASHED_2), "network 2"),
        ("lenet-300-100-three-files",
         chain(HASHED_2, OF_HASHED_2, replace(OF_HASHED_2, code="dad-star", bits=5, seed=9)), ""),
        ("described", chain(EXAMPLE, OF_EXAMPLE), "network 0; no hashing"),
        ("described-hashed-three-files",
         chain(EXAMPLE_HASHED,
               replace(OF_EXAMPLE, sizes=sizes_of(EXAMPLE_HASHED)),
               replace(OF_EXAMPLE, sizes=sizes_of(EXAMPLE_HASHED), code="sp-pfr", seed=4)), ""),
        ("described-122-tensors", chain(MANY, Update(sizes_of(MANY), many, 8, 9, 3)),
         "more levels than a hundred"),
        ("default", chain(DEFAULT, default), "of a model with 26,580 variables"),
        ("inputs-and-signs-by-weight", chain(BY_WEIGHT, by_weight),
         "the signs are those of the seed of the root, which the update does not have"),
        ("no-hashing-last-tensor", chain(PLAIN, last), "10 of 431,080 variables"),
        ("equal-words-in-the-permutation", chain(PLAIN, whole),
         "431,080 coded variables and 18 pairs of equal words"),
    ]  # fmt: skip


def of_edges() -> list[Valid]:
    """Return updates whose fields are as small or as large as they may be."""
    ones = replace(SMALL, levels=EIGHT, block_size=3, given=(), bits=7)
    deep = (2**62 - 1, 2**61, 2**53 + 1)
    quarters = (1, 2, 3, 4, 255, 254, 253, 252)
    return [
        ("worked-example", (WORKED_EXAMPLE, SMALL.of(WORKED_EXAMPLE)), "docs/SPEC.md section 13.4"),
        ("worked-example-of-another-seed", chain(WORKED_EXAMPLE, replace(SMALL, seed=301)), ""),
        ("root-alone", (WORKED_EXAMPLE,), "a chain of one file"),
        ("seed-of-the-root", chain(WORKED_EXAMPLE, replace(ones, levels=(128,) * 8, seed=7)),
         "the permutation is that of the root"),
        ("seed-0", chain(WORKED_EXAMPLE, replace(SMALL, seed=0)), ""),
        ("seed-2-to-the-28", chain(WORKED_EXAMPLE, replace(SMALL, seed=2**28)),
         "the first varint of five bytes"),
        ("largest-seed", chain(WORKED_EXAMPLE, replace(SMALL, seed=2**32 - 1)), ""),
        ("levels-1", chain(WORKED_EXAMPLE, ones), "the smallest scales"),
        ("levels-255", chain(WORKED_EXAMPLE, replace(ones, levels=(255,) * 8)),
         "the largest scales"),
        ("levels-of-each-quarter", chain(WORKED_EXAMPLE, replace(ones, levels=quarters)), ""),
        ("levels-around-128",
         chain(WORKED_EXAMPLE, replace(ones, levels=tuple(range(124, 132)))), ""),
        ("scales-at-the-edges", chain(EDGES, replace(ones, levels=(1, 255) * 4)),
         "of the smallest and the largest scale of a model"),
        ("scales-at-the-other-edges",
         chain(EDGES, replace(ones, levels=(255, 1, 2, 254, 127, 129, 3, 253))), ""),
        ("first-tensor", chain(WORKED_EXAMPLE, replace(
            SMALL, levels=(133,) + (0,) * 7, block_size=1, given=())), "one variable"),
        ("last-tensor", chain(WORKED_EXAMPLE, replace(
            SMALL, levels=(0,) * 7 + (123,), block_size=1, given=())), "one variable"),
        ("one-block", chain(WORKED_EXAMPLE, replace(SMALL, block_size=3, given=(61,))), ""),
        ("blocks-of-one", chain(WORKED_EXAMPLE, replace(SMALL, block_size=1, given=(61, 0, 7))),
         ""),
        ("bits-1", chain(WORKED_EXAMPLE, replace(ones, bits=1, block_size=1)), "no padding"),
        ("bits-24", chain(WORKED_EXAMPLE, replace(SMALL, bits=24, given=(2**24 - 1, 1))), ""),
        ("block-size-128", chain(HASHED, replace(OF_HASHED, block_size=128)),
         "a varint of two bytes"),
        ("last-block-of-one", chain(HASHED, replace(OF_HASHED, block_size=OF_HASHED.coded - 1)),
         ""),
        ("base-of-zeros-at-its-end", chain(*zeros_at_the_end()), "the base is named by bytes"),
        *((f"{code}-deep", chain(WORKED_EXAMPLE, replace(SMALL, code=code, given=deep)), "")
          for code in ("as-star", "ad-star", "grc")),
        ("orc-last-row", chain(WORKED_EXAMPLE, replace(SMALL, code="orc", given=(64, 1))), ""),
        ("pfr-last-row", chain(WORKED_EXAMPLE, replace(SMALL, code="pfr", given=(2**32, 1))), ""),
        ("sp-pfr-one-block", chain(WORKED_EXAMPLE, replace(
            SMALL, code="sp-pfr", block_size=3, bits=2, given=(4 * 77 + 3,))),
         "fewer bits than places"),
        ("theta-1", chain(WORKED_EXAMPLE, replace(
            SMALL, code="gprs", given=(1, 2, 1), theta=1)), ""),
        ("theta-65535", chain(WORKED_EXAMPLE, replace(
            SMALL, code="gprs-s", given=(9, 1, 3), theta=65535)), ""),
    ]  # fmt: skip


def of_zeros() -> list[Valid]:
    """Return updates whose normals undo variables of the base.

    Of seed 335, row 10221738 of the codebook begins with a normal that makes variable 0 zero, and
    row 9107058 with one that does so to variable 2; both were found by a search.
    """
    rows = replace(SMALL, bits=24, block_size=1, seed=335)
    both = replace(rows, levels=(128, 0, 128, 0, 0, 0, 0, 0), given=(10221738, 9107058))
    first = replace(rows, levels=(128, *(0,) * 7), given=(10221738,))
    return [
        ("variable-of-zero", chain(WORKED_EXAMPLE, first), "weights of 0 and of -0"),
        ("variables-of-zero", chain(WORKED_EXAMPLE, both), "weights of 0 and of -0"),
        ("variables-of-zero-and-on", chain(WORKED_EXAMPLE, both, replace(SMALL, seed=9)),
         "the second update begins at 0"),
    ]  # fmt: skip


def zeros_at_the_end() -> tuple[bytes, Update]:
    """Return a model whose checksum has a zero as its lowest byte, and an update of it."""
    for seed in range(10_000):
        root = containers.assemble(replace(containers.SMALL, seed=seed))
        if root[-4] == 0:
            return root, SMALL
    raise ValueError("no seed gives such a checksum")


def inputs(files: Chain) -> dict[str, Any]:
    """Return the files one after the other, and their lengths."""
    sizes = np.array([len(data) for data in files], dtype=np.int64)
    return {"data": b"".join(files), "sizes": sizes}


def flags_of(files: Chain) -> tuple[str, ...]:
    """Tell whether the last block of the last update is short."""
    if len(files) == 1:
        return ()
    update = spec_updates.parse_update(files[-1], files[-2], sizes_of(files[0]))
    return ("short-block",) if update.variables % update.block_size else ()


def decoded(name: str, files: Chain, note: str) -> Case:
    """Return a case that has an answer."""
    flat = [x for tensor in spec_updates.decode_chain(files).values() for x in tensor]
    digest = hashlib.sha256(struct.pack(f"<{len(flat)}f", *flat)).digest()
    return make_case(
        f"files/decode_chain/{name}",
        inputs(files),
        {"sha256": digest, "sample": np.array(flat[::SAMPLE_STRIDE], dtype=np.float32)},
        {"sha256": EXACT, "sample": EXACT},
        flags=flags_of(files),
        note=note,
        since=SINCE,
    )


def refused(name: str, fault: str, posed: dict[str, Any], note: str) -> Case:
    """Return a case that must be refused."""
    return make_case(f"files/decode_chain/{name}", posed, fault=fault, note=note, since=SINCE)


def write(golden: Path) -> None:
    """Write the file of decode_chain."""
    cases = [decoded(*row) for row in (*of_edges(), *of_codes(), *of_roots())]
    cases += [
        refused(name, fault, inputs(files), note)
        for name, fault, files, note in update_faults.faults()
    ]
    small = inputs(chain(WORKED_EXAMPLE, SMALL))
    cases += [
        refused(name, fault, {**small, "sizes": np.array(sizes, dtype=np.int64)}, note)
        for name, fault, sizes, note in update_faults.LENGTHS
    ]
    cases += [decoded(*row) for row in of_zeros()]
    write_file(
        golden,
        "files",
        "decode_chain",
        source="the decoder of updates in plain Python that was written from docs/SPEC.md, section"
        " 13; SHA-256 of all weights as little-endian float32, and every 997th of them",
        notes={"short-block": "the last block of the last update has places that hold nothing"},
        cases=cases,
    )
