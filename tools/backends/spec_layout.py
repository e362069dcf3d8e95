"""What docs/SPEC.md says of bytes, places and constants, for backends in any array framework.

Plain NumPy and the standard library, written from the document and not from refmiracle, so that
a backend that agrees with the golden vectors says something about them.  Section numbers are
those of docs/SPEC.md.  Random words come from the backend: whoever asks for places brings them.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = Any
# A row of a stream: (stream, row, count) -> words.
Words = Callable[[int, int, int], Array]

# Section 3.
SHAPES = ((5, 5, 1, 20), (20,), (5, 5, 20, 50), (50,), (800, 500), (500,), (500, 10), (10,))
SIZES = tuple(math.prod(shape) for shape in SHAPES)
SPLITS = tuple(int(n) for n in np.cumsum(SIZES)[:-1])

# Section 4.
ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
LOW = 0xFFFFFFFF
CODEBOOK, SELECTION, PERMUTATION, SIGN_STREAM = 3, 4, 5, 6

# Section 6: numerators and denominators of AS 241, highest power first.
CENTRAL = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
     4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
     1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
     2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
     4.2313330701600911252e1, 1.0),
)  # fmt: skip
MIDDLE = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
     1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
     4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
     1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
     2.05319162663775882187e0, 1.0),
)  # fmt: skip
FAR = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
     2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
     5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
     7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
     5.99832206555887937690e-1, 1.0),
)  # fmt: skip
LOG_SERIES = tuple(1.0 / k for k in range(21, 0, -2))
SQRT_HALF = 0.7071067811865476
LN2 = 0.6931471805599453

# Section 8.
INPUTS = 1
NO_SIGNS, UNIT, WEIGHT = 0, 1, 2

SMALLEST_SCALE, LARGEST_SCALE = 2.0**-14, 65504.0
SAMPLE_STRIDE = 997


def require(condition: Any, message: str) -> None:
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


class Layout(NamedTuple):
    """How weights share coded variables, and how these fill blocks."""

    block_size: int
    seed: int
    factors: tuple[int, ...]
    grouping: int
    signs: int


class Header(NamedTuple):
    """The fields of a file; `rho` holds the bits of float16 numbers."""

    layout: Layout
    bits: int
    rho: Array
    indices: Array


class Places(NamedTuple):
    """A layout spelled out.

    For each weight, in file order: the place of its variable in the flat array of all blocks,
    and its sign.  For each place, shape (blocks, block_size): its tensor, 0 where unused.
    """

    of_weights: Array
    signs: Array
    tensors: Array


# --- layout: sections 7 and 8


def make_layout(
    block_size: Array, seed: Array, factors: Array, grouping: Array, signs: Array
) -> Layout:
    """Return the layout that five arrays describe; refuse what no file could say."""
    layout = Layout(
        int(block_size), int(seed), tuple(int(f) for f in factors), int(grouping), int(signs)
    )
    require(len(layout.factors) == len(SIZES), "one hash factor for each tensor")
    require(
        all(1 <= f <= n for f, n in zip(layout.factors, SIZES, strict=True)),
        "a hash factor is out of range",
    )
    require(layout.grouping in (0, 1) and layout.signs in (0, 1, 2), "unknown layout flags")
    require(0 <= layout.seed <= LOW, "the seed is out of range")
    require(1 <= layout.block_size <= sum(variables(layout)), "the block size is out of range")
    return layout


def variables(layout: Layout) -> list[int]:
    """Return the number of coded variables of each tensor."""
    return [-(-n // f) for n, f in zip(SIZES, layout.factors, strict=True)]


def blocks(layout: Layout) -> int:
    """Return the number of blocks."""
    return -(-sum(variables(layout)) // layout.block_size)


def weight_signs(layout: Layout, number: int, words: Words) -> Array:
    """Return +1 or -1 for each weight of a tensor, in C order."""
    size, outputs = SIZES[number], SHAPES[number][-1]
    if layout.signs == NO_SIGNS or layout.factors[number] == 1:
        return np.ones(size, dtype=np.int64)
    count = outputs if layout.signs == UNIT else size
    negative = np.asarray(words(SIGN_STREAM, number, count), dtype=np.int64) >> 31
    return (1 - 2 * negative)[np.arange(size) % count]


def spell_out(layout: Layout, words: Words, permutation: Array) -> Places:
    """Return the tables of a layout.

    Parameters
    ----------
    layout : Layout
    words : callable
        (stream, row, count) -> words under the layout's seed.
    permutation : ndarray of int
        The variable that stands at each place: section 7.2.
    """
    counts = variables(layout)
    starts = np.concatenate([[0], np.cumsum(counts)])
    place_of = np.empty(starts[-1], dtype=np.int64)
    place_of[permutation] = np.arange(starts[-1])
    of_weights = []
    for number, shape in enumerate(SHAPES):
        i = np.arange(SIZES[number])
        if layout.grouping == INPUTS:
            i = i % shape[-1] * (SIZES[number] // shape[-1]) + i // shape[-1]
        of_weights.append(place_of[starts[number] + i // layout.factors[number]])
    tensors = np.zeros(blocks(layout) * layout.block_size, dtype=np.int64)
    tensors[: starts[-1]] = np.searchsorted(starts, permutation, side="right") - 1
    return Places(
        np.concatenate(of_weights),
        np.concatenate([weight_signs(layout, n, words) for n in range(len(SHAPES))]),
        tensors.reshape(blocks(layout), layout.block_size),
    )


# --- container: section 2


def pack_indices(indices: Array, bits: Array) -> Array:
    """Return indices as a string of bits, highest first, padded with zeros to bytes."""
    indices, bits = np.asarray(indices, dtype=np.int64), int(bits)
    require(np.all((indices >= 0) & (indices < 2**bits)), "an index is out of range")
    text = "".join(f"{int(k):0{bits}b}" for k in indices)
    text += "0" * (-len(text) % 8)
    return np.array([int(text[i : i + 8], 2) for i in range(0, len(text), 8)], dtype=np.uint8)


def unpack_indices(payload: Array, bits: Array, count: Array) -> Array:
    """Return the indices that fill a payload exactly, or refuse it."""
    bits, count = int(bits), int(count)
    payload = np.asarray(payload, dtype=np.uint8)
    require(len(payload) == -(-bits * count // 8), "the payload has the wrong length")
    text = "".join(f"{int(byte):08b}" for byte in payload)
    require("1" not in text[bits * count :], "padding bits are set")
    starts = range(0, bits * count, bits)
    return np.array([int(text[i : i + bits], 2) for i in starts], dtype=np.int64)


def read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Return the integer at `offset` and the offset behind it."""
    value = 0
    for i in range(5):
        require(offset + i < len(data), "the header is cut off")
        byte = data[offset + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            require(byte > 0 or i == 0, "a varint is longer than needed")
            require(value <= LOW, "a varint does not fit in 32 bits")
            return value, offset + i + 1
    raise ValueError("a varint has more than five bytes")


def write_varint(value: int) -> bytes:
    """Return an integer in base 128, lowest group first."""
    require(0 <= value <= LOW, "the integer does not fit in 32 bits")
    low, high = value & 127, value >> 7
    return bytes([low | 128]) + write_varint(high) if high else bytes([low])


def read_file(data: Array) -> Header:
    """Read a file, checked in the order of section 2.5."""
    data = np.asarray(data, dtype=np.uint8).tobytes()
    require(data[:3] == b"RMC", "wrong magic")
    require(len(data) >= 12, "too short")
    version, network, code, flags, bits = data[3:8]
    require(version == 1, "unknown version")
    body = data[:-4]
    require(zlib.crc32(body) == struct.unpack("<I", data[-4:])[0], "wrong checksum")
    require(network == 1, "unknown network")
    require(code == 0, "unknown random code")
    require(flags & 15 <= 1 and flags >> 4 <= 2, "unknown layout flags")
    require(1 <= bits <= 24, "bits out of range")
    numbers, offset = [], 8
    for _ in range(2 + len(SHAPES)):
        value, offset = read_varint(body, offset)
        numbers.append(value)
    layout = make_layout(numbers[0], numbers[1], numbers[2:], flags & 15, flags >> 4)
    payload = offset + 2 * len(SHAPES)
    require(len(body) == payload + -(-bits * blocks(layout) // 8), "wrong length")
    rho = np.frombuffer(body[offset:payload], dtype="<u2").astype(np.uint16)
    require(np.all((rho >= 0x0400) & (rho <= 0x7BFF)), "a scale is not a positive normal float16")
    indices = unpack_indices(np.frombuffer(body[payload:], np.uint8), bits, blocks(layout))
    return Header(layout, bits, rho, indices)


def write_file(header: Header) -> Array:
    """Return the bytes of a file as uint8; refuse fields that no reader would accept."""
    layout, bits, rho, indices = header
    require(len(indices) == blocks(layout), "one index for each block")
    require(1 <= bits <= 24, "bits out of range")
    body = b"RMC" + bytes([1, 1, 0, layout.grouping | layout.signs << 4, bits])
    for number in (layout.block_size, layout.seed, *layout.factors):
        body += write_varint(number)
    body += np.asarray(rho, dtype="<u2").tobytes() + pack_indices(indices, bits).tobytes()
    data = np.frombuffer(body + struct.pack("<I", zlib.crc32(body)), dtype=np.uint8)
    read_file(data)
    return data


def read_container(data: Array) -> tuple[Any, ...]:
    """Return the fields of a file, as the suite orders them."""
    layout, bits, rho, indices = read_file(data)
    return (
        1, layout.grouping, layout.signs, bits, layout.block_size, layout.seed,
        np.array(layout.factors), rho, indices,
    )  # fmt: skip


def write_container(
    network: Array,
    grouping: Array,
    signs: Array,
    bits: Array,
    block_size: Array,
    seed: Array,
    factors: Array,
    rho: Array,
    indices: Array,
) -> Array:
    """Return the bytes of a file with these fields."""
    require(int(network) == 1, "unknown network")
    layout = make_layout(block_size, seed, factors, grouping, signs)
    return write_file(Header(layout, int(bits), rho, indices))


def scales(rho: Array) -> Array:
    """Return float16 numbers from their bits."""
    return np.asarray(rho, dtype=np.uint16).view(np.float16)
