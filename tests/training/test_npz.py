"""Images and labels in .npz files."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from data_refusal import both, refusal
from hypothesis import given
from hypothesis import strategies as st
from oracles import row_words

from refmiracle.errors import InputError
from refmiracle.training.data import DataSet, Split, load_split
from refmiracle.training.formats import contract
from refmiracle.training.settings import fingerprint

RNG = np.random.default_rng(5)
X = RNG.integers(0, 256, (9, 8, 10), dtype=np.uint8)
RGB = RNG.integers(0, 256, (9, 8, 10, 3), dtype=np.uint8)
Y = np.array([0, 1, 2, 0, 1, 2, 2, 1, 4])
KERAS = ("x_train", "y_train", "x_test", "y_test")
MEDMNIST = ("train_images", "train_labels", "test_images", "test_labels")
GOOD = dict(zip(KERAS, (X, Y, X[:4], Y[:4]), strict=True))


def write(path, save=np.savez, **arrays):
    save(path / "d.npz", **arrays)
    return path / "d.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["u1", "i4", ">i8", "u8"])
@pytest.mark.parametrize("keys", [KERAS, MEDMNIST])
def test_names_types_and_packing(tmp_path, keys, dtype, save):
    values = X, Y.astype(dtype)[:, None], X[:4].astype(dtype), Y[:4].astype(dtype)
    path = write(tmp_path, save, **dict(zip(keys, values, strict=True)))
    train, test = both(path)
    assert np.array_equal(train.images, X)
    assert np.array_equal(test.images, X[:4])
    assert np.array_equal(train.labels, Y)
    assert np.array_equal(test.labels, Y[:4])
    assert train.classes == test.classes == tuple("01234")
    assert fingerprint(train) == fingerprint(Split(X, Y.astype(np.uint8)))


@pytest.mark.parametrize("images", [RGB, RGB.transpose(0, 3, 1, 2), np.asfortranarray(RGB)])
def test_channels_come_first(tmp_path, images):
    path = write(tmp_path, **{**GOOD, "x_train": images})
    split = load_split(path, "train")
    assert np.array_equal(split.images, RGB.transpose(0, 3, 1, 2))
    assert split.input_shape() == (3, 8, 10)
    assert split.images.flags.c_contiguous


@pytest.mark.parametrize("shape", [(9, 3, 10, 3), (9, 1, 9, 3), (9, 2, 2, 2), (9, 4, 3, 9)])
def test_channels_that_are_said(tmp_path, shape):
    """Single rows of colours too, which look like grey images; and the other parts alike."""
    images = RNG.integers(0, 256, shape, dtype=np.uint8)
    path = write(tmp_path, **{**GOOD, "x_train": images, "x_test": images[:4]})
    train, test = both(path, channels="last")
    assert np.array_equal(train.with_channels(), images.transpose(0, 3, 1, 2))
    assert np.array_equal(test.images, train.images[:4])
    assert np.array_equal(both(path, channels="first")[0].with_channels(), images)


def test_channels_that_are_said_go_with_a_turn(tmp_path):
    path = write(tmp_path, **{**GOOD, "x_train": RGB[:, :3]})
    turned = load_split(DataSet(path, transposed=True, channels="last"), "train")
    assert np.array_equal(turned.images, RGB[:, :3].transpose(0, 3, 2, 1))


def test_channels_are_said_of_what_has_no_axis_for_them(tmp_path):
    said = refusal(DataSet(write(tmp_path, **GOOD), channels="last"))
    assert said == "images of shape (9, 8, 10) have no axis for channels; expected no channels"


def test_a_file_of_another_name_is_known_by_its_content(tmp_path):
    path = write(tmp_path, **GOOD).rename(tmp_path / "data")
    assert len(load_split(path, "train").images) == 9


def test_names_are_of_classes_wherever_labels_begin(tmp_path):
    names = np.array(["a", "b", "c", "d", "e"])
    path = write(tmp_path, **{**GOOD, "y_train": Y + 1, "y_test": Y[:4] + 1}, classes=names)
    for part in ("train", "t10k"):
        assert load_split(DataSet(path, labels_from=1), part).classes == tuple("abcde")
    with pytest.raises(InputError, match="label 5; the names of the classes end at 4"):
        load_split(path, "train")


@pytest.mark.parametrize("names", [np.array(["a", "b", "c", "d", "e\xe9"]), np.array([b"a"] * 6)])
def test_names_of_classes(tmp_path, names):
    path = write(tmp_path, **GOOD, classes=names)
    expected = [n.decode() if isinstance(n, bytes) else n for n in names.tolist()]
    assert load_split(path, "t10k").classes == tuple(expected)


def test_more_than_256_classes_take_two_bytes(tmp_path):
    path = write(tmp_path, **{**GOOD, "y_test": np.array([0, 1, 2, 65_534])})
    train, test = both(path)
    assert train.labels.dtype == test.labels.dtype == "<u2"
    assert test.labels.tolist() == [0, 1, 2, 65_534]
    assert len(train.classes) == 65_535


@given(count=st.integers(6, 60))
def test_images_alone_are_divided(tmp_path_factory, count):
    images = np.arange(count, dtype=np.uint8)[:, None, None].repeat(2, axis=1)
    path = write(tmp_path_factory.mktemp("alone"), images=images, labels=np.arange(count))
    train, test = both(path)
    assert len(test.labels) == count // 6
    assert sorted([*train.labels, *test.labels]) == list(range(count))
    for split in (train, test):
        assert np.array_equal(split.images[:, 0, 0], split.labels)
    assert load_split(path, "train").labels.tolist() == train.labels.tolist()


def test_the_division_does_not_change(tmp_path):
    """It is the order that sorts the words of row 0 of stream 12 under the seed 0."""
    path = write(tmp_path, images=np.zeros((12, 2, 2), np.uint8), labels=np.arange(12))
    train, test = both(path)
    words = row_words(0, 12, 0, 12)
    order = sorted(range(12), key=words.__getitem__)
    assert [train.labels.tolist(), test.labels.tolist()] == [order[:10], order[10:]]


FLOATS = "x_train: images of float64; expected uint8: where white is 1, multiply by 255, round and"
OBJECTS = "x_train: it holds pickled objects, which are not read; expected numbers"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": X / 255}, FLOATS),
        ({"x_train": X.astype(object)}, OBJECTS),
        ({"x_train": X > 9}, "x_train: images of bool; expected uint8"),
        ({"x_train": X.astype("c8")}, "x_train: images of complex64; expected uint8"),
        ({"x_train": X.astype("U3")}, "x_train: images of <U3; expected uint8"),
        ({"x_train": X.astype("i2") + 1}, "x_train: it holds values from 1 to 256; expected im"),
        ({"x_train": X.reshape(9, -1)}, "x_train: images of shape (9, 80); expected (count, hei"),
        ({"x_train": X[:, :0]}, "x_train: images of shape (9, 0, 10); expected (count, height"),
        ({"x_train": X[0, 0, 0]}, "x_train: images of shape (); expected (count, height, width)"),
        ({"x_train": X[:8]}, "8 train images, but 9 labels"),
        ({"x_train": X[:0], "y_train": Y[:0]}, "0 train images, but 0 labels"),
        ({"x_train": RGB[:, :3]}, "images of shape (9, 3, 10, 3): which axis has the channels"),
        ({"y_train": Y / 1}, "y_train: labels of float64 and of shape (9,); expected integers"),
        ({"y_train": np.eye(9, dtype=int)}, "y_train: labels of int64 and of shape (9, 9); exp"),
        ({"y_train": Y - 1}, "y_train: it holds values from -1 to 3; expected labels from 0"),
        ({"y_train": Y * 65_536}, "y_train: it holds values from 0 to 262144; expected labels"),
        ({"y_train": Y * 0, "y_test": Y[:4] * 0}, "classes: 1; expected 2 to 65535"),
        ({"y_test": Y[:4] + 65_533}, "classes: 65536; expected 2 to"),
        ({"classes": np.array(["a", "b"])}, "label 4; the names of the classes end at 1"),
        ({"classes": np.array([], "U1")}, "classes: <U1 of shape (0,); expected text, a name"),
        ({"classes": np.arange(5)}, "classes: int64 of shape (5,); expected text, a name for"),
        ({"classes": np.array(["a"] * 4 + ["b" * 201])}, "a class's name has 201 letters; at m"),
        ({"classes": np.array([b"\xff"] * 5)}, "classes: the list of names is no text in UTF-8"),
        ({"classes": np.array(list("abcde"), object)}, "classes: it holds pickled objects, wh"),
    ],
)
def test_arrays_that_are_none(tmp_path, changes, message):
    assert refusal(write(tmp_path, **{**GOOD, **changes})).startswith(message)


@pytest.mark.parametrize("key", KERAS)
def test_an_array_that_is_missing(tmp_path, key):
    path = write(tmp_path, **{k: v for k, v in GOOD.items() if k != key})
    if key == "y_test":  # the training images do not need it
        assert len(load_split(path, "train").classes) == 5
    part = "train" if "train" in key else "t10k"
    assert refusal(path, part).startswith(f"{key}: there is none; expected x_train, y_train, x_t")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "it holds nothing; expected x_train"),
        ({"a": X, "b": Y}, "it holds a, b; expected x_train, y_train, x_test and y_test, or im"),
        ({f"k{i}": Y for i in range(20)}, "it holds k0, k1, k10, k11, k12, k13, k14, k15; exp"),
        ({"images": X}, "labels: there is none; expected "),
        ({"images": X, "labels": Y[:8]}, "9 images, but 8 labels"),
        ({"images": X[:5], "labels": Y[:5]}, "5 images; expected at least 6, of which one is ke"),
    ],
)
def test_files_without_what_is_wanted(tmp_path, arrays, message):
    for part in ("train", "t10k"):
        assert refusal(write(tmp_path, **arrays), part).startswith(message)


def test_cut_off_anywhere_or_too_long(tmp_path):
    path = write(tmp_path, np.savez_compressed, **GOOD)
    data = path.read_bytes()
    cuts = {*range(0, len(data), 37), *range(30), *range(len(data) - 30, len(data))}
    for length in sorted(cuts):
        path.write_bytes(data[:length])
        assert refusal(path)
    path.write_bytes(b"")
    assert refusal(path) == "it is empty; expected an .npz file"
    path.write_bytes(b"<html>")
    assert refusal(path) == "it is an HTML or XML page; expected an .npz file"
    path.write_bytes(pickle.dumps([1]))
    assert refusal(path) == "it is a pickle; expected an .npz file"


def npy(array, cut=0, more=b""):
    """A NumPy file, cut off or too long."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    data = buffer.getvalue() + more
    return data[: len(data) - cut]


