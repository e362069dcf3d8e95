"""What public functions do with arrays that are not what they expect: docs/RELIABILITY.md, 4.

Either it is well-defined, and the same as for the array in its usual form, or it is an
`InputError` of one line.  Compiled code looks at no bounds, so nothing may get that far.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from refmiracle import codes
from refmiracle.codes import minimal_random_coding
from refmiracle.codes.gaussians import Gaussian
from refmiracle.codes.table import CODES
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.fileformat.bits import pack_indices
from refmiracle.fileformat.container import CompressedModel, parse_model
from refmiracle.fileformat.integers import write_integers
from refmiracle.fileformat.payload import message_shape
from refmiracle.nn import evaluation, gradients
from refmiracle.nn.networks import LENET_300_100, NETWORKS
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs, find_places
from refmiracle.posterior.sharing import VariablePass
from refmiracle.training.data import Split, check_split, split_validation

NAN, INF = np.nan, np.inf


def refusal(function, *arguments, **options):
    """Return the line with which a call is refused."""
    with pytest.raises(InputError) as caught:
        function(*arguments, **options)
    line = str(caught.value)
    assert len(line) > 10
    assert "\n" not in line
    return line


# --- networks

IMAGES = np.random.default_rng(5).integers(0, 256, (5, 28, 28), dtype=np.uint8)
LABELS = np.arange(5)
WEIGHTS = {
    t.name: np.random.default_rng(6).normal(0.0, 0.05, t.shape).astype(np.float32)
    for t in LENET_300_100.tensors()
}


def loss(engine, weights=WEIGHTS, images=IMAGES, labels=LABELS):
    return gradients.loss_and_grads(LENET_300_100, engine, weights, images, labels)[0]


def logits(engine, weights=WEIGHTS, images=IMAGES):
    return evaluation.logits(LENET_300_100, engine, weights, images)


def error_rate(engine, weights=WEIGHTS, images=IMAGES, labels=LABELS):
    return evaluation.error_rate(LENET_300_100, engine, weights, images, labels)


WRONG_IMAGES = {
    "narrow": IMAGES[:, :, :27],
    "short": IMAGES[:, :27],
    "last axis first": IMAGES.transpose(1, 2, 0),
    "one": IMAGES[0],
    "channels": np.repeat(IMAGES[:, None], 3, axis=1),
    "flat": IMAGES.reshape(5, -1),
    "float": IMAGES / 255.0,
    "int64": IMAGES.astype(np.int64),
    "bool": IMAGES > 9,
    "list": IMAGES.tolist(),
    "text": np.array(["x"]),
    "none": None,
}
WRONG_LABELS = {
    "ten": [0, 1, 2, 3, 10],
    "negative": [0, 1, 2, 3, -1],
    "huge": np.array([0, 1, 2, 3, 2**64 - 1], dtype=np.uint64),
    "fewer": [0, 1],
    "more": [0] * 7,
    "column": LABELS[:, None],
    "float": LABELS.astype(float),
    "nan": np.full(5, NAN),
    "text": list("abcde"),
    "none": [None] * 5,
}
NAMES = list(WEIGHTS)
WRONG_WEIGHTS = {
    "missing": {n: WEIGHTS[n] for n in NAMES[1:]},
    "transposed": {**WEIGHTS, NAMES[0]: WEIGHTS[NAMES[0]].T},
    "short": {**WEIGHTS, NAMES[-1]: WEIGHTS[NAMES[-1]][:-1]},
    "scalar": {**WEIGHTS, NAMES[0]: 0.0},
}


@pytest.mark.parametrize("kind", WRONG_IMAGES)
def test_wrong_images(engine, kind):
    for function in (loss, logits):
        assert "expected uint8, (images, 28, 28)" in refusal(
            function, engine, images=WRONG_IMAGES[kind]
        )
    if kind != "none":
        refusal(error_rate, engine, images=WRONG_IMAGES[kind])
        refusal(check_split, Split(WRONG_IMAGES[kind], LABELS), LENET_300_100)


@pytest.mark.parametrize("kind", WRONG_LABELS)
def test_wrong_labels(engine, kind):
    for function in (loss, error_rate):
        assert "label" in refusal(function, engine, labels=WRONG_LABELS[kind])
    assert "label" in refusal(
        check_split, Split(IMAGES, np.asarray(WRONG_LABELS[kind])), LENET_300_100
    )


@pytest.mark.parametrize("kind", WRONG_WEIGHTS)
def test_wrong_weights(engine, kind):
    for function in (loss, logits, error_rate):
        assert "expected shape" in refusal(function, engine, weights=WRONG_WEIGHTS[kind])


def test_no_image(engine):
    none = {"images": IMAGES[:0], "labels": LABELS[:0]}
    assert logits(engine, images=IMAGES[:0]).shape == (10, 0)
    assert "no images" in refusal(loss, engine, **none)
    assert "no images" in refusal(error_rate, engine, **none)
    assert check_split(Split(IMAGES[:0], LABELS[:0]), LENET_300_100).images.shape == (0, 28, 28)


TENSORS = [(kind, t.name) for kind in NETWORKS.values() for t in kind.tensors()]


def weights_of(kind):
    rng = np.random.default_rng(7)
    return {t.name: rng.normal(0.0, 0.05, t.shape).astype(np.float32) for t in kind.tensors()}


def spoiled(weights, name, value):
    """One element of one tensor, in its middle, is another."""
    wrong = {n: w.copy() for n, w in weights.items()}
    flat = wrong[name].reshape(-1)
    flat[flat.size // 2] = value
    return wrong


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize(("kind", "name"), TENSORS, ids=lambda v: getattr(v, "name", v))
def test_a_weight_that_is_not_finite(engine, kind, name, value):
    """Loss, gradients and logits are NaN; there is no class, and no error rate."""
    wrong = spoiled(weights_of(kind), name, value)
    found, grads = gradients.loss_and_grads(kind, engine, wrong, IMAGES, LABELS)
    assert np.isnan(found)
    assert all(np.isnan(grads[n]).all() and grads[n].shape == w.shape for n, w in wrong.items())
    assert np.isnan(evaluation.logits(kind, engine, wrong, IMAGES)).all()
    for function, *labels in ((evaluation.predict,), (evaluation.error_rate, LABELS)):
        assert "not finite" in refusal(function, kind, engine, wrong, IMAGES, *labels)


@pytest.mark.parametrize(("kind", "name"), TENSORS, ids=lambda v: getattr(v, "name", v))
def test_the_passes_lose_no_nan_by_themselves(engine, monkeypatch, kind, name):
    """Layer by layer, without the look at all weights before; as a change to it may forget one."""
    for module in (evaluation, gradients):
        monkeypatch.setattr(module, "all_finite", lambda *_: True)
    wrong = spoiled(weights_of(kind), name, NAN)
    with np.errstate(invalid="ignore"):
        found, grads = gradients.loss_and_grads(kind, engine, wrong, IMAGES, LABELS)
        z = evaluation.logits(kind, engine, wrong, IMAGES)
    assert np.isnan(found)
    assert np.isnan(z).any(axis=0).all()  # in each image
    # A unit behind the NaN, or before it and not dead, has a gradient: never all are numbers.
    assert all(np.isnan(g).any() for g in grads.values())


@pytest.mark.parametrize("code", [32768, 1e39])
def test_weights_too_large_for_float32(code):
    """The fast engine's weights are float32: what it cannot hold is not finite."""
    wrong = {n: w.astype(np.float64) for n, w in WEIGHTS.items()}
    wrong[NAMES[1]][0] = code
    found = gradients.loss_and_grads(LENET_300_100, get_engine("numba"), wrong, IMAGES, LABELS)[0]
    assert np.isnan(found) == (code > 1e38)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_variable_that_is_not_finite(engine, share, value):
    """Each tensor is one variable, and each is spoiled in turn: as for weights."""
    sizes = tuple(int(np.prod(t.shape)) for t in LENET_300_100.tensors())
    for factors, count in ((LENET_300_100.hash_factors, None), (sizes, 6)):
        layout = BlockLayout(LENET_300_100, factors, Grouping.OUTPUTS, Signs.UNIT, 2, 7)
        places = find_places(layout)
        passes = VariablePass(engine, layout, places, share=share)
        variables = np.full(places.tensor_of_place.shape, 0.01, engine.dtype)
        for place in range(count) if count else (0, len(places.place_of_variable) - 1):
            wrong = variables.copy()
            wrong.reshape(-1)[place] = value
            out = np.zeros_like(wrong)
            assert np.isnan(passes.loss_and_grads(wrong, IMAGES, LABELS, out))
            assert np.isnan(out[places.used]).all()
            assert not out[~places.used].any()
            assert np.isnan(passes.logits(wrong, IMAGES)).all()


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_no_class_where_a_score_is_not_finite(value):
    scores = np.arange(20.0).reshape(10, 2)
    assert evaluation.classes(scores).tolist() == [9, 9]
    scores[4, 1] = value
    assert "not finite" in refusal(evaluation.classes, scores)


