"""What the face is given by mistake: one line says so, and nothing else is answered instead."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from face.conftest import QUICK, press_at

import refmiracle
from refmiracle import InputError, Network, codes
from refmiracle.errors import one_line
from refmiracle.fileformat.envelope import seal
from refmiracle.given import as_labels, as_network
from refmiracle.layers import Dense, Flatten, Relu
from refmiracle.nn.networks import LENET5, NETWORKS


class Elsewhere:
    """An array whose numbers cannot be had, as one on a GPU."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("it is on a device\nand stays there")


class Named:
    """A path of another library."""

    def __init__(self, path):
        self.path = str(path)

    def __fspath__(self):
        return self.path


@pytest.fixture(scope="module")
def model():
    return refmiracle.load("lenet5-891")


def refusal(call, *arguments, **named):
    """Return the one line that a call is refused in."""
    with pytest.raises(InputError) as e:
        call(*arguments, **named)
    assert len(str(e.value).splitlines()) == 1
    return str(e.value)


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\u2028b", "\ud800"])
def test_a_message_is_one_line_that_can_be_shown(text):
    assert len(one_line(text).encode().splitlines()) == 1
    assert refusal(refmiracle.load, text)
    assert refusal(refmiracle.load, f"folder/{text}")
    assert str(pickle.loads(pickle.dumps(InputError(text)))) == one_line(text)


def test_what_is_no_network_or_format(model):
    assert refusal(refmiracle.Model, model.data, network="lenet5").startswith("network is ")
    assert refusal(model.exported, "gif").startswith("format 'gif' is unknown; expected one of npz")
    assert refusal(model.exported, ["npz"]).startswith("format ")


@pytest.mark.parametrize("path", [b"x", 3, ["a"], "", "a\0b", "folder/a\0b"])
def test_what_is_no_path(model, shapes, path):
    for call in (model.save, model.to_npz, refmiracle.load_images):
        assert "path" in refusal(call, path)
    assert "out" in refusal(refmiracle.fit, *shapes, **QUICK, out=path)


def test_a_name_that_is_too_long():
    assert "no such file" in refusal(refmiracle.load, "a" * 5000)
    assert "too long" in refusal(refmiracle.load, "folder/" + "a" * 5000)


def test_paths_of_other_libraries(model, tmp_path):
    path = tmp_path / "a model é.rmc"
    model.save(Named(path))
    with os.scandir(tmp_path) as entries:
        found = [Named(path), str(path), *entries]
    assert all(refmiracle.load(given) == model for given in found)


def test_a_model_does_not_change(model):
    with pytest.raises(AttributeError, match="never changes: its engine cannot be set"):
        model.engine = "numpy"
    with pytest.raises(AttributeError, match="never changes: its data cannot be deleted"):
        del model.data


def test_a_model_is_made_of_bytes(model):
    assert "refmiracle.load reads one" in refusal(refmiracle.Model, "lenet5-891")
    assert "refmiracle.load reads one" in refusal(refmiracle.Model, None)
    assert hash(refmiracle.Model(bytearray(model.data))) == hash(model)


def test_the_network_of_a_file_is_the_one_that_was_named(model):
    other = Network("mine", 0, (1, 6, 6), 2, (Flatten(), Dense(2)))
    for source in ("lenet5-891", model.data):
        said = refusal(refmiracle.load, source, network=other)
        assert said == "the file is of the network lenet5, not of mine"
        assert "expected a Network" in refusal(refmiracle.load, source, network="lenet5")
        assert refmiracle.load(source, network=model.network) == model


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (Elsewhere(), "images is no array: it is on a device"),
        ([np.ma.masked_array(np.zeros((28, 28)))], "images has a mask"),
        (np.full((1, 784), 1.0001), "images with values from 1.0001 to 1.0001"),
        (np.full((1, 784), np.nextafter(1, 2)), "from 1.0000000000000002 to 1.0000000000000002"),
    ],
)
def test_images(model, images, message):
    assert message in refusal(model.predict, images)


