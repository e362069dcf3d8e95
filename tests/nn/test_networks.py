"""The list of networks: what each is, that its layers fit, and that one more needs one entry."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from nn.trees import TREE
from oracles import scaled_error

from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.nn import evaluation
from refmiracle.nn.contract import BIAS, Layer, Tensor
from refmiracle.nn.description import from_description, to_description
from refmiracle.nn.evaluation import predict
from refmiracle.nn.gradients import loss_and_grads
from refmiracle.nn.layers import Conv2d, Dense, Flatten, GroupNorm, MaxPool2d, MeanPool2d, Relu
from refmiracle.nn.limits import DESCRIBED
from refmiracle.nn.network import Network, check_network, kernels, network_pass
from refmiracle.nn.networks import (
    LENET5,
    LENET_300_100,
    NETWORKS,
    RESNET8,
    SHIPPED,
    find_network,
    network_by_number,
    network_of_text,
    network_text,
    resnet8,
    shipped,
)
from refmiracle.nn.tree import Residual
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

NUMPY, NUMBA = get_engine("numpy"), get_engine("numba")
IMAGE = (1, 28, 28)
SMALL = Network("small", 200, IMAGE, 10, (Flatten(), Dense(10)), (1, 1))


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


def test_as_many_classes_as_are_wanted():
    network = check_network(find_network("lenet5:47"))
    assert (network.name, network.number, network.classes) == ("lenet5:47", DESCRIBED, 47)
    assert network.layers[:-1] == LENET5.layers[:-1]
    assert network.hash_factors == LENET5.hash_factors
    assert network_of_text(network_text(network)) == network
    assert find_network("lenet5:10") is LENET5


@pytest.mark.parametrize("classes", ["", "1", "65536", "x", "-3", "4 7", "9" * 5000])
def test_classes_that_are_none(classes):
    with pytest.raises(InputError, match="classes; expected 2 to 65535") as e:
        find_network(f"lenet5:{classes}")
    assert len(str(e.value)) < 200


def test_two_networks_of_one_number_are_refused(monkeypatch):
    monkeypatch.setitem(NETWORKS, "small", SMALL)
    assert find_network("small") is SMALL
    monkeypatch.setitem(NETWORKS, "other", replace(SMALL, name="other"))
    with pytest.raises(InputError, match="network small: number 200 is already other's"):
        find_network("small")


def test_a_number_of_two_networks_is_that_of_none(monkeypatch):
    """The file would be read as whichever was put there first."""
    monkeypatch.setitem(NETWORKS, "small", SMALL)
    monkeypatch.setitem(NETWORKS, "again", SMALL)
    assert network_by_number(200) is SMALL
    other = replace(SMALL, name="other", layers=(*SMALL.layers, Relu()))
    monkeypatch.setitem(NETWORKS, "other", other)
    with pytest.raises(InputError, match="200 is that of several: small and small and other"):
        network_by_number(200)


def test_names_with_colons_and_of_networks_that_come_along(monkeypatch):
    monkeypatch.setitem(NETWORKS, "lenet5:20", replace(SMALL, name="lenet5:20"))
    assert find_network("lenet5:20").number == 200
    assert find_network("lenet5:21").classes == 21
    monkeypatch.setitem(NETWORKS, "vgg8", replace(SMALL, name="vgg8", number=201))
    with pytest.raises(InputError, match="there is another network named vgg8"):
        find_network("vgg8")


@dataclass(frozen=True)
class Leaky(Relu):
    """A kind made of one that files and compiled passes know, which computes something else."""

    def forward(self, engine, weights, x):
        return np.maximum(x, 0.1 * x), x

    def backward(self, engine, weights, kept, dy, need_dx):
        return np.where(kept > 0, dy, 0.1 * dy), {}


@dataclass(frozen=True)
class LeakyOfItsOwn(Leaky):
    """The same, which says so."""

    def spec(self, shape):
        return ("leaky",)


def test_what_is_made_of_a_known_kind_is_not_taken_for_it():
    """Neither by a file, which would hold a ReLU, nor by a compiled pass."""
    for kind in (Leaky, LeakyOfItsOwn):
        for layers in ((Flatten(), kind(), Dense(10)), (Residual((kind(),)), Flatten(), Dense(10))):
            with pytest.raises(InputError, match="is of a kind that a file cannot describe; give"):
                to_description(Network("leaky", DESCRIBED, IMAGE, 10, layers))
    layers = (Flatten(), Dense(20), Leaky(), Dense(10))
    with pytest.raises(InputError, match=r"Leaky has forward\(\) of its own and the spec of Relu"):
        check_network(misfit(*layers, factors=()))


def test_engines_agree_about_a_kind_made_of_a_known_one(rng):
    network = check_network(
        misfit(Flatten(), Dense(20), LeakyOfItsOwn(), Dense(10), factors=(), number=203)
    )
    weights, pixels, labels = batch_for(rng, network, 100)
    loss, want = loss_and_grads(network, NUMPY, weights, pixels, labels)
    single = {name: w.astype(np.float32) for name, w in weights.items()}
    found, grads = loss_and_grads(network, NUMBA, single, pixels, labels)
    assert found == pytest.approx(loss, rel=1e-6)
    assert scaled_error(grads["dense1.weight"], want["dense1.weight"]) <= 2e-5


@dataclass(frozen=True)
class TwoBiases(Layer):
    """y = x + a + b, whose gradients are one array, which may be nobody's to write to."""

    kept_from_writing: bool
    word: ClassVar[str] = "biases"

    def output(self, shape):
        return shape

    def spec(self, shape):
        return ("biases",)

    def tensors(self, shape):
        return tuple(Tensor(name, shape, shape[0], BIAS) for name in "ab")

    def forward(self, engine, weights, x):
        return x + (weights["a"] + weights["b"])[:, None], None

    def backward(self, engine, weights, kept, dy, need_dx):
        g = dy.sum(axis=1)
        g.flags.writeable = not self.kept_from_writing
        return dy, {"a": g, "b": g}