def test_other_forms_of_the_same_arrays(engine):
    wide = np.repeat(IMAGES, 2, axis=0)[::2]
    forms = [np.asfortranarray(IMAGES), wide, IMAGES[::-1][::-1]]
    turned = {n: np.asfortranarray(w.astype(np.float64)) for n, w in WEIGHTS.items()}
    for images in forms:
        assert loss(engine, turned, images, LABELS.astype(np.uint8)) == loss(engine)
        assert np.array_equal(logits(engine, turned, images), logits(engine))
        assert error_rate(engine, turned, images, LABELS.tolist()) == error_rate(engine)


def test_a_negative_number_of_images_for_validation():
    assert "expected 0 or more" in refusal(split_validation, Split(IMAGES, LABELS), -1)


# --- codes

SHAPE = 3, 2
P = Gaussian(np.zeros(SHAPE), np.ones(SHAPE))
MEAN, SIGMA = np.full(SHAPE, 0.5), np.full(SHAPE, 0.5)


def with_one(array, value):
    array = array.copy()
    array[1, 1] = value
    return array


WRONG_TARGETS = {
    "nan mean": (with_one(MEAN, NAN), SIGMA),
    "inf mean": (with_one(MEAN, INF), SIGMA),
    "nan sigma": (MEAN, with_one(SIGMA, NAN)),
    "inf sigma": (MEAN, with_one(SIGMA, INF)),
    "zero sigma": (MEAN, with_one(SIGMA, 0.0)),
    "negative sigma": (MEAN, with_one(SIGMA, -1.0)),
    "tiny sigma": (MEAN, with_one(SIGMA, 1e-300)),
    "far": (with_one(MEAN, 1e200), SIGMA),
    "no target": (MEAN[:0], SIGMA[:0]),
    "no dimension": (MEAN[:, :0], SIGMA[:, :0]),
    "three axes": (MEAN[None], SIGMA[None]),
}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("kind", WRONG_TARGETS)
def test_targets_that_no_code_sends(engine, code, kind):
    mean, sigma = WRONG_TARGETS[kind]
    like = Gaussian(np.zeros_like(mean), np.ones_like(sigma))
    with np.errstate(all="ignore"):
        refusal(codes.encode, Gaussian(mean, sigma), like, 1, code, engine=engine.name)