def test_channels_that_are_no_text(model):
    given = np.array(["last", "first"])
    assert "channels is of shape (2,)" in refusal(model.predict, np.zeros((28, 28)), channels=given)


@pytest.mark.parametrize("count", [1, 3])
def test_channels_that_stand_elsewhere_than_was_said(shapes, count):
    """A list of layers would be given maps of other sides, and learn something all the same."""
    images = np.repeat(shapes[0][:, None], count, axis=1)
    said = refusal(refmiracle.fit, images, shapes[1], **QUICK)
    assert 'have their channels first; say so by channels="first"' in said
    images = np.moveaxis(images, 1, -1)
    said = refusal(refmiracle.fit, images, shapes[1], channels="first", **QUICK)
    assert 'have their channels last; say so by channels="last"' in said
    said = refusal(refmiracle.fit, images, shapes[1], channels="Last", **QUICK)
    assert said == 'channels is \'Last\'; expected "last" or "first"'
    layers = (Flatten(), Dense(3))
    network = Network("odd", 0, (6, count, 6), 3, layers)
    images = np.moveaxis(images, -1, 1)
    assert refmiracle.fit(images, shapes[1], **{**QUICK, "network": network}).finished


SETTINGS = [
    ({"rate": 10**400}, "rate is 1000000"),
    ({"rate": Decimal("0.1")}, "rate is Decimal('0.1')"),
    ({"code": ["mrc"]}, "code ['mrc'] is unknown"),
    ({"learning_rate": 0.1}, "learning_rate is no setting of a run; did you mean rate?"),
    ({"progress": "no"}, "progress is 'no'; expected True or False"),
    ({"resume": None}, "resume is None; expected True or False"),
    ({"resume": True}, "resume without out, the folder of the run to go on with"),
    ({"network": [Flatten, Dense(3)]}, "expected a name, a Network"),
    ({"network": [Flatten(), Dense(10**9)]}, "dense1 gives an image more than 2^24 values"),
    ({"network": memoryview(b"ab")}, "network: "),
]
LAYERS = (Flatten(), Dense(3))
NETWORKS_THAT_ARE_NONE = [
    (("n", "0", (1, 6, 6), 3, LAYERS), "number is '0'; expected a whole number"),
    (("n", 0, (1, 6.0, 6), 3, LAYERS), "input is 6.0; expected a whole number"),
    (("n", 0, "166", 3, LAYERS), "input is '166'; expected a list of numbers"),
    (("n", 0, None, 3, LAYERS), "input is None; expected a list of numbers"),
    (("n", 0, (1, 6, 6), "3", LAYERS), "classes is '3'; expected a whole number"),
    (("n", 0, (1, 6, 6), 3, None), "layers is None; expected a list of layers"),
    (("n", 0, (1, 6, 6), 3, Dense(3)), "layers is Dense(outputs=3); expected a list of layers"),
    ((None, 0, (1, 6, 6), 3, LAYERS), "a network named None"),
    (("n", 0, (1, 6, 6), 3, LAYERS, "ab"), "hash_factors is 'ab'; expected a list of numbers"),
]


@pytest.mark.parametrize(("change", "message"), SETTINGS, ids=[s[1][:40] for s in SETTINGS])
def test_settings(shapes, change, message):
    assert message in refusal(refmiracle.fit, *shapes, **{**QUICK, **change})


@pytest.mark.parametrize(("parts", "message"), NETWORKS_THAT_ARE_NONE)
def test_networks_of_the_wrong_parts(shapes, parts, message):
    def fit():
        return refmiracle.fit(*shapes, **{**QUICK, "network": Network(*parts)})

    assert message in refusal(fit)


@pytest.mark.parametrize("outputs", [3.0, True, "3", None])
def test_a_layer_of_no_whole_number(outputs):
    assert f"Dense: outputs is {outputs!r}; expected a whole number" in refusal(Dense, outputs)