@pytest.mark.parametrize("kept_from_writing", [False, True])
def test_gradients_are_summed_though_they_are_one_array(rng, kept_from_writing):
    layers = Flatten(), Dense(10), TwoBiases(kept_from_writing)
    network = check_network(misfit(*layers, factors=()))
    weights, pixels, labels = batch_for(rng, network, 300)
    _, want = loss_and_grads(network, NUMPY, weights, pixels, labels)
    single = {name: w.astype(np.float32) for name, w in weights.items()}
    _, found = loss_and_grads(network, NUMBA, single, pixels, labels)
    for name in ("biases1.a", "biases1.b", "dense1.bias"):
        assert scaled_error(found[name], want[name]) <= 2e-5


@pytest.mark.parametrize("network", [*NETWORKS.values(), SMALL], ids=lambda n: n.name)
def test_engines_agree(rng, network):
    """The compiled pass against the composition of the layers in float64."""
    check_network(network)
    assert network_pass(network, NUMBA, (1,) * len(kernels(network))) is not None
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


def misfit(*layers, factors=(1, 1), number=201, image=IMAGE, classes=10):
    return Network("wrong", number, image, classes, layers, factors)


@dataclass(frozen=True)
class Wrong(Dense):
    """A dense layer whose methods may be replaced by wrong ones."""

    fault: str = ""

    def output(self, shape):
        if self.fault == "fails at once":
            raise AttributeError("it has no such thing")
        return (12,) if self.fault == "shape" else super().output(shape)

    def tensors(self, shape):
        own = super().tensors(shape)
        changes = {
            "names": {"name": "weight"},
            "no axis": {"shape": ()},
            "no fan-in": {"fan_in": 0},
        }
        return own[0], replace(own[1], **changes.get(self.fault, {}))

    def spec(self, shape):
        return "wrong", self.fault

    def forward(self, engine, weights, x):
        y, kept = super().forward(engine, weights, x)
        return (y.tolist() if self.fault == "a list" else y), kept

    def backward(self, engine, weights, kept, dy, need_dx):
        dx, grads = super().backward(engine, weights, kept, dy, need_dx)
        if self.fault == "no gradient":
            grads.popitem()
        elif self.fault == "fails":
            raise AttributeError("it has no such thing")
        elif self.fault == "exits":
            raise SystemExit(3)
        return (dx if dx is None or self.fault != "dx" else dx[:1]), grads


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (misfit(Dense(10)), r"layer 0, Dense.*does not take .* shape \(1, 28, 28\): .*Flatten"),
        (misfit(Flatten(), MaxPool2d()), r"layer 1, MaxPool2d.*shape \(784,\): .*channels, height"),
        (misfit(Conv2d(3, kernel=29)), "layer 0, Conv2d.*maps of 29x29 at least"),
        (misfit(Conv2d(0, kernel=2)), "layer 0, Conv2d.*must be 1 or more"),
        (misfit(Conv2d(3, kernel=2, stride=0)), "layer 0, Conv2d.*must be 1 or more"),
        (misfit(Conv2d(3, kernel=(3, 2), padding=2)), "layer 0, Conv2d.*padding must be less"),
        (misfit(Conv2d(3, kernel=2, groups=3)), "groups must be 1 or the channels, 1, and"),
        (misfit(Conv2d(4, 1), Conv2d(6, 2, groups=4)), "layer 1.*divide the outputs"),
        (misfit(Conv2d(4, 1), GroupNorm(3)), "layer 1, GroupNorm.*divide the channels, 4"),
        (misfit(MeanPool2d((29, 1))), "layer 0, MeanPool2d.*no longer than the map's"),
        (misfit(MeanPool2d((0, 1))), "layer 0, MeanPool2d.*sides of 1 or more"),
        (misfit(Flatten(), Dense(0)), "layer 1, Dense.*an output or more"),
        (misfit(*(MaxPool2d(),) * 5), "layer 4, MaxPool2d.*maps of at least 2x2"),
        (misfit(Flatten(), Dense(12)), r"it ends with shape \(12,\); expected \(10,\)"),
        (misfit(Flatten(), Dense(10), factors=(1,)), "1 hash factors; expected 2"),
        (misfit(Flatten(), Dense(10), factors=(1, 11)), "hash factor 11 of dense1.bias is out of"),
        (misfit(Flatten(), Dense(10), number=256), "its number is 256; expected 0 to 255"),
        (
            misfit(Flatten(), Dense(10), image=(28, 28)),
            r"input \(28, 28\) and 10 classes; exp",
        ),
        (misfit(Flatten(), Dense(10), image=(0, 28, 28)), "all of 1 or more"),
        (misfit(Flatten(), classes=0), "and 0 classes"),
        (misfit(Dense), "layer 0, .*: TypeError: "),
        (misfit(Flatten(), Wrong(10, "names")), "two of its tensors have the same name"),
        (
            misfit(Flatten(), Wrong(10, "no axis")),
            r"bias of shape \(\) and fan-in 784; expected an",
        ),
        (
            misfit(Flatten(), Wrong(10, "no fan-in")),
            r"bias of shape \(10,\) and fan-in 0; expected",
        ),
        (misfit(Flatten(), Wrong(10, "a list")), "layer 1, .*: an output that is .*; expected an"),
        (misfit(Flatten(), Wrong(10, "no gradient")), "layer 1, .*: gradients .*; expected .*bias"),
        (misfit(Flatten(), Wrong(10, "fails")), "backward: AttributeError: it has no such thing"),
        (misfit(Flatten(), Wrong(10, "exits")), "backward: SystemExit: 3"),
        (misfit(Flatten(), Wrong(10, "fails at once")), "layer 1, .*: AttributeError: it has no"),
        (
            misfit(Flatten(), Wrong(10, "shape"), classes=12),
            r"layer 1, .*: an output of shape \(10,\); it told \(12,\)",
        ),
        (
            misfit(Flatten(), Dense(20), Wrong(10, "dx"), factors=(1,) * 4),
            r"layer 2, .*: dx of shape \(1, 1\); expected \(20, 1\)",
        ),
        (
            misfit(Residual((Conv2d(1, kernel=2),)), Flatten(), Dense(10)),
            r"layer 0, Residual.*its body gives shape \(1, 27, 27\), its shortcut \(1, 28, 28\)",
        ),
        (
            misfit(Residual((Flatten(), MaxPool2d())), Flatten(), Dense(10)),
            r"layer 0, Residual.*: body.layer 1, MaxPool2d.* does not take .* shape \(784,\)",
        ),
    ],
)
def test_layers_that_do_not_fit_are_one_clear_line(network, message):
    with pytest.raises(InputError, match=message) as caught:
        check_network(network)
    assert str(caught.value).startswith("network wrong: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [1.5, 2.0, math.nan, True, "2", None])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: Conv2d(n, kernel=3),
        lambda n: Conv2d(4, kernel=n),
        lambda n: Conv2d(4, kernel=(3, n)),
        lambda n: Conv2d(4, kernel=3, stride=n),
        lambda n: Conv2d(4, kernel=3, padding=n),
        lambda n: Conv2d(4, kernel=3, groups=n),
        MeanPool2d,
        lambda n: MeanPool2d((n, 1)),
        Dense,
        GroupNorm,
        lambda n: misfit(Flatten(), Dense(10), classes=n),
        lambda n: misfit(Flatten(), Dense(10), number=n),
        lambda n: misfit(Flatten(), Dense(10), image=(1, n, 28)),
        lambda n: misfit(Flatten(), Dense(10), factors=(1, n)),
    ],
)
def test_numbers_are_whole(make, wrong):
    with pytest.raises(InputError, match=r"is (1\.5|2\.0|nan|True|'2'|None); expected a whole num"):
        make(wrong)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Conv2d(4, kernel=(3, 3, 3)),
            r"Conv2d: kernel is \(3, 3, 3\); expected a number, or",
        ),
        (lambda: MeanPool2d(()), "MeanPool2d: window is .*expected a number, or two"),
        (lambda: Residual(Relu()), r"Residual: body is Relu\(\); expected a list of layers"),
        (lambda: Residual((), None), "Residual: shortcut is None; expected a list of layers"),
        (lambda: misfit(image=None), "input is None; expected a list of numbers"),
        (lambda: replace(LENET5, layers=5), "layers is 5; expected a list of layers"),
    ],
)
def test_what_is_no_list_is_told(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_lists_and_numbers_of_numpy_make_the_same_network():
    four, three = np.int64(4), np.array(3)
    conv = Conv2d(four, kernel=[three, 3], stride=np.uint8(1))
    layers = [Residual([conv], [Conv2d(4, kernel=three)]), MeanPool2d([2, 2]), Flatten()]
    given = Network("given", 0, [1, 28, np.int32(28)], np.int64(10), [*layers, Dense(np.int64(10))])
    expected = Residual((Conv2d(4, kernel=3),), (Conv2d(4, kernel=3),))
    same = (expected, MeanPool2d(2), Flatten(), Dense(10))
    assert given == Network("same", 0, (1, 28, 28), 10, same)
    assert hash(given) == hash(Network("same", 0, (1, 28, 28), 10, same))
    assert from_description(to_description(given)) == given
    assert all(type(n) is int for n in (*given.input, given.classes, *conv.numbers()))


def nested(depth):
    layer = Relu()
    for _ in range(depth):
        layer = Residual((layer,))
    return layer


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((Flatten(), Dense(10**9), Dense(10)), "more than 2.24 values"),
        ((Flatten(), Dense(65535), Dense(65535), Dense(10)), "weights; expected 1 to 2"),
        ((Conv2d(10**9, kernel=3), MeanPool2d(), Flatten(), Dense(10)), "more than 2.24 values"),
        ((nested(5), Flatten(), Dense(10)), "residuals within residuals, more than 4 deep"),
        ((nested(3000), Flatten(), Dense(10)), "residuals within residuals, more than 4 deep"),
        ((*(Relu(),) * 255, Flatten(), Dense(10)), "more than 256 layers"),
    ],
)
def test_what_no_file_could_describe_takes_no_memory(layers, message):
    with pytest.raises(InputError, match=f"network wrong: .*{message}"):
        check_network(misfit(*layers, number=0, factors=()))


