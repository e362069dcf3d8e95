"""Loss and gradients over the coded variables: shared units against expanded weights."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from oracles import scaled_error

from refmiracle.engines import get_engine
from refmiracle.nn.networks import LENET5
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs, find_places
from refmiracle.posterior.sharing import VariablePass, unit_copies

NUMPY, NUMBA = get_engine("numpy"), get_engine("numba")
MIRACLE = LENET5.hash_factors


def layout(factors=MIRACLE, grouping=Grouping.OUTPUTS, signs=Signs.UNIT):
    return BlockLayout(LENET5, factors, grouping, signs, block_size=30, seed=3)


def random_case(rng, layout, batch, dtype):
    """Variables of about the size that training starts from, and a batch."""
    places = find_places(layout)
    fan_in = np.array([t.fan_in for t in LENET5.tensors()])[places.tensor_of_place]
    variables = (rng.normal(size=places.tensor_of_place.shape) / np.sqrt(fan_in)).astype(dtype)
    pixels = rng.integers(0, 256, size=(batch, 28, 28), dtype=np.uint8)
    return places, variables, pixels, rng.integers(0, 10, size=batch)


@pytest.mark.parametrize(
    ("chosen", "copies"),
    [
        (layout(), (1, 2, 50, 1)),
        (layout((1, 1, 10, 1, 25, 1, 5, 1), signs=Signs.NONE), (1, 10, 25, 5)),
        (layout((1,) * 8), (1, 1, 1, 1)),
        (layout(signs=Signs.WEIGHT), None),
        (layout(grouping=Grouping.INPUTS), None),
        (layout((1, 1, 3, 1, 1, 1, 1, 1)), None),  # 3 does not divide 50: units are cut across
        (layout((1, 1, 2, 2, 50, 1, 1, 1)), None),  # biases are shared too
    ],
)
def test_unit_copies(chosen, copies):
    assert unit_copies(chosen) == copies


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chosen", "batch"),
    [
        (layout(), 1),
        (layout(), 130),
        (layout((1, 1, 10, 1, 25, 1, 5, 1), signs=Signs.NONE), 33),
        (layout((4, 1, 1, 1, 500, 1, 1, 1)), 31),
        (layout(signs=Signs.WEIGHT), 5),
        (layout(grouping=Grouping.INPUTS), 5),
    ],
)
def test_against_the_reference(rng, chosen, batch):
    """The compiled pass gives what the reference composes of expanded weights."""
    places, variables, pixels, labels = random_case(rng, chosen, batch, np.float64)
    expected = np.empty_like(variables)
    loss = VariablePass(NUMPY, chosen, places).loss_and_grads(variables, pixels, labels, expected)
    single = variables.astype(np.float32)
    g = np.full_like(single, np.nan)
    found = VariablePass(NUMBA, chosen, places).loss_and_grads(single, pixels, labels, g)
    assert found == pytest.approx(loss, rel=1e-5)
    assert scaled_error(g, expected) < 1e-5
    assert not g[~places.used].any()


def test_sharing_changes_nothing(rng):
    """With and without: the loss to the last bit, since copies differ in sign and bias alone."""
    chosen = layout()
    places, variables, pixels, labels = random_case(rng, chosen, 64, np.float32)
    shared, expanded = np.empty_like(variables), np.empty_like(variables)
    run = VariablePass(NUMBA, chosen, places).loss_and_grads
    loss = run(variables, pixels, labels, shared)
    run = VariablePass(NUMBA, chosen, places, share=False).loss_and_grads
    assert run(variables, pixels, labels, expanded) == loss
    assert scaled_error(shared, expanded) < 1e-5


def test_a_step_allocates_no_arrays(rng):
    """After the first, calls at the same batch size leave the memory as it is."""
    chosen = layout()
    places, variables, pixels, labels = random_case(rng, chosen, 64, np.float32)
    g, run = np.empty_like(variables), VariablePass(NUMBA, chosen, places).loss_and_grads
    run(variables, pixels, labels, g)
    tracemalloc.start()
    run(variables, pixels, labels, g)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < variables.nbytes


def test_batches_may_change_size(rng):
    """Buffers follow the batch, and the lanes that a smaller one leaves free count for nothing."""
    chosen = layout()
    places, variables, pixels, labels = random_case(rng, chosen, 64, np.float32)
    g, again = np.empty_like(variables), np.empty_like(variables)
    run = VariablePass(NUMBA, chosen, places).loss_and_grads
    loss = run(variables, pixels[:5], labels[:5], g)
    run(variables, pixels, labels, again)
    assert run(variables, pixels[:5], labels[:5], again) == loss
    assert np.array_equal(g, again)
