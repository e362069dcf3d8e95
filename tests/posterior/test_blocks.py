"""Blocks and hashing against a slow loop over every weight, and the scales."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from oracles import by_engine, relative_error, row_words

from refmiracle.nn.contract import Weightless
from refmiracle.nn.layers import Conv2d, Dense, Relu
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET5
from refmiracle.numerics.philox import Stream
from refmiracle.posterior.blocks import (
    BlockLayout,
    Grouping,
    Signs,
    find_places,
    tensor_signs,
    to_variable_gradients,
    to_weights,
)
from refmiracle.posterior.scales import quantise_scales


class Five(Weightless):
    """What stands for layers between: it makes five features of all that comes."""

    word = "five"

    def output(self, shape):
        return (5,)


LAYERS = (Conv2d(3, kernel=2), Relu(), Five(), Dense(4))
SMALL = Network("small", 99, (2, 4, 4), 4, LAYERS)
# Tensors of (2, 2, 2, 3), (3,), (5, 4) and (4,) weights: 24, 3, 20 and 4.
SHAPES = [t.shape for t in SMALL.tensors()]
SEED = 12


def layout(factors=(5, 2, 7, 1), grouping=Grouping.OUTPUTS, signs=Signs.UNIT, block_size=4):
    return BlockLayout(SMALL, factors, grouping, signs, block_size, SEED)


@pytest.mark.parametrize(
    ("factors", "sizes"),
    [
        ((1, 1, 1, 1), [24, 3, 20, 4]),
        ((5, 2, 7, 1), [5, 2, 3, 4]),  # none divides: the last variable stands for fewer weights
        ((24, 3, 20, 4), [1, 1, 1, 1]),
        ((25, 4, 100, 5), [1, 1, 1, 1]),
    ],
)
def test_sizes(factors, sizes):
    assert layout(factors).sizes() == sizes
    assert layout(factors).variables() == sum(sizes)


@pytest.mark.parametrize(
    ("block_size", "blocks"), [(1, 14), (4, 4), (7, 2), (13, 2), (14, 1), (99, 1)]
)
def test_blocks(block_size, blocks):
    """14 variables; a short last block counts."""
    assert layout(block_size=block_size).blocks() == blocks
    used = find_places(layout(block_size=block_size)).used
    assert used.shape == (blocks, block_size)
    assert used.ravel().tolist() == [i < 14 for i in range(blocks * block_size)]


def slow_places(factors, grouping):
    """(tensor, variable) of every weight, by counting; and which place each variable has."""
    of_weights, variables = [], []
    for number, (shape, factor) in enumerate(zip(SHAPES, factors, strict=True)):
        outputs, count = shape[-1], math.prod(shape)
        for flat in range(count):
            inner, output = divmod(flat, outputs)
            rank = flat if grouping == Grouping.OUTPUTS else output * (count // outputs) + inner
            of_weights.append((number, rank // factor))
        variables += sorted({v for v in of_weights if v[0] == number})
    words = row_words(SEED, Stream.PERMUTATION, 0, len(variables))
    order = sorted(range(len(variables)), key=words.__getitem__)
    return of_weights, {variables[v]: p for p, v in enumerate(order)}


@pytest.mark.parametrize("grouping", list(Grouping))
@pytest.mark.parametrize("factors", [(5, 2, 7, 1), (1, 1, 1, 1), (3, 3, 4, 2), (8, 1, 5, 1)])
def test_places_by_a_slow_loop(factors, grouping):
    """OUTPUTS: neighbours in C order share, so do units; INPUTS: the inputs of one unit share."""
    of_weights, place = slow_places(factors, grouping)
    places = find_places(layout(factors, grouping))
    assert places.place_of_weight.tolist() == [place[v] for v in of_weights]
    tensor = {p: number for (number, _), p in place.items()}
    assert places.tensor_of_place.ravel()[: len(place)].tolist() == [
        tensor[p] for p in range(len(place))
    ]
    assert not places.tensor_of_place[~places.used].any()


def test_grouping_along_the_outputs():
    """With factor = outputs, all units of one input share a variable."""
    places = find_places(layout((3, 3, 4, 4), Grouping.OUTPUTS)).place_of_weight
    dense = places[27:47].reshape(5, 4)
    assert (dense == dense[:, :1]).all()
    assert len(set(dense[:, 0].tolist())) == 5


def test_grouping_along_the_inputs():
    """With factor = inputs, all inputs of one unit share a variable."""
    places = find_places(layout((8, 3, 5, 4), Grouping.INPUTS)).place_of_weight
    conv, dense = places[:24].reshape(8, 3), places[27:47].reshape(5, 4)
    for a, units in ((conv, 3), (dense, 4)):
        assert (a == a[:1]).all()
        assert len(set(a[0].tolist())) == units


@pytest.mark.parametrize("grouping", list(Grouping))
def test_places_of_lenet5(grouping):
    """Each variable has one place, and as many weights as its tensor's factor (all divide)."""
    lenet = BlockLayout(LENET5, LENET5.hash_factors, grouping, Signs.UNIT, 32, 3)
    places = find_places(lenet)
    weights = np.bincount(places.place_of_weight, minlength=places.used.size)
    factors = np.array(LENET5.hash_factors)[places.tensor_of_place.ravel()]
    assert np.array_equal(weights, np.where(places.used.ravel(), factors, 0))
    assert np.array_equal(np.bincount(places.tensor_of_place[places.used]), lenet.sizes())
    assert places.used.sum() == 26_580


