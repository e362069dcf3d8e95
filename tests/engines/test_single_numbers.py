"""One number stands for no array: where arrays go together both engines refuse it in one line.

NumPy would spread it over the others, compiled code read beyond it; a scale for every weight is
written as `np.full`, so that nothing is spread that should have been an array.
"""

from __future__ import annotations

import numpy as np
import pytest
from contract_calls import ARRAYS, CALLS, arguments, called

from refmiracle.engines import get_engine
from refmiracle.engines.arguments import Filled, Moments
from refmiracle.engines.operations import OPERATIONS
from refmiracle.errors import InputError

ENGINES = [get_engine(name) for name in ("numpy", "numba")]
# What takes one array of any shape: one number in, one number out; or any table to read from.
ALONE = [(name, at) for name, at in ARRAYS if OPERATIONS[name][at].shape in ("same", "any")]
FORMS = [lambda n: n, np.asarray, lambda n: np.asarray(n)[()]]


def one_of(array):
    """An element of an array as a number of Python."""
    return np.asarray(array).ravel()[0].item()


def said(engine, name, at, form):
    """What an engine says of a call whose argument `at` is one number."""
    values = list(arguments(name, engine.dtype))
    values[at] = form(one_of(values[at]))
    with pytest.raises(InputError) as caught:
        called(name, engine, values)
    return str(caught.value)


@pytest.mark.parametrize(("name", "at"), [pair for pair in ARRAYS if pair not in ALONE])
def test_one_number_is_no_array(name, at):
    assert name in CALLS
    for form in FORMS:
        numpy, numba = (said(engine, name, at, form) for engine in ENGINES)
        if not isinstance(OPERATIONS[name][at], Filled):  # whose type is looked at first
            assert numpy == numba
        assert numpy.startswith(f"{name}: ")
        assert "\n" not in numpy


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_the_line_says_that_it_is_one_number(engine):
    values = list(arguments("mean_kl_forward", engine.dtype))
    shape = values[0].shape
    values[2] = 0.5
    with pytest.raises(InputError) as caught:
        engine.mean_kl_forward(*values)
    expected = f"mean_kl_forward: rho of shape (), one number; expected {shape}"
    assert str(caught.value) == expected
    values[2] = np.full(shape, 0.5)
    assert engine.mean_kl_forward(*values).shape == shape


@pytest.mark.parametrize(("name", "at"), [pair for pair in ALONE if len(OPERATIONS[pair[0]]) > 1])
def test_one_number_beside_an_array_of_any_shape(name, at):
    if OPERATIONS[name][at].shape == "any":
        pytest.skip("a table of one variable is one")
    for form in FORMS:
        numpy, numba = (said(engine, name, at, form) for engine in ENGINES)
        assert numpy == numba
        assert "()" in numpy


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
@pytest.mark.parametrize("name", ["log_s", "ds_dx", "normal_quantile", "relu"])
def test_one_number_alone_gives_one_number(engine, name):
    whole = np.asarray(getattr(engine, name)([0.25, 0.5]))
    for form in FORMS:
        found = getattr(engine, name)(form(0.5))
        assert np.shape(found) == ()
        assert found == whole[1]


def test_moments_are_no_numbers():
    for name, taken in OPERATIONS.items():
        for at, argument in enumerate(taken):
            if isinstance(argument, Moments):
                for engine in ENGINES:
                    values = list(arguments(name, engine.dtype))
                    (m, _), second = values[at]
                    values[at] = ((m, 0.5), second)
                    with pytest.raises(InputError, match="moments"):
                        called(name, engine, values)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [3, 4])
@pytest.mark.parametrize("best", [False, True])
def test_no_index_where_a_weight_is_not_finite(engine, wrong, at, best):
    """An argmax over NaN would name candidate 0 without a word."""
    values = list(arguments("select_indices", engine.dtype))
    values[at] = values[at].copy()
    values[at][2, 1] = wrong
    with pytest.raises(InputError, match="mean or variance is not finite"):
        engine.select_indices(*values, best)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_no_index_where_log_weights_overflow(engine):
    for delta, log_s in ((0.0, -720.0), (1e200, 0.0), (0.0, -1e308), (0.0, 600.0)):
        arguments_of = 3, 4, [0], [[delta]], [[log_s]]
        if log_s > 0.0:  # wide, but all log-weights are numbers
            assert 0 <= engine.select_indices(*arguments_of)[0] < 16
            continue
        with pytest.raises(InputError, match="would not be"):
            engine.select_indices(*arguments_of)


@pytest.mark.parametrize("best", [False, True])
def test_no_index_where_no_digits_are_left(best):
    """Far out, over a P that is narrower than Q, log q / p is a difference of like terms."""
    for sign in (-1.0, 1.0):
        near = [
            engine.select_indices(3, 10, [0], [[sign * 2.0**20]], [[0.5]], best)[0]
            for engine in ENGINES
        ]
        assert near[0] == near[1]
        for engine in ENGINES:
            with pytest.raises(InputError, match="at most 1048576 are possible"):
                engine.select_indices(3, 10, [0], [[sign * 1e100]], [[300.0]], best)
