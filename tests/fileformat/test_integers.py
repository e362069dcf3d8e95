"""Integers as bytes: round trips, the one code word, what is refused, and how long it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmiracle.codes.lengths import log_geometric_bits
from refmiracle.errors import InputError
from refmiracle.fileformat.integers import best_theta16, coded_bits, read_integers, write_integers

ONE = 2**16


def integers_below(bits):
    """Integers of all sizes: their number of bits is uniform."""
    return st.integers(0, bits - 1).flatmap(lambda e: st.integers(2**e, 2 ** (e + 1) - 1))


@st.composite
def lists(draw, largest=62):
    raw = draw(st.sampled_from([0, 0, 1, 5, 24]))
    n = draw(st.lists(integers_below(largest - raw), max_size=40))
    return [v << raw | draw(st.integers(0, 2**raw - 1)) for v in n], raw


def interval_by_fractions(decisions):
    """An oracle: the same narrowing with exact integers of any size."""
    low, width, scale = 0, 2**32 - 1, 0
    for p, bit in decisions:
        bound = (width // 2**16) * p
        low, width = (low, bound) if bit else (low + bound, width - bound)
        while width < 2**24:
            low, width, scale = low * 256, width * 256, scale + 1
    return low, low + width, scale + 4


def decisions_by_text(values, theta16, raw):
    out = []
    for v in values:
        n, j = v >> raw, v & (1 << raw) - 1
        text = f"{n:b}"[1:]
        out += [(2**15, int(b)) for b in (f"{j:0{raw}b}" if raw else "")]
        out += [(theta16, 1)] * len(text) + [(theta16, 0)] + [(2**15, int(b)) for b in text]
    return out


@given(lists(), st.integers(1, ONE - 1))
def test_round_trip(case, theta16):
    values, raw = case
    data = write_integers(values, theta16, raw)
    back = read_integers(data, len(values), theta16, raw)
    assert back.dtype == np.int64
    assert back.tolist() == values


@given(lists(), st.integers(1, ONE - 1))
def test_the_code_word_is_the_shortest_and_the_lowest(case, theta16):
    values, raw = case
    data = write_integers(values, theta16, raw)
    low, high, size = interval_by_fractions(decisions_by_text(values, theta16, raw))
    fits = []
    for length in range(size + 1):
        unit = 256 ** (size - length)
        v = -(-low // unit)
        if (v + 1) * unit <= high:
            fits.append(v.to_bytes(length, "big"))
    assert data == fits[0]


@given(lists(), st.integers(1, ONE - 1))
def test_shortened_and_lengthened_code_words_are_refused(case, theta16):
    values, raw = case
    data = write_integers(values, theta16, raw)
    wrong = [data[:n] for n in range(len(data))] + [data + bytes(n) for n in (1, 2, 3, 9)]
    for other in [*wrong, data + b"\xff", data + data]:
        with pytest.raises(InputError):
            read_integers(other, len(values), theta16, raw)


@given(st.binary(max_size=12), st.integers(0, 5), st.integers(1, ONE - 1), st.integers(0, 24))
def test_bytes_are_refused_or_are_the_code_word(data, count, theta16, raw):
    try:
        values = read_integers(data, count, theta16, raw)
    except InputError as e:
        assert "\n" not in str(e)
        return
    assert write_integers(values, theta16, raw) == data


def test_code_words_of_few_bytes_are_found():
    """The test above would pass if all bytes were refused."""
    accepted = 0
    for first in range(256):
        for second in range(256):
            try:
                read_integers(bytes([first, second]), 2, 40000)
            except InputError:
                continue
            accepted += 1
    assert accepted > 1000


@given(lists(), st.integers(1, ONE - 1))
def test_the_length_is_that_of_the_law(case, theta16):
    values, raw = case
    n = np.array(values, dtype=np.int64) >> raw
    bits = log_geometric_bits(n, theta16 / ONE).sum() + raw * len(values)
    # The coder's own probabilities differ from theta and 1/2 by less than 2^-8 of themselves at
    # the worst, and its ending takes at most two bytes and a bit.
    decisions = sum(2 * (int(v).bit_length() - 1) + 1 for v in n) + raw * len(values)
    assert 8 * len(write_integers(values, theta16, raw)) <= bits + decisions * 2**-7 + 17


def test_many_integers_take_their_entropy(rng):
    values = np.int64(2.0 ** rng.exponential(1.0, 30_000))
    theta16 = best_theta16(values)
    data = write_integers(values, theta16)
    assert read_integers(data, len(values), theta16).tolist() == values.tolist()
    assert 8 * len(data) == pytest.approx(coded_bits(values), rel=2e-4, abs=16)


@given(st.lists(integers_below(50), min_size=1, max_size=30), st.integers(0, 12))
def test_no_theta_is_better_than_the_best(n, raw):
    values = [v << raw for v in n]
    best = best_theta16(values, raw)
    length = log_geometric_bits(n, best / ONE).sum()
    # Relative to the length, 1e-12 is what sums in float64 may differ by.
    for theta16 in {1, best - 1, best + 1, ONE // 2, ONE - 1} & set(range(1, ONE)):
        assert length <= log_geometric_bits(n, theta16 / ONE).sum() * (1 + 1e-12)
    assert coded_bits(values, raw) == pytest.approx(length + raw * len(n))


@pytest.mark.parametrize(("values", "best"), [([1] * 9, 1), ([2**50] * 9, 64251), ([], 1)])
def test_best_theta_at_the_ends(values, best):
    assert best_theta16(values) == best
    mean = math.log2(values[0]) if values else 0.0
    assert abs(best - max(1.0, ONE * mean / (1 + mean))) < 1


def test_carries_run_through_bytes_of_ones():
    """Lists whose code word has bytes ff before the last ones, and 00 with a carry there."""
    carried = 0
    for n in range(1, 3000):
        values = [1, n, 1, 3, n]
        data = write_integers(values, 65000)
        assert read_integers(data, 5, 65000).tolist() == values
        carried += b"\xff" in data[:-2] or b"\x00" in data[1:-2]
    assert carried > 20


@pytest.mark.parametrize(
    ("values", "theta16", "raw", "message"),
    [
        ([0], 9, 0, "expected 1 to 2\\^62 - 1"),
        ([1, -1], 9, 0, "out of range"),
        ([2**62], 9, 0, "out of range"),
        ([31], 9, 5, "expected 32 to"),
        ([1], 0, 0, "theta 0 is out of range; expected 1 to 65535"),
        ([1], ONE, 0, "theta 65536 is out of range"),
    ],
)
def test_what_cannot_be_written(values, theta16, raw, message):
    with pytest.raises(InputError, match=message):
        write_integers(values, theta16, raw)


@pytest.mark.parametrize("raw", [0, 1, 24])
def test_the_largest_integer(raw):
    values = [2**62 - 1, 2**raw, 2**61]
    data = write_integers(values, 65535, raw)
    assert read_integers(data, 3, 65535, raw).tolist() == values
    with pytest.raises(InputError, match="an integer is 2\\^62 or more"):
        read_integers(bytes(40), 3, 65535, raw)


@pytest.mark.parametrize("raw", [25, -1])
def test_raw_bits_that_no_file_has(raw):
    with pytest.raises(InputError, match="raw bits are out of range"):
        write_integers([2**40], 30000, raw)
    with pytest.raises(InputError, match="raw bits are out of range"):
        read_integers(b"\x01", 1, 30000, raw)


def test_a_negative_number_of_integers():
    with pytest.raises(InputError, match="-1 integers; expected 0 to"):
        read_integers(b"\x01", -1, 30000)


def test_the_law_is_looked_at_before_the_number_of_integers():
    """The order of docs/SPEC.md, section 2.5: rules 13 and 14."""
    with pytest.raises(InputError, match=r"^theta 0 is out of range"):
        read_integers(b"", 2**20 + 1, 0)
    with pytest.raises(InputError, match=r"^1048577 integers; expected 0 to 1048576"):
        read_integers(b"", 2**20 + 1, 1)
