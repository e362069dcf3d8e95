"""Philox4x32 against its published vectors, and the streams against their layout rule."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import philox, row_words

from refmiracle.numerics.philox import Stream, philox4x32, stream_permutation, stream_words

ZEROS, ONES = [0] * 6, [0xFFFFFFFF] * 6
PI = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0]

# Random123 (DEShawResearch/random123, tests/kat_vectors): rounds, counter and key, output.
KNOWN_ANSWERS = [
    (10, ZEROS, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    (10, ONES, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (10, PI, [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
    (7, ZEROS, [0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48]),
    (7, ONES, [0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662]),
    (7, PI, [0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A]),
]
LARGEST = 2**32 - 1


@pytest.mark.parametrize(("rounds", "words", "output"), KNOWN_ANSWERS)
def test_known_answers(rounds, words, output):
    assert philox4x32(words[:4], words[4:], rounds=rounds).tolist() == output


@pytest.mark.parametrize(("rounds", "words", "output"), KNOWN_ANSWERS)
def test_known_answers_of_the_plain_python_oracle(rounds, words, output):
    """The other tests lean on it."""
    assert list(philox(words[:4], words[4:], rounds)) == output


@pytest.mark.parametrize(("words", "output"), [k[1:] for k in KNOWN_ANSWERS if k[0] == 10])
def test_known_answers_of_the_engines(engine, words, output):
    got = engine.philox4x32(words[:4], words[4:])
    assert got.dtype == np.uint32
    assert got.tolist() == output


def test_cpp26_anchor(engine):
    """The standard fixes the 10000th output of a default-seeded std::philox4x32."""
    assert engine.philox4x32([2499, 0, 0, 0], [20111115, 0])[3] == 1955073260


@pytest.mark.parametrize("shape", [(4,), (7, 4), (2, 3, 4), (0, 4)])
def test_counters_of_any_shape(engine, rng, shape):
    counter = rng.integers(0, 2**32, size=shape, dtype=np.uint32)
    key = (LARGEST, 0x12345678)
    want = [philox([int(c) for c in row], key) for row in counter.reshape(-1, 4)]
    got = engine.philox4x32(counter, key)
    assert got.shape == shape
    assert got.reshape(-1, 4).tolist() == [list(w) for w in want]


@pytest.mark.parametrize("first", [0, 1, 3, 4, 6, 11])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_layout_rule(first, count):
    """Word i of row r is word i mod 4 of Philox at counter (i div 4, r, 0, 0)."""
    rows = [0, 5, LARGEST]
    got = stream_words(LARGEST, Stream.NOISE, rows, count, first=first)
    want = [row_words(LARGEST, Stream.NOISE, row, first + count)[first:] for row in rows]
    assert got.dtype == np.uint32
    assert got.tolist() == want


def test_seeds_streams_and_rows_differ():
    """Of 2 seeds, all streams and 3 rows no two give the same words."""
    seen = {
        tuple(words)
        for seed in (0, 1)
        for stream in Stream
        for words in stream_words(seed, stream, [0, 1, 2], 4).tolist()
    }
    assert len(seen) == 2 * len(Stream) * 3


def test_stream_numbers_of_the_file_format():
    """A file means other weights if these move."""
    assert (Stream.CODEBOOK, Stream.PERMUTATION, Stream.SIGNS) == (3, 5, 6)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 1000])
def test_permutation_sorts_the_words(count):
    words = row_words(9, Stream.PERMUTATION, 3, count)
    permutation = stream_permutation(9, Stream.PERMUTATION, 3, count).tolist()
    assert sorted(permutation) == list(range(count))
    assert permutation == sorted(range(count), key=words.__getitem__)


def test_permutation_is_a_stable_sort():
    """Of 300,000 words about ten are equal to another (birthdays); the first comes first."""
    count = 300_000
    words = stream_words(1, Stream.PERMUTATION, [0], count)[0].tolist()
    assert len(set(words)) < count - 3
    permutation = stream_permutation(1, Stream.PERMUTATION, 0, count).tolist()
    assert permutation == sorted(range(count), key=words.__getitem__)
