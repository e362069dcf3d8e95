"""The list of networks: what each is, that its layers fit, and that one more needs one entry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from oracles import scaled_error

from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.nn.layers import Conv2d, Dense, MaxPool2d, Relu
from refmiracle.nn.network import (
    IMAGE_SIZE,
    Network,
    check_network,
    loss_and_grads,
    predict,
)
from refmiracle.nn.networks import LENET5, LENET_300_100, NETWORKS, find_network, network_by_number
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

NUMPY, NUMBA = get_engine("numpy"), get_engine("numba")
SMALL = Network("small", 200, (Dense("only", 784, 10),), (1, 1))


def batch_for(rng, network, images):
    weights = {t.name: rng.normal(size=t.shape) / t.fan_in**0.5 for t in network.tensors()}
    pixels = rng.integers(0, 256, size=(images, 28, 28), dtype=np.uint8)
    return weights, pixels, rng.integers(0, 10, size=images)


def test_counts_of_lenet_300_100():
    """266,610 weights (LeCun et al. 1998); 27,930 coded variables with the factors here."""
    assert LENET_300_100.count() == 785 * 300 + 301 * 100 + 101 * 10 == 266_610
    factors = LENET_300_100.hash_factors
    layout = BlockLayout(LENET_300_100, factors, Grouping.OUTPUTS, Signs.UNIT, 44, 0)
    assert layout.variables() == 23_520 + 300 + 3_000 + 100 + 1_000 + 10


def test_names_and_numbers_are_unique():
    assert {name: n.name for name, n in NETWORKS.items()} == {name: name for name in NETWORKS}
    assert len({n.number for n in NETWORKS.values()}) == len(NETWORKS)


def test_found_by_name_and_number():
    assert find_network("lenet-300-100") is network_by_number(2) is LENET_300_100
    with pytest.raises(InputError, match="'lenet6' is unknown; expected one of lenet5, lenet-300"):
        find_network("lenet6")


def test_two_networks_of_one_number_are_refused(monkeypatch):
    monkeypatch.setitem(NETWORKS, "small", SMALL)
    assert find_network("small") is SMALL
    monkeypatch.setitem(NETWORKS, "other", replace(SMALL, name="other"))
    with pytest.raises(InputError, match="network small: number 200 is already other's"):
        find_network("small")


@pytest.mark.parametrize("network", [*NETWORKS.values(), SMALL], ids=lambda n: n.name)
def test_engines_agree(rng, network):
    """The compiled pass against the composition of the layers in float64."""
    check_network(network)
    copies = (1,) * (len(network.tensors()) // 2)
    assert NUMBA.network_pass(network.specs(), copies, IMAGE_SIZE) is not None
    weights, pixels, labels = batch_for(rng, network, 37)
    want_loss, want = loss_and_grads(network, NUMPY, weights, pixels, labels)
    single = {name: w.astype(np.float32) for name, w in weights.items()}
    loss, grads = loss_and_grads(network, NUMBA, single, pixels, labels)
    assert abs(loss / want_loss - 1) < 1e-6
    assert {name: g.shape for name, g in grads.items()} == {
        t.name: t.shape for t in network.tensors()
    }
    for name, g in want.items():
        assert scaled_error(grads[name], g) <= 2e-5, name
    classes = predict(network, NUMPY, weights, pixels)
    assert np.array_equal(predict(network, NUMBA, single, pixels), classes)


@pytest.mark.parametrize("tensor", [t.name for t in LENET_300_100.tensors()])
def test_gradients_of_dense_layers_against_central_differences(rng, tensor):
    weights, pixels, labels = batch_for(rng, LENET_300_100, 3)
    _, grads = loss_and_grads(LENET_300_100, NUMPY, weights, pixels, labels)
    direction = rng.normal(size=weights[tensor].shape)

    def loss(by):
        moved = {**weights, tensor: weights[tensor] + by * direction}
        return loss_and_grads(LENET_300_100, NUMPY, moved, pixels, labels)[0]

    slope = (loss(1e-7) - loss(-1e-7)) / 2e-7
    assert abs((grads[tensor] * direction).sum() - slope) <= 1e-6 * np.linalg.norm(grads[tensor])


def misfit(*layers, factors=(1, 1), number=201):
    return Network("wrong", number, layers, factors)


class Wrong(Dense):
    """A dense layer whose methods may be replaced by wrong ones."""

    def backward(self, engine, weights, kept, dy, need_dx):
        dx, grads = super().backward(engine, weights, kept, dy, need_dx)
        if self.name == "no gradient":
            grads.popitem()
        elif self.name == "fails":
            raise AttributeError("it has no such thing")
        return (dx if dx is None or self.name != "dx" else dx[:1]), grads


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (misfit(Dense("a", 783, 10)), "layer 0, Dense.*does not take activations of shape"),
        # A width that divides the 784 pixels would read one image as two.
        (misfit(Dense("a", 392, 10)), "layer 0, Dense.*does not take activations of shape"),
        (misfit(Conv2d("a", 5, 2, 3)), r"layer 0, Conv2d.*shape \(1, 28, 28\)"),
        (misfit(Conv2d("a", 29, 1, 3)), "layer 0, Conv2d"),
        (misfit(MaxPool2d(), Dense("a", 784, 10)), "layer 1, Dense.*shape"),
        (misfit(Dense("a", 784, 12)), r"it ends with shape \(12,\); expected \(10,\)"),
        (misfit(Dense("a", 784, 10), factors=(1,)), "1 hash factors; expected 2"),
        (
            misfit(Dense("a", 784, 10), Relu(), Dense("a", 10, 10), factors=(1,) * 4),
            "two of its tensors have the same name",
        ),
        (misfit(Dense("a", 784, 10), factors=(1, 11)), "hash factor 11 of a.bias is out of range"),
        (misfit(Dense("a", 784, 10), number=256), "its number is 256; expected 1 to 255"),
        (misfit(Dense), "a layer does not tell its tensors: TypeError: "),
        (misfit(MaxPool2d), "a layer does not tell its tensors: TypeError: "),
        (misfit(Wrong("no gradient", 784, 10)), "layer 0, .*: gradients .*; expected .*bias"),
        (misfit(Wrong("fails", 784, 10)), "backward: AttributeError: it has no such thing"),
        (
            misfit(Dense("a", 784, 20), Wrong("dx", 20, 10), factors=(1,) * 4),
            r"layer 1, .*: dx of shape \(1, 1\); expected \(20, 1\)",
        ),
    ],
)
def test_layers_that_do_not_fit_are_one_clear_line(network, message):
    with pytest.raises(InputError, match=message) as caught:
        check_network(network)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("inputs", [792, 810])
def test_no_compiled_pass_reads_beyond_its_buffers(inputs):
    layers = list(LENET5.layers)
    layers[6] = Dense("dense1", inputs=inputs, outputs=500)
    wrong = replace(LENET5, layers=tuple(layers))
    assert NUMBA.network_pass(wrong.specs(), (1, 1, 1, 1), IMAGE_SIZE) is None
