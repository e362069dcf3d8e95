"""A model that is asked: images as people have them, its bytes, its exports, what is refused."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from face.conftest import QUICK

import refmiracle
from refmiracle.commands import export
from refmiracle.fileformat.anatomy import find_fields
from refmiracle.fileformat.envelope import is_update
from refmiracle.loading import shipped_models
from refmiracle.nn.networks import LENET5
from refmiracle.training.data import default_folder

NAME = "lenet5-1551"
PATH = default_folder().parent / "models" / f"{NAME}.rmc"


@pytest.fixture(scope="module")
def model():
    return refmiracle.load(NAME)


@pytest.fixture(scope="module")
def coloured(shapes):
    """A model of images with three channels, no two sides of which are alike, and such images."""
    images = np.stack([shapes[0], shapes[0][::-1], 255 - shapes[0]], axis=-1)[:, :, :5]
    return refmiracle.fit(images, shapes[1], **QUICK).model, images[:7]


def test_wherever_it_is(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = PATH.read_bytes()
    Path("mine").write_bytes(data)
    for source in (f"{NAME}.rmc", PATH, str(PATH), "mine", Path("mine"), data, bytearray(data)):
        found = refmiracle.load(source)
        assert found == model
        assert hash(found) == hash(model)
    assert refmiracle.load("lenet5-891") != model
    assert model != data


def test_images_of_a_data_set(tmp_path, rng):
    """Channels last, as the model takes them; the parts by plain names."""
    images, labels = refmiracle.load_images()
    assert images.shape == (10_000, 28, 28)
    assert refmiracle.load_images(default_folder(), part="train")[0].shape == (60_000, 28, 28)
    assert labels.dtype == np.uint8
    coloured = rng.integers(0, 256, (12, 5, 6, 3), dtype=np.uint8)
    kinds = np.arange(12) % 3 + 1
    names = {"x_train": coloured, "y_train": kinds, "x_test": coloured, "y_test": kinds}
    np.savez(tmp_path / "own.npz", **names)
    images, labels = refmiracle.load_images(tmp_path / "own.npz", part="train", labels_from=1)
    assert np.array_equal(images, coloured)
    assert np.array_equal(labels, kinds - 1)
    for channels, own in (("last", coloured[:, :3]), ("first", coloured[:, :3].swapaxes(1, 3))):
        np.savez(tmp_path / "own.npz", **{**names, "x_train": own})
        images, _ = refmiracle.load_images(tmp_path / "own.npz", part="train", channels=channels)
        expected = own if channels == "last" else np.moveaxis(own, 1, -1)
        assert np.array_equal(images, expected)
    with pytest.raises(refmiracle.InputError, match="part 'all' is unknown; expected one of train"):
        refmiracle.load_images(part="all")
    with pytest.raises(refmiracle.InputError, match="nowhere"):
        refmiracle.load_images("nowhere")


def test_what_it_says_of_itself(model):
    sizes = "1551 bytes, 1112 times smaller, 28x28 images in 10 classes"
    assert repr(model) == f"Model(lenet5, {sizes})"
    assert (model.nbytes, model.classes, model.network) == (1551, 10, LENET5)
    assert model.ratio == 431_080 * 4 / 1551
    assert model.data == PATH.read_bytes()


def test_all_that_ships_is_loaded_by_name():
    assert NAME in shipped_models()
    for name, path in shipped_models().items():
        base = NAME if is_update(path.read_bytes()) else None
        assert refmiracle.load(name, base=base).data == path.read_bytes()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing", "nothing: there is no such file here; refmiracle carries lenet5-1128, "),
        ("no/such/file.rmc", "file.rmc: No such file or directory"),
        (f"./{NAME}", "No such file or directory"),
        (Path(NAME), "No such file or directory"),
        ("", "the path of a .rmc file '' is no path"),
        pytest.param(
            "\ud800.rmc",
            "the path of a .rmc file '\\ud800.rmc' is no path",
            marks=pytest.mark.skipif(os.name == "nt", reason="names are UTF-16 there"),
        ),
        (b"", "it does not begin with the magic"),
        (b"RMC\x01" + bytes(100), "the checksum is"),
        (5, "5 is no path, and no bytes of a .rmc file"),
        (None, "None is no path"),
    ],
)
def test_what_is_no_model_is_one_line(source, message):
    with pytest.raises(refmiracle.InputError) as e:
        refmiracle.load(source)
    assert message in str(e.value)
    assert "\n" not in str(e.value)


def test_an_engine_that_is_none():
    with pytest.raises(refmiracle.InputError, match="engine 'cuda' is unknown; expected one of"):
        refmiracle.load(NAME, engine="cuda")


def test_weights_are_read_only_and_the_same_bits(model):
    other = refmiracle.load(NAME, engine="numpy").weights
    assert list(model.weights) == [t.name for t in LENET5.tensors()]
    for name, array in model.weights.items():
        assert array.dtype == np.float32
        assert array.tobytes() == other[name].tobytes()
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(TypeError):
        model.weights["conv1.bias"] = 0


def every_form(images):
    """The same grey images as people have them."""
    for kept in (images, images / 255, (images / 255).astype("f4"), (images / 255).astype("f2")):
        for shape in ((28, 28), (28, 28, 1), (784,)):
            yield kept.reshape(len(images), *shape), "last"
        yield kept[:, None], "first"
        yield kept, "first"
    yield list(images), "last"
    yield np.asfortranarray(images), "last"
    yield images.astype(">f8") / 255, "last"


@pytest.mark.parametrize(("engine", "count"), [("numba", 40), ("numpy", 3)])
def test_images_in_every_form_give_the_same_answer(few_images, engine, count):
    model = refmiracle.load(NAME, engine=engine)
    images, labels = few_images.images[:count], few_images.labels[:count]
    logits, classes = model.logits(images), model.predict(images)
    assert logits.shape == (count, 10)
    assert logits.dtype == (np.float32 if engine == "numba" else np.float64)
    assert np.array_equal(classes, logits.argmax(axis=1))
    assert model.error(images, labels) == np.mean(classes != labels)
    for given, channels in every_form(images):
        assert np.array_equal(model.logits(given, channels=channels), logits)


def test_probabilities_are_a_softmax(model, few_images):
    logits = model.logits(few_images.images).astype(float)
    found = model.predict_proba(few_images.images)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert np.allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=1e-12)
    assert np.allclose(found.sum(axis=1), 1, rtol=1e-12)


def test_one_image_alone(model, few_images):
    image, label = few_images.images[0], few_images.labels[0]
    whole = model.logits(few_images.images[:1])[0]
    for given in (image, image / 255, image.ravel(), image[..., None]):
        assert np.array_equal(model.logits(given), whole)
        assert model.predict(given).shape == ()
        assert model.predict_proba(given).shape == (10,)
    names = [str(n) for n in range(10)]
    assert names[model.predict(image)] == str(label)
    assert model.error(image, label) == 0.0
    assert model.error(image[None], [label]) == 0.0


def test_no_images_at_all(model):
    nothing = np.zeros((0, 28, 28))
    assert model.predict(nothing).shape == (0,)
    assert model.predict_proba(nothing).shape == (0, 10)
    with pytest.raises(refmiracle.InputError, match="there are no images, so there is no error"):
        model.error(nothing, np.zeros(0, int))


def test_colours_in_every_form(coloured):
    model, images = coloured
    assert model.network.input == (3, 6, 5)
    logits = model.logits(images)
    first = np.moveaxis(images, -1, 1)
    assert np.array_equal(model.logits(images.reshape(7, -1) / 255), logits)
    assert np.array_equal(model.logits(first, channels="first"), logits)
    assert np.array_equal(model.logits(first.reshape(7, -1), channels="first"), logits)
    assert np.array_equal(model.logits(images[0]), logits[0])
    for given, channels, wanted in (
        (first, "last", "(images, 6, 5, 3), channels last"),
        (images, "first", "(images, 3, 6, 5), channels first"),
    ):
        with pytest.raises(refmiracle.InputError) as e:
            model.predict(given, channels=channels)
        assert wanted in str(e.value)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 28, 29)), "images of shape (3, 28, 29); expected (images, 28, 28), or flat "),
        (np.zeros((3, 27, 28), np.uint8), "(images, 784); for one image no first axis"),
        (np.zeros((3, 28, 28, 3)), "shape (3, 28, 28, 3)"),
        (np.zeros((1, 3, 28, 28)), "shape (1, 3, 28, 28)"),
        (np.zeros(783), "shape (783,)"),
        (np.float64(0), "shape ()"),
        (np.zeros((2, 28, 28), int), "images of int64; expected uint8, or floats in [0, 1]"),
        (np.zeros((2, 28, 28), bool), "images of bool"),
        (np.zeros((2, 28, 28), complex), "images of complex128"),
        (np.full((2, 28, 28), 255.0), "values from 255.0 to 255.0; expected floats in [0, 1]"),
        (np.full((2, 28, 28), -0.5), "values from -0.5 to -0.5"),
        (np.full((2, 28, 28), np.nan), "images with NaN among them"),
        (np.full((2, 28, 28), np.inf), "values from inf to inf"),
        ("a picture", "images of <U9"),
        ([[1, 2], [3]], "images is no array"),
        (np.ma.masked_array(np.zeros((2, 28, 28))), "images has a mask"),
    ],
)
def test_every_wrong_image_is_one_line(model, images, message):
    for ask in (model.predict, model.predict_proba, model.logits):
        with pytest.raises(refmiracle.InputError) as e:
            ask(images)
        assert message in str(e.value)
        assert "\n" not in str(e.value)


def test_labels_are_checked(model, few_images):
    images = few_images.images[:3]
    for labels, message in (
        ([0, 1], "expected whole numbers from 0 to 9, (3,)"),
        ([0, 1, 10], "label 10 is out of range; expected 0 to 9"),
        ([0.0, 1.0, 2.0], "labels of float64"),
        ("abc", "labels of <U3"),
    ):
        with pytest.raises(refmiracle.InputError) as e:
            model.error(images, labels)
        assert message in str(e.value)


def test_it_pickles_as_its_bytes(model, coloured, few_images):
    for asked, images in ((model, few_images.images[:5]), coloured):
        asked.weights  # noqa: B018 (decoded, and not part of the pickle)
        data = pickle.dumps(asked)
        back = pickle.loads(data)
        assert asked.data in data
        assert len(data) < asked.nbytes + 500
        assert back == asked
        assert np.array_equal(back.predict(images), asked.predict(images))


def test_what_was_read_does_not_change(model):
    for array in (model.compressed.rho, model.compressed.messages):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1


def test_many_threads_ask_one_model(few_images):
    model = refmiracle.load(NAME)
    expected = refmiracle.load(NAME).logits(few_images.images)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: model.logits(few_images.images), range(16)))
    assert all(np.array_equal(logits, expected) for logits in found)


@pytest.mark.parametrize("form", ["npz", "safetensors", "onnx", "torch"])
def test_exports_are_those_of_the_command(model, tmp_path, form, capsys):
    if form != "npz":
        pytest.importorskip(form)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    getattr(model, f"to_{form}")(ours)
    assert export.main([str(PATH), "--to", form, "--out", str(theirs)]) == 0
    assert ours.read_bytes() == theirs.read_bytes()
    model.save(str(ours))
    assert ours.read_bytes() == model.data


def test_where_it_cannot_be_written(model, tmp_path):
    with pytest.raises(refmiracle.InputError, match="cannot be written"):
        model.save(tmp_path / "absent" / "model.rmc")


class Tags(HTMLParser):
    """Whether each tag is closed in its turn, and the text between."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_notebooks_show_the_anatomy(model, coloured):
    for shown in (model, coloured[0]):
        html = shown._repr_html_()
        tags = Tags()
        tags.feed(html)
        assert tags.open == []
        assert repr(shown) in tags.text
        fields = find_fields(shown.compressed)
        assert sum(len(f.data) for f in fields) == shown.nbytes
        assert all(f.name in tags.text for f in fields)
        assert "<script" not in html
        assert "http" not in html