def test_a_network_written_with_lists():
    network = Network("n", 0, [1, 6, 6], 3, [Flatten(), Relu(), Dense(3)])
    assert network == Network("n", 0, (1, 6, 6), 3, (Flatten(), Relu(), Dense(3)))
    assert hash(network)


def test_a_network_that_was_refused_is_not_known_from_then_on(shapes, monkeypatch):
    before = dict(NETWORKS)
    network = Network("taken", 1, (1, 6, 6), 3, LAYERS)
    said = refusal(refmiracle.fit, *shapes, **{**QUICK, "network": network})
    assert "network taken: number 1 is already lenet5's" in said
    assert before == NETWORKS


class Leaky(Relu):
    """A ReLU to everybody who does not look twice."""

    def forward(self, engine, weights, x):
        return np.maximum(x, 0.1 * x), x


class Told(Leaky):
    """The same, which says that it is none."""

    def spec(self, shape):
        return ("told",)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Network("v:2", 201, (1, 6, 6), 3, LAYERS), "network v:2: expected a name without a colon"),
        (Network("low", 7, (1, 6, 6), 3, LAYERS), "number 7 is reserved; expected one from 200 on"),
        (Network("vgg8", 202, (1, 6, 6), 3, LAYERS), "there is another network named vgg8"),
        ([Flatten(), Leaky(), Dense(3)], "Leaky(): Leaky has forward() of its own and the spec of"),
        (
            [Flatten(), Told(), Dense(3)],
            "Told() is of a kind that a file cannot describe; give its",
        ),
        (Network("l", 0, (1, 6, 6), 3, (Told(), *LAYERS)), "Told() is of a kind that a file can"),
        (Network("l", 203, (1, 6, 6), 3, (Leaky(), *LAYERS)), "Leaky has forward() of its own"),
    ],
)
def test_networks_that_a_file_would_not_tell_from_others(shapes, network, message):
    before = dict(NETWORKS)
    assert message in refusal(refmiracle.fit, *shapes, **{**QUICK, "network": network})
    assert before == NETWORKS


@pytest.mark.parametrize("number", [1, 57])
def test_a_number_that_is_nobodys_own_is_what_the_specification_says(number):
    """LeNet-5 is no other network, and 57 none, whatever somebody has it for."""
    data = bytearray(refmiracle.load("lenet5-891").data[:-4])
    data[4] = number
    other = replace(LENET5, name="mine", number=number, layers=(*LENET5.layers[:-2], Dense(10)))
    assert other.count() == LENET5.count()
    said = refusal(refmiracle.Model, seal(bytes(data)), network=other)
    assert said.endswith("not of mine") or f"network number {number} is unknown" in said


def test_a_name_of_hexadecimal_digits(shapes, monkeypatch):
    monkeypatch.setitem(NETWORKS, "cafe", Network("cafe", 201, (1, 6, 6), 3, LAYERS))
    assert as_network("cafe", shapes[0], "last").number == 201


def test_more_images_for_validation_than_to_train_on(shapes):
    images, labels = shapes
    given = {**QUICK, "validation": (images, labels)}
    said = refusal(refmiracle.fit, images[:150], labels[:150], **given)
    assert "validation: 200 images; expected at most as many as there are to train on, 150" in said


def test_labels_are_as_wide_as_those_of_a_data_set():
    """However many classes the network has: a run goes on with the same images."""
    assert as_labels([0, 255], 2, 300).dtype == np.uint8
    assert as_labels([0, 256], 2, 300).dtype == np.dtype("<u2")


def test_labels_that_are_none(model):
    said = refusal(model.error, np.zeros((2, 28, 28)), None)
    assert "labels of object and of shape ()" in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"transposed": "no"}, "transposed is 'no'; expected True or False"),
        ({"labels_from": "a"}, "labels_from is 'a'; expected a whole number"),
        ({"labels_from": 1.5}, "labels_from is 1.5; expected a whole number"),
        ({"labels_from": True}, "labels_from is True; expected a whole number"),
        ({"channels": "middle"}, "channels 'middle' is unknown; expected one of first, last"),
        ({"channels": 1}, "channels 1 is unknown; expected one of first, last"),
    ],
)
def test_data_sets(given, message):
    assert message in refusal(refmiracle.load_images, Path("nowhere"), **given)


