"""Files of the format .rmc put together by hand, valid ones and ones with a single fault."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from golden.sources import spec_decoder

COUNTS = tuple(math.prod(shape) for _, shape in spec_decoder.LENET5)
COUNTS_2 = tuple(math.prod(shape) for _, shape in spec_decoder.LENET_300_100)
SCALES = (0x3000, 0x3100, 0x3200, 0x3300, 0x3400, 0x3500, 0x3600, 0x3700)
DEFAULT = (1, 1, 2, 1, 50, 1, 1, 1)
Fault = tuple[str, str, bytes, str]


@dataclass(frozen=True)
class Fields:
    """What a file says; indices follow from a Weyl sequence unless they are given."""

    grouping: int
    signs: int
    block_size: int
    seed: int
    factors: tuple[int, ...]
    bits: int = 14
    rho: tuple[int, ...] = SCALES
    given: tuple[int, ...] = ()
    network: int = 1

    @property
    def tensors(self) -> list[tuple[str, tuple[int, ...]]]:
        """Return name and shape of each tensor, as the decoder of the document has them."""
        return spec_decoder.NETWORKS[self.network]

    @property
    def variables(self) -> int:
        """Return the number of variables."""
        return sum(spec_decoder.variables_of(self.factors, self.network))

    @property
    def blocks(self) -> int:
        """Return the number of blocks."""
        return -(-self.variables // self.block_size)

    @property
    def indices(self) -> list[int]:
        """Return one index for each block."""
        weyl = ((b * 2654435761 % 2**32) >> (32 - self.bits) for b in range(self.blocks))
        return list(self.given or weyl)


def pack(indices: Sequence[int], bits: int) -> bytes:
    """Return indices as bits, the highest first, and zeros up to a whole byte."""
    text = "".join(f"{i:0{bits}b}" for i in indices)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


def varint(value: int) -> bytes:
    """Return LEB128."""
    groups = []
    while value > 127:
        groups.append(value % 128 + 128)
        value //= 128
    return bytes([*groups, value])


def seal(body: bytes) -> bytes:
    """Add the checksum."""
    return body + struct.pack("<I", zlib.crc32(body))


def header_of(fields: Fields, code: int = 0) -> bytes:
    """Return the file up to its scales."""
    flags = fields.grouping + 16 * fields.signs
    return (
        b"RMC"
        + bytes([1, fields.network, code, flags, fields.bits])
        + varint(fields.block_size)
        + varint(fields.seed)
        + b"".join(map(varint, fields.factors))
        + struct.pack(f"<{len(fields.rho)}H", *fields.rho)
    )


def body_of(fields: Fields) -> bytes:
    """Return the file without its checksum."""
    return header_of(fields) + pack(fields.indices, fields.bits)


def assemble(fields: Fields) -> bytes:
    """Return the file."""
    return seal(body_of(fields))


# The complete file of docs/SPEC.md section 9.2, byte by byte.
WORKED_EXAMPLE = bytes.fromhex(
    "524d43010100"  # magic, version, network, random code
    "10050307"  # OUTPUTS and UNIT, 5 bits, blocks of 3, seed 7
    "f40314a8c30132"  # hash factors 500, 20, 25000, 50,
    "80b518f40388270a"  # 400000, 500, 5000, 10
    "00300031003200330034003500360037"  # scales
    "4fe4"  # indices 9, 31, 18 and a bit of padding
    "9e1902a7"  # CRC-32
)
SMALL = Fields(0, 1, 3, 7, COUNTS, bits=5, given=(9, 31, 18))

# The smallest and the largest scale.
EDGES = (0x0400, 0x7BFF, 0x0401, 0x7BFE, 0x3C00, 0x3BFF, 0x0400, 0x7BFF)

VALID = (
    ("worked-example", SMALL, "docs/SPEC.md section 9.2"),
    ("default", Fields(0, 1, 30, 1, DEFAULT), "14 bits, blocks of 30: 1,589 bytes"),
    ("inputs-and-signs-none", replace(SMALL, grouping=1, signs=0), ""),
    ("signs-by-weight", replace(SMALL, signs=2), ""),
    ("bits-1", Fields(0, 0, 1, 3, COUNTS, bits=1), "the eight indices fill a byte: no padding"),
    ("bits-24", Fields(0, 2, 5, 3, COUNTS, bits=24), ""),
    ("one-block", Fields(0, 1, 8, 3, COUNTS, bits=9), "the block size is the number of variables"),
    ("seed-0", replace(SMALL, seed=0), ""),
    ("largest-seed", replace(SMALL, seed=2**32 - 1), "a varint of five bytes"),
    ("seed-128", replace(SMALL, seed=128), "the first varint of two bytes"),
    ("smallest-and-largest-scales", replace(SMALL, rho=EDGES), ""),
    (
        "factors-do-not-divide",
        Fields(1, 2, 1000, 0, (3, 7, 13, 3, 49, 11, 9, 4), bits=11),
        "the number of variables is rounded up, tensor by tensor",
    ),
)

# Network 2; since version 1.2 of the vectors.
SMALL_2 = Fields(0, 1, 4, 7, COUNTS_2, bits=5, rho=SCALES[:6], given=(9, 31), network=2)
VALID_2 = (
    ("lenet-300-100", SMALL_2, "six tensors: six hash factors and six scales"),
    (
        "lenet-300-100-default",
        Fields(0, 1, 30, 1, (10, 1, 10, 1, 1, 1), rho=SCALES[:6], network=2),
        "27,930 variables in 931 blocks",
    ),
    (
        "lenet-300-100-factors-do-not-divide",
        Fields(1, 2, 300, 2**32 - 1, (999, 7, 13, 3, 49, 4), 11, SCALES[:6], network=2),
        "the number of variables is rounded up, tensor by tensor",
    ),
)

# Versions of the vectors that brought a case, where it is not the first.
SINCE = {
    "random-code-255": "1.1",
    "network-3": "1.2",
    "network-2-with-factors-of-network-1": "1.2",
    "lenet-300-100-cut-off-within-its-scales": "1.2",
    "lenet-300-100-last-scale-nan": "1.2",
}


def faults() -> list[Fault]:
    """Return name, class of fault, bytes and note of files that a reader must refuse."""
    return [
        *damaged(),
        *wrong_numbers(),
        *wrong_varints(),
        *wrong_lengths(),
        *wrong_scales(),
        *wrong_for_network_2(),
    ]


def damaged() -> list[Fault]:
    """Cut off, extended or altered after the checksum was made."""
    good = WORKED_EXAMPLE
    ends = (1, 2, 3, 4, 7, 8, 11, 12, 20, 30, 41, 43, 45, 46)
    cut = [(f"truncated-to-{n}", "truncated", good[:n], "") for n in ends]
    flipped = [
        (f"bit-flipped-in-byte-{n}", "bad CRC", flip(good, n), "the checksum covers every byte")
        for n in (5, 8, 9, 20, 30, 41, 43, 46)
    ]
    body = good[:-4]
    crc = zlib.crc32(body)
    return [
        ("empty", "empty", b"", ""),
        *cut,
        ("magic-in-lower-case", "wrong magic", seal(b"rmc" + body[3:]), ""),
        ("magic-of-another-format", "wrong magic", seal(b"PNG" + body[3:]), ""),
        ("magic-third-letter", "wrong magic", seal(b"RMD" + body[3:]), ""),
        ("byte-before-the-magic", "wrong magic", seal(b"\0" + body), ""),
        *flipped,
        ("crc-big-endian", "bad CRC", body + struct.pack(">I", crc), ""),
        ("crc-zero", "bad CRC", body + bytes(4), ""),
        ("crc-not-inverted", "bad CRC", body + struct.pack("<I", crc ^ 0xFFFFFFFF), ""),
        ("crc-without-the-magic", "bad CRC", body + struct.pack("<I", zlib.crc32(body[3:])), ""),
        ("adler-for-crc", "bad CRC", body + struct.pack("<I", zlib.adler32(body)), ""),
        ("trailing-zero", "trailing bytes", good + b"\0", ""),
        ("trailing-newline", "trailing bytes", good + b"\n", ""),
        ("two-files-in-one", "trailing bytes", good + good, ""),
    ]


def flip(data: bytes, place: int) -> bytes:
    """Return data with the lowest bit of a byte changed."""
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def with_byte(place: int, value: int) -> bytes:
    """Return the worked example with a byte of its header replaced, and a right checksum."""
    body = WORKED_EXAMPLE[:-4]
    return seal(body[:place] + bytes([value]) + body[place + 1 :])


def wrong_numbers() -> list[Fault]:
    """Single bytes of the header that mean nothing; the checksum is right."""
    return [
        ("version-0", "unknown version", with_byte(3, 0), ""),
        ("future-version", "unknown version", with_byte(3, 2), ""),
        ("version-255", "unknown version", with_byte(3, 255), ""),
        ("network-0", "unknown network", with_byte(4, 0), ""),
        ("network-3", "unknown network", with_byte(4, 3), ""),
        ("random-code-255", "unknown random code", with_byte(5, 255), ""),
        ("grouping-2", "unknown layout flags", with_byte(6, 0x12), ""),
        ("grouping-15", "unknown layout flags", with_byte(6, 0x1F), ""),
        ("signs-3", "unknown layout flags", with_byte(6, 0x30), ""),
        ("signs-15", "unknown layout flags", with_byte(6, 0xF0), ""),
        ("bits-0", "bits out of range", seal(body_of(SMALL)[:7] + b"\0" + rest()), ""),
        ("bits-25", "bits out of range", long_indices(25), ""),
        ("bits-32", "bits out of range", long_indices(32), ""),
        ("bits-255", "bits out of range", long_indices(255), ""),
    ]


def rest() -> bytes:
    """Return the worked example from its block size to its scales."""
    return WORKED_EXAMPLE[8:41]


def long_indices(bits: int) -> bytes:
    """Return a file with a forbidden number of bits, its length and checksum right."""
    return seal(WORKED_EXAMPLE[:7] + bytes([bits]) + rest() + pack((9, 31, 18), bits))


def with_varints(
    block_size: bytes = b"\x03",
    seed: bytes = b"\x07",
    factors: dict[int, bytes] | None = None,
    payload: bytes = b"\x4f\xe4",
) -> bytes:
    """Return the worked example with some of its varints replaced, and a right checksum."""
    coded = [varint(n) for n in COUNTS]
    for number, value in (factors or {}).items():
        coded[number] = value
    scales = WORKED_EXAMPLE[25:41]
    return seal(WORKED_EXAMPLE[:8] + block_size + seed + b"".join(coded) + scales + payload)


def wrong_varints() -> list[Fault]:
    """Integers out of range, not canonical, or without end; the checksum is right."""
    out_of_range, canonical = "block size out of range", "varint not canonical"
    factor, large = "hash factor out of range", "varint too large"
    unended = seal(WORKED_EXAMPLE[:8] + b"\x03\x80")
    rows = [
        ("block-size-0", out_of_range, with_varints(block_size=b"\0")),
        ("block-size-above-variables", out_of_range, with_varints(b"\x09", payload=b"\x48")),
        ("block-size-largest", out_of_range, with_varints(varint(2**32 - 1), payload=b"\x48")),
        ("block-size-in-two-bytes", canonical, with_varints(b"\x83\0")),
        ("seed-0-in-two-bytes", canonical, with_varints(seed=b"\x80\0")),
        ("seed-127-in-three-bytes", canonical, with_varints(seed=b"\xff\x80\0")),
        ("seed-2-to-the-32", large, with_varints(seed=b"\x80\x80\x80\x80\x10")),
        ("seed-2-to-the-35-less-1", large, with_varints(seed=b"\xff\xff\xff\xff\x7f")),
        ("seed-in-six-bytes", large, with_varints(seed=b"\xff\xff\xff\xff\xff\x01")),
        ("seed-in-ten-bytes", large, with_varints(seed=b"\xff" * 9 + b"\x01")),
        ("factor-0", factor, with_varints(factors={0: b"\0"})),
        ("last-factor-0", factor, with_varints(factors={7: b"\0"})),
        ("factor-above-weights", factor, with_varints(factors={0: varint(501)})),
        ("bias-factor-above-weights", factor, with_varints(factors={1: b"\x15"})),
        ("last-factor-above-weights", factor, with_varints(factors={7: b"\x0b"})),
        ("factor-largest", factor, with_varints(factors={4: varint(2**32 - 1)})),
        ("factor-in-two-bytes", canonical, with_varints(factors={7: b"\x8a\0"})),
        ("varint-without-end", "shorter than its header calls for", unended),
    ]
    return [(name, fault, data, "") for name, fault, data in rows]


def wrong_lengths() -> list[Fault]:
    """Shorter or longer than the header calls for, though the checksum is right."""
    body = WORKED_EXAMPLE[:-4]
    short, long = "shorter than its header calls for", "longer than its header calls for"
    padding = "padding bits not zero"
    return [
        *((f"sealed-at-{n}", short, seal(body[:n]), "") for n in (8, 9, 10, 11, 24, 25, 40, 41)),
        ("sealed-one-byte-short", short, seal(body[:-1]), ""),
        ("sealed-with-a-byte-more", long, seal(body + b"\0"), ""),
        ("sealed-with-its-own-checksum", long, seal(WORKED_EXAMPLE), ""),
        (
            "claims-a-million-blocks",
            short,
            with_varints(b"\x01", factors=dict.fromkeys(range(8), b"\x01")),
            "a size that a file claims must not decide an allocation",
        ),
        ("padding-bit-set", padding, with_varints(payload=b"\x4f\xe5"), ""),
    ]


def wrong_scales() -> list[Fault]:
    """Scales that are not positive and normal, in the first and the last tensor."""
    rows = [
        ("zero", 0x0000),
        ("negative-zero", 0x8000),
        ("smallest-subnormal", 0x0001),
        ("largest-subnormal", 0x03FF),
        ("negative", 0xB000),
        ("infinite", 0x7C00),
        ("negative-infinite", 0xFC00),
        ("nan", 0x7E00),
        ("signalling-nan", 0x7C01),
    ]
    last = replace(SMALL, rho=(*SCALES[:7], 0x7E00))
    fault = "scale not positive and normal"
    return [
        *(
            (f"scale-{name}", fault, assemble(replace(SMALL, rho=(pattern, *SCALES[1:]))), "")
            for name, pattern in rows
        ),
        ("last-scale-nan", fault, assemble(last), ""),
    ]


def wrong_for_network_2() -> list[Fault]:
    """Files of network 2 that are not as it calls for."""
    body = body_of(SMALL_2)
    short = "shorter than its header calls for"
    return [
        (
            "network-2-with-factors-of-network-1",
            "hash factor out of range",
            with_byte(4, 2),
            "the fifth factor is 400000",
        ),
        ("lenet-300-100-cut-off-within-its-scales", short, seal(body[:-8]), ""),
        (
            "lenet-300-100-last-scale-nan",
            "scale not positive and normal",
            assemble(replace(SMALL_2, rho=(*SCALES[:5], 0x7E00))),
            "",
        ),
    ]
