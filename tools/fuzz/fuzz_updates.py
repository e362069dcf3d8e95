"""Feeds damaged and odd updates to every decoder.

    python tools/fuzz/fuzz_updates.py --count 100000

Each is an update of one of the models of fuzz_files.py, or of an update of it, with up to three
changes; its checksum is mended for nine in ten.  The package, the decoder in plain Python and the
reader of the backends must all accept it or all refuse it, the package with one line; what is
accepted must be the same bytes when it is written again, and give the same variables under either
engine.  Programs and backends that decode chains (``--c``, ``--framework``) must find the same
weights, or refuse the same chains.  Update number i of a seed is always the same bytes.  Exit code
1 if there is a fault.
"""

from __future__ import annotations

import argparse
import importlib
import random
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_decoders import Fault, Inputs, as_array, ask, digest, digest_of
from fuzz_files import EDGES, FORMS, scramble, seal, seed_files, usual

from refmiracle.codes.table import CODES
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.fileformat.chain import Base, apply_update, read_root
from refmiracle.fileformat.payload import in_blocks, message_count
from refmiracle.fileformat.update import CompressedUpdate, parse_update, update_layout
from refmiracle.numerics.varints import write_varint

TOOLS = Path(__file__).resolve().parents[1]
sys.path += [str(TOOLS / "decoder"), str(TOOLS / "backends")]
PLAIN, BACKENDS = (importlib.import_module(name) for name in ("spec_updates", "spec_update"))
ENGINES = get_engine("numpy"), get_engine("numba")
# Where the numbers of a header begin: magic, version, base and bits stand before them.
NUMBERS = 9
# Roots of more weights would take most of the time.
LARGEST_ROOT = 4096
AT_ONCE = 500
MOST_FAULTS = 20
# Every refusal of `spec_updates.parse_update`: the rules of docs/SPEC.md, section 13.2.
REFUSALS = {
    *("wrong magic", "too short", "not the version of an update", "wrong checksum"),
    *("an update of another file", "the header is cut off", "bits out of range"),
    *("an integer is not in its shortest form", "an integer does not fit in 32 bits"),
    *("an integer is longer than five bytes", "no tensor is coded", "block size out of range"),
    *("wrong length", "padding bits are set", "theta is zero", "the integers are cut off"),
    *("not the code word of its integers", "an integer is too large", "a message is out of range"),
}
# From chains to the SHA-256 of the weights of each, or what is said in its place.
ChainDecoder = Callable[[list[Inputs]], list[str]]


@dataclass(frozen=True)
class Posed:
    """An update that may be right, and the chain that it may belong to."""

    number: int
    files: list[bytes]
    base: Base
    data: bytes

    def inputs(self) -> Inputs:
        """Return the arguments of `decode_chain`."""
        files = [*self.files, self.data]
        return {"data": b"".join(files), "sizes": [len(data) for data in files]}


# --- updates


def drawn_update(rng: random.Random, base: Base, spoiled: bool = False) -> bytes:
    """Return a valid update of what the reader has; or one with a row too many."""
    code, bits = rng.choice(list(CODES)), rng.randint(1, 24)
    levels = [rng.randrange(256) * rng.randint(0, 1) for _ in base.layout.factors]
    levels[rng.randrange(len(levels))] = rng.randint(1, 255)
    coded = tuple(level > 0 for level in levels)
    seed = rng.choice((base.layout.seed, rng.randrange(1 << 32)))
    most = update_layout(base.layout, 1, seed, coded).variables()
    layout = update_layout(base.layout, rng.randint(1, most), seed, coded)
    raw, count = CODES[code].raw_bits(bits), message_count(layout, CODES[code])
    top = usual(code, bits)
    n = [(1 << rng.randrange(top)) << raw | rng.randrange(1 << raw) for _ in range(count)]
    messages = in_blocks(layout, CODES[code], CODES[code].from_positive(n))
    named = base.checksum
    good = CompressedUpdate(named, layout, bits, np.uint8(levels), messages, code).to_bytes()
    if not spoiled or code != "orc":
        return good
    # The code word is the same under fewer bits, of which some row is beyond the last.
    fewer = max(1, int(messages.max()).bit_length() - 1)
    return seal(good[:8] + bytes([fewer]) + good[9:-4])


def changed(rng: random.Random, data: bytes, tensors: int) -> bytes:
    """Return an update with a field changed, or bytes anywhere, by `scramble`."""
    body, way = data[:-4], rng.randrange(20)
    if way < 4:  # magic, version, base or bits
        at = rng.choice((2, 3, 3, 4, 7, 8, 8))
        value = rng.choice((0, 1, 24, 25, 0x1F, 0x20, 0x2C, 0x2D, rng.randrange(256)))
        body = body[:at] + bytes([value]) + body[at + 1 :]
    elif way < 8:  # another number in the place of the block size, of one byte or more
        number = rng.choice((write_varint(rng.choice(EDGES)), bytes.fromhex(rng.choice(FORMS))))
        body = body[:NUMBERS] + number + body[NUMBERS + rng.choice((1, 1, 2)) :]
    elif way < 12:  # a level, most likely
        at = rng.randrange(NUMBERS, max(NUMBERS + 1, min(len(body), 30)))
        body = body[:at] + bytes([rng.choice((0, 0, 1, 128, 255))]) + body[at + 1 :]
    elif way < 13:  # no level at all
        body = body[:NUMBERS] + b"\1\0" + bytes(tensors) + body[NUMBERS + 2 + tensors :]
    elif way < 14:
        body = body[: rng.randrange(len(body) + 1)]
    else:
        body = body[:8] + scramble(rng, body[8:])
    return seal(body) if rng.random() < 0.9 else body + data[-4:]


