"""One update: its bytes, what it makes of its base, and what a reader refuses, in which words."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
import spec_decoder
import spec_updates
from fileformat.chains import EXAMPLE, NETWORKS, drawn_model, drawn_update, sealed
from fileformat.document import (
    checksum,
    code_bytes,
    float32_bits,
    float64_bits,
    messages_of,
    models,
    section,
    table,
    words,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refmiracle.codes.table import CODES
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.fileformat.chain import apply_update, decode_chain, read_root
from refmiracle.fileformat.container import parse_model
from refmiracle.fileformat.envelope import checksum_of
from refmiracle.fileformat.integers import write_integers
from refmiracle.fileformat.update import CompressedUpdate, parse_update, update_layout
from refmiracle.posterior.scales import ROOTS, scales_of_levels

NUMBA = get_engine("numba")
ROOT = parse_model(EXAMPLE).layout
SIZES = ROOT.sizes()


def parse(data, base=EXAMPLE):
    return parse_update(data, ROOT, checksum_of(base))


# --- the document


def test_worked_example_of_the_document(engine):
    data = code_bytes("13.4")
    assert code_bytes("9.2") == EXAMPLE
    assert f"This update of {len(data)} bytes" in section("13.4")
    update = parse(data)
    theirs = spec_updates.parse_update(data, EXAMPLE, list(SIZES))
    assert update.to_bytes() == data
    assert list(update.levels) == list(theirs.levels) == [128, 0, 121, 0, 0, 0, 0, 131]
    assert update.messages.ravel().tolist() == theirs.indices == [37, 5]
    assert (update.layout.block_size, update.layout.seed) == (2, 300)
    assert (theirs.block_size, theirs.seed, update.bits_per_block, theirs.bits) == (2, 300, 6, 6)
    (sent,) = (line for line in section("13.4").splitlines() if "sorts the words" in line)
    assert spec_decoder.words(300, spec_decoder.PERMUTATION, 0, 3) == words(sent.split("`")[1])
    base, z = read_root(EXAMPLE, engine), spec_decoder.whitened(theirs)
    behind = apply_update(base, data, engine).variables
    rows = table("13.4")
    assert [int(row[0]) for row in rows] == [0, 2, 7]
    rho = scales_of_levels(update.levels, base.rho)
    for normal, (number, *bits) in zip(z, rows, strict=True):
        n = int(number)
        assert bits == [float32_bits(x) for x in (rho[n], normal, base.variables[n], behind[n])]
        root = float(base.rho[n])
        assert float32_bits(spec_updates.scale(int(update.levels[n]), root)) == bits[0]
    for n in {*range(8)} - {0, 2, 7}:
        assert behind[n] == base.variables[n]
    weights = spec_updates.decode_chain([EXAMPLE, data])
    for name, bits in (("conv1.weight", "bcb04018"), ("conv2.weight", "be014ce0"),
                       ("dense2.bias", "be1f1baa")):  # fmt: skip
        assert float32_bits(weights[name][0]) == bits
        assert f"`{bits}`" in section("13.4")
    assert f"`{checksum(weights):08x}`" in section("13.4")
    assert checksum(decode_chain([EXAMPLE, data], engine).weights()) == checksum(weights)


def test_roots_of_two_of_the_document():
    listed = [row[1] for row in table("13.3")]
    assert (
        listed == [float64_bits(r) for r in ROOTS] == [float64_bits(r) for r in spec_updates.ROOTS]
    )


def test_every_scale_is_that_of_the_document():
    """Of both ends of float16, at every level."""
    for bits in (0x0400, 0x0401, 0x3555, 0x3C00, 0x7BFE, 0x7BFF):
        root = np.array(bits, np.uint16).view(np.float16)
        got = scales_of_levels(np.arange(1, 256), root)
        want = [spec_updates.scale(level, float(root)) for level in range(1, 256)]
        assert got.dtype == np.float32
        assert got.tolist() == want
        assert min(want) >= 2.0**-126


def update_of_the_document(root, base, row):
    """The update of a row of section 13.5."""
    number, bits, block_size, seed = map(int, row[1:5])
    code = next(c for c in CODES.values() if c.number == number)
    levels = np.array(row[5].split(), dtype=np.uint8)
    coded = tuple(bool(level) for level in levels)
    layout = update_layout(parse_model(root).layout, block_size, seed, coded)
    messages, theta = messages_of(layout, code, bits), 60000 if number else 0
    return CompressedUpdate(checksum_of(base), layout, bits, levels, messages, code.name, theta)


def test_check_values_of_the_document():
    rows, files, longest = table("13.5"), [], 0
    assert len(rows) == 7
    for row in rows:
        if row[0] != "above":
            number, which = row[0].split(", ")
            files = [list(models(number))[int(which.split()[1]) - 1][0].to_bytes()]
        files.append(update_of_the_document(files[0], files[-1], row).to_bytes())
        longest = max(longest, len(files))
        assert [str(len(files[-1])), files[-1][-4:][::-1].hex()] == row[6:8], row
        assert f"{checksum(spec_updates.decode_chain(files)):08x}" == row[8], row
        for name in ("numpy", "numba"):
            weights = decode_chain(files, get_engine(name)).weights()
            assert f"{checksum(weights):08x}" == row[8], row
    assert longest == 4  # a root and three updates


# --- round trips


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(list(CODES)),
    st.sampled_from([1, 2, 0]),
    st.integers(0, 2**32 - 1),
    st.integers(1, 24),
    st.integers(0, 2**32 - 1),
    st.data(),
)
def test_round_trip(code, network, seed, bits, drawn, data):
    """Bytes, fields and variables, in the package and in plain Python."""
    rng = np.random.default_rng(drawn)
    root = drawn_model(rng, network)
    count = len(NETWORKS[network][1])
    levels = data.draw(st.lists(st.integers(0, 255), min_size=count, max_size=count).filter(any))
    update = drawn_update(rng, root, root, code, levels, seed, bits)
    file = update.to_bytes()
    base = read_root(root, NUMBA)
    read = parse_update(file, base.layout, base.checksum)
    assert read.to_bytes() == file
    assert read.layout == update.layout
    assert (read.code, read.bits_per_block, read.base) == (code, bits, checksum_of(root))
    assert read.levels.tolist() == levels
    assert read.messages.tolist() == update.messages.tolist()
    theirs = spec_decoder.parse(root)
    sizes = spec_decoder.sizes_of(theirs.tensors, theirs.factors)
    said = spec_updates.parse_update(file, root, sizes)
    want = spec_updates.updated(spec_decoder.scaled(theirs), said, theirs)
    got = apply_update(base, file, NUMBA).variables
    assert got.tobytes() == struct.pack(f"<{len(want)}f", *want)


# --- what is refused


GOOD = code_bytes("13.4")
BODY = GOOD[:-4]
HEAD = BODY[:20]


def with_byte(at, byte):
    """The right update but for a byte of its body, its checksum made right."""
    return sealed(BODY[:at] + bytes([byte]) + BODY[at + 1 :])


def with_bytes(first, end, more):
    return sealed(BODY[:first] + more + BODY[end:])


def of_code(number, messages):
    return sealed(HEAD[:3] + bytes([0x20 + number]) + HEAD[4:] + messages)


# Each rule of section 13.2, in its order: what is refused, and in which words.
REFUSED = {
    "magic": (b"RMX" + GOOD[3:], "does not begin with the magic"),
    "11-bytes": (sealed(BODY[:7]), "cut off: 11 bytes"),
    "version-1f": (with_byte(3, 0x1F), "version 31 is unknown"),
    "version-2d": (with_byte(3, 0x2D), "version 45 is unknown; expected 32 to 44"),
    "a-model": (EXAMPLE, "it is a model, where an update is expected"),
    "checksum": (GOOD[:-1] + b"\0", "the checksum is"),
    "checksum-in-big-endian": (BODY + GOOD[-4:][::-1], "the checksum is"),
    "trailing-byte": (GOOD + b"\0", "the checksum is"),
    "another-base": (with_byte(4, 0x9F), "checksum a702199f; this one has a702199e"),
    "bits-missing": (sealed(BODY[:8]), "ends within its header"),
    "bits-0": (with_byte(8, 0), "0 bits per block"),
    "bits-25": (with_byte(8, 25), "25 bits per block"),
    "block-size-missing": (sealed(BODY[:9]), "ends within"),
    "block-size-not-canonical": (with_bytes(9, 10, b"\x82\0"), "byte 9 is not a canonical"),
    "block-size-of-33-bits": (with_bytes(9, 10, b"\x80\x80\x80\x80\x10"), "byte 9 is not a can"),
    "seed-missing": (sealed(BODY[:10]), "ends within"),
    "seed-cut-off": (sealed(BODY[:11]), "ends within"),
    "seed-not-canonical": (with_bytes(10, 12, b"\xac\x80\0"), "byte 10 is not a canonical"),
    "seed-of-six-bytes": (with_bytes(10, 12, b"\xac\x80\x80\x80\x80\0"), "byte 10 is not a can"),
    **{f"{n}-levels": (sealed(BODY[: 12 + n]), "ends within its header") for n in range(8)},
    "all-levels-0": (with_bytes(12, 20, bytes(8)), "all of its levels are 0"),
    "block-size-0": (with_byte(9, 0), "block size 0 is out of range; expected 1 to 3"),
    "block-size-4": (with_byte(9, 4), "block size 4 is out of range; expected 1 to 3"),
    "no-indices": (sealed(HEAD), "24 bytes; its header calls for 26"),
    "too-short": (sealed(BODY[:-1]), "25 bytes; its header calls for 26"),
    "too-long": (sealed(BODY + b"\0"), "27 bytes; its header calls for 26"),
    "padding": (with_byte(21, 0x51), "padding"),
    "no-code-word": (of_code(11, b"\x40\x9c"), "calls for 27 or more"),
    "theta-0": (of_code(11, b"\0\0\x40"), "theta 0 is out of range"),
    "code-word-cut-off": (of_code(11, b"\x40\x9c\x80"), "end within the integers|code word"),
    "not-the-code-word": (of_code(11, b"\x40\x9c\xff\xff"), "code word"),
    "bytes-behind": (of_code(11, b"\x40\x9c\x40\0\0\0\0\0"), "behind the last integer|code word"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_rule_is_checked(name):
    data, said = REFUSED[name]
    with pytest.raises(InputError, match=said):
        parse(data)
    with pytest.raises(spec_decoder.InvalidFileError):
        spec_updates.parse_update(data, EXAMPLE, list(SIZES))


def test_rules_are_checked_in_their_order():
    """A file that breaks two rules is refused for the first of them."""
    other = with_byte(4, 0)
    for changed, said in (
        (other[:8] + b"\0" + other[9:], "the checksum is"),
        (sealed(other[:8] + b"\0" + other[9:-4]), "update of the file with the checksum"),
        (sealed(BODY[:8] + b"\0\x82\0"), "0 bits per block"),
        (sealed(BODY[:9] + b"\x09" + BODY[10:12] + bytes(8)), "all of its levels are 0"),
        (sealed(BODY[:9] + b"\x09" + BODY[10:]) , "block size 9"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            parse(changed)


@pytest.mark.parametrize(
    ("number", "message", "bits"), [(1, 65, 6), (2, 2**32 + 1, 6), (3, 2**38, 6)]
)
def test_messages_out_of_range(number, message, bits):
    sent = write_integers([message, 64], 60000, bits if number == 3 else 0)
    data = of_code(number, (60000).to_bytes(2, "little") + sent)
    with pytest.raises(InputError, match="no message of the code"):
        parse(data)
    with pytest.raises(spec_decoder.InvalidFileError, match="out of range"):
        spec_updates.parse_update(data, EXAMPLE, list(SIZES))


def test_a_base_that_differs_in_a_bit_is_another(engine):
    for at in range(25, 43):
        body = bytearray(EXAMPLE[:-4])
        body[at] ^= 2
        changed = sealed(bytes(body))
        base = read_root(changed, engine)
        with pytest.raises(InputError, match="checksum a702199e; this one has"):
            apply_update(base, GOOD, engine)
        with pytest.raises(spec_decoder.InvalidFileError, match="of another file"):
            spec_updates.decode_chain([changed, GOOD])


@pytest.mark.parametrize(
    "changed",
    [
        {"bits_per_block": 0},
        {"bits_per_block": 25},
        {"bits_per_block": 256},
        {"levels": np.zeros(8, np.uint8)},
        {"levels": np.full(7, 128, np.uint8)},
        {"levels": np.full(8, 128, np.uint8)},
        {"messages": np.array([37, 5])},
        {"messages": np.array([[37]])},
        {"messages": np.array([[37], [5], [1]])},
        {"messages": np.array([[37, 5]])},
        {"messages": None},
        {"messages": [[37], [5, 1]]},
        {"messages": [["a"], ["b"]]},
        {"messages": np.array([[37], [64]])},
        {"messages": np.array([[37], [-1]])},
        {"code": "orc", "messages": np.array([[37], [64]])},
        {"code": "gprs-s", "messages": np.array([[37, 5], [0, 1]])},
        {"code": "mrc-2"},
        {"base": -1},
        {"base": 2**32},
        {"base": 1.0},
        {"levels": np.array([384, 0, 377, 0, 0, 0, 0, 387])},
        {"levels": np.array([-128, 0, -121, 0, 0, 0, 0, -131])},
        {"levels": np.array([128.5, 0, 121, 0, 0, 0, 0, 131])},
        {"layout": replace(parse(GOOD).layout, coded=None)},
        {"layout": replace(parse(GOOD).layout, coded=(True,) * 3 + (False,) * 5)},
        {"layout": replace(parse(GOOD).layout, block_size=0), "code": "orc"},
        {"layout": replace(parse(GOOD).layout, block_size=4)},
    ],
    ids=str,
)
def test_nothing_is_written_that_no_reader_accepts(changed):
    update = parse(GOOD)
    with pytest.raises(InputError):
        CompressedUpdate(**{**vars(update), **changed}).to_bytes()