def test_a_run_goes_to_other_processes(shapes, monkeypatch):
    """Finished or not: joblib and pools of processes send it as a pickle."""
    whole = refmiracle.fit(*shapes, **QUICK)
    with monkeypatch.context() as patch:
        press_at(patch, 5)
        run = refmiracle.fit(*shapes, **QUICK)
    for copied in (pickle.loads(pickle.dumps(run)), copy.deepcopy(run)):
        assert not copied.finished
        assert copied.resume(progress=False).model == whole.model
        assert not run.finished
    assert pickle.loads(pickle.dumps(whole)).curves["step"].tolist() == [20]


def test_what_a_run_tells_is_a_copy(shapes):
    run = refmiracle.fit(*shapes, **QUICK)
    shown = repr(run)
    run.settings.clear()
    run.summary.clear()
    assert run.settings["steps"] == 12
    assert repr(run) == shown


def test_a_run_whose_folder_is_gone_or_holds_another(shapes, tmp_path, monkeypatch):
    """It would go on with other settings, and nobody would see it."""
    with monkeypatch.context() as patch:
        press_at(patch, 5)
        run = refmiracle.fit(*shapes, **QUICK, out=tmp_path / "run")
        shutil.rmtree(tmp_path / "run")
        assert "the run that was stopped there is gone" in refusal(run.resume, progress=False)
        assert not (tmp_path / "run").exists()
        refmiracle.fit(*shapes, **{**QUICK, "seed": 3}, out=tmp_path / "run")
    said = refusal(run.resume, progress=False)
    assert said == "seed 0: the run to resume was started with 3"
    assert "progress is 'no'" in refusal(run.resume, progress="no")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hash_factors": 3}, "hash_factors 3: the run to resume was started with (1, 1, 1, 1)"),
        ({"rate": np.ones(2)}, "rate of shape (2,): the run to resume was started with 0.04"),
    ],
)
def test_other_settings_of_a_run_to_resume(shapes, tmp_path, given, message):
    out = tmp_path / "run"
    refmiracle.fit(*shapes, **QUICK, out=out)
    assert message in refusal(refmiracle.fit, *shapes, out=out, resume=True, **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cases": 3}, "cases are 3; expected their ids"),
        ({"cases": [3]}, "cases are [3]; expected their ids"),
        ({"golden": 3}, "golden is 3; expected a path"),
    ],
)
def test_backends(given, message):
    assert message in refusal(refmiracle.check_backend, object(), **given)


def test_arrays_in_a_list_that_do_not_give_their_numbers(model):
    assert "images is no array: it is on a device" in refusal(model.predict, [Elsewhere()])


P = (0.0, 1.0)


def test_codes():
    message = codes.encode(([0.5, 1.0], 0.5), P, 1)
    for given in (["mrc"], np.zeros(2), None, 3):
        assert "is unknown" in refusal(codes.describe, given)
        assert "is unknown" in refusal(codes.encode, ([0.5], 0.5), P, 1, engine=given)
        wrong = codes.Message(given, message.integers, 0, 0, (2,))
        assert "is unknown" in refusal(codes.decode, wrong, P, 1)
    for shape in (None, 2, np.zeros((2, 3)), (2.0,), ("2",)):
        wrong = codes.Message("gprs-d", message.integers, 0, 0, shape)
        assert "expected whole numbers" in refusal(codes.decode, wrong, P, 1)
    wrong = codes.Message("gprs-d", [[1], [1, 2]], 0, 0, (2,))
    assert "integers is no array" in refusal(codes.decode, wrong, P, 1)
    for kl in ("3", None, -1.0, np.nan, np.inf, 1e5, 1j, [1.0, 2.0], [[1], [1, 2]]):
        assert "kl_bits" in refusal(message.bits, kl)
