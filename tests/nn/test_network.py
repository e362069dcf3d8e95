"""Whole networks: counts, gradients against central differences, shards and threads."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from oracles import relative_error, run_python, scaled_error

from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.nn import evaluation
from refmiracle.nn.evaluation import error_rate, forward, predict
from refmiracle.nn.gradients import loss_and_grads
from refmiracle.nn.networks import LENET5, network_by_number
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

NUMPY = get_engine("numpy")
STEP = 1e-7
TENSORS = [t.name for t in LENET5.tensors()]


def random_weights(rng, dtype=np.float64):
    """Weights of about the size that training starts from, so that all units are alive."""
    return {
        t.name: (rng.normal(size=t.shape) / np.sqrt(t.fan_in)).astype(dtype)
        for t in LENET5.tensors()
    }


def random_batch(rng, batch):
    pixels = rng.integers(0, 256, size=(batch, 28, 28), dtype=np.uint8)
    return pixels, rng.integers(0, 10, size=batch)


def test_counts_of_lenet5():
    """431,080 weights as in Caffe; 26,580 coded variables with MIRACLE's hash factors."""
    conv = (20 * 25 + 20) + (50 * 20 * 25 + 50)
    dense = (800 * 500 + 500) + (500 * 10 + 10)
    assert LENET5.count() == conv + dense == 431_080
    layout = BlockLayout(LENET5, LENET5.hash_factors, Grouping.OUTPUTS, Signs.UNIT, 30, 0)
    assert layout.variables() == 26_580
    assert layout.blocks() == 886


def test_network_by_number():
    assert network_by_number(1) is LENET5
    with pytest.raises(InputError, match="network number 7"):
        network_by_number(7)


@pytest.mark.parametrize("name", TENSORS)
def test_gradients_against_central_differences(rng, name):
    """Along random directions in one tensor at a time, relative to the length of the gradient.

    The step is so small that hardly a pool or ReLU changes its mind, and so large that the
    rounding of the loss does not matter.
    """
    weights = random_weights(rng)
    pixels, labels = random_batch(rng, 3)
    _, grads = loss_and_grads(LENET5, NUMPY, weights, pixels, labels)
    for _ in range(3):
        direction = rng.normal(size=weights[name].shape)

        def loss(by, direction=direction):
            moved = {**weights, name: weights[name] + by * direction}
            return loss_and_grads(LENET5, NUMPY, moved, pixels, labels)[0]

        slope = (loss(STEP) - loss(-STEP)) / (2 * STEP)
        error = abs((grads[name] * direction).sum() - slope)
        assert error <= 1e-6 * np.linalg.norm(grads[name])


def test_loss_by_hand(engine, rng):
    """The mean over the batch of -log softmax of the label's logit."""
    weights = random_weights(rng)
    pixels, labels = random_batch(rng, 5)
    logits = forward(LENET5, NUMPY, weights, NUMPY.images(pixels))
    p = np.exp(logits) / np.exp(logits).sum(axis=0)
    loss, _ = loss_and_grads(LENET5, engine, weights, pixels, labels)
    assert abs(loss / -np.log(p[labels, range(5)]).mean() - 1) < 1e-5


@pytest.mark.parametrize("label", [0, 4, 9])
@pytest.mark.parametrize("others", [(-60.0, -61.0), (-20.0, -18.0), (-1.0, -2.0)])
def test_a_sure_network_keeps_the_digits_of_its_loss(engine, label, others):
    """Its logits are the biases of the last layer; a loss of e^-60 is not 0, nor are gradients."""
    bias = np.array([0.0, *others, *np.linspace(-70.0, -75.0, 7)])
    weights = {t.name: np.zeros(t.shape, engine.dtype) for t in LENET5.tensors()}
    weights[TENSORS[-1]] = np.roll(bias, label).astype(engine.dtype)
    pixels, labels = np.zeros((3, 28, 28), dtype=np.uint8), np.full(3, label)
    loss, grads = loss_and_grads(LENET5, engine, weights, pixels, labels)
    rest = np.exp(np.roll(weights[TENSORS[-1]].astype(np.float64), -label)[1:])
    p = rest / (1.0 + rest.sum())
    tolerance = 1e-13 if engine.dtype == np.float64 else 1e-5
    assert relative_error(loss, np.log1p(rest.sum())) <= tolerance
    want = np.roll([-p.sum(), *p], label)
    assert relative_error(grads[TENSORS[-1]], want) <= tolerance


