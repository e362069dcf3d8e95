"""The .rmc container: round trips, its exact size, and each fault.

What comes by chance is in tests/reliability/test_fuzz.py.
"""

import math
import struct
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from fileformat.document import FIELDS, bitwise_crc, seal
from hypothesis import given
from hypothesis import strategies as st
from nn.trees import DEPTHWISE, NORMED, TREE

from refmiracle.codes.table import CODES
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.fileformat import integers
from refmiracle.fileformat.container import CompressedModel, parse_model, read_model
from refmiracle.fileformat.integers import best_theta16, write_integers
from refmiracle.fileformat.model import decode_model
from refmiracle.fileformat.payload import message_shape
from refmiracle.nn.description import to_description
from refmiracle.nn.layers import Dense, Flatten
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET5
from refmiracle.numerics.varints import write_varint
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

NAMES = [t.name for t in LENET5.tensors()]
COUNTS = tuple(math.prod(t.shape) for t in LENET5.tensors())
DEFAULT = LENET5.hash_factors
MEMORY_LIMIT = 256 * 2**20


def body_with(**changes):
    assert set(changes) <= set(FIELDS)
    return bytes.fromhex("".join({**FIELDS, **changes}.values()))


def file_with(**changes):
    return seal(body_with(**changes))


def refusal(data):
    """Return the message with which a file is refused, one line that says something."""
    with pytest.raises(InputError) as caught:
        parse_model(data)
    message = str(caught.value)
    assert len(message) > 10
    assert "\n" not in message
    return message


def assert_same(a, b):
    assert a.layout == b.layout
    assert a.bits_per_block == b.bits_per_block
    assert a.rho.dtype == b.rho.dtype == np.float16
    assert a.rho.tobytes() == b.rho.tobytes()
    assert a.messages.dtype == b.messages.dtype == np.int64
    np.testing.assert_array_equal(a.messages, b.messages)


def make_model(rng, factors=DEFAULT, block_size=30, bits=14, seed=0):
    layout = BlockLayout(LENET5, factors, Grouping.OUTPUTS, Signs.UNIT, block_size, seed)
    rho = rng.integers(0x0400, 0x7C00, 8).astype(np.uint16).view(np.float16)
    return CompressedModel(layout, bits, rho, rng.integers(0, 2**bits, (layout.blocks(), 1)))


@st.composite
def models(draw):
    factors = tuple(draw(st.sampled_from([1, 2, 50, n]) | st.integers(1, n)) for n in COUNTS)
    factors = tuple(min(f, n) for f, n in zip(factors, COUNTS, strict=True))
    grouping, signs = draw(st.sampled_from(Grouping)), draw(st.sampled_from(Signs))
    seed = draw(st.integers(0, 2**32 - 1))
    whole = BlockLayout(LENET5, factors, grouping, signs, 1, seed)
    size = draw(st.integers(1, whole.variables()) | st.integers(1, min(60, whole.variables())))
    layout = BlockLayout(LENET5, factors, grouping, signs, size, seed)
    bits = draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    patterns = draw(st.lists(st.integers(0x0400, 0x7BFF), min_size=8, max_size=8))
    rho = np.array(patterns, dtype=np.uint16).view(np.float16)
    return CompressedModel(layout, bits, rho, rng.integers(0, 2**bits, (layout.blocks(), 1)))


# --- round trips and sizes


@given(models())
def test_any_model_round_trips(model):
    data = model.to_bytes()
    back = parse_model(data)
    assert_same(back, model)
    assert back.to_bytes() == data


def test_fields_stand_where_the_specification_puts_them():
    model = parse_model(file_with())
    layout = model.layout
    assert layout.network is LENET5
    assert (layout.grouping, layout.signs) == (Grouping.OUTPUTS, Signs.UNIT)
    assert (model.bits_per_block, layout.block_size, layout.seed) == (5, 3, 7)
    assert layout.factors == COUNTS
    assert model.rho.tolist() == [0.125, 0.15625, 0.1875, 0.21875, 0.25, 0.3125, 0.375, 0.4375]
    assert model.messages.tolist() == [[9], [31], [18]]
    assert model.to_bytes() == file_with()