class Updates:
    """All updates of a seed.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        roots = [data for data in seed_files().values() if len(data) < LARGEST_ROOT]
        bases = [(data, read_root(data, ENGINES[1])) for data in roots]
        self.bases = [(data, base) for data, base in bases if len(base.variables) <= LARGEST_ROOT]

    def update(self, number: int) -> Posed:
        """Return update `number`."""
        rng = random.Random(f"{self.seed} {number}")
        root, base = rng.choice(self.bases)
        files = [root]
        for _ in range(rng.choice((0, 0, 1, 2))):
            files.append(drawn_update(rng, base))
            base = apply_update(base, files[-1], ENGINES[1])
        data = drawn_update(rng, base, spoiled=rng.random() < 0.1)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
            data = changed(rng, data, len(base.layout.factors))
        return Posed(number, files, base, data)


# --- decoders


def refusal(read: Callable[[], object]) -> str | None:
    """Return what a reader says of an update that it refuses."""
    try:
        read()
    except ValueError as e:
        return str(e)
    return None


def judge(posed: Posed, parse: Callable[..., CompressedUpdate] = parse_update) -> str:
    """Return what the Python readers do with an update: "valid", or what is wrong with it.

    Raises
    ------
    AssertionError
        If they differ.
    """
    data, base = posed.data, posed.base
    sizes = base.layout.sizes()
    plain = refusal(lambda: PLAIN.parse_update(data, posed.files[-1], sizes))
    backends = refusal(lambda: BACKENDS.read_update(data, posed.files[-1], sizes))
    assert (plain is None) == (backends is None), f"{plain}, but the backends: {backends}"
    try:
        read = parse(data, base.layout, base.checksum)
    except InputError as e:
        assert plain is not None, f"only the package refuses it: {e}"
        assert "\n" not in str(e), "more than one line"
        return plain
    assert plain is None, f"only the package accepts it: {plain}"
    assert read.to_bytes() == data, "written again, it is another file"
    update = PLAIN.parse_update(data, posed.files[-1], sizes)
    want = PLAIN.updated(base.variables.tolist(), update, PLAIN.parse(posed.files[0]))
    packed = struct.pack(f"<{len(want)}f", *want)
    for engine in ENGINES:
        got = apply_update(base, data, engine).variables
        assert got.astype("<f4").tobytes() == packed, f"other variables ({engine.name})"
    return "valid"


def program(command: str) -> ChainDecoder:
    """Return a program that answers JSON lines, such as the one in tools/backends/c."""

    def decode(posed: list[Inputs]) -> list[str]:
        operations = ["decode_chain"] * len(posed)
        return [digest_of(answer) for answer in ask(command, False, operations, posed)]

    return decode


def framework(module: str) -> ChainDecoder:
    """Return a backend of tools/backends."""
    backend = importlib.import_module(module).BACKEND

    def decode_one(inputs: Inputs) -> str:
        try:
            sha256, _ = backend.decode_chain(*(as_array(value) for value in inputs.values()))
        except ValueError as e:
            return str(e)
        return np.asarray(sha256).tobytes().hex()

    return lambda posed: [decode_one(inputs) for inputs in posed]


def differences(posed: list[Posed], kinds: list[str], decoder: ChainDecoder) -> Iterable[str]:
    """Yield a line for each chain that a decoder does not decode as the package does."""
    for one, kind, got in zip(posed, kinds, decoder([p.inputs() for p in posed]), strict=True):
        if kind == "valid":
            weights = apply_update(one.base, one.data, ENGINES[1]).weights()
            same = got == digest([*weights.values()])
        else:
            refused = len(got) != 64 or not set(got) <= set("0123456789abcdef")
            same = refused and not isinstance(got, Fault)
        if not same:
            yield f"update {one.number}: {kind}, but a decoder: {got}; {one.data.hex()}"


def run(
    updates: Updates,
    numbers: range,
    decoders: Iterable[ChainDecoder] = (),
    parse: Callable[..., CompressedUpdate] = parse_update,
) -> tuple[Counter[str], list[str]]:
    """Return how many updates there are of each kind, and a line for each fault."""
    kinds: Counter[str] = Counter()
    faults: list[str] = []
    for first in range(numbers.start, numbers.stop, AT_ONCE):
        right, found = [], []
        for number in range(first, min(first + AT_ONCE, numbers.stop)):
            posed = updates.update(number)
            try:
                found.append(judge(posed, parse))
                right.append(posed)
            except Exception as e:  # whatever a reader raises is a fault of it
                faults.append(f"update {number}: {type(e).__name__}: {e}; {posed.data.hex()}")
        kinds.update(found)
        for decoder in decoders:
            faults += differences(right, found, decoder)
        if len(faults) >= MOST_FAULTS:
            break
    return kinds, faults


def main() -> int:
    """Judge updates, and say what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--c", metavar="PROGRAM", nargs="*", default=[])
    parser.add_argument("--framework", metavar="MODULE", nargs="*", default=[])
    arguments = parser.parse_args()
    decoders: list[Any] = [program(command) for command in arguments.c]
    decoders += [framework(module) for module in arguments.framework]
    numbers = range(arguments.first, arguments.first + arguments.count)
    kinds, faults = run(Updates(arguments.seed), numbers, decoders)
    for kind, count in kinds.most_common():
        print(f"{count:8}  {kind}")
    for line in faults:
        print(line)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