def write_members(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as packed:
        for name, data in members:
            packed.writestr(name, data)
    return path


X_FILE, Y_FILE = npy(X), npy(Y)
HEAD = len(X_FILE) - X.nbytes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy(X, cut=1), "x_train: its header claims 720 bytes of data, but 719 are there"),
        (npy(X, more=b"x"), "x_train: its header claims 720 bytes of data, but more are there"),
        (X_FILE[:HEAD], "x_train: its header claims 720 bytes of data, but 0 are there"),
        (X_FILE[: HEAD - 1], "x_train: it is damaged (EOF"),
        (X_FILE[:5], "x_train: it is damaged (EOF"),
        (b"", "x_train: it is damaged (EOF"),
        (pickle.dumps(X), "x_train: it is damaged (the magic string is not correct"),
        (
            X_FILE.replace(b"(9, 8, 10)", b"(9, 8, -1)"),
            "x_train: its header claims the shape (9, 8, -1)",
        ),
        (b"\x93NUMPY\x03\0" + X_FILE[8:], "x_train: a NumPy file of version (3, 0); expected 1.0"),
        (X_FILE.replace(b"(9, 8, 10), }  ", b"(9, 8, 10**9)} "), "x_train: it is damaged ("),
    ],
)
def test_members_that_are_none(tmp_path, data, message):
    path = write_members(tmp_path / "d.npz", [("x_train.npy", data), ("y_train.npy", Y_FILE)])
    assert refusal(path).startswith(message)