@pytest.mark.parametrize("grouping", Grouping)
@pytest.mark.parametrize("signs", Signs)
def test_layout_flags(grouping, signs):
    high = {"NONE": "0", "UNIT": "1", "WEIGHT": "2"}[signs.name]
    low = {"OUTPUTS": "0", "INPUTS": "1"}[grouping.name]
    layout = parse_model(file_with(flags=high + low)).layout
    assert (layout.grouping, layout.signs) == (grouping, signs)


def test_size_of_the_default_file(rng):
    # 8 fixed bytes, block size and seed 1 each, 8 factors, 16 of scales, 4 of checksum: 38.
    # 26,580 variables in blocks of 30 are 886 blocks; 886 * 14 bits = 12,404 bits = 1,551 bytes.
    assert len(make_model(rng).to_bytes()) == 38 + 1551 == 1589
    # The largest seed takes four bytes more.
    assert len(make_model(rng, seed=2**32 - 1).to_bytes()) == 1593
    # At 10 bits: 8,860 bits = 1,108 bytes.
    assert len(make_model(rng, bits=10).to_bytes()) == 38 + 1108


@pytest.mark.parametrize("bits", range(1, 25))
@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_overhead_is_at_most_64_bytes(rng, bits, seed):
    size = len(make_model(rng, bits=bits, seed=seed).to_bytes())
    assert size - 886 * bits / 8 <= 64


def test_checksum_is_the_one_of_zlib_and_png(rng):
    assert bitwise_crc(b"123456789") == 0xCBF43926  # the check value of CRC-32/ISO-HDLC
    data = make_model(rng).to_bytes()
    assert data[-4:] == struct.pack("<I", bitwise_crc(data[:-4]))
    assert parse_model(body_with() + struct.pack("<I", bitwise_crc(body_with())))


# --- faults, each with a right checksum where the checksum is not the fault


def test_empty_file():
    assert "magic" in refusal(b"")


def test_truncation_at_every_length(rng):
    for data in (file_with(), make_model(rng).to_bytes()):
        for length in range(len(data)):
            message = refusal(data[:length])
            fault = "magic" if length < 3 else "cut off"
            assert fault in message, length


def test_truncation_at_every_length_with_a_right_checksum(rng):
    for body in (body_with(), make_model(rng).to_bytes()[:-4]):
        for length in range(8, len(body)):
            message = refusal(seal(body[:length]))
            assert "ends within its header" in message or "its header calls for" in message


@pytest.mark.parametrize("magic", ["000000", "524d44", "726d63", "504b03"])
def test_wrong_magic(magic):
    assert "magic b'RMC'" in refusal(file_with(magic=magic))


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_version(version):
    message = refusal(file_with(version=f"{version:02x}"))
    assert f"version {version} is unknown" in message
    assert "expected 1" in message
    # A later version may have another checksum: the version is what must be reported.
    assert f"version {version}" in refusal(body_with(version=f"{version:02x}") + b"\0\0\0\0")


