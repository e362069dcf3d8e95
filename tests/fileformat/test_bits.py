"""Indices and varints: round trips, the one canonical form, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmiracle.errors import InputError
from refmiracle.fileformat.bits import pack_indices, packed_size, unpack_indices
from refmiracle.numerics.varints import read_varint, write_varint


@st.composite
def index_lists(draw):
    bits = draw(st.integers(1, 24))
    return bits, draw(st.lists(st.integers(0, 2**bits - 1), max_size=200))


def pack_by_text(indices, bits):
    """An oracle: one string of 0 and 1, cut into bytes."""
    text = "".join(f"{i:0{bits}b}" for i in indices)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


@given(index_lists())
def test_indices_round_trip(case):
    bits, indices = case
    payload = pack_indices(np.array(indices, dtype=np.int64), bits)
    assert payload == pack_by_text(indices, bits)
    assert len(payload) == packed_size(bits, len(indices)) == math.ceil(bits * len(indices) / 8)
    back = unpack_indices(payload, bits, len(indices))
    assert back.dtype == np.int64
    assert back.tolist() == indices


@pytest.mark.parametrize("bits", range(1, 25))
def test_largest_and_smallest_index_of_each_size(bits):
    indices = [2**bits - 1, 0, 2**bits - 1, 1, 2 ** (bits - 1)]
    payload = pack_indices(indices, bits)
    assert payload == pack_by_text(indices, bits)
    assert unpack_indices(payload, bits, 5).tolist() == indices


@pytest.mark.parametrize("bits", [1, 7, 8, 24])
def test_no_indices_are_no_bytes(bits):
    assert pack_indices(np.zeros(0, dtype=np.int64), bits) == b""
    assert unpack_indices(b"", bits, 0).tolist() == []


def test_the_first_index_stands_in_the_high_bits():
    assert pack_indices([1, 0, 0], 1) == b"\x80"
    assert pack_indices([0x123, 0x456], 12) == b"\x12\x34\x56"
    assert pack_indices([9, 31, 18], 5) == b"\x4f\xe4"


@pytest.mark.parametrize(("index", "bits"), [(2, 1), (-1, 1), (16384, 14), (1 << 24, 24)])
def test_index_that_does_not_fit_is_refused(index, bits):
    with pytest.raises(InputError, match=f"expected 0 to {2**bits - 1}"):
        pack_indices([0, index, 0], bits)


@given(index_lists().filter(lambda case: case[0] * len(case[1]) % 8), st.data())
def test_padding_bit_is_refused(case, data):
    bits, indices = case
    payload = bytearray(pack_indices(indices, bits))
    payload[-1] |= 1 << data.draw(st.integers(0, -bits * len(indices) % 8 - 1))
    with pytest.raises(InputError, match="padding"):
        unpack_indices(bytes(payload), bits, len(indices))


@pytest.mark.parametrize("change", [-1, 1])
def test_payload_of_another_length_is_refused(change):
    payload = pack_indices([1, 2, 3, 4], 14)
    wrong = payload[:change] if change < 0 else payload + b"\0"
    with pytest.raises(InputError, match=f"7 bytes, but {7 + change}"):
        unpack_indices(wrong, 14, 4)


@given(st.integers(0, 2**32 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_varints_round_trip(value, before, after):
    encoded = write_varint(value)
    assert len(encoded) == max(1, -(-value.bit_length() // 7))
    assert read_varint(before + encoded + after, len(before)) == (value, len(before + encoded))


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (16383, "ff7f"),
        (16384, "808001"),
        (2**21, "80808001"),
        (2**28 - 1, "ffffff7f"),
        (2**28, "8080808001"),
        (2**32 - 1, "ffffffff0f"),
    ],
)
def test_boundaries_of_varints(value, encoded):
    assert write_varint(value).hex() == encoded
    assert read_varint(bytes.fromhex(encoded), 0) == (value, len(encoded) // 2)


@pytest.mark.parametrize(
    "encoded",
    [
        "8000",  # 0 in two bytes
        "ff00",  # 127 in two bytes
        "ff8000",  # 127 in three
        "8080808000",  # 0 in five
        "8080808010",  # 2^32
        "ffffffff1f",  # 2^33 - 1
        "ffffffff7f",
        "ffffffff8f00",  # six bytes
        "808080808001",  # 2^35
        "ffffffffffffffffff01",  # 2^64 - 1
    ],
)
def test_other_forms_of_varints_are_refused(encoded):
    with pytest.raises(InputError, match="byte 1 is not a canonical varint"):
        read_varint(b"\x05" + bytes.fromhex(encoded), 1)


@given(st.integers(0, 2**32 - 1))
def test_varint_that_is_cut_off_is_refused(value):
    encoded = write_varint(value)
    for length in range(len(encoded)):
        with pytest.raises(InputError, match="ends within its header"):
            read_varint(encoded[:length], 0)


@given(st.binary(max_size=8))
def test_no_two_forms_have_one_value(data):
    try:
        value, end = read_varint(data, 0)
    except InputError:
        return
    assert 0 <= value < 2**32
    assert data[:end] == write_varint(value)


@pytest.mark.parametrize(("bits", "count"), [(0, 2), (25, 0), (-1, 0), (5, -1)])
def test_widths_and_counts_that_no_file_has(bits, count):
    with pytest.raises(InputError, match=r"out of range|0 or more"):
        unpack_indices(b"", bits, count)
