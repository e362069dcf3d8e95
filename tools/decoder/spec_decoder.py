"""A decoder of .rmc files in plain Python, written from docs/SPEC.md alone.

With `spec_networks`, which has the networks that a file describes, it imports the standard
library only and shares no code with refmiracle, so that agreement of the two says that the
document is complete.  Section numbers are those of SPEC.md.

    python tools/decoder/spec_decoder.py model.rmc    # one line for each tensor, and a digest
"""

import functools
import hashlib
import itertools
import math
import operator
import struct
import sys
import zlib
from typing import NamedTuple

import spec_networks

# Section 3: the tensors of networks 1 and 2, in the order of the file.
LENET5 = (
    ("conv1.weight", (5, 5, 1, 20)),
    ("conv1.bias", (20,)),
    ("conv2.weight", (5, 5, 20, 50)),
    ("conv2.bias", (50,)),
    ("dense1.weight", (800, 500)),
    ("dense1.bias", (500,)),
    ("dense2.weight", (500, 10)),
    ("dense2.bias", (10,)),
)
LENET_300_100 = (
    ("dense1.weight", (784, 300)),
    ("dense1.bias", (300,)),
    ("dense2.weight", (300, 100)),
    ("dense2.bias", (100,)),
    ("dense3.weight", (100, 10)),
    ("dense3.bias", (10,)),
)
NETWORKS = {1: LENET5, 2: LENET_300_100}
CODEBOOK, PERMUTATION, SIGNS, CANDIDATES, PARTITION = 3, 5, 6, 9, 10
OUTPUTS, INPUTS = 0, 1
NONE, UNIT, WEIGHT = 0, 1, 2
# Section 2.1: the numbers of the random codes.
MRC, ORC, PFR, SP_PFR = 0, 1, 2, 3
SPLIT_ON_SAMPLE, DYADIC, NO_TREE = {4, 8, 11}, {5, 6, 9, 12}, {7, 10}
VARIABLE_CODES = SPLIT_ON_SAMPLE | DYADIC | NO_TREE
LARGEST_U = 1.0 - 2.0**-53

# Section 6: AS 241, highest power first.
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
SERIES = tuple(1.0 / k for k in (21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1))
SQRT_HALF = 0.7071067811865476
LN2 = 0.6931471805599453


class InvalidFileError(ValueError):
    """The bytes are no valid .rmc file of version 1."""


class File(NamedTuple):
    """Section 2: the fields of a file."""

    grouping: int
    signs: int
    block_size: int
    seed: int
    factors: list
    rho: tuple
    indices: list
    code: int = 0
    bits: int = 1
    network: int = 1
    described: object = None

    @property
    def tensors(self):
        """Section 3: names and shapes, in order."""
        return self.described.tensors if self.described else NETWORKS[self.network]

    @property
    def variables(self):
        """Section 7.1: V."""
        return sum(sizes_of(self.tensors, self.factors))


def require(condition, message):
    if not condition:
        raise InvalidFileError(message)


def read_varint(data, offset):
    value = 0
    for i in range(5):
        require(offset + i < len(data), "the header is cut off")
        byte = data[offset + i]
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            require(i == 0 or byte != 0, "an integer is not in its shortest form")
            require(value < 2**32, "an integer does not fit in 32 bits")
            return value, offset + i + 1
    raise InvalidFileError("an integer is longer than five bytes")


def variables_of(factors, network=1):
    return sizes_of(NETWORKS[network], factors)