def test_every_flipped_bit_fails_the_checksum():
    data = file_with()
    for bit in range(8 * 4, 8 * len(data)):
        wrong = bytearray(data)
        wrong[bit // 8] ^= 1 << bit % 8
        assert "checksum" in refusal(bytes(wrong))


def test_trailing_bytes():
    assert "bytes behind its end" in refusal(file_with() + b"\0")
    message = refusal(seal(body_with() + b"\0"))
    assert "48 bytes" in message
    assert "calls for 47" in message
    assert "calls for 47" in refusal(seal(file_with()))
    assert "checksum" in refusal(file_with() + file_with())


@pytest.mark.parametrize("network", [3, 255])
def test_unknown_network(network):
    message = refusal(file_with(network=f"{network:02x}"))
    assert f"network number {network}" in message
    assert "1 (lenet5)" in message


@pytest.mark.parametrize("code", [13, 255])
def test_unknown_random_code(code):
    assert f"random code {code}" in refusal(file_with(code=f"{code:02x}"))


@pytest.mark.parametrize("flags", ["02", "0f", "12", "30", "31", "80", "f0", "ff"])
def test_unknown_flags(flags):
    assert f"flags 0x{flags}" in refusal(file_with(flags=flags))


@pytest.mark.parametrize("bits", [0, 25, 32, 64, 255])
def test_bits_out_of_range(bits):
    assert f"{bits} bits per block" in refusal(file_with(bits=f"{bits:02x}"))


@pytest.mark.parametrize("block_size", [0, 9, 1000, 2**32 - 1])
def test_block_size_out_of_range(block_size):
    message = refusal(file_with(block_size=write_varint(block_size).hex()))
    assert f"block size {block_size} " in message
    assert "1 to 8" in message


@pytest.mark.parametrize("tensor", range(8))
@pytest.mark.parametrize("excess", [None, 1, 2**32])
def test_hash_factor_out_of_range(tensor, excess):
    factor = 0 if excess is None else min(COUNTS[tensor] + excess, 2**32 - 1)
    message = refusal(file_with(**{f"factor{tensor}": write_varint(factor).hex()}))
    assert f"hash factor {factor} of {NAMES[tensor]}" in message


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("0000", id="zero"),
        pytest.param("0080", id="minus-zero"),
        pytest.param("0100", id="smallest-subnormal"),
        pytest.param("ff03", id="largest-subnormal"),
        pytest.param("00b0", id="negative"),
        pytest.param("007c", id="infinity"),
        pytest.param("00fc", id="minus-infinity"),
        pytest.param("007e", id="nan"),
        pytest.param("017c", id="signalling-nan"),
        pytest.param("ffff", id="negative-nan"),
    ],
)
@pytest.mark.parametrize("tensor", [0, 5, 7])
def test_scale_that_is_not_positive_and_normal(tensor, pattern):
    assert "scale rho" in refusal(file_with(**{f"rho{tensor}": pattern}))


@pytest.mark.parametrize("pattern", ["0004", "ff7b"])
def test_extreme_scales_are_valid(pattern):
    data = file_with(**{f"rho{t}": pattern for t in range(8)})
    assert parse_model(data).to_bytes() == data
    value = {"0004": 2.0**-14, "ff7b": 65504.0}[pattern]
    assert parse_model(data).rho.tolist() == [value] * 8


def test_padding_bit():
    assert "padding" in refusal(file_with(indices="4fe5"))
    # 8 blocks of one variable and 1 bit fill their byte: there is no padding to refuse.
    assert parse_model(file_with(bits="01", block_size="01", indices="ff")).messages.tolist() == (
        [[1]] * 8
    )


@pytest.mark.parametrize("field", ["block_size", "seed", "factor1", "factor7"])
@pytest.mark.parametrize("form", ["8000", "8100", "8a8000", "8080808010", "808080808001"])
def test_varint_in_another_form(field, form):
    assert "not a canonical varint" in refusal(file_with(**{field: form}))


def test_faults_are_reported_in_the_order_of_the_specification():
    """Of two faults the earlier in docs/SPEC.md, section 2.5, is the one reported."""
    faults = [
        ({"version": "02"}, "version"),
        ({"network": "03"}, "network"),
        ({"code": "ff"}, "random code"),
        ({"flags": "33"}, "flags"),
        ({"bits": "00"}, "bits per block"),
        ({"seed": "8000"}, "varint"),
        ({"factor0": "00"}, "hash factor 0 of conv1.weight"),
        ({"factor7": "8000"}, "varint"),
        ({"block_size": "09"}, "block size"),
        ({"indices": "4fe500"}, "calls for"),
        ({"rho7": "0000"}, "scale rho"),
        ({"indices": "4fe5"}, "padding"),
    ]
    for first, (changes, message) in enumerate(faults):
        for later, _ in faults[first + 1 :]:
            assert message in refusal(file_with(**{**later, **changes}))
            if message != "version":
                assert "checksum" in refusal(body_with(**{**later, **changes}) + b"\0\0\0\0")


@pytest.mark.parametrize(
    "change",
    [
        {"bits_per_block": 25},
        {"bits_per_block": 0},
        {"rho": np.full(8, np.nan, dtype=np.float16)},
        {"rho": np.ones(7, dtype=np.float16)},
        {"messages": np.zeros((2, 1), dtype=np.int64)},
        {"messages": np.zeros(3, dtype=np.int64)},
        {"block_size": 9},
        {"seed": 2**32},
        {"seed": -1},
        {"factors": (0,) * 8},
    ],
    ids="-".join,
)
def test_no_file_is_written_that_no_reader_accepts(change):
    good = parse_model(file_with())
    layout = {k: change.get(k, getattr(good.layout, k)) for k in ("block_size", "seed", "factors")}
    bad = CompressedModel(
        BlockLayout(LENET5, grouping=Grouping.OUTPUTS, signs=Signs.UNIT, **layout),
        change.get("bits_per_block", good.bits_per_block),
        change.get("rho", good.rho),
        change.get("messages", good.messages),
    )
    with pytest.raises(InputError):
        bad.to_bytes()