def test_no_compiled_pass_reads_beyond_its_buffers():
    """Kernels, inputs and the width of the first dense layer fit the maps, or there is no pass."""
    specs = LENET5.specs()
    assert NUMBA.network_pass(specs, (1, 1, 1, 1), IMAGE) is not None
    changed = [
        (0, ("conv2d", (5, 5), 2, 20, 1, 0, 1)),
        (3, ("conv2d", (5, 5), 19, 50, 1, 0, 1)),
        (6, ("relu",)),
        (3, ("conv2d", (5, 5), 20, 50, 2, 0, 1)),
        (3, ("conv2d", (5, 5), 20, 50, 1, 1, 1)),
        (3, ("conv2d", (5, 5), 20, 60, 1, 0, 20)),
        (7, ("dense", 792, 500)),
        (7, ("dense", 810, 500)),
    ]
    for place, spec in changed:
        wrong = (*specs[:place], spec, *specs[place + 1 :])
        assert NUMBA.network_pass(wrong, (1, 1, 1, 1), IMAGE) is None, spec


@pytest.mark.parametrize("image", [IMAGE, (1, 28, 20), (3, 28, 28)])
def test_compiled_passes_are_of_images_of_any_shape(image):
    network = check_network(replace(SMALL, input=image))
    assert network_pass(network, NUMBA, (1,)) is not None


