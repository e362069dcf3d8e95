"""Section 13 of docs/SPEC.md in plain Python: updates, and the chains that they make.

Like `spec_decoder`, on which it builds, it shares no code with refmiracle.

    python tools/decoder/spec_updates.py model.rmc update.rmc ...    # as spec_decoder, of the last
"""

import itertools
import operator
import struct
import sys
import zlib
from typing import NamedTuple

from spec_decoder import (
    InvalidFileError,
    all_to_float32,
    check_length,
    parse,
    read,
    read_payload,
    read_varint,
    refuse,
    require,
    scaled,
    show,
    sizes_of,
    to_float32,
    weights_of,
    whitened,
)

# Section 13.1: 2^(r / 4), correctly rounded to float64.
ROOTS = struct.unpack(
    ">4d", bytes.fromhex("3ff0000000000000 3ff306fe0a31b715 3ff6a09e667f3bcd 3ffae89f995ad3ad")
)


class Update(NamedTuple):
    """Section 13.1: the fields; `variables` is the number of coded ones."""

    code: int
    bits: int
    block_size: int
    seed: int
    levels: bytes
    indices: list
    variables: int


def parse_update(data, base, sizes):
    """Sections 13.1 and 13.2: an update of the file `base`, of tensors of so many variables."""
    require(data[:3] == b"RMC", "wrong magic")
    require(len(data) >= 12, "too short")
    code = data[3] - 0x20
    require(0 <= code <= 12, "not the version of an update")
    body = data[:-4]
    require(zlib.crc32(body) == struct.unpack("<I", data[-4:])[0], "wrong checksum")
    require(data[4:8] == base[-4:], "an update of another file")
    require(len(body) > 8, "the header is cut off")
    bits = body[8]
    require(1 <= bits <= 24, "bits out of range")
    block_size, offset = read_varint(body, 9)
    seed, offset = read_varint(body, offset)
    payload = offset + len(sizes)
    levels = body[offset:payload]
    require(len(levels) == len(sizes), "the header is cut off")
    require(any(levels), "no tensor is coded")
    variables = sum(size for size, level in zip(sizes, levels, strict=True) if level)
    require(1 <= block_size <= variables, "block size out of range")
    check_length(len(body) - payload, variables, block_size, code, bits)
    indices = read_payload(body[payload:], variables, block_size, code, bits)
    return Update(code, bits, block_size, seed, levels, indices, variables)


def scale(level, root):
    """Section 13.3: rho, from a level and the float16 scale of the root."""
    return to_float32(root * ROOTS[level % 4] * 2.0 ** (level // 4 - 32))


def updated(variables, update, root):
    """Section 13.3: the variables behind an update."""
    z, sizes = iter(whitened(update)), sizes_of(root.tensors, root.factors)
    out, first = [], 0
    for size, level, rho in zip(sizes, update.levels, root.rho, strict=True):
        nu = variables[first : first + size]
        if level:
            of_tensor = scale(level, rho)
            steps = all_to_float32([of_tensor * next(z) for _ in range(size)])
            nu = all_to_float32(list(map(operator.add, nu, steps)))
        out += nu
        first += size
    return out


def decode_chain(files):
    """Return the weights by tensor name that a model and the updates behind it say."""
    root = parse(files[0])
    variables, sizes = scaled(root), sizes_of(root.tensors, root.factors)
    for base, data in itertools.pairwise(files):
        variables = updated(variables, parse_update(data, base, sizes), root)
    return weights_of(root, variables)


def main(paths):
    if not paths:
        refuse("usage: python spec_updates.py MODEL.rmc UPDATE.rmc ...")
    files = [read(path) for path in paths]
    try:
        show(decode_chain(files))
    except InvalidFileError as e:
        refuse(f"{' '.join(paths)}: {e}")


if __name__ == "__main__":
    main(sys.argv[1:])