@pytest.mark.parametrize("code", CODES)
def test_forms_of_targets_and_messages(engine, code):
    target = Gaussian(MEAN, SIGMA)
    message = codes.encode(target, P, 1, code, engine=engine.name)
    turned = Gaussian(np.asfortranarray(MEAN), SIGMA[::-1][::-1])
    again = codes.encode(turned, Gaussian(np.zeros(()), np.ones(2)), 1, code, engine=engine.name)
    assert np.array_equal(again.integers, message.integers)
    z = codes.decode(message, P, 1, engine=engine.name)
    turned = replace(message, integers=np.asfortranarray(message.integers.astype(np.uint64)))
    assert np.array_equal(codes.decode(turned, P, 1, engine=engine.name), z)


@pytest.mark.parametrize("code", CODES)
def test_messages_that_name_nothing(engine, code):
    message = codes.encode(Gaussian(MEAN, SIGMA), P, 1, code, engine=engine.name)
    n = message.integers
    changes = [
        {"integers": n.astype(float)},
        {"integers": n[:2]},
        {"integers": n.ravel()},
        {"integers": n + 2**62},
        {"integers": -n - 1},
        {"shape": (3, 3, 1)},
        {"shape": (0, 2)},
        {"shape": ()},
        {"block_bits": -1},
        {"code": "rot13"},
    ]
    for change in changes:
        refusal(codes.decode, replace(message, **change), P, 1, engine=engine.name)
    for wrong in (
        Gaussian(with_one(P.mean, NAN), P.sigma),
        Gaussian(P.mean, -P.sigma),
        Gaussian(np.zeros((4, 2)), np.ones((4, 2))),
        Gaussian(np.zeros((5, 3, 2)), np.ones((5, 3, 2))),
    ):
        refusal(codes.decode, message, wrong, 1, engine=engine.name)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"seed": 2**32},
        {"bits": -1},
        {"bits": 27},
        {"blocks": [0, 1]},
        {"blocks": [0, 1, -1]},
        {"blocks": [0, 1, 2**32]},
        {"blocks": [0.0, 1.0, 2.0]},
        {"delta": np.zeros((3, 3))},
        {"delta": np.zeros(3)},
        {"delta": with_one(MEAN, NAN)},
        {"log_s": with_one(-SIGMA, NAN)},
        {"log_s": with_one(-SIGMA, -INF)},
        {"log_s": with_one(-SIGMA, -800.0)},
        {"selection": "worst"},
        {"blocks": [], "delta": MEAN[:0], "log_s": SIGMA[:0]},
    ],
    ids=str,
)
def test_minimal_random_coding(engine, change):
    good = {"seed": 0, "bits": 4, "blocks": [0, 1, 2], "delta": MEAN, "log_s": -SIGMA}
    assert minimal_random_coding.encode(engine, **good).shape == (3,)
    refusal(minimal_random_coding.encode, engine, **{**good, **change})