BROAD = (Conv2d(300, kernel=1), MeanPool2d(), Flatten(), Dense(10))
PADDED = (Conv2d(4, kernel=99, stride=90, padding=98), MeanPool2d(), Flatten(), Dense(10))


@pytest.mark.parametrize(("layers", "values"), [(BROAD, 300 * 784), (PADDED, (28 + 196) ** 2)])
@pytest.mark.parametrize("engine", [NUMPY, NUMBA], ids=["numpy", "numba"])
def test_images_go_through_together_as_far_as_there_is_room(
    rng, monkeypatch, engine, layers, values
):
    """How many decides the memory, not how many images there are; a file may describe any width."""
    network = Network("broad", 0, IMAGE, 10, layers)
    monkeypatch.setattr(evaluation, "VALUES_AT_ONCE", 3 * values + 1)
    seen = []
    images = engine.images
    counting = type(engine)(
        **{
            **vars(engine),
            "images": lambda pixels: seen.append(len(pixels)) or images(pixels),
            "network_pass": lambda *_: None,  # layer by layer
        }
    )
    weights, pixels, _ = batch_for(rng, network, 8)
    together = evaluation.logits(network, counting, weights, pixels)
    assert sorted(seen) == [2, 3, 3]
    monkeypatch.setattr(evaluation, "VALUES_AT_ONCE", 1)
    assert evaluation.images_at_once(network) == 1
    counting = type(engine)(**{**vars(counting), "map": None})  # so few go one after the other
    alone = evaluation.logits(network, counting, weights, pixels)
    assert scaled_error(together, alone) < 1e-6