def slow_signs(number, count):
    """-1 where the top bit of the word is set; row `number` of the stream SIGNS."""
    return [-1.0 if w >= 2**31 else 1.0 for w in row_words(SEED, Stream.SIGNS, number, count)]


@pytest.mark.parametrize("number", range(4))
def test_signs(number):
    shape, count = SHAPES[number], math.prod(SHAPES[number])
    unit = tensor_signs(layout((5, 2, 7, 2), signs=Signs.UNIT), number)
    weight = tensor_signs(layout((5, 2, 7, 2), signs=Signs.WEIGHT), number)
    none = tensor_signs(layout((5, 2, 7, 2), signs=Signs.NONE), number)
    assert unit.reshape(-1, shape[-1]).tolist() == [slow_signs(number, shape[-1])] * (
        count // shape[-1]
    )
    assert weight.tolist() == slow_signs(number, count)
    assert none.tolist() == [1.0] * count
    assert unit.dtype == weight.dtype == none.dtype == np.float32


@pytest.mark.parametrize("signs", list(Signs))
def test_a_tensor_that_shares_nothing_has_no_signs(signs):
    assert (tensor_signs(layout((1, 1, 1, 1), signs=signs), 0) == 1.0).all()


def test_both_signs_occur():
    lenet = BlockLayout(LENET5, LENET5.hash_factors, Grouping.OUTPUTS, Signs.UNIT, 30, 3)
    signs = tensor_signs(lenet, 4)[:500]
    # 500 fair coins: outside 250 +- 56 less than once in a million.
    assert abs(int((signs < 0).sum()) - 250) <= 56


def test_signs_of_places_follow_the_tensors():
    a = layout((5, 1, 7, 2), signs=Signs.WEIGHT)
    want = np.concatenate([tensor_signs(a, number) for number in range(4)])
    assert np.array_equal(find_places(a).signs, want)


def test_to_weights_by_a_slow_loop(engine, rng):
    places = find_places(layout())
    variables = rng.normal(size=places.used.shape).astype(np.float32)
    weights = to_weights(SMALL, engine, places, variables)
    assert [weights[t.name].shape for t in SMALL.tensors()] == SHAPES
    flat = [w for t in SMALL.tensors() for w in weights[t.name].ravel().tolist()]
    pairs = zip(places.signs.tolist(), places.place_of_weight.tolist(), strict=True)
    assert flat == [sign * float(variables.ravel()[place]) for sign, place in pairs]


@pytest.mark.parametrize("grouping", list(Grouping))
def test_gradients_are_the_adjoint_of_the_weights(engine, rng, grouping):
    """<weights(v), G> = <v, variable_gradients(G)>, and nothing for unused places."""
    places = find_places(layout(grouping=grouping, signs=Signs.WEIGHT))
    variables = rng.normal(size=places.used.shape)
    weights = to_weights(SMALL, engine, places, variables)
    grads = {name: rng.normal(size=w.shape) for name, w in weights.items()}
    back = to_variable_gradients(SMALL, engine, places, grads).reshape(places.used.shape)
    left = sum((weights[name].astype(np.float64) * g).sum() for name, g in grads.items())
    assert relative_error(left, (variables * back).sum()) <= by_engine(engine, 1e-12, 1e-5)
    assert not back[~places.used].any()


def test_scales_are_rounded_to_float16():
    """To the nearest, by Python's own half-precision packing."""
    log_rho = np.linspace(-9.7, 11.0, 500)
    want = [struct.unpack("<e", struct.pack("<e", math.exp(v)))[0] for v in log_rho]
    got = quantise_scales(log_rho)
    assert got.dtype == np.float16
    assert got.astype(np.float64).tolist() == want


def test_scales_are_rounded_once():
    """By way of float32 each of these becomes a tie, and then goes the other way."""
    log_rho = np.array(
        [-5.966763019561768, -5.911032199859619, -5.743545055389404, -2.0731139183044434]
    )
    want = [struct.unpack("<e", struct.pack("<e", math.exp(v)))[0] for v in log_rho]
    twice = np.exp(log_rho).astype(np.float32).astype(np.float16)
    assert quantise_scales(log_rho).tolist() == want
    assert not np.any(twice == want)


def test_scales_stay_normal_numbers():
    """Neither 0 nor infinite, whatever the training does."""
    got = quantise_scales([-1e6, -30.0, -9.705, 11.09, 700.0]).astype(np.float64).tolist()
    assert got == [2.0**-14, 2.0**-14, 2.0**-14, 65504.0, 65504.0]


def test_what_is_not_coded_stands_behind_the_blocks():
    """Nor does a place that is not used, at the end of a short block, belong to such a tensor."""
    layout = BlockLayout(
        SMALL, (1, 1, 2, 1), Grouping.OUTPUTS, Signs.UNIT, 4, 7, (False, True, True, False)
    )
    places = find_places(layout)
    assert (layout.variables(), layout.blocks(), places.size()) == (13, 4, 16 + 28)
    assert sorted(places.place_of_variable) == [*range(13), *range(16, 44)]
    assert np.array_equal(places.place_of_variable >= 16, ~layout.is_coded())
    assert set(places.tensor_of_place.ravel()) == {1, 2}
    assert places.tensor_of_place[~places.used].tolist() == [1, 1, 1]
