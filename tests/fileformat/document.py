"""What docs/SPEC.md says, and the files whose check values stand in it."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import numpy as np

from refmiracle.codes.table import CODES_BY_NUMBER
from refmiracle.fileformat.container import CompressedModel
from refmiracle.fileformat.payload import in_blocks, message_count
from refmiracle.nn.description import from_description
from refmiracle.nn.networks import LENET5, LENET_300_100
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

SPEC = (Path(__file__).parents[2] / "docs" / "SPEC.md").read_text(encoding="utf-8")


# The complete file of section 9.2, field by field: one variable for each tensor.
FIELDS = {
    "magic": "524d43",
    "version": "01",
    "network": "01",
    "code": "00",
    "flags": "10",
    "bits": "05",
    "block_size": "03",
    "seed": "07",
    "factor0": "f403",
    "factor1": "14",
    "factor2": "a8c301",
    "factor3": "32",
    "factor4": "80b518",
    "factor5": "f403",
    "factor6": "8827",
    "factor7": "0a",
    **{f"rho{t}": f"00{0x30 + t:02x}" for t in range(8)},
    "indices": "4fe4",
}


def section(number):
    """Return the text of a section, to the next heading."""
    return re.split(rf"^##+ {re.escape(number)}\.? ", SPEC, flags=re.M)[1].split("\n##")[0]


def table(number):
    """Return the rows of the tables of a section, each a list of cells without quotes."""
    lines = [line for line in section(number).splitlines() if line.startswith("|")]
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return [r for i, r in enumerate(rows) if "---" not in r[0] and not is_header(rows, i)]


def is_header(rows, i):
    return i + 1 < len(rows) and "---" in rows[i + 1][0]


def code_bytes(number):
    """Return the bytes of the dump of a section, without its remarks."""
    dump = section(number).split("```text\n")[1].split("```")[0]
    return bytes.fromhex("".join(line[:28] for line in dump.splitlines()))


def words(cell):
    return [int(w, 16) for w in cell.split()]


def float64_bits(x):
    return struct.pack(">d", x).hex()


def float32_bits(x):
    return struct.pack(">f", x).hex()


def seal(body):
    """Append the checksum that makes a body a file."""
    return bytes(body) + zlib.crc32(body).to_bytes(4, "little")


def bitwise_crc(data):
    """CRC-32 by its polynomial, one bit at a time."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def checksum(weights):
    """CRC-32 of all weights as little-endian float32, tensors in the order of the file."""
    flat = np.concatenate([np.asarray(w).ravel() for w in weights.values()])
    return zlib.crc32(flat.astype("<f4").tobytes())


def described_network():
    """The network of the example of section 3.1."""
    example = section("3.1").split("Example: ")[1].split(": images")[0]
    return from_description(bytes.fromhex("".join(re.findall(r"`([0-9a-f ]+)`", example))))


def scales(count):
    """The scales of section 10."""
    return np.array([0x2400 + 0x111 * t for t in range(count)], dtype=np.uint16).view(np.float16)


def messages_of(layout, code, bits):
    """The indices of section 10 for code 0, the integers m of 10.1 for any other."""
    count = message_count(layout, code)
    if code.number == 0:
        return np.array([[b * 2654435761 % 2**32 >> (32 - bits)] for b in range(count)])
    m = []
    for t in range(count):
        x = t * 2654435761 % 2**32
        e = x // 2**27
        n = 2**e + x % 2**e
        m.append({"sp-pfr": n * 2**16 + x // 2**16, "orc": x // 2**18 + 1}.get(code.name, n))
    return in_blocks(layout, code, code.from_positive(m))


def model_of(layout, code, bits):
    """Return a model with the scales, messages and theta of section 10."""
    rho, messages = scales(len(layout.factors)), messages_of(layout, code, bits)
    return CompressedModel(layout, bits, rho, messages, code.name, 60000)


def models(number):
    """Yield the model of each row of section 10, 10.1, 10.2 or 10.3, and its check values.

    The length of the file, its CRC-32, and that of its weights.
    """
    network = {"10.2": LENET_300_100, "10.3": described_network()}.get(number, LENET5)
    for row in table(number):
        code = CODES_BY_NUMBER[0 if number == "10" else int(row.pop(0))]
        if number == "10.1":
            row = ["11", row[0], "10", row[1], "5 5 1000 5 4000 50 50 1", *row[2:]]  # noqa: PLW2901
        flags, bits, block_size, seed, factors, *expected = row
        layout = BlockLayout(
            network,
            tuple(map(int, factors.split())),
            Grouping(int(flags, 16) & 15),
            Signs(int(flags, 16) >> 4),
            int(block_size),
            int(seed),
        )
        yield model_of(layout, code, int(bits)), expected