def test_shipped_networks_evaluate_in_whole_batches():
    """So that their figures stay as they are: how many go together may change the rounding."""
    batches = {evaluation.images_at_once(network) for network in SHIPPED}
    assert batches == {evaluation.EVALUATION_BATCH}


def test_networks_of_large_images_have_no_compiled_pass():
    """Its buffers are for 64 images and all layers at a time."""
    layers = (MaxPool2d(), Relu(), Flatten(), Dense(10))
    for outputs, there in ((100, True), (20_000, False)):
        network = Network("broad", 0, IMAGE, 10, (Conv2d(outputs, kernel=1), *layers))
        assert (network_pass(network, NUMBA, (1, 1)) is not None) == there
    hidden = (Dense(60_000), Dense(60_000), Dense(20_000), Dense(10))
    network = Network("broad", 0, (1, 1, 1), 10, (Flatten(), *hidden))
    assert network_pass(network, NUMBA, (1,) * 4) is None


def test_paths_name_layers_by_kind_and_position():
    """A file has no names, so those that all readers find are the only ones."""
    names = [t.name for t in check_network(TREE).tensors()]
    assert names == [
        *("conv1.weight", "conv1.bias"),
        *("stage2.body.conv1.weight", "stage2.body.conv1.bias"),
        *("stage2.shortcut.conv1.weight", "stage2.shortcut.conv1.bias"),
        *("stage3.body.dense1.weight", "stage3.body.dense1.bias"),
        *("stage3.body.dense2.weight", "stage3.body.dense2.bias"),
        *("dense1.weight", "dense1.bias"),
    ]
    assert {t.role for t in TREE.tensors()[0::2]} == {"weight"}
    assert {t.role for t in TREE.tensors()[1::2]} == {"bias"}
    assert TREE.factors() == (1,) * 12


