"""What docs/SPEC.md says of bytes, places and constants, for backends in any array framework.

Plain NumPy and the standard library, written from the document and not from refmiracle, so that
a backend that agrees with the golden vectors says something about them.  Section numbers are
those of docs/SPEC.md.  Random words come from the backend: whoever asks for places brings them.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import spec_description
from spec_description import Network, Shape, read_description

Array = Any
# A row of a stream: (stream, row, count) -> words.
Words = Callable[[int, int, int], Array]

# Section 3: the networks, by their numbers.
DESCRIBED, LENET5, LENET_300_100 = 0, 1, 2
NETWORKS = {LENET5: spec_description.LENET5, LENET_300_100: spec_description.LENET_300_100}

# Section 4.
ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
LOW = 0xFFFFFFFF
CODEBOOK, SELECTION, PERMUTATION, SIGN_STREAM, CANDIDATES, PARTITION = 3, 4, 5, 6, 9, 10

# Sections 2.1 and 7.5: the random codes by their numbers.
MRC, ORC, PFR, SP_PFR, LAST_CODE = 0, 1, 2, 3, 12
SPLIT_ON_SAMPLE, DYADIC, NO_TREE = (4, 8, 11), (5, 6, 9, 12), (7, 10)
LARGEST_INTEGER = 2**62 - 1
LARGEST_COUNT = 2**20
LARGEST_U = 1.0 - 2.0**-53

# Section 2.7.
HALF, WHOLE, LEAST, LARGEST_EXPONENT = 1 << 15, (1 << 32) - 1, 1 << 24, 61

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

ROW_WORDS, LARGEST_BITS = 1 << 34, 24
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-14, 65504.0
SAMPLE_STRIDE = 997


def polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    """Return Horner's rule, each product and each sum rounded: nothing is to be fused."""
    value: Any = coefficients[0]
    for c in coefficients[1:]:
        value = value * x + c
    return value


def ratio(parts: tuple[tuple[float, ...], ...], x: Any) -> Any:
    """Return a quotient of two polynomials: sections 6.1 and 6.2."""
    return polynomial(parts[0], x) / polynomial(parts[1], x)


def require(condition: Any, message: str) -> None:
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def check_groups(groups: int, *counts: int) -> None:
    """Refuse groups of channels that are not whole."""
    require(groups > 0 and not any(n % groups for n in counts), "groups that do not divide")


def check_convolution(x: Any, w: Any, stride: int, padding: int, groups: int) -> None:
    """Refuse a kernel, a stride, zeros around or groups that do not go with the maps."""
    kh, kw, fan, outputs = w.shape
    check_groups(groups, len(x), outputs)
    require(fan * groups == len(x), "the kernel reads another number of channels")
    require(stride > 0 and padding >= 0, "no such stride or padding")
    high, wide = (n + 2 * padding for n in x.shape[1:3])
    require(kh <= high and kw <= wide, "the kernel is larger than the map")


def check_windows(shape: Any, height: int, width: int) -> None:
    """Refuse windows that are none, or larger than the map of this shape."""
    require(len(shape) == 4, "no shape of maps")
    require(1 <= height <= shape[1] and 1 <= width <= shape[2], "no window fits the map")


def word(value: Any) -> int:
    """Return a number that must be a 32-bit word."""
    require(0 <= int(value) <= LOW, "a number is no 32-bit word")
    return int(value)


def check_words(values: Array) -> Array:
    """Return numbers that must be 32-bit words."""
    values = np.asarray(values)
    require(np.all((values >= 0) & (values <= LOW)), "a number is no 32-bit word")
    return values


def check_range(first: int, count: int) -> None:
    """Refuse words that no row has: section 4.2."""
    require(first >= 0 and count >= 0 and first + count <= ROW_WORDS, "a row has 2^34 words")


def check_bits(bits: int, least: int = 1) -> int:
    """Return a number of bits that a file may have."""
    require(least <= bits <= LARGEST_BITS, "bits out of range")
    return bits


def check_weights(weights: Array, layout: Layout) -> Array:
    """Return numbers of weights that a network must have."""
    count = sum(layout.sizes)
    require(np.all((weights >= 0) & (weights < count)), "no such weight")
    return weights