# --- codes whose messages are entropy-coded

OTHER_CODES = list(CODES)[1:]


def other_model(rng, code, factors=COUNTS, block_size=3, bits=5, seed=7, largest=20):
    """A model of any code but `mrc`, with messages of up to `largest` bits."""
    layout = BlockLayout(LENET5, factors, Grouping.OUTPUTS, Signs.UNIT, block_size, seed)
    rho = rng.integers(0x0400, 0x7C00, 8).astype(np.uint16).view(np.float16)
    kind, raw = CODES[code], CODES[code].raw_bits(bits)
    shape = message_shape(layout, kind)
    most = min(largest, math.log2(kind.message_range(bits)[1]) - raw)
    n = np.int64(2.0 ** rng.uniform(0, most, shape))
    messages = kind.from_positive(n << raw | rng.integers(0, 1 << raw, shape))
    messages.ravel()[layout.variables() :] = 1
    return CompressedModel(layout, bits, rho, messages, code)


@pytest.mark.parametrize("code", OTHER_CODES)
@pytest.mark.parametrize("layout", [{}, {"factors": (3, 7, 900, 50, 4000, 50, 100, 1)}])
def test_other_codes_round_trip(rng, code, layout):
    model = other_model(rng, code, **layout, block_size=8 if layout else 3)
    data = model.to_bytes()
    back = parse_model(data)
    assert_same(back, replace(model, theta16=back.theta16))
    assert back.code == code
    assert back.to_bytes() == data
    kind = CODES[code]
    sent = (
        model.messages if kind.of == "block" else model.messages.ravel()[: model.layout.variables()]
    )
    best = best_theta16(kind.to_positive(sent), kind.raw_bits(model.bits_per_block))
    assert back.theta16 == best
    other = replace(model, theta16=back.theta16 % 65535 + 1).to_bytes()
    assert_same(parse_model(other), model)


@given(st.sampled_from(OTHER_CODES), st.integers(0, 2**32), st.integers(1, 65535))
def test_any_theta_round_trips(code, seed, theta16):
    model = other_model(np.random.default_rng(seed), code, bits=seed % 24 + 1)
    data = replace(model, theta16=theta16).to_bytes()
    back = parse_model(data)
    assert back.theta16 == theta16
    assert back.messages.tolist() == model.messages.tolist()
    assert back.to_bytes() == data


@pytest.mark.parametrize("code", OTHER_CODES)
def test_truncation_of_other_codes_with_a_right_checksum(rng, code):
    body = other_model(rng, code).to_bytes()[:-4]
    for length in range(len(body)):
        if length >= 8:
            refusal(seal(body[:length]))
    for more in (b"\0", b"\x80", b"\xff", b"\0\0\0\0"):
        refusal(seal(body + more))


def other_body(code, messages):
    fields = {**FIELDS, "code": f"{CODES[code].number:02x}", "indices": messages.hex()}
    return bytes.fromhex("".join(fields.values()))


def test_faults_of_other_codes():
    """Three blocks of 5 bits, or eight variables."""
    ones = write_integers([1] * 8, 9)
    theta = b"\x09\0"
    assert parse_model(seal(other_body("gprs", theta + ones))).messages.tolist() == [[1] * 3] * 3
    assert "calls for 48 or more" in refusal(seal(other_body("gprs", theta)))
    assert "theta 0 is out of range" in refusal(seal(other_body("gprs", b"\0\0" + ones)))
    assert "not the code word" in refusal(seal(other_body("gprs", theta + b"\xff")))
    assert "end within the integers" in refusal(seal(other_body("gprs", b"\0\x80\x40")))
    assert "stand behind the last" in refusal(seal(other_body("gprs", theta + ones + bytes(9))))
    assert "2^62 or more" in refusal(seal(other_body("gprs", b"\xff\xff" + bytes(20))))
    for code, n, expected in [
        ("orc", 2**5 + 1, "32 is no message of the code orc; expected 0 to 31"),
        ("pfr", 2**32 + 1, "4294967296 is no message of the code pfr"),
        ("sp-pfr", 2**37, "137438953472 is no message of the code sp-pfr; expected 32 to"),
    ]:
        raw = CODES[code].raw_bits(5)
        for place in range(3):
            values = [n - 1] * 3
            good = other_body(code, b"\0\x80" + write_integers(values, 2**15, raw))
            assert parse_model(seal(good)).to_bytes()[:-4] != b""
            values[place] = n
            bad = other_body(code, b"\0\x80" + write_integers(values, 2**15, raw))
            assert expected in refusal(seal(bad))