def test_a_network_is_a_value():
    twin = replace(TREE)
    assert TREE.tensors() == twin.tensors()
    assert twin == TREE
    assert hash(twin) == hash(TREE)
    packed = pickle.dumps(TREE)
    assert pickle.loads(packed) == TREE
    assert len(packed) == len(pickle.dumps(replace(TREE)))  # what was worked out stays behind


@pytest.mark.parametrize("batch", [1, 6, 33])
def test_engines_agree_on_a_tree(rng, batch):
    weights = {t.name: rng.normal(size=t.shape) / t.fan_in**0.5 for t in TREE.tensors()}
    pixels = rng.integers(0, 256, size=(batch, 2, 7, 5), dtype=np.uint8)
    labels = rng.integers(0, 3, size=batch)
    want_loss, want = loss_and_grads(TREE, NUMPY, weights, pixels, labels)
    single = {name: w.astype(np.float32) for name, w in weights.items()}
    loss, grads = loss_and_grads(TREE, NUMBA, single, pixels, labels)
    assert abs(loss / want_loss - 1) < 1e-6
    assert set(want) == set(grads) == set(weights)
    for name, g in want.items():
        assert scaled_error(grads[name], g) <= 2e-5, name
    assert np.array_equal(
        predict(TREE, NUMPY, weights, pixels), predict(TREE, NUMBA, single, pixels)
    )


@pytest.mark.parametrize("engine", [NUMPY, NUMBA], ids=lambda e: e.name)
def test_one_channel_needs_no_axis(rng, engine):
    weights, pixels, labels = batch_for(rng, SMALL, 5)
    loss, grads = loss_and_grads(SMALL, engine, weights, pixels, labels)
    other, same = loss_and_grads(SMALL, engine, weights, pixels[:, None], labels)
    assert loss == other
    assert all(np.array_equal(grads[name], same[name]) for name in grads)


@pytest.mark.parametrize("shape", [(5, 7, 5), (5, 1, 7, 5), (5, 2, 5, 7), (2, 7, 5), (7, 5)])
def test_images_of_another_network_are_refused(shape):
    weights = {t.name: np.zeros(t.shape) for t in TREE.tensors()}
    with pytest.raises(InputError, match=r"expected uint8, \(images, 2, 7, 5\)"):
        predict(TREE, NUMPY, weights, np.zeros(shape, np.uint8))


@pytest.mark.parametrize("label", [0, 1])
def test_a_gradient_of_logits_that_is_none_is_none_in_all_of_its_parts(label):
    """Of finite weights whose logits are not: zeros would be taken for a gradient."""
    network = Network("tiny", 0, (1, 2, 2), 3, (Flatten(), Dense(3)))
    weights = {t.name: np.zeros(t.shape, np.float32) for t in network.tensors()}
    weights["dense1.weight"][:, 0] = weights["dense1.bias"][0] = 3e38
    pixels, labels = np.full((3, 2, 2), 255, np.uint8), np.full(3, label)
    _, grads = loss_and_grads(network, NUMBA, weights, pixels, labels)
    assert all(np.isnan(g).all() for g in grads.values())


def test_labels_of_another_network_are_refused():
    weights = {t.name: np.zeros(t.shape) for t in TREE.tensors()}
    images = np.zeros((2, 2, 7, 5), np.uint8)
    with pytest.raises(InputError, match="label 3 is out of range; expected 0 to 2"):
        loss_and_grads(TREE, NUMPY, weights, images, np.array([2, 3]))


# --- networks that come along, and networks as text