class Layout(NamedTuple):
    """How weights share coded variables, and how these fill blocks.

    `described` is network 0.
    """

    block_size: int
    seed: int
    factors: tuple[int, ...]
    grouping: int
    signs: int
    network: int = LENET5
    described: Network | None = None

    @property
    def whole(self) -> Network:
        """The network."""
        return self.described or NETWORKS[self.network]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of the network's tensors."""
        return self.whole.shapes

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of weights of each."""
        return tuple(map(math.prod, self.shapes))


class Header(NamedTuple):
    """The fields of a file; `rho` holds the bits of float16 numbers, theta is 0 in code 0.

    A message is a row of the codebook, n 2^bits + j, or a node: one for each block or variable.
    """

    layout: Layout
    code: int
    bits: int
    rho: Array
    messages: Array
    theta: int = 0


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
    block_size: Array,
    seed: Array,
    factors: Array,
    grouping: Array,
    signs: Array,
    network: Array = LENET5,
    described: Network | None = None,
) -> Layout:
    """Return the layout that arrays describe; refuse what no file could say."""
    factors = tuple(int(f) for f in factors)
    numbers = int(block_size), int(seed), factors, int(grouping), int(signs), int(network)
    layout = Layout(*numbers, described)
    require(described or layout.network in NETWORKS, "unknown network")
    sizes = layout.sizes
    require(len(factors) == len(sizes), "one hash factor for each tensor")
    require(
        all(1 <= f <= n for f, n in zip(factors, sizes, strict=True)),
        "a hash factor is out of range",
    )
    require(layout.grouping in (0, 1) and layout.signs in (0, 1, 2), "unknown layout flags")
    require(0 <= layout.seed <= LOW, "the seed is out of range")
    require(1 <= layout.block_size <= sum(variables(layout)), "the block size is out of range")
    return layout


def variables(layout: Layout) -> list[int]:
    """Return the number of coded variables of each tensor."""
    return [-(-n // f) for n, f in zip(layout.sizes, layout.factors, strict=True)]


def blocks(layout: Layout) -> int:
    """Return the number of blocks."""
    return -(-sum(variables(layout)) // layout.block_size)


def weight_signs(layout: Layout, number: int, words: Words) -> Array:
    """Return +1 or -1 for each weight of a tensor, in C order."""
    size, outputs = layout.sizes[number], layout.shapes[number][-1]
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
    for number, shape in enumerate(layout.shapes):
        size = math.prod(shape)
        i = np.arange(size)
        if layout.grouping == INPUTS:
            i = i % shape[-1] * (size // shape[-1]) + i // shape[-1]
        of_weights.append(place_of[starts[number] + i // layout.factors[number]])
    tensors = np.zeros(blocks(layout) * layout.block_size, dtype=np.int64)
    tensors[: starts[-1]] = np.searchsorted(starts, permutation, side="right") - 1
    return Places(
        np.concatenate(of_weights),
        np.concatenate([weight_signs(layout, n, words) for n in range(len(counts))]),
        tensors.reshape(blocks(layout), layout.block_size),
    )


# --- container: section 2


def pack_indices(indices: Array, bits: Array) -> Array:
    """Return indices as a string of bits, highest first, padded with zeros to bytes."""
    indices, bits = np.asarray(indices, dtype=np.int64), check_bits(int(bits))
    require(np.all((indices >= 0) & (indices < 2**bits)), "an index is out of range")
    text = "".join(f"{int(k):0{bits}b}" for k in indices)
    text += "0" * (-len(text) % 8)
    return np.array([int(text[i : i + 8], 2) for i in range(0, len(text), 8)], dtype=np.uint8)


def unpack_indices(payload: Array, bits: Array, count: Array) -> Array:
    """Return the indices that fill a payload exactly, or refuse it."""
    bits, count = check_bits(int(bits)), int(count)
    require(count >= 0, "a negative number of indices")
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


def decisions(value: int, theta: int, raw: int) -> Iterator[tuple[int, int]]:
    """Yield the probability of a one, in units of 2^-16, and the bit, of each decision."""
    n = value >> raw
    e = n.bit_length() - 1
    yield from ((HALF, value >> place & 1) for place in reversed(range(raw)))
    yield from ((theta, int(i < e)) for i in range(e + 1))
    yield from ((HALF, n >> place & 1) for place in reversed(range(e)))


def write_integers(integers: Array, theta: Array, raw: Array) -> Array:
    """Return the code word of integers: section 2.7."""
    theta, raw = int(theta), check_bits(int(raw), 0)
    require(1 <= theta < 1 << 16, "theta is out of range")
    require(len(integers) <= LARGEST_COUNT, "more than 2^20 integers")
    low, width, written = 0, WHOLE, bytearray()
    for value in np.asarray(integers, dtype=np.int64).tolist():
        require(value >> raw >= 1 and value <= LARGEST_INTEGER, "an integer is out of range")
        for probability, bit in decisions(value, theta, raw):
            bound = (width >> 16) * probability
            low, width = (low, bound) if bit else (low + bound, width - bound)
            while width < LEAST:
                carry(written, low >> 32)
                written.append(low >> 24 & 255)
                low, width = low << 8 & WHOLE, width << 8
    for unit in (1 << 24, 1 << 16):
        last = -(-low // unit)
        if (last + 1) * unit <= low + width:
            break
    carry(written, last * unit >> 32)
    end = (last * unit & WHOLE).to_bytes(4, "big")[: 1 if unit == 1 << 24 else 2]
    return np.frombuffer(bytes(written) + end, dtype=np.uint8)


def carry(written: bytearray, one: int) -> None:
    """Add one, or nothing, to the last place of what is written."""
    place = len(written) - 1
    while one:
        one = int(written[place] == 255)
        written[place] = written[place] + 1 & 255
        place -= 1


def read_integers(payload: Array, count: Array, theta: Array, raw: Array) -> Array:
    """Return the integers whose code word a payload is, or refuse it."""
    data, theta = np.asarray(payload, dtype=np.uint8).tobytes(), int(theta)
    raw = check_bits(int(raw), 0)
    require(count >= 0, "a negative number of integers")
    require(1 <= theta < 1 << 16, "theta is out of range")
    require(int(count) <= LARGEST_COUNT, "more than 2^20 integers")
    following = iter((data + bytes(4))[4:])
    ahead, width = int.from_bytes((data + bytes(4))[:4], "big"), WHOLE

    def decide(probability: int) -> int:
        nonlocal ahead, width
        bound = (width >> 16) * probability
        bit = int(ahead < bound)
        ahead, width = (ahead, bound) if bit else (ahead - bound, width - bound)
        while width < LEAST:
            byte = next(following, None)
            require(byte is not None, "the integers are cut off")
            ahead, width = ahead << 8 | byte, width << 8
        return bit

    integers = []
    for _ in range(int(count)):
        low = 0
        for _ in range(raw):
            low = low << 1 | decide(HALF)
        e = 0
        while decide(theta):
            e += 1
            require(e + raw <= LARGEST_EXPONENT, "an integer is too large")
        n = 1
        for _ in range(e):
            n = n << 1 | decide(HALF)
        integers.append(n << raw | low)
    out = np.array(integers, dtype=np.int64)
    require(write_integers(out, theta, raw).tobytes() == data, "no code word of its integers")
    return out


def read_messages(payload: bytes, layout: Layout, code: int, bits: int, theta: int) -> Array:
    """Return the messages of codes 1 to 12, whose code word a payload is."""
    count = blocks(layout) if code <= SP_PFR else sum(variables(layout))
    raw = bits if code == SP_PFR else 0
    integers = read_integers(np.frombuffer(payload, np.uint8), count, theta, raw)
    largest = {ORC: 1 << bits, PFR: 1 << 32, SP_PFR: (1 << 32 + bits) - 1}
    require(max(integers) <= largest.get(code, LARGEST_INTEGER), "a message is out of range")
    return integers - (code in (ORC, PFR))


def read_network(network: int, body: bytes) -> tuple[Network | None, int]:
    """Return the network that the file describes, if it does, and what is behind."""
    if network == DESCRIBED:
        return read_description(body, 8, read_varint)
    require(network in NETWORKS, "unknown network")
    return None, 8


def described_layout(description: Array, *arguments: Array) -> Layout:
    """Return the layout of the network that some bytes describe; see `make_layout`."""
    data = np.asarray(description, dtype=np.uint8).tobytes()
    network, end = read_description(data, 0, read_varint)
    require(end == len(data), "bytes behind the description")
    return make_layout(*arguments, DESCRIBED, network)


def check_images(pixels: Array, layout: Layout) -> Array:
    """Return images with their channels, which those of networks 1 and 2 come without."""
    image = layout.whole.image
    require(pixels.shape[1:] == (image if layout.described else image[1:]), "images do not fit")
    return pixels.reshape(len(pixels), *image)


def check_labels(labels: Array, layout: Layout) -> Array:
    """Return labels that must be classes."""
    require(np.all((labels >= 0) & (labels < layout.whole.classes)), "a label is no class")
    return labels


def read_file(data: Array) -> Header:
    """Read a file, checked in the order of section 2.5."""
    data = np.asarray(data, dtype=np.uint8).tobytes()
    require(data[:3] == b"RMC", "wrong magic")
    require(len(data) >= 12, "too short")
    version, network, code, flags, bits = data[3:8]
    require(version == 1, "unknown version")
    body = data[:-4]
    require(zlib.crc32(body) == struct.unpack("<I", data[-4:])[0], "wrong checksum")
    described, offset = read_network(network, body)
    require(code <= LAST_CODE, "unknown random code")
    require(flags & 15 <= 1 and flags >> 4 <= 2, "unknown layout flags")
    require(1 <= bits <= 24, "bits out of range")
    numbers = []
    for _ in range(2 + len((described or NETWORKS[network]).shapes)):
        value, offset = read_varint(body, offset)
        numbers.append(value)
    layout = make_layout(*numbers[:2], numbers[2:], flags & 15, flags >> 4, network, described)
    payload = offset + 2 * len(layout.factors)
    check_length(len(body) - payload, layout, code, bits)
    rho = np.frombuffer(body[offset:payload], dtype="<u2").astype(np.uint16)
    require(np.all((rho >= 0x0400) & (rho <= 0x7BFF)), "a scale is not a positive normal float16")
    return Header(layout, code, bits, rho, *read_payload(body[payload:], layout, code, bits))


def check_length(size: int, layout: Layout, code: int, bits: int) -> None:
    """Refuse messages that have not as many bytes as their header calls for."""
    if code == MRC:
        require(size == -(-bits * blocks(layout) // 8), "wrong length")
    else:
        require(size >= 3, "wrong length")


def read_payload(payload: bytes, layout: Layout, code: int, bits: int) -> tuple[Array, int]:
    """Return the messages behind a header, and theta."""
    check_length(len(payload), layout, code, bits)
    if code == MRC:
        return unpack_indices(np.frombuffer(payload, np.uint8), bits, blocks(layout)), 0
    theta = int.from_bytes(payload[:2], "little")
    return read_messages(payload[2:], layout, code, bits, theta), theta


def write_file(header: Header) -> Array:
    """Return the bytes of a file of code 0; refuse fields that no reader would accept."""
    layout, code, bits, rho, indices, _ = header
    require(code == MRC, "only files of code 0 are written here")
    require(len(indices) == blocks(layout), "one index for each block")
    require(1 <= bits <= 24, "bits out of range")
    body = b"RMC" + bytes([1, layout.network, code, layout.grouping | layout.signs << 4, bits])
    for number in (layout.block_size, layout.seed, *layout.factors):
        body += write_varint(number)
    body += np.asarray(rho, dtype="<u2").tobytes() + pack_indices(indices, bits).tobytes()
    data = np.frombuffer(body + struct.pack("<I", zlib.crc32(body)), dtype=np.uint8)
    read_file(data)
    return data


def read_container(data: Array) -> tuple[Any, ...]:
    """Return the fields of a file, as the suite orders them."""
    layout, code, bits, rho, indices, _ = read_file(data)
    require(code == MRC, "the results have no place for the number of a random code")
    return (
        layout.network, layout.grouping, layout.signs, bits, layout.block_size, layout.seed,
        np.array(layout.factors), rho, indices,
    )  # fmt: skip


def describe_file(data: Array) -> tuple[Any, ...]:
    """Return the fields of a file of any code, as the suite orders them."""
    layout, code, bits, rho, messages, theta = read_file(data)
    return (
        layout.network, layout.grouping, layout.signs, code, bits, theta, layout.block_size,
        layout.seed, np.array(layout.factors), rho, messages,
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
    layout = make_layout(block_size, seed, factors, grouping, signs, network)
    return write_file(Header(layout, MRC, int(bits), rho, indices))


# --- what messages name: sections 7.4 and 7.5


def bits_of_places(bits: int, dimension: int) -> Array:
    """Return k_d for each position of a block."""
    ends = np.arange(dimension + 1) * bits // dimension
    return ends[1:] - ends[:-1]


def intervals(messages: Array, bits: int, dimension: int) -> Array:
    """Return j_d of the bins of messages, shape (blocks, dimension)."""
    own = bits_of_places(bits, dimension)
    return messages[:, None] % (1 << bits) >> bits - np.cumsum(own) & (1 << own) - 1


def check_bins(messages: Array, bits: int) -> None:
    """Refuse messages n 2^bits + j without a candidate n from 1 to 2^32 - 1."""
    require(np.all((messages >> bits >= 1) & (messages >> bits <= LOW)), "no such candidate")


def check_nodes(code: int, nodes: Array) -> None:
    """Refuse codes that are not 4 to 12, and nodes that are not 1 to 2^62 - 1."""
    require(code in SPLIT_ON_SAMPLE + DYADIC + NO_TREE, "no code of variables")
    require(np.all((nodes >= 1) & (nodes <= LARGEST_INTEGER)), "no such node")


def depths(code: int, nodes: Array) -> Array:
    """Return how many levels below the root each node is; 0 where there is no tree."""
    levels = [int(n).bit_length() - 1 for n in nodes]
    return np.array(levels, dtype=np.int64) * (code not in NO_TREE)


def at_all_places(messages: Array, layout: Layout) -> Array:
    """Return one node for each place of all blocks, the unused ones too."""
    unused = blocks(layout) * layout.block_size - len(messages)
    return np.concatenate([messages, np.ones(unused, dtype=np.int64)])


def scales(rho: Array) -> Array:
    """Return float16 numbers from their bits."""
    return np.asarray(rho, dtype=np.uint16).view(np.float16)