def test_faults_of_other_codes_come_in_the_order_of_the_specification():
    faults = [
        ({"block_size": "09"}, "block size"),
        ({"indices": "0000"}, "calls for"),
        ({"rho7": "0000", "indices": "0000ff"}, "scale rho"),
        ({"indices": "0000ff"}, "theta 0"),
        ({"indices": "0100ff"}, "not the code word"),
    ]
    for first, (changes, message) in enumerate(faults):
        for later, _ in faults[first:]:
            assert message in refusal(file_with(code="0a", **{**later, **changes}))


@pytest.mark.parametrize("code", OTHER_CODES)
@pytest.mark.parametrize(
    "change",
    [
        {"messages": np.zeros((3, 2), dtype=np.int64)},
        {"messages": np.full((3, 3), -1)},
        {"theta16": 65536},
        {"theta16": -1},
        {"bits_per_block": 0},
        {"bits_per_block": 25},
        {"code": "rot13"},
    ],
    ids="-".join,
)
def test_no_file_of_another_code_is_written_that_no_reader_accepts(rng, code, change):
    with pytest.raises(InputError):
        replace(other_model(rng, code), **change).to_bytes()


def test_hostile_integers_take_time_that_their_bytes_bound(monkeypatch):
    """A file of 60 bytes that claims 431,080 variables, each as large as it can be."""
    changes = {f"factor{t}": "01" for t in range(8)} | {"block_size": "01", "code": "0b"}
    decide, decided = integers._Decoder._decide, []

    def counted(self, probability):
        decided.append(probability)
        return decide(self, probability)

    monkeypatch.setattr(integers._Decoder, "_decide", counted)
    most = 0
    for payload in ("ffff" + "00" * 20, "0100" + "00" * 3, "ffff" + "ff" * 20, "ff7f" + "ab" * 20):
        decided.clear()
        refusal(file_with(**changes, indices=payload))
        assert len(decided) <= 18 * len(payload) // 2 + 62
        most = max(most, len(decided))
    assert most > 0


# --- files on the disk


def test_what_was_written_is_read(tmp_path, rng):
    model = make_model(rng)
    path = tmp_path / "model.rmc"
    path.write_bytes(model.to_bytes())
    back, read = read_model(path)
    assert read == model.to_bytes()
    assert_same(back, model)


def read_refusal(path):
    with pytest.raises(InputError) as caught:
        read_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_missing_file(tmp_path):
    assert "No such file" in read_refusal(tmp_path / "missing.rmc")
    assert "No such file" in read_refusal(tmp_path / "missing" / "model.rmc")


def test_folder(tmp_path):
    read_refusal(tmp_path)


def test_bad_file_is_named(tmp_path):
    path = tmp_path / "model.rmc"
    path.write_bytes(file_with(rho0="0000"))
    assert "scale rho" in read_refusal(path)


