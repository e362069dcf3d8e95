"""Seeds, rows, counts and the like: one meaning for both engines, or one line that refuses them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from contract_calls import arguments, called, results
from oracles import same_bits

from refmiracle.engines import get_engine
from refmiracle.engines.arguments import Whole
from refmiracle.engines.operations import OPERATIONS
from refmiracle.engines.scalars import Number, Real, Reals, Text, Truth
from refmiracle.errors import InputError
from refmiracle.numerics.philox import stream_permutation, stream_words
from refmiracle.numerics.whole import BEYOND, SMALLEST, whole_number, whole_numbers

NUMBERS = [
    (name, at)
    for name, taken in OPERATIONS.items()
    for at, argument in enumerate(taken)
    if isinstance(argument, Number)
]
ALL = [
    (name, at)
    for name, taken in OPERATIONS.items()
    for at, argument in enumerate(taken)
    if isinstance(argument, Whole)
]
NOT_WHOLE = (
    1.5, 1.0, np.float32(1.0), np.array(1.0), True, np.bool_(True), np.array(True), "1", b"1",
    None, [1], (1,), np.array([1]), np.ones((9, 9), int), 1j, np.datetime64(1, "s"), "\n" * 99,
)  # fmt: skip


def given(name, engine, at, value):
    values = arguments(name, engine.dtype)
    for n in range(len(values), at + 1):
        values.append(OPERATIONS[name][n].default)
    values[at] = value
    return values


def refusal(name, engine, values):
    with pytest.raises(InputError) as caught:
        called(name, engine, values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "at"), NUMBERS)
def test_what_is_no_whole_number_is_refused(engine, name, at):
    argument = OPERATIONS[name][at]
    outside = [argument.low - 1, argument.end, 2**64, -(2**64)]
    for wrong in (*NOT_WHOLE, *outside, np.array(argument.low - 1)):
        said = refusal(name, engine, given(name, engine, at, wrong))
        assert said.startswith(f"{name}: {argument.name} ")
        assert f"{argument.low} to {argument.end - 1}" in said


@pytest.mark.parametrize(("name", "at"), NUMBERS)
def test_whole_numbers_of_any_type_are_the_same(engine, name, at):
    # Others would not go with the shapes of the call.
    fixed = {"count": 7, "stride": 1, "padding": 0, "groups": 1}
    number = fixed.get(OPERATIONS[name][at].name, 3)
    want = [a.copy() for a in results(name, engine, given(name, engine, at, number))]
    for same in (np.int8(number), np.uint64(number), np.array(number), np.array(number, ">i4")):
        got = results(name, engine, given(name, engine, at, same))
        assert all(map(same_bits, got, want))


@pytest.mark.parametrize(("name", "at"), ALL)
def test_arrays_of_what_is_no_whole_number_are_refused(engine, name, at):
    argument, shape = OPERATIONS[name][at], arguments(name, engine.dtype)[at].shape
    for wrong in (1.5, 1.0, True, "1", 1j, None, 2**64, -1.0, np.nan):
        said = refusal(name, engine, given(name, engine, at, np.full(shape, wrong)))
        assert argument.name in said
        assert "whole numbers" in said


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n != "shards"])
def test_other_kinds_of_arguments(engine, name):
    wrong = {
        Real: (None, "1", 1j, True, [1.0], np.ones(1), np.ones((9, 9)), 10**400, "\n" * 99),
        Reals: (None, 1.0, (1.0,), (1.0, 2.0, 3.0), ("1", 1.0)),
        Truth: (None, "yes", 1, 0.0, np.array([True])),
        Text: (None, 4, ["ad-star"], b"ad-star"),
    }
    for at, argument in enumerate(OPERATIONS[name]):
        for value in wrong.get(type(argument), ()):
            said = refusal(name, engine, given(name, engine, at, value))
            assert said.startswith(f"{name}: {argument.name} is ")


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1])
def test_every_seed_of_the_range_means_the_same(seed):
    one, other = get_engine("numpy"), get_engine("numba")
    delta, log_s = np.linspace(-1, 1, 6).reshape(3, 2), np.full((3, 2), -1.0)
    rows = [0, 2**31, 2**32 - 1]
    calls = (
        lambda e: e.codebook_rows(seed, rows, 5),
        lambda e: e.philox4x32([[0, 1, 2, 2**32 - 1]], [seed, 2**32 - 1]),
        lambda e: e.select_indices(seed, 6, rows, delta, log_s),
        lambda e: e.ordered_indices(seed, 6, rows, delta, log_s),
        lambda e: e.poisson_indices(seed, rows, delta, log_s),
        lambda e: e.partition_messages(seed, 6, rows, delta, log_s),
        lambda e: e.variable_messages("gprs-d", seed, rows, delta[:, 0], log_s[:, 0]),
        lambda e: e.variable_samples("grc-s", seed, rows, [1, 5, 2**62 - 1]),
    )
    for call in calls:
        assert same_bits(np.asarray(call(one)), np.asarray(call(other)))
    normals = [e.normals(seed, 4, rows, 5).astype(np.float32) for e in (one, other)]
    assert same_bits(*normals)


@pytest.mark.parametrize("wrong", [-1, 2**32, 2**64, 1.0, 1.5, True, "1"])
def test_streams_take_nothing_else(wrong):
    for call in (
        lambda: stream_words(wrong, 3, [0], 4),
        lambda: stream_words(1, wrong, [0], 4),
        lambda: stream_words(1, 3, [wrong], 4),
        lambda: stream_permutation(wrong, 3, 0, 4),
        lambda: stream_permutation(1, 3, wrong, 4),
    ):
        with pytest.raises(InputError):
            call()


def test_words_of_a_row_end_where_its_counter_does():
    last = stream_words(1, 3, [0], 2, first=2**34 - 2)
    assert last.shape == (1, 2)
    for count, first in ((3, 2**34 - 2), (1, 2**34), (-1, 0), (1, -4), (1.0, 0), (1, 0.0)):
        with pytest.raises(InputError, match="expected"):
            stream_words(1, 3, [0], count, first)


def test_what_the_messages_say():
    for value, said in [
        (2**32, "the seed 4294967296 is out of range; expected 0 to 4294967295"),
        (1.5, "the seed is 1.5; expected a whole number from 0 to 4294967295"),
        (2.0, "the seed is 2.0, a float; expected a whole number from 0 to 4294967295"),
        (
            np.float32(2),
            "the seed is np.float32(2.0), a float; expected a whole number from 0 to 4294967295",
        ),
        (math.inf, "the seed is inf; expected a whole number from 0 to 4294967295"),
        (np.ones(3), "the seed is of shape (3,); expected a whole number from 0 to 4294967295"),
    ]:
        with pytest.raises(InputError) as caught:
            whole_number("the seed", value)
        assert str(caught.value) == said
    with pytest.raises(InputError) as caught:
        whole_numbers("rows", [0, 1.5])
    assert str(caught.value) == "rows of float64; expected whole numbers from 0 to 4294967295"
    with pytest.raises(InputError) as caught:
        whole_numbers("rows", [0, -3, 2**33])
    said = "rows: -3 is out of range; expected whole numbers from 0 to 4294967295"
    assert str(caught.value) == said
    with pytest.raises(InputError) as caught:  # whatever an int64 holds is no range that helps
        whole_numbers("messages", [1.5], SMALLEST, BEYOND)
    assert str(caught.value) == "messages of float64; expected whole numbers"
