"""Feeds damaged and odd updates to both readers: ``python tools/fuzz_updates.py --count 100000``.

Each is an update of one of the models of fuzz_files.py, or of an update of it, with one to three
changes; its checksum is mended for nine in ten.  The package and the decoder in plain Python must
both accept it or both refuse it, the package with an `InputError`; what is accepted must be the
same bytes when it is written again and give the same variables under either engine.  Update number
i of a seed is always the same bytes.  Exit code 1 if there is a fault.
"""

from __future__ import annotations

import argparse
import importlib
import random
import struct
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_files import EDGES, FORMS, scramble, seal, seed_files

from refmiracle.codec.chain import Base, apply_update, read_root
from refmiracle.codec.envelope import checksum_of
from refmiracle.codec.payload import message_count
from refmiracle.codec.update import CompressedUpdate, parse_update, update_layout
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.numerics.varints import write_varint
from refmiracle.rec.codes import CODES, VARIABLE, from_positive, raw_bits

ENGINES = get_engine("numpy"), get_engine("numba")
# Where the numbers of a header begin: magic, version, base and bits stand before them.
NUMBERS = 9
# Roots of more weights would take most of the time.
LARGEST_ROOT = 4096


def drawn_update(rng: random.Random, base: Base) -> bytes:
    """Return a valid update of what the reader has."""
    code, bits = rng.choice(list(CODES)), rng.randint(1, 24)
    levels = [rng.randrange(256) * rng.randint(0, 1) for _ in base.layout.factors]
    levels[rng.randrange(len(levels))] = rng.randint(1, 255)
    coded = tuple(level > 0 for level in levels)
    seed = rng.choice((base.layout.seed, rng.randrange(1 << 32)))
    most = update_layout(base.layout, 1, seed, coded).variables()
    layout = update_layout(base.layout, rng.randint(1, most), seed, coded)
    top = {"mrc": bits, "orc": bits, "pfr": 31, "sp-pfr": 31}.get(code, 61)
    raw, count = raw_bits(code, bits), message_count(layout, code)
    n = [(1 << rng.randrange(top)) << raw | rng.randrange(1 << raw) for _ in range(count)]
    messages = np.array(from_positive(code, n))
    if CODES[code].of == VARIABLE:
        unused = layout.blocks() * layout.block_size - count
        messages = np.append(messages, np.ones(unused, np.int64)).reshape(layout.blocks(), -1)
    named = base.checksum
    return CompressedUpdate(named, layout, bits, np.uint8(levels), messages, code).to_bytes()


def changed(rng: random.Random, data: bytes) -> bytes:
    """Return an update with a field changed, or bytes anywhere, by `scramble`."""
    body, way = data[:-4], rng.randrange(5)
    if way == 0:  # version, base or bits
        at = rng.choice((3, 4, 7, 8))
        value = rng.choice((0, 1, 24, 25, 0x1F, 0x20, 0x2C, 0x2D, rng.randrange(256)))
        body = body[:at] + bytes([value]) + body[at + 1 :]
    elif way == 1:  # another number in the place of the block size, of one byte or more
        number = rng.choice((write_varint(rng.choice(EDGES)), bytes.fromhex(rng.choice(FORMS))))
        body = body[:NUMBERS] + number + body[NUMBERS + rng.choice((1, 1, 2)) :]
    elif way == 2:  # a level, most likely
        at = rng.randrange(NUMBERS, max(NUMBERS + 1, min(len(body), 30)))
        body = body[:at] + bytes([rng.choice((0, 0, 1, 128, 255))]) + body[at + 1 :]
    else:
        body = body[:8] + scramble(rng, body[8:])
    return seal(body) if rng.random() < 0.9 else body + data[-4:]


def judge(spec: Any, files: list[bytes], base: Base, data: bytes) -> str:
    """Return what both readers do with an update, or raise AssertionError."""
    root = spec.parse(files[0])
    sizes = list(base.layout.sizes())
    try:
        theirs = spec.parse_update(data, files[-1], sizes)
    except ValueError as e:
        try:
            parse_update(data, base.layout, base.checksum)
        except InputError as ours:
            assert "\n" not in str(ours)
            return str(e)
        raise AssertionError(f"only plain Python refuses it: {e}") from e
    read = parse_update(data, base.layout, base.checksum)
    assert read.to_bytes() == data, "written again, it is another file"
    want = spec.updated(base.variables.tolist(), theirs, root)
    packed = struct.pack(f"<{len(want)}f", *want)
    for engine in ENGINES:
        got = apply_update(base, data, engine).variables
        assert got.astype("<f4").tobytes() == packed, f"other variables ({engine.name})"
    return "valid"


def main() -> int:
    """Judge updates, and say what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=10_000)
    arguments = parser.parse_args()
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
    spec = importlib.import_module("spec_updates")
    roots = [d for d in seed_files().values() if len(d) < LARGEST_ROOT]
    bases = [(data, read_root(data, ENGINES[1])) for data in roots]
    bases = [(data, base) for data, base in bases if len(base.variables) <= LARGEST_ROOT]
    kinds: Counter[str] = Counter()
    faults = 0
    for number in range(arguments.first, arguments.first + arguments.count):
        rng = random.Random(f"{arguments.seed} {number}")
        root, base = rng.choice(bases)
        files = [root]
        for _ in range(rng.choice((0, 0, 1, 2))):
            files.append(drawn_update(rng, base))
            base = apply_update(base, files[-1], ENGINES[1])
            assert base.checksum == checksum_of(files[-1])
        data = drawn_update(rng, base)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
            data = changed(rng, data)
        try:
            kinds[judge(spec, files, base, data)] += 1
        except Exception as e:  # any other error is a fault of a reader
            faults += 1
            print(f"update {number}: {type(e).__name__}: {e}; {data.hex()}")
    for kind, count in kinds.most_common():
        print(f"{count:8}  {kind}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