@pytest.mark.parametrize("start", [b"", file_with()])
def test_huge_file_is_not_read_whole(tmp_path, start):
    path = tmp_path / "huge.rmc"
    with open(path, "wb") as f:
        f.write(start)
        f.truncate(2**30)
    tracemalloc.start()
    try:
        assert "larger than" in read_refusal(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2**20


# --- hostile bytes


def test_claims_do_not_allocate():
    """A header of 47 bytes may not cost more memory than its bytes can fill."""
    claims = [
        {"block_size": "01", **{f"factor{t}": "01" for t in range(8)}, "bits": "18"},
        {"block_size": "ffffffff0f"},
        {f"factor{t}": "01" for t in range(8)},
        {"factor4": "ffffffff0f"},
    ]
    tracemalloc.start()
    try:
        for changes in claims:
            refusal(file_with(**changes))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("block_size", [1, 5, 431080])
@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_largest_files_need_bounded_memory(rng, block_size, name):
    data = make_model(rng, (1,) * 8, block_size, 24, 2**32 - 1).to_bytes()
    engine = get_engine(name)
    tracemalloc.start()
    try:
        weights = decode_model(parse_model(data), engine)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(w.size for w in weights.values()) == 431080
    assert peak < MEMORY_LIMIT


# --- files that describe their network

DESCRIBED = replace(TREE, number=0)


def described_model(rng, network, bits=7, block_size=5):
    factors = tuple(int(f) for f in rng.integers(1, 4, len(network.tensors())))
    layout = BlockLayout(network, factors, Grouping.INPUTS, Signs.WEIGHT, block_size, 300)
    rho = np.full(len(factors), 0.25, np.float16)
    return CompressedModel(layout, bits, rho, rng.integers(0, 2**bits, (layout.blocks(), 1)))


@pytest.mark.parametrize("network", [TREE, NORMED, DEPTHWISE], ids=lambda n: n.name)
def test_described_networks_round_trip(rng, network):
    model = described_model(rng, replace(network, number=0))
    data = model.to_bytes()
    description = to_description(network)
    assert data[4] == 0
    assert data[8 : 8 + len(description)] == description
    back = parse_model(data)
    found = back.layout.network
    assert found == replace(network, name=found.name, number=0, hash_factors=())
    assert_same(back, replace(model, layout=replace(model.layout, network=found)))
    assert back.to_bytes() == data


def described_file(change=b"", fixed="00000005", rest="03 07"):
    """A file whose description is what `change` says; what follows may be anything."""
    return seal(b"RMC\1" + bytes.fromhex(fixed) + change + bytes.fromhex(rest) + b"\1" * 12)


def test_a_fault_of_a_description_is_one_of_the_network():
    """It comes before all that stands behind the network's number."""
    message = refusal(described_file(b"\1\4\4\1\0", fixed="00ffff00"))
    assert message == "network number 0: a network of 1 classes; expected 2 to 65535"
    whole = to_description(DESCRIBED)
    for end in range(len(whole)):
        assert "network number 0: " in refusal(seal(b"RMC\1" + bytes(4) + whole[:end]))
    assert "random code 255" in refusal(described_file(whole, fixed="00ff0005"))
    assert "not a canonical varint" in refusal(described_file(whole, rest="80 00"))


def test_a_network_that_no_file_can_describe_is_not_written(rng):
    layers = (*DESCRIBED.layers[:-1], Dense(4))
    model = described_model(rng, replace(DESCRIBED, layers=layers))
    with pytest.raises(InputError, match=r"ends with shape \(4,\); expected \(3,\)"):
        model.to_bytes()


def test_what_a_short_file_can_ask_for():
    """A network of 2^22 weights in a file of some 40 bytes is read without room for them."""
    network = Network("wide", 0, (1, 1, 1023), 4096, (Flatten(), Dense(4096)))
    assert network.count() == 2**22
    counts = tuple(math.prod(t.shape) for t in network.tensors())
    layout = BlockLayout(network, counts, Grouping.OUTPUTS, Signs.NONE, 2, 0)
    data = CompressedModel(layout, 1, np.ones(2, np.float16), np.zeros((1, 1), np.int64)).to_bytes()
    assert len(data) < 60
    tracemalloc.start()
    parse_model(data)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("factor", [1, 2])
def test_what_its_weights_take(engine, factor):
    """One block of all variables, or signs for each weight: less than 32 bytes for each weight."""
    network = Network("wide", 0, (1, 1, 1023), 1024, (Flatten(), Dense(1024)))
    layout = BlockLayout(network, (factor,) * 2, Grouping.INPUTS, Signs.WEIGHT, 1, 0)
    layout = replace(layout, block_size=layout.variables())
    data = CompressedModel(layout, 1, np.ones(2, np.float16), np.zeros((1, 1), np.int64)).to_bytes()
    assert len(data) < 60
    loaded = get_engine(engine)
    tracemalloc.start()
    decode_model(parse_model(data), loaded)
    assert tracemalloc.get_traced_memory()[1] < 32 * network.count()
    tracemalloc.stop()
