"""Compiled passes of any list of layers: against the composition of the layers in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nn.trees import DEPTHWISE, NORMED, TREE
from oracles import run_python, scaled_error

from refmiracle.engines import get_engine
from refmiracle.engines.numba_engine import general
from refmiracle.engines.numba_engine.programs import MisfitError, Program
from refmiracle.engines.numba_engine.vector import LANES
from refmiracle.errors import InputError
from refmiracle.nn import evaluation, gradients
from refmiracle.nn.evaluation import forward
from refmiracle.nn.gradients import loss_and_grads
from refmiracle.nn.layers import Conv2d, Dense, Flatten, GroupNorm, MaxPool2d, MeanPool2d, Relu
from refmiracle.nn.network import Network, check_network, kernels, network_pass
from refmiracle.nn.networks import DS_CNN, RESNET8
from refmiracle.nn.tree import Residual
from refmiracle.nn.unshared import unshared_pass
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs, find_places
from refmiracle.posterior.sharing import VariablePass

NUMPY, NUMBA = get_engine("numpy"), get_engine("numba")
END = Flatten(), Dense(3)


def of(name, *layers, image=(2, 7, 5), classes=3):
    """A network that no other path of the engine takes."""
    return Network(name, 210, image, classes, layers)


SLID = Conv2d(5, (2, 3), stride=4, padding=1), Relu()
NETWORKS = [
    TREE,
    NORMED,
    DEPTHWISE,
    of("zeros around", Conv2d(4, 3, padding=2), Relu(), Conv2d(6, (5, 3), padding=2), *END),
    of("stride longer than the kernel", Conv2d(4, 2), *SLID, *END, image=(2, 13, 11)),
    of("taps of several phases", Conv2d(4, 1), Conv2d(5, 5, stride=3, padding=4), Relu(), *END),
    of("odd pools", Conv2d(4, 2, padding=1), MaxPool2d(), Relu(), Conv2d(4, 1), MaxPool2d(), *END),
    of("means of windows", Conv2d(4, 1), MeanPool2d((3, 2)), Relu(), *END),
    of("twice as many outputs", Conv2d(3, 1), Conv2d(6, 3, stride=2, groups=3), Relu(), *END),
    of("ReLU by itself", Relu(), Relu(), Conv2d(4, 1), Residual((Relu(), Relu())), *END),
    of("residual of images", Residual((), (Conv2d(2, 3, padding=1),)), Relu(), *END),
    of("ReLU behind the flattening", Conv2d(4, 3), Flatten(), Relu(), Dense(3)),
    of(
        "empty lists",
        Conv2d(4, 3),
        Residual(()),
        Relu(),
        Residual((), (Conv2d(4, 1), Relu())),
        *END,
    ),
    of("norm of images", GroupNorm(2), Conv2d(4, 3, padding=1), GroupNorm(2), Relu(), *END),
    of(
        "features", Flatten(), Dense(9), Relu(), Residual((Dense(9), Relu()), (Dense(9),)), Dense(3)
    ),
    of("sum of columns", Conv2d(4, 1), Flatten(), Residual((Dense(140), Relu())), Relu(), Dense(3)),
    of("maps are the classes", Conv2d(3, (3, 2), stride=2), Flatten(), image=(1, 7, 3), classes=9),
    of("a class", Conv2d(2, 3, padding=1), MeanPool2d(), Flatten(), Dense(1), classes=1),
    of(
        "nested",
        Conv2d(4, 1),
        Residual((Residual((Conv2d(4, 3, padding=1), Relu())), Relu())),
        *END,
    ),
    of("long", Conv2d(4, 3, padding=1), *(Residual((Conv2d(4, 3, padding=1),)),) * 9, *END),
]


def given(rng, network, batch):
    """Weights of about the size that training starts from, images and labels."""
    weights = {t.name: rng.normal(size=t.shape) / t.fan_in**0.5 for t in network.tensors()}
    pixels = rng.integers(0, 256, size=(batch, *network.image_shape()), dtype=np.uint8)
    return weights, pixels, rng.integers(0, network.classes, size=batch)


def check(rng, network, batch):
    weights, pixels, labels = given(rng, network, batch)
    single = {name: w.astype(np.float32) for name, w in weights.items()}
    double = {name: w.astype(np.float64) for name, w in single.items()}
    assert isinstance(unshared_pass(network, NUMBA, single).engine_pass.inner, general.GeneralPass)
    want_loss, want = loss_and_grads(network, NUMPY, double, pixels, labels)
    loss, grads = loss_and_grads(network, NUMBA, single, pixels, labels)
    assert abs(loss - want_loss) <= 1e-6 * max(want_loss, 1.0)
    for name, g in want.items():
        assert grads[name].shape == g.shape
        if np.any(g):
            assert scaled_error(grads[name], g) <= 2e-5, name
        else:
            assert not np.any(grads[name]), name
    logits = forward(network, NUMPY, double, NUMPY.images(pixels))
    whole = unshared_pass(network, NUMBA, single)
    assert scaled_error(whole.logits(pixels), logits) <= 1e-5


@pytest.mark.parametrize("batch", [1, 6, 33])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_against_the_layers_in_float64(rng, network, batch):
    check(rng, check_network(network), batch)


@pytest.mark.parametrize(("network", "batch"), [(RESNET8, 3), (DS_CNN, 18)], ids=str)
def test_shipped_networks(rng, network, batch):
    check(rng, network, batch)


@pytest.mark.parametrize("pool", [MaxPool2d(), MeanPool2d((2, 2))], ids=["maximum", "mean"])
def test_blocks_leave_nothing_to_the_next(rng, pool):
    """What no window reaches, of a map that others reach, begins anew in each block of a shard."""
    both = Residual((Conv2d(4, 3, stride=2),), (pool,))
    check(rng, check_network(of("odd windows", Conv2d(4, 1), both, *END)), 200)


@pytest.mark.parametrize("signs", [Signs.NONE, Signs.UNIT], ids=str)
@pytest.mark.parametrize("network", [TREE, NORMED, DEPTHWISE], ids=lambda n: n.name)
def test_units_that_share_variables(rng, network, signs):
    """Computed once, where each reads the same; against the expanded weights in float64."""
    factors = tuple(
        2 if t.role == "weight" and t.shape[-1] % 2 == 0 else 1 for t in network.tensors()
    )
    assert max(factors) > 1
    layout = BlockLayout(network, factors, Grouping.OUTPUTS, signs, 5, 3)
    places = find_places(layout)
    _, pixels, labels = given(rng, network, 21)
    variables = np.where(places.used, rng.normal(0.0, 0.4, places.used.shape), 0.0)
    results = []
    for engine in (NUMPY, NUMBA):
        passes = VariablePass(engine, layout, places)
        own = variables.astype(engine.dtype)
        out = np.full_like(own, 7)
        loss = passes.loss_and_grads(own, pixels, labels, out)
        results.append((loss, out, passes.logits(own, pixels)))
        assert passes.shared
    (want_loss, want, want_logits), (loss, got, logits) = results
    assert abs(loss / want_loss - 1) < 1e-6
    assert scaled_error(got, want) <= 2e-5
    assert scaled_error(logits, want_logits) <= 1e-5
    assert not got[~places.used].any()


def test_a_large_mean_costs_the_norm_no_digits(rng):
    """The variance is that of centred values: next to a mean of 1000, float32 has few others."""
    network = of("far off", Conv2d(4, 1), GroupNorm(2), *END)
    weights, pixels, labels = given(rng, network, 5)
    weights["conv1.bias"] = weights["conv1.bias"] + 1000
    single = {name: w.astype(np.float32) for name, w in weights.items()}
    double = {name: w.astype(np.float64) for name, w in single.items()}
    loss, _ = loss_and_grads(network, NUMBA, single, pixels, labels)
    want, _ = loss_and_grads(network, NUMPY, double, pixels, labels)
    assert abs(loss / want - 1) < 1e-3  # the values themselves are rounded to 6e-5
    logits = unshared_pass(network, NUMBA, single).logits(pixels)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("scale", [1e12, 1e21])
def test_a_spread_beyond_float32_leaves_no_class(rng, scale):
    """By an infinite deviation a norm would give its bias alone, and every image the same class."""
    network = of("far apart", Conv2d(4, 1), GroupNorm(2), *END)
    weights, pixels, _ = given(rng, network, 5)
    single = {name: w.astype(np.float32) for name, w in weights.items()}
    single["conv1.weight"] = single["conv1.weight"] * np.float32(scale)
    logits = unshared_pass(network, NUMBA, single).logits(pixels)
    if scale < 1e15:
        want = evaluation.logits(network, NUMPY, single, pixels)
        assert scaled_error(logits, want) <= 1e-5
    else:
        assert np.isnan(logits).all()
        with pytest.raises(InputError, match="a logit is not finite"):
            evaluation.predict(network, NUMBA, single, pixels)


def test_a_spread_beyond_float64_leaves_no_class_either(rng):
    x = 1e200 * rng.normal(size=(4, 3, 3, 5))
    assert np.isnan(NUMPY.group_norm(x, np.zeros(4), np.zeros(4), 2)).all()


HASHES = """
import hashlib
import numpy as np
from refmiracle.engines import get_engine
from refmiracle.nn.evaluation import logits
from refmiracle.nn.gradients import loss_and_grads
from refmiracle.nn.networks import resnet8

