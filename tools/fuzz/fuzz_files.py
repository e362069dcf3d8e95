"""Files that decoders must refuse, or agree on: file number i of a seed is always the same bytes.

A file begins as one of the seeds, the models in data/models and small files of every network and
code, those of random networks that they describe (fuzz_networks.py) among them.  One to three of
its fields are then changed to what a hostile writer would choose, or bytes are flipped, cut out,
put in or spliced; some files get a payload that fits the changed header again; and the checksum is
mended, for nine in ten, so that the change is what the decoder meets.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fuzz_networks import changed_description, random_network

from refmiracle.codes.table import CODES
from refmiracle.errors import InputError
from refmiracle.fileformat.bits import pack_indices
from refmiracle.fileformat.container import CompressedModel, parse_model
from refmiracle.fileformat.envelope import is_update
from refmiracle.fileformat.integers import best_theta16, write_integers
from refmiracle.fileformat.payload import in_blocks, message_count
from refmiracle.nn.description import DESCRIBED, from_description, to_description
from refmiracle.nn.network import Network
from refmiracle.nn.networks import NETWORKS
from refmiracle.numerics.varints import write_varint
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

MODELS = Path(__file__).parents[2] / "data" / "models"
# The fields of a file, as bytes; the payload begins behind the scales.
Parts = dict[str, bytes]
FIXED = ("magic", "version", "network", "code", "flags", "bits")
LARGEST_WORD = 2**32 - 1
# Layouts of more variables get no new payload: a million of them would take days.
REFITTED_VARIABLES = 100
EDGES = (0, 1, 2, 3, 7, 8, 9, 127, 128, 255, 256, 16383, 16384, 2**21 - 1, 2**21, 2**28, 2**31)
FORMS = ("8000", "8100", "80808080 10", "8080808010", "808080808001", "ffffffff1f", "ffffffffff")
PATTERNS = (0x0000, 0x8000, 0x0001, 0x03FF, 0x0400, 0x7BFF, 0x7C00, 0x7C01, 0x7E00, 0xB000, 0xFFFF)
CODE_NUMBERS = range(len(CODES))
# Random networks among the seeds, for each code; larger ones that a change makes get no new header.
NETWORKS_EACH = 3
LARGEST_NETWORK = 4096


def small_factors(network: Network, largest: int) -> tuple[int, ...]:
    """Return hash factors that leave at most `largest` variables to each tensor."""
    return tuple(max(1, -(-math.prod(t.shape) // largest)) for t in network.tensors())


def widest(code: str, bits: int) -> int:
    """Return how many bits the integers of all messages of a code fit in, the raw ones left out."""
    kind = CODES[code]
    return (kind.message_range(bits)[1] >> kind.raw_bits(bits)).bit_length() - 1


def usual(code: str, bits: int) -> int:
    """Return how many bits valid files go up to.

    One less than they could, but where the bits of a block decide: so that a seed means the same
    files as ever.
    """
    width = widest(code, bits)
    return width if width == bits else width - 1


def small_file(network: Network, code: str, largest: int, bits: int = 5) -> bytes:
    """Return a valid file with few variables in each tensor, and messages of all lengths."""
    factors = small_factors(network, largest)
    size = min(3, len(factors))  # there are as many variables as tensors, or more
    layout = BlockLayout(network, factors, Grouping.OUTPUTS, Signs.UNIT, size, 300)
    count, raw = message_count(layout, CODES[code]), CODES[code].raw_bits(bits)
    top = usual(code, bits)
    n = [(1 << i * 7 % top) << raw | i % (1 << raw) for i in range(count)]
    messages = in_blocks(layout, CODES[code], CODES[code].from_positive(n))
    rho = np.full(len(layout.factors), 0.125, dtype=np.float16)
    return CompressedModel(layout, bits, rho, messages, code).to_bytes()


def seed_files() -> dict[str, bytes]:
    """Return the files to begin with, by name."""
    shipped = {path.stem: path.read_bytes() for path in sorted(MODELS.glob("*.rmc"))}
    files = {name: data for name, data in shipped.items() if not is_update(data)}
    for network in NETWORKS.values():
        for code in CODES:
            for largest in (1, 8):
                name = f"{network.name} {code} {largest}"
                files[name] = small_file(network, code, largest)
    rng = random.Random("networks")
    for number in range(NETWORKS_EACH * len(CODES)):
        code = list(CODES)[number % len(CODES)]
        largest = rng.choice((1, 3, 8))
        files[f"described {number} {code}"] = small_file(random_network(rng), code, largest)
    return files


def cut(data: bytes) -> Parts:
    """Return the fields of a valid file."""
    layout = parse_model(data).layout
    parts = {"magic": data[:3]} | {n: data[3 + i : 4 + i] for i, n in enumerate(FIXED[1:])}
    if layout.network.number == DESCRIBED:
        parts["description"] = to_description(layout.network)
    numbers = {"block_size": layout.block_size, "seed": layout.seed}
    numbers |= {f"factor{t}": f for t, f in enumerate(layout.factors)}
    parts |= {name: write_varint(value) for name, value in numbers.items()}
    at = sum(map(len, parts.values()))
    for t in range(len(layout.factors)):
        parts[f"rho{t}"] = data[at + 2 * t : at + 2 * t + 2]
    at += 2 * len(layout.factors)
    if data[5]:
        parts["theta"] = data[at : at + 2]
        at += 2
    return {**parts, "payload": data[at:-4]}


def seal(body: bytes) -> bytes:
    """Return a body with its checksum."""
    return body + zlib.crc32(body).to_bytes(4, "little")


# --- changes of fields


def _number(rng: random.Random, parts: Parts) -> None:
    """Write another block size, seed or hash factor."""
    names = [n for n in parts if n in ("block_size", "seed") or n.startswith("factor")]
    name = rng.choice(names)
    value = rng.choice((*EDGES, LARGEST_WORD, rng.randrange(1 << rng.randint(1, 32))))
    if rng.random() < 0.3:
        value = min(max(0, int.from_bytes(parts[name][:1], "little") + rng.randint(-2, 2)), 127)
    parts[name] = write_varint(value)


def _form(rng: random.Random, parts: Parts) -> None:
    """Write a number that is longer than it may be, too large, or broken off."""
    name = rng.choice([n for n in parts if n in ("block_size", "seed") or n.startswith("factor")])
    parts[name] = bytes.fromhex(rng.choice(FORMS))


def _byte(rng: random.Random, parts: Parts) -> None:
    """Write another version, network, code, layout or number of bits."""
    name = rng.choice(("version", "network", "code", "code", "flags", "flags", "bits", "bits"))
    likely = {
        "version": (0, 1, 2),
        "network": (0, 1, 2, 3, 200),
        "code": (*CODE_NUMBERS, len(CODES)),
        "flags": (0x00, 0x01, 0x10, 0x11, 0x20, 0x21, 0x02, 0x30),
        "bits": (0, 1, 5, 8, 23, 24, 25),
    }
    parts[name] = bytes([rng.choice((*likely[name], rng.randrange(256)))])


def _scale(rng: random.Random, parts: Parts) -> None:
    """Write another scale."""
    name = rng.choice([n for n in parts if n.startswith("rho")])
    parts[name] = rng.choice((*PATTERNS, rng.randrange(1 << 16))).to_bytes(2, "little")


def _theta(rng: random.Random, parts: Parts) -> None:
    """Write another theta, whether the integers go with it or not; a byte of indices instead."""
    if parts["code"] == b"\0":
        return _payload(rng, parts)
    value = rng.choice((0, 1, 2, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, rng.randrange(1 << 16)))
    parts["theta"] = value.to_bytes(2, "little")
    return None


def _payload(rng: random.Random, parts: Parts) -> None:
    """Change the bytes of the indices, or of the integers."""
    parts["payload"] = scramble(rng, parts["payload"])


def _network(rng: random.Random, parts: Parts) -> None:
    """Describe a changed or another network, whether the header goes with it or not."""
    if "description" not in parts:
        return _number(rng, parts)
    if rng.random() < 0.2:
        parts["description"] = to_description(random_network(rng))
    elif rng.random() < 0.9:
        parts["description"] = changed_description(rng, parts["description"])
    else:
        parts["description"] = scramble(rng, parts["description"])
    network = network_of(parts)
    if network and network.count() <= LARGEST_NETWORK and rng.random() < 0.8:
        refit(rng, parts, network)
    return None


def _messages(rng: random.Random, parts: Parts) -> None:
    """Write integers that suit the header but for one, which may be too large, or one too many."""
    parts.update(fitting_payload(rng, parts, spoiled=True) or {})


def scramble(rng: random.Random, data: bytes) -> bytes:
    """Flip a bit, set, delete, insert or repeat some bytes, cut the end off, or add to it."""
    way, at = rng.randrange(7), rng.randrange(len(data) + 1)
    length = rng.choice((1, 1, 1, 2, 4, rng.randint(1, 40)))
    new = rng.choice((bytes(length), b"\xff" * length, b"\x80", rng.randbytes(length)))
    if way == 0 and at < len(data):
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if way == 1:
        return data[:at] + new + data[at + len(new) :]
    if way == 2:
        return data[:at] + data[at + length :]
    if way == 3:
        return data[:at] + new + data[at:]
    if way == 4:
        return data[: at + length] + data[at:]
    return data[:-length] if way == 5 else data + new


CHANGES: tuple[Callable[[random.Random, Parts], None], ...] = (
    _number, _number, _form, _byte, _byte, _scale, _theta, _payload, _payload, _messages, _messages,
    _network, _network, _network,
)  # fmt: skip


# --- headers and payloads that fit what was changed


def network_of(parts: Parts) -> Network | None:
    """Return the network that a header says, if there is one."""
    if parts["network"] == bytes([DESCRIBED]):
        try:
            return from_description(parts.get("description", b""))
        except InputError:
            return None
    return next((n for n in NETWORKS.values() if n.number == parts["network"][0]), None)


def refit(rng: random.Random, parts: Parts, network: Network) -> None:
    """Give a described network factors, scales and a payload of few variables."""
    factors = small_factors(network, rng.choice((1, 2, 5)))
    head = [*FIXED, "description", "block_size", "seed"]
    kept = {name: parts[name] for name in head if name in parts}
    kept |= {f"factor{t}": write_varint(f) for t, f in enumerate(factors)}
    kept |= {f"rho{t}": (0x3000 + t).to_bytes(2, "little") for t in range(len(factors))}
    parts.clear()
    parts.update(kept, block_size=write_varint(rng.randint(1, len(factors))))
    if kept["code"] != b"\0":
        parts["theta"] = b"\x00\x80"
    parts["payload"] = b""
    parts.update(fitting_payload(rng, parts) or {})


def small_layout(parts: Parts) -> BlockLayout | None:
    """Return what a header says, if it is possible and of few variables."""
    numbers = [parts[n] for n in parts if n in ("block_size", "seed") or n.startswith("factor")]
    values = [sum((b & 127) << 7 * i for i, b in enumerate(data)) for data in numbers]
    network = network_of(parts)
    if network is None or len(values) != 2 + len(network.tensors()):
        return None
    if not all(f >= 1 for f in values[2:]):
        return None
    layout = BlockLayout(network, tuple(values[2:]), Grouping(0), Signs(0), values[0], values[1])
    return layout if layout.block_size >= 1 and layout.variables() <= REFITTED_VARIABLES else None


def fitting_payload(rng: random.Random, parts: Parts, spoiled: bool = False) -> Parts | None:
    """Return a payload, and theta, for what a header says; one with a fault if `spoiled`."""
    layout, bits = small_layout(parts), parts["bits"][0]
    if layout is None or parts["code"][0] not in CODE_NUMBERS or not 1 <= bits <= 24:
        return None
    name = list(CODES)[parts["code"][0]]
    count = message_count(layout, CODES[name])
    if CODES[name].fixed_length:
        indices = [rng.randrange(1 << bits) for _ in range(count)]
        payload = pack_indices(indices, bits)
        return {"payload": scramble(rng, payload) if spoiled else payload}
    raw = CODES[name].raw_bits(bits)
    top = widest(name, bits)
    length = rng.choice((1, 3, top))
    n = [rng.randrange(1, 1 << min(rng.randint(1, length), top)) for _ in range(count)]
    if spoiled and rng.random() < 0.7:
        # No such message: sums of a word and of bins are 56 bits at most, so a file can say this.
        n[rng.randrange(count)] = min((1 << top) + rng.choice((0, 1, 1 << top)), 2**61)
    elif spoiled:
        n = rng.choice((n[:-1], [*n, 1], [*n, 2**30]))
    values = [m << raw | rng.randrange(1 << raw) for m in n]
    theta = rng.choice((best_theta16(values, raw), 1, 0x8000, 0xFFFF, rng.randrange(1, 1 << 16)))
    word = write_integers(values, theta, raw)
    return {"theta": theta.to_bytes(2, "little"), "payload": word}


# --- files


class Files:
    """All files of a seed.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        seeds = seed_files()
        self.whole = list(seeds.values())
        self.parts = [cut(data) for data in self.whole]
        # Short files are quick, and a fault is as likely in one: shipped models are one in ten.
        self.weights = [0.1 / 5 if len(d) > 500 else 1 / len(seeds) for d in self.whole]

    def file(self, number: int) -> bytes:
        """Return file `number`."""
        rng = random.Random(f"{self.seed}/{number}")
        parts = dict(rng.choices(self.parts, self.weights)[0])
        if rng.random() < 0.15:
            other = self.whole[rng.randrange(len(self.whole))]
            body = self._bytes_changed(rng, b"".join(parts.values()), other[:-4])
        else:
            for _ in range(rng.choice((1, 1, 2, 2, 3, 4))):
                rng.choice(CHANGES)(rng, parts)
            if rng.random() < 0.03:
                parts.update(fitting_payload(rng, parts) or {})
            if parts["code"] == b"\0":
                parts.pop("theta", None)
            body = b"".join(parts.values())
        return self._end(rng, body)

    def _bytes_changed(self, rng: random.Random, body: bytes, other: bytes) -> bytes:
        if rng.random() < 0.3:
            return body[: rng.randrange(len(body))] + other[rng.randrange(len(other)) :]
        for _ in range(rng.randint(1, 3)):
            body = scramble(rng, body)
        return body

    def _end(self, rng: random.Random, body: bytes) -> bytes:
        """Return the body with a checksum that is right, for nine in ten."""
        data, kind = seal(body), rng.random()
        if kind < 0.9:
            return data
        if kind < 0.93:
            return data[: rng.randrange(len(data))]
        if kind < 0.95:
            return rng.randbytes(rng.randint(0, 60))
        return scramble(rng, data)