def claims(shape):
    """A NumPy file that claims a shape and has no data."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2**31, 1, 1), f"its header claims {2**31} bytes of data, but 0 are there"),
        ((2**31 + 1, 1, 1), f"it claims {2**31 + 1} bytes of data; at most {2**31} are read"),
        ((2**60, 2**60, 2**60), f"it claims {2**180} bytes of data; at most"),
    ],
)
def test_memory_is_taken_for_what_is_there(tmp_path, shape, message):
    members = [("x_train.npy", claims(shape)), ("y_train.npy", Y_FILE)]
    path = write_members(tmp_path / "d.npz", members)
    tracemalloc.start()
    assert refusal(path).startswith(f"x_train: {message}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_bomb(tmp_path, monkeypatch):
    """30 kB that unpack to 32 MB, with a limit of 1 MB."""
    monkeypatch.setattr(contract, "LARGEST_DATA", 1 << 20)
    bomb = np.zeros((1 << 15, 32, 32), np.uint8)
    path = write(tmp_path, np.savez_compressed, **{**GOOD, "x_train": bomb})
    del bomb
    tracemalloc.start()
    assert refusal(path) == f"x_train: it claims {1 << 25} bytes of data; at most 1048576 are read"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000


def test_members_of_one_name(tmp_path):
    members = [("x_train.npy", X_FILE), ("x_train.npy", X_FILE), ("y_train.npy", Y_FILE)]
    with pytest.warns(UserWarning, match="Duplicate"):
        path = write_members(tmp_path / "d.npz", members)
    assert refusal(path) == "it holds two arrays of one name"


def test_an_encrypted_member(tmp_path):
    path = write_members(tmp_path / "d.npz", [("x_train.npy", X_FILE), ("y_train.npy", Y_FILE)])
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert refusal(path) == "x_train: it is encrypted"


def test_a_changed_byte_of_the_data(tmp_path):
    path = write(tmp_path, **GOOD)
    data = bytearray(path.read_bytes())
    data[data.index(X.tobytes()[:40]) + 20] ^= 1
    path.write_bytes(data)
    assert refusal(path).startswith("x_train: it is damaged (Bad CRC-32")


@given(st.binary(max_size=200))
def test_any_bytes_behind_the_first_are_refused_in_one_line(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.npz"
    path.write_bytes(b"PK\x03\x04" + data)
    with pytest.raises(InputError):
        load_split(path, "train")