@pytest.mark.parametrize("network", SHIPPED, ids=lambda n: n.name)
def test_shipped_networks(network):
    """Each fits, and stands in settings under its name; those of number 0 are described whole."""
    assert find_network(network.name) is check_network(network)
    assert network_text(network) == network.name
    assert network_of_text(network.name) is network
    if network.number == 0:
        assert shipped(from_description(to_description(network))) is network


def test_counts_of_shipped_networks():
    """Weights of convolutions and dense layers as MLPerf Tiny's ResNet has them, and the norms'."""
    convolutions = [(3, 3, 3, 16), *[(3, 3, 16, 16)] * 2]
    convolutions += [(3, 3, 16, 32), (3, 3, 32, 32), (1, 1, 16, 32)]
    convolutions += [(3, 3, 32, 64), (3, 3, 64, 64), (1, 1, 32, 64)]
    expected = sum(int(np.prod(k)) + k[-1] for k in convolutions) + 64 * 10 + 10
    plain = resnet8("plain", groups=(0, 0, 0))
    assert plain.count() == expected == 77_706
    assert RESNET8.count() == expected + 2 * (3 * 16 + 2 * 32 + 2 * 64)
    shapes = [p.layer.output(p.shape) for p in RESNET8.placed]
    assert shapes[2::2] == [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8), (64,)]
    names = [t.name for t in RESNET8.tensors() if t.role == "weight"]
    assert names[:4] == [
        *("conv1.weight", "stage1.body.conv1.weight", "stage1.body.conv2.weight"),
        "stage2.body.conv1.weight",
    ]
    assert "stage2.shortcut.conv1.weight" in names


@pytest.mark.parametrize(
    ("name", "widths", "together"),
    [
        ("resnet8", (16, 32, 64), 8),
        ("resnet8-24", (24, 48, 96), 8),
        ("resnet8-wide", (26, 52, 104), 13),
    ],
)
def test_widths_of_shipped_networks(name, widths, together):
    """Outputs of each stage, and how many of them a norm takes together."""
    network = find_network(name)
    gains = [t.shape[-1] for t in network.tensors() if t.role == "gain"]
    assert gains == [widths[0]] * 3 + [widths[1]] * 2 + [widths[2]] * 2
    layers = [*network.layers]
    for layer in network.layers:
        layers += getattr(layer, "body", ())
    groups = [layer.groups for layer in layers if isinstance(layer, GroupNorm)]
    assert groups == [outputs // together for outputs in gains]


@pytest.mark.parametrize("name", ["resnet8", "ds-cnn"])
def test_engines_agree_on_shipped_networks(rng, name):
    network = find_network(name)
    weights = {t.name: rng.normal(size=t.shape) / t.fan_in**0.5 for t in network.tensors()}
    pixels = rng.integers(0, 256, (2, *network.input), dtype=np.uint8)
    labels = rng.integers(0, network.classes, 2)
    want_loss, want = loss_and_grads(network, NUMPY, weights, pixels, labels)
    single = {name: w.astype(np.float32) for name, w in weights.items()}
    loss, grads = loss_and_grads(network, NUMBA, single, pixels, labels)
    assert abs(loss / want_loss - 1) < 1e-5
    largest = max(np.abs(g).max() for g in want.values())
    for tensor, g in want.items():
        np.testing.assert_allclose(grads[tensor], g, rtol=1e-3, atol=1e-5 * largest)


def test_a_network_of_ones_own_as_text():
    described = replace(TREE, number=0)
    text = network_text(described)
    assert text == f"description:{to_description(TREE).hex()}"
    assert network_of_text(text) == described
    assert network_text(replace(SMALL, name="any")) == "any"  # of a number of its own


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lenet6", "network 'lenet6' is unknown; expected one of lenet5, .*resnet8"),
        ("description:", "ends within"),
        ("description:0g", "expected hexadecimal digits"),
        ("description:010404", "ends within"),
        ("description:0104040a0203020a00", "1 bytes stand behind"),
    ],
)
def test_text_that_is_no_network(text, message):
    with pytest.raises(InputError, match=message) as caught:
        network_of_text(text)
    assert "\n" not in str(caught.value)