def sizes_of(tensors, factors):
    return [-(-math.prod(shape) // f) for (_, shape), f in zip(tensors, factors, strict=True)]


def read_network(network, body):
    """Sections 2.1 and 3: the network of a number or of a description, and the place behind it."""
    if network != 0:
        require(network in NETWORKS, "unknown network")
        return None, 8
    try:
        described = spec_networks.Network(body, 8, read_varint)
    except ValueError as e:
        raise InvalidFileError(f"unknown network: {e}") from e
    return described, described.at


def parse(data):
    """Section 2: the container, checked in the order of section 2.5."""
    require(data[:3] == b"RMC", "wrong magic")
    require(len(data) >= 12, "too short")
    version, network, code, flags, bits = data[3:8]
    require(version == 1, "unknown version")
    body = data[:-4]
    require(zlib.crc32(body) == struct.unpack("<I", data[-4:])[0], "wrong checksum")
    described, offset = read_network(network, body)
    tensors = described.tensors if described else NETWORKS[network]
    require(code <= 12, "unknown random code")
    grouping, signs = flags & 15, flags >> 4
    require(grouping <= INPUTS and signs <= WEIGHT, "unknown layout flags")
    require(1 <= bits <= 24, "bits out of range")
    block_size, offset = read_varint(body, offset)
    seed, offset = read_varint(body, offset)
    factors = []
    for _, shape in tensors:
        factor, offset = read_varint(body, offset)
        require(1 <= factor <= math.prod(shape), "hash factor out of range")
        factors.append(factor)
    variables = sum(sizes_of(tensors, factors))
    require(1 <= block_size <= variables, "block size out of range")
    payload = offset + 2 * len(factors)
    check_length(len(body) - payload, variables, block_size, code, bits)
    for pattern in struct.unpack(f"<{len(factors)}H", body[offset:payload]):
        require(0x0400 <= pattern <= 0x7BFF, "a scale is not a positive normal float16")
    rho = struct.unpack(f"<{len(factors)}e", body[offset:payload])
    indices = read_payload(body[payload:], variables, block_size, code, bits)
    fields = grouping, signs, block_size, seed, factors, rho, indices, code, bits, network
    return File(*fields, described)


def check_length(size, variables, block_size, code, bits):
    """Section 2.5, rule 11: what stands behind the header has this many bytes."""
    if code == MRC:
        blocks = -(-variables // block_size)
        require(size == -(-blocks * bits // 8), "wrong length")
    else:
        require(size >= 3, "wrong length")


def read_payload(payload, variables, block_size, code, bits):
    """Sections 2.3 and 2.7: an integer for each block or each variable."""
    blocks = -(-variables // block_size)
    if code == MRC:
        return read_indices(payload, blocks, bits)
    return read_messages(payload, variables if code in VARIABLE_CODES else blocks, code, bits)


def read_indices(payload, blocks, bits):
    """Section 2.3."""
    stream, padding = int.from_bytes(payload, "big"), -(blocks * bits) % 8
    require(stream & ((1 << padding) - 1) == 0, "padding bits are set")
    text = f"{stream >> padding:0{blocks * bits}b}"
    return [int(text[i : i + bits], 2) for i in range(0, blocks * bits, bits)]


def read_messages(payload, count, code, bits):
    """Section 2.7: theta, then a code word of the range coder."""
    theta = int.from_bytes(payload[:2], "little")
    require(theta >= 1, "theta is zero")
    raw = bits if code == SP_PFR else 0
    values = read_integers(payload[2:], count, theta, raw)
    largest = {ORC: 2**bits, PFR: 2**32, SP_PFR: 2 ** (32 + bits) - 1}.get(code, 2**62 - 1)
    require(max(values) <= largest, "a message is out of range")
    return [v - (code in (ORC, PFR)) for v in values]


def read_integers(data, count, theta, raw):
    """Section 2.7: follow C - L and R; only one code word is valid."""
    require(count <= 2**20, "more than 2^20 integers")
    padded = data + bytes(4)
    ahead, width, shifted = int.from_bytes(padded[:4], "big"), 2**32 - 1, 0
    require(ahead < width, "not the code word of its integers")

    def decide(p):
        nonlocal ahead, width, shifted
        bound = (width >> 16) * p
        bit = ahead < bound
        ahead, width = (ahead, bound) if bit else (ahead - bound, width - bound)
        while width < 2**24:
            require(shifted + 1 < len(data), "the integers are cut off")
            ahead, width, shifted = ahead << 8 | padded[shifted + 4], width << 8, shifted + 1
        return bit

    values = []
    for _ in range(count):
        j = 0
        for _ in range(raw):
            j = 2 * j + decide(2**15)
        e = 0
        while decide(theta):
            e += 1
            require(e + raw <= 61, "an integer is too large")
        n = 1
        for _ in range(e):
            n = 2 * n + decide(2**15)
        values.append(n * 2**raw + j)
    low = int.from_bytes(padded[shifted : shifted + 4], "big") - ahead  # L modulo 2^32
    to_3, to_2 = -low % 2**24, -low % 2**16
    length, up = (1, to_3) if to_3 + 2**24 <= width else (2, to_2)
    fits = len(data) == shifted + length and ahead == up
    require(fits, "not the code word of its integers")
    return values


@functools.lru_cache(maxsize=8)
def round_keys(k0, k1):
    """Section 4.1: the keys of the ten rounds."""
    return [
        ((k0 + r * 0x9E3779B9) & 0xFFFFFFFF, (k1 + r * 0xBB67AE85) & 0xFFFFFFFF) for r in range(10)
    ]


def philox4x32(counter, key):
    """Section 4.1: ten rounds."""
    c0, c1, c2, c3 = counter
    for k0, k1 in round_keys(*key):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 & 0xFFFFFFFF, p0 >> 32 ^ c3 ^ k1, p0 & 0xFFFFFFFF
    return c0, c1, c2, c3


def philox_of_many(counters, key):
    """Section 4.1: the words of many counters, at once, as one list.

    The counters lie side by side in four integers; each word has 64 bits there, which its products
    fill.
    """
    form = f"<{len(counters[0])}Q"
    ones = int.from_bytes(struct.pack("<Q", 1) * len(counters[0]), "little")
    low = 0xFFFFFFFF * ones
    c0, c1, c2, c3 = (int.from_bytes(struct.pack(form, *c), "little") for c in counters)
    for k0, k1 in round_keys(*key):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c2 = p1 >> 32 & low ^ c1 ^ k0 * ones, p0 >> 32 & low ^ c3 ^ k1 * ones
        c1, c3 = p1 & low, p0 & low
    apart = (struct.unpack(form, c.to_bytes(struct.calcsize(form), "little"))
             for c in (c0, c1, c2, c3))  # fmt: skip
    return list(itertools.chain.from_iterable(zip(*apart, strict=True)))


def words(seed, stream, row, count):
    """Section 4.2: the first words of a row of a stream."""
    (out,) = words_of_rows(seed, stream, [row], count)
    return out


def words_of_rows(seed, stream, rows, count):
    """Section 4.2: the same of some rows."""
    blocks, size = -(-count // 4), 4 * -(-count // 4)
    zeros = [0] * (blocks * len(rows))
    of_rows = [row for row in rows for _ in range(blocks)]
    counters = list(range(blocks)) * len(rows), of_rows, zeros, zeros
    out = philox_of_many(counters, (seed, stream))
    return [out[size * i : size * i + count] for i in range(len(rows))]


def polynomial(coefficients, x):
    value = coefficients[0]
    for c in coefficients[1:]:
        value = value * x + c
    return value


def degree_7(coefficients, x):
    """Return the same of eight coefficients, in half the time."""
    a, b, c, d, e, f, g, h = coefficients
    return ((((((a * x + b) * x + c) * x + d) * x + e) * x + f) * x + g) * x + h


def log(p):
    """Section 6.2."""
    m, e = math.frexp(p)
    if m < SQRT_HALF:
        m, e = m + m, e - 1
    f = (m - 1.0) / (m + 1.0)
    return (2.0 * f) * polynomial(SERIES, f * f) + float(e) * LN2


def quantile(p):
    """Section 6.3."""
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        return q * (degree_7(CENTRAL[0], r) / degree_7(CENTRAL[1], r))
    r = math.sqrt(-log(p if q < 0.0 else 1.0 - p))
    (top, bottom), x = (MIDDLE, r - 1.6) if r <= 5.0 else (FAR, r - 5.0)
    z = degree_7(top, x) / degree_7(bottom, x)
    return -z if q < 0.0 else z


def to_float32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def all_to_float32(values):
    return struct.unpack(f"<{len(values)}f", as_bytes(values))


def normal(word):
    """Sections 5 and 6: a word as a float32 normal."""
    return to_float32(normal64(word))


def normal64(word):
    """Section 6: the same, before it is rounded."""
    return quantile((word + 0.5) * 2.0**-32)


def uniform52(high, low):
    """Section 4.3: two words as a uniform of 52 bits."""
    return (high * 2**20 + low // 2**12 + 0.5) / 2.0**52


def place_sample(a, b, n, row, seed):
    """Section 7.5: the u of node n of a row, in its region."""
    w = philox4x32((n % 2**32, row, n // 2**32, 0), (seed, CANDIDATES))
    return min(a + (b - a) * uniform52(w[0], w[1]), LARGEST_U)


def node_normal(code, n, row, seed):
    """Section 7.5: the normal that node n of a row names."""
    a, b = 0.0, 1.0
    if code not in NO_TREE:
        for depth in range(n.bit_length() - 1, 0, -1):
            c = (a + b) / 2.0 if code in DYADIC else place_sample(a, b, n >> depth, row, seed)
            a, b = (c, b) if n >> (depth - 1) & 1 else (a, c)
    return to_float32(quantile(place_sample(a, b, n, row, seed)))


def bin_normals(message, block, file, used):
    """Section 7.4: the first normals of candidate n of bin j of a block."""
    n, j = message >> file.bits, message % 2**file.bits
    size, left, out = file.block_size, file.bits, []
    for d in range(used):
        k = (d + 1) * file.bits // size - d * file.bits // size
        left -= k
        if d % 4 == 0:
            group = philox4x32((n, block, j, d // 4), (file.seed, PARTITION))
        u = ((j >> left) % 2**k + (group[d % 4] + 0.5) * 2.0**-32) / 2.0**k
        out.append(to_float32(quantile(min(u, LARGEST_U))))
    return out


def normals(file):
    """Sections 7.3 to 7.5: the normal at each place, in order."""
    if file.code in VARIABLE_CODES:
        return [node_normal(file.code, n, i, file.seed) for i, n in enumerate(file.indices)]
    variables = file.variables
    if file.code == SP_PFR:
        out = []
        for block, message in enumerate(file.indices):
            used = min(file.block_size, variables - len(out))
            out.extend(bin_normals(message, block, file, used))
        return out
    rows = words_of_rows(file.seed, CODEBOOK, file.indices, min(file.block_size, variables))
    at = itertools.chain.from_iterable(rows)
    return all_to_float32([normal64(w) for w in itertools.islice(at, variables)])


def sign_table(file, number):
    """Section 8.2: signs of a tensor, to be read cyclically."""
    shape = file.tensors[number][1]
    if file.factors[number] == 1 or file.signs == NONE:
        return [1.0]
    count = shape[-1] if file.signs == UNIT else math.prod(shape)
    return [-1.0 if w >> 31 else 1.0 for w in words(file.seed, SIGNS, number, count)]


def whitened(file):
    """Section 7.2: the normal of each variable, which the permutation brings to its place."""
    order = words(file.seed, PERMUTATION, 0, file.variables)
    permutation = sorted(range(len(order)), key=order.__getitem__)  # Python's sort is stable
    z_at = normals(file)
    z = [0.0] * len(order)
    for place, variable in enumerate(permutation):
        z[variable] = z_at[place]
    return z


def scaled(file):
    """Section 8.3: the variables, each a float32 product."""
    sizes = sizes_of(file.tensors, file.factors)
    rho = [r for r, size in zip(file.rho, sizes, strict=True) for _ in range(size)]
    return all_to_float32(list(map(operator.mul, rho, whitened(file))))


def weights_of(file, variables):
    """Section 8: the weights by tensor name, each a flat list in C order."""
    sizes = sizes_of(file.tensors, file.factors)
    weights, first = {}, 0
    for number, (name, shape) in enumerate(file.tensors):
        factor, outputs = file.factors[number], shape[-1]
        values = variables[first : first + sizes[number]]
        signs = sign_table(file, number)
        count = math.prod(shape)
        inputs = count // outputs
        # The value of weight number n, and then of each weight in C order.
        unsigned = [value for value in values for _ in range(factor)][:count]
        if file.grouping == INPUTS:
            unsigned = [value for i in range(inputs) for value in unsigned[i::inputs]]
        weights[name] = list(map(operator.mul, itertools.cycle(signs), unsigned))
        first += sizes[number]
    return weights


def decode(data):
    """Return the weights by tensor name, each a flat list in C order of float32 values."""
    file = parse(data)
    return weights_of(file, scaled(file))


def as_bytes(values):
    """Return float32 values, little-endian."""
    return struct.pack(f"<{len(values)}f", *values)


def sha256(weights):
    """Return the SHA-256 of all weights as little-endian float32, tensors in order."""
    return hashlib.sha256(b"".join(map(as_bytes, weights.values()))).hexdigest()


def convolve(x, w, b, inputs, outputs):
    """Section 3: x[channel][row][column] with a 5x5 kernel."""
    side = len(x[0]) - 4
    y = [[[b[o]] * side for _ in range(side)] for o in range(outputs)]
    for u, v, c in itertools.product(range(5), range(5), range(inputs)):
        kernel = w[((u * 5 + v) * inputs + c) * outputs :][:outputs]
        for o, i, j in itertools.product(range(outputs), range(side), range(side)):
            y[o][i][j] += kernel[o] * x[c][i + u][j + v]
    return y


def pool_relu(x):
    """Section 3: the maximum of each 2x2 window, then of that and 0."""
    half = range(0, len(x[0]), 2)
    return [
        [[max(m[i][j], m[i][j + 1], m[i + 1][j], m[i + 1][j + 1], 0.0) for j in half] for i in half]
        for m in x
    ]


def dense(x, w, b):
    """Section 3: W^T x + b."""
    return [b[o] + sum(x[a] * w[a * len(b) + o] for a in range(len(x))) for o in range(len(b))]


def logits(weights, pixels):
    """Section 3: the ten logits of one image, 28 rows of 28 numbers from 0 to 255."""
    x = [[[p / 255 - 0.5 for p in row] for row in pixels]]
    if "conv1.weight" in weights:  # network 1; all else is dense
        x = pool_relu(convolve(x, weights["conv1.weight"], weights["conv1.bias"], 1, 20))
        x = pool_relu(convolve(x, weights["conv2.weight"], weights["conv2.bias"], 20, 50))
    x = [value for channel in x for row in channel for value in row]
    last = sum(name.startswith("dense") for name in weights) // 2
    for k in range(1, last + 1):
        x = dense(x, weights[f"dense{k}.weight"], weights[f"dense{k}.bias"])
        if k < last:
            x = [max(h, 0.0) for h in x]
    return x


def read(path):
    """The bytes of a file; one line and exit code 2 where it cannot be read."""
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError as e:
        refuse(f"{path}: {e.strerror}")


def refuse(message):
    print(message, file=sys.stderr)
    sys.exit(2)


def main(paths):
    if len(paths) != 1:
        refuse("usage: python spec_decoder.py FILE.rmc")
    data = read(paths[0])
    try:
        show(decode(data))
    except InvalidFileError as e:
        refuse(f"{paths[0]}: {e}")


def show(weights):
    for name, tensor in weights.items():
        crc = zlib.crc32(as_bytes(tensor))
        print(f"{name:14} {len(tensor):6} weights, CRC-32 {crc:08x}, first {tensor[0]!r}")
    print(f"SHA-256 of all {sha256(weights)}")


if __name__ == "__main__":
    main(sys.argv[1:])