@pytest.mark.parametrize(("seed", "indices"), [(0, [-1]), (0, [2**32]), (0, [0.5]), (-1, [0])])
def test_no_such_row_of_the_codebook(engine, seed, indices):
    refusal(minimal_random_coding.decode, engine, seed, indices, 3)
    assert minimal_random_coding.decode(engine, 0, [], 3).shape == (0, 3)


# --- files


def model(code):
    tensors = LENET_300_100.tensors()
    factors = tuple(int(np.prod(t.shape)) for t in tensors)
    layout = BlockLayout(LENET_300_100, factors, Grouping.OUTPUTS, Signs.UNIT, 2, 7)
    messages = np.full(message_shape(layout, CODES[code]), max(1, CODES[code].message_range(5)[0]))
    return CompressedModel(layout, 5, np.ones(6, np.float16), messages, code)


@pytest.mark.parametrize("code", CODES)
def test_models_that_no_file_holds(code):
    good = model(code)
    data = good.to_bytes()
    layouts = [
        {"factors": (1,) * 5},
        {"factors": (0,) * 6},
        {"factors": ()},
        {"block_size": 0},
        {"block_size": 7},
        {"seed": -1},
    ]
    changes = [{"layout": replace(good.layout, **change)} for change in layouts]
    changes += [{"rho": np.full(6, value, np.float64)} for value in (NAN, INF, 0.0, -1.0, 1e6)]
    changes += [{"rho": np.ones(5, np.float16)}, {"bits_per_block": 300}, {"bits_per_block": -1}]
    n = good.messages
    changes += [{"messages": wrong} for wrong in (n + 0.5, n * NAN, n[:2], n[None], n - 99)]
    for change in changes:
        with np.errstate(all="ignore"):
            refusal(replace(good, **change).to_bytes)
    turned = replace(good, messages=np.asfortranarray(n.astype(np.uint16)), rho=np.ones(6))
    assert turned.to_bytes() == data
    for form in (bytearray(data), memoryview(data)):
        assert parse_model(form).to_bytes() == data


def test_numbers_that_would_be_rounded():
    assert "expected integers" in refusal(pack_indices, [1.5], 4)
    assert "expected integers" in refusal(pack_indices, [NAN], 4)
    assert "expected integers" in refusal(pack_indices, np.array([2**64 - 1], np.uint64), 4)
    assert "one axis" in refusal(pack_indices, [[1]], 4)
    assert "expected integers" in refusal(write_integers, [1.0], 9)
    assert pack_indices([], 4) == b""