network = resnet8("small", (4, 8, 8), (2, 2, 2))
engine, rng = get_engine("numba"), np.random.default_rng(5)
weights = {t.name: rng.normal(size=t.shape) / t.fan_in**0.5 for t in network.tensors()}
pixels = rng.integers(0, 256, size=(200, 3, 32, 32), dtype=np.uint8)
loss, grads = loss_and_grads(network, engine, weights, pixels, rng.integers(0, 10, size=200))
found = hashlib.sha256(np.float64(loss).tobytes())
for name in sorted(grads):
    found.update(grads[name].tobytes())
found.update(np.ascontiguousarray(logits(network, engine, weights, pixels)).tobytes())
print(found.hexdigest())
"""


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_threads():
    one, two, three = (run_python(HASHES, NUMBA_NUM_THREADS=n) for n in "123")
    assert one == two == three
    assert len(one.strip()) == 64


def test_memory_is_bounded_by_the_shard():
    """Maps are for a block of a shard; gradients for a few parts of a batch."""
    program = Program(RESNET8.specs(), (1,) * len(kernels(RESNET8)), RESNET8.input)
    assert program.slices == 1
    assert 4 * program.floats < 2**20 * LANES * 3
    passes = general.GeneralPass(program)
    for batch in (1, 100, 1024, 100_000):
        parts, gradients, _ = passes._training(batch)
        assert len(parts) == len(gradients) <= general.MOST_PARTS
        edges = [n for part in parts for n in part]
        assert edges[0] == 0
        assert edges[-1] == batch
        assert edges[1:-1:2] == edges[2::2]


def test_what_no_program_takes_is_composed(rng):
    """Unknown layers, sizes that do not fit, and maps too large to hold."""
    specs = TREE.specs()
    copies = (1,) * len(kernels(TREE))
    assert NUMBA.network_pass(specs, copies, TREE.input) is not None
    for place, spec in (
        (0, ("conv2d", (2, 2), 3, 4, 1, 0, 1)),
        (1, ("unheard of",)),
        (5, ("relu",)),
        (7, ("dense", 17, 3)),
        (2, ("residual", (("maxpool2d",),), ())),
    ):
        wrong = (*specs[:place], spec, *specs[place + 1 :])
        assert NUMBA.network_pass(wrong, copies, TREE.input) is None, spec
    with pytest.raises(MisfitError):
        Program(specs, (*copies, 1), TREE.input)
    for padding, places in ((1, 8 * 6), (2, 10 * 8)):  # no more zeros than a kernel is wide
        padded = ("conv2d", (2, 2), 2, 4, 1, padding, 1), ("flatten",), ("dense", 4 * places, 3)
        assert (NUMBA.network_pass(padded, (1, 1), TREE.input) is None) == (padding == 2)
    assert network_pass(of("none", MeanPool2d(), Flatten(), image=(3, 4, 4)), NUMBA, ()) is None
    strides = of("strides", Conv2d(2, 1), Conv2d(2, 1, stride=65535), *END, image=(1, 40, 40))
    assert network_pass(strides, NUMBA, (1, 1, 1)) is None
    large = replace(TREE, input=(2, 2000, 2000), layers=(Conv2d(9, 1), MeanPool2d(), *END))
    assert network_pass(large, NUMBA, (1, 1)) is None


def test_a_program_loses_no_nan(rng, monkeypatch):
    """Without the look at all weights before: a NaN in any tensor reaches loss and logits."""
    for module in (evaluation, gradients):
        monkeypatch.setattr(module, "all_finite", lambda *_: True)
    weights, pixels, labels = given(rng, NORMED, 5)
    for name, w in weights.items():
        wrong = {**weights, name: w.copy()}
        wrong[name].flat[w.size // 2] = np.nan
        loss, grads = loss_and_grads(NORMED, NUMBA, wrong, pixels, labels)
        assert np.isnan(loss), name
        assert np.isnan(evaluation.logits(NORMED, NUMBA, wrong, pixels)).any(axis=0).all(), name
        assert all(np.isnan(g).any() for g in grads.values()), name