@pytest.mark.parametrize("batch", [1, 5, 33])
def test_engines_agree(rng, batch):
    weights = random_weights(rng, np.float32)
    pixels, labels = random_batch(rng, batch)
    loss, grads = loss_and_grads(LENET5, get_engine("numba"), weights, pixels, labels)
    double = {name: w.astype(np.float64) for name, w in weights.items()}
    want_loss, want = loss_and_grads(LENET5, NUMPY, double, pixels, labels)
    assert abs(loss / want_loss - 1) < 1e-6
    assert list(grads) and set(grads) == set(TENSORS)
    for name in TENSORS:
        assert grads[name].shape == weights[name].shape
        assert scaled_error(grads[name], want[name]) <= 2e-5, name


@pytest.mark.parametrize("sizes", [[7], [1] * 7, [3, 4]])
def test_shards_do_not_change_the_result(rng, sizes):
    """The mean over the batch is one sum, wherever it is cut."""
    weights = random_weights(rng)
    pixels, labels = random_batch(rng, 7)
    edges = np.cumsum([0, *sizes])
    shards = [slice(int(a), int(b)) for a, b in pairwise(edges)]
    cut = SimpleNamespace(**{**vars(NUMPY), "shards": lambda batch: shards})
    loss, grads = loss_and_grads(LENET5, cut, weights, pixels, labels)
    want_loss, want = loss_and_grads(LENET5, NUMPY, weights, pixels, labels)
    assert abs(loss / want_loss - 1) < 1e-13
    for name in TENSORS:
        assert scaled_error(grads[name], want[name]) <= 1e-13, name


@pytest.mark.parametrize("batch", [1, 31, 32, 33, 127, 128, 129, 256])
def test_shards_cover_the_batch_once(engine, batch):
    covered = [i for part in engine.shards(batch) for i in range(batch)[part]]
    assert covered == list(range(batch))


def test_map_keeps_the_order(engine):
    assert list(engine.map(lambda i: i * i, range(100))) == [i * i for i in range(100)]


def test_predictions(engine, rng, monkeypatch):
    """In parts of a few images, and the error rate is the share of wrong ones."""
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 5)
    weights = random_weights(rng, np.float32)
    pixels, _ = random_batch(rng, 13)
    got = predict(LENET5, engine, weights, pixels)
    logits = forward(LENET5, NUMPY, weights, NUMPY.images(pixels))
    assert np.array_equal(got, logits.argmax(axis=0))
    assert len(set(got.tolist())) > 1
    labels = got.copy()
    labels[:3] = (labels[:3] + 1) % 10
    assert error_rate(LENET5, engine, weights, pixels, labels) == 3 / 13


def test_no_image_has_no_prediction(engine, rng):
    weights = random_weights(rng, np.float32)
    assert predict(LENET5, engine, weights, np.zeros((0, 28, 28), np.uint8)).shape == (0,)


HASHES = """
import hashlib
import numpy as np
from refmiracle.engines import get_engine
from refmiracle.nn.networks import LENET5
from refmiracle.nn.gradients import loss_and_grads

def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()

engine, rng = get_engine("numba"), np.random.default_rng(5)
weights = {t.name: rng.normal(size=t.shape) / t.fan_in**0.5 for t in LENET5.tensors()}
pixels = rng.integers(0, 256, size=(100, 28, 28), dtype=np.uint8)
loss, grads = loss_and_grads(LENET5, engine, weights, pixels, rng.integers(0, 10, size=100))
print(digest(np.float64(loss), *(grads[name] for name in sorted(grads))))
tau, phi, eps, g = rng.normal(size=(4, 77, 6))
rho = np.full(tau.shape, 0.1)
delta, log_s = engine.mean_kl(tau, phi, 5.0)
print(digest(delta, log_s))
print(digest(engine.mean_kl_forward(tau, phi, rho, 5.0, eps)))
print(digest(*engine.mean_kl_backward(tau, phi, rho, 5.0, eps, g)))
print(digest(engine.select_indices(3, 13, np.arange(77), delta, log_s)))
"""


def test_results_do_not_depend_on_the_number_of_threads():
    """Bit for bit: gradients, posterior and indices."""
    one, two, three = (run_python(HASHES, NUMBA_NUM_THREADS=n) for n in "123")
    assert len(one.split()) == 5
    assert one == two == three
