from __future__ import annotations

import gzip
import hashlib
import struct
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from data_refusal import idx

from refmiracle.errors import InputError
from refmiracle.nn.networks import LENET5
from refmiracle.training.data import (
    Split,
    check_split,
    default_folder,
    load_split,
    split_validation,
)
from refmiracle.training.formats import contract
from refmiracle.training.formats.idx import IMAGES as AS_IMAGES
from refmiracle.training.formats.idx import LABELS as AS_LABELS
from refmiracle.training.formats.idx import read_idx
from refmiracle.training.settings import fingerprint, same_images


def write_folder(folder, images, labels, pack=lambda data: data, ending=""):
    (folder / f"train-images-idx3-ubyte{ending}").write_bytes(pack(idx(images)))
    (folder / f"train-labels-idx1-ubyte{ending}").write_bytes(pack(idx(labels)))


IMAGES = np.arange(3 * 28 * 28, dtype=np.uint64).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([0, 9, 5], dtype=np.uint8)


def test_carried_files_are_mnist():
    folder = default_folder()
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    # Counts of each digit, as published with the data set.
    train, test = load_split(folder, "train"), load_split(folder, "t10k")
    assert np.bincount(test.labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert np.bincount(train.labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip


def plain(data):
    return data


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("pack", [plain, gzip.compress])
def test_reads_plain_and_gzip_whatever_the_name_says(tmp_path, pack, ending):
    write_folder(tmp_path, IMAGES, LABELS, pack, ending)
    split = load_split(tmp_path, "train")
    assert np.array_equal(split.images, IMAGES)
    assert np.array_equal(split.labels, LABELS)


TYPES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12}


@pytest.mark.parametrize("dtype", TYPES)
def test_any_integers_are_the_same_split(tmp_path, dtype):
    images = IMAGES // 2 if dtype == "i1" else IMAGES
    for array, name in ((images, "images-idx3"), (LABELS, "labels-idx1")):
        data = idx(array.astype(dtype), bytes([0, 0, TYPES[dtype], array.ndim]))
        (tmp_path / f"train-{name}-ubyte").write_bytes(data)
    split = load_split(tmp_path, "train")
    for array, expected in ((split.images, images), (split.labels, LABELS)):
        assert array.dtype == np.uint8
        assert array.flags.c_contiguous
        assert not array.flags.writeable
        assert np.array_equal(array, expected)
    assert fingerprint(split) == fingerprint(Split(images, LABELS))


def digest_of(images, labels):
    """What a fingerprint was before it knew types and shapes."""
    return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()


def test_the_fingerprint_is_that_of_types_shapes_and_bytes(tmp_path):
    write_folder(tmp_path, IMAGES, LABELS)
    found = fingerprint(load_split(tmp_path, "train"))
    n = len(IMAGES)
    assert found == f"|u1({n},28,28) |u1({n}) {digest_of(IMAGES, LABELS)}"
    assert fingerprint(Split(np.asfortranarray(IMAGES), LABELS)) == found


def test_the_same_bytes_in_other_arrays_are_other_images():
    flat = np.arange(10 * 784 + 10, dtype=np.uint8) % 10
    parts = [(10, 28, 28), (10, 14, 56), (10, 784), (7840,)]
    splits = [Split(flat[:7840].reshape(shape), flat[7840:]) for shape in parts]
    splits += [Split(flat[:7056].reshape(9, 28, 28), flat[7056:])]
    splits += [Split(splits[0].images, flat[7840:].view(t)) for t in ("int8", "<u2", ">u2")]
    splits += [Split(splits[0].images.view("int8"), flat[7840:])]
    found = [fingerprint(split) for split in splits]
    assert len(set(found)) == len(found)
    for i, one in enumerate(found):
        assert [same_images(one, other) for other in found] == [j == i for j in range(len(found))]


def test_a_fingerprint_of_before_is_that_of_the_same_bytes():
    now = fingerprint(Split(IMAGES, LABELS))
    before, other = digest_of(IMAGES, LABELS), digest_of(IMAGES[::-1], LABELS)
    assert same_images(before, now)
    assert same_images(now, before)
    assert same_images(before, before)
    assert not same_images(other, now)
    assert not same_images("", now)
    assert not same_images(now, fingerprint(Split(IMAGES[::-1], LABELS)))


def test_names_with_a_dot_where_there_are_no_others(tmp_path):
    (tmp_path / "train-images.idx3-ubyte").write_bytes(idx(IMAGES))
    (tmp_path / "train-labels.idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS)))
    split = load_split(tmp_path, "train")
    assert np.array_equal(split.images, IMAGES)
    assert np.array_equal(split.labels, LABELS)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(idx(IMAGES[::-1]))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[::-1]))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(b"not looked at")
    split = load_split(tmp_path, "train")
    assert np.array_equal(split.images, IMAGES[::-1])
    assert np.array_equal(split.labels, LABELS[::-1])


GOOD = idx(IMAGES)


EXPECTED = "; expected images: an IDX file of integers, axes: 3 or 4"
CUT_OFF = "it ends within its header of 16 bytes"
PACKED = gzip.compress(GOOD, mtime=0)
OTHERS = {
    b"": "it is empty",
    b"\0\0": "it is no IDX file (it begins with 00 00)",
    b"1,0,0,0,0,0": "it is no IDX file (it begins with 31 2c 30 2c 30 2c 30 2c)",
    b"\0\0\x0d\x03" + GOOD[4:]: "it is an IDX file of float32, axes: 3",
    b"\0\0\x0e\x03" + GOOD[4:]: "it is an IDX file of float64, axes: 3",
    b"\0\0\x08\x05" + GOOD[4:]: "it is an IDX file of integers, axes: 5",
    idx(LABELS): "it is an IDX file of integers, axes: 1 (are these the labels?)",
    b"\x03\x08\0\0" + GOOD[4:]: "it is an IDX file with its bytes in little-endian order",
    gzip.compress(PACKED, mtime=0): "it is gzip within gzip",
    b"PK\x03\x04": "it is a zip file",
    b"\x89PNG\r\n\x1a\n": "it is a PNG image",
    b"BZh91AY": "it is a bzip2 file",
    b"\xfd7zXZ\0": "it is an xz file",
    b"\x93NUMPY\x01\0": "it is a NumPy file",
    b"<!DOCTYPE html>": "it is an HTML or XML page",
    b"\xef\xbb\xbf\r\n <html>": "it is an HTML or XML page",
    gzip.compress(b"<html>", mtime=0): "it is an HTML or XML page",
    b"version https://git-lfs.github.com/spec/v1": "it is a pointer of Git LFS",
}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        *((data, what + EXPECTED) for data, what in OTHERS.items()),
        (GOOD[:4], CUT_OFF),
        (GOOD[:15], CUT_OFF),
        (GOOD[:-1], "its header claims 2352 bytes of data, but 2351 are there"),
        (GOOD + b"x", "its header claims 2352 bytes of data, but more are there"),
        (
            PACKED + PACKED,
            "its header claims 2352 bytes of data, but more",
        ),
        (GOOD[:4] + b"\xff" * 12, f"it claims {(2**32 - 1) ** 3} bytes of data; at most"),
        (
            GOOD[:4] + b"\0" * 4 + b"\xff" * 8,
            f"it claims {(2**32 - 1) ** 2} bytes of data; at most",
        ),
        (
            idx((IMAGES.astype("i4") - 1).astype(">i4"), b"\0\0\x0c\x03"),
            "it holds values from -1 to 254; expected images from 0 to 255",
        ),
        (
            idx((IMAGES.astype("i2") + 1).astype(">i2"), b"\0\0\x0b\x03"),
            "it holds values from 1 to 256; expected images from 0 to 255",
        ),
    ],
)
def test_what_is_no_such_file_is_one_clear_line(tmp_path, data, message):
    path = tmp_path / "images"
    path.write_bytes(data)
    with pytest.raises(InputError) as e:
        read_idx(path, AS_IMAGES)
    assert str(e.value).startswith(f"{path}: {message}")
    assert "\n" not in str(e.value)


def test_images_where_the_labels_should_be(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(GOOD)
    with pytest.raises(InputError, match=r"axes: 3 \(are these the images\?\); expected labels"):
        read_idx(path, AS_LABELS)


@pytest.mark.parametrize("pack", [plain, gzip.compress])
def test_memory_is_taken_for_what_is_there(tmp_path, pack, monkeypatch):
    """Not for what a header claims, and not for what is behind its claim, as in a gzip bomb."""
    monkeypatch.setattr(contract, "PIECE", 1 << 12)
    head = b"\0\0\x08\x03" + struct.pack(">3I", 2**30, 1, 1)
    claims, bomb = tmp_path / "claims", tmp_path / "bomb"
    claims.write_bytes(pack(head + bytes(100)))
    bomb.write_bytes(pack(GOOD + bytes(20_000_000)))
    for path in (claims, bomb):
        tracemalloc.start()
        with pytest.raises(InputError, match=r"but (100|more) are there"):
            read_idx(path, AS_IMAGES)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000


def damaged_gzip():
    packed = bytearray(PACKED)
    packed[20] ^= 0xFF
    return bytes(packed)


@pytest.mark.parametrize("data", [PACKED[:-20], damaged_gzip(), b"\x1f\x8b", b"\x1f"])
def test_damaged_gzip(tmp_path, data):
    path = tmp_path / "images.gz"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"images\.gz"):
        read_idx(path, AS_IMAGES)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no train-images-idx3-ubyte or"):
        load_split(tmp_path, "train")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, LABELS[:2], "3 train images, but 2 labels"),
        (IMAGES[:0], LABELS[:0], "0 train images"),
        (np.zeros((3, 0, 28), np.uint8), LABELS, r"images of shape \(3, 0, 28\); expected \(count"),
        (IMAGES, np.zeros(3, np.uint8), "classes: 1; expected 2 to 65535"),
        (IMAGES, np.array([0, 1, -1], ">i4"), "it holds values from -1 to 1; expected labels from"),
        (IMAGES, np.array([0, 1, 65536], ">i4"), "values from 0 to 65536; expected labels from 0"),
        (IMAGES, np.array([0, 1, 65535], ">i4"), "classes: 65536; expected 2 to 65535"),
    ],
)
def test_files_that_do_not_fit(tmp_path, images, labels, message):
    write_folder(tmp_path, images, labels)
    if labels.dtype != np.uint8:
        magic = b"\0\0\x0c\x01"
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels, magic))
    with pytest.raises(InputError, match=message) as e:
        load_split(tmp_path, "train")
    assert str(e.value).startswith(f"{tmp_path}")
    assert str(e.value).count(str(tmp_path)) == 1


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            np.zeros((3, 27, 28), np.uint8),
            LABELS,
            "images of 1x27x28 (channels, height, width); lenet5 takes",
        ),
        (
            np.zeros((3, 3, 32, 32), np.uint8),
            LABELS,
            "images of 3x32x32 (channels, height, width); lenet5 takes",
        ),
        (IMAGES, np.array([0, 1, 10], np.uint8), "label 10; lenet5 tells 10 classes apart"),
    ],
)
def test_what_a_network_does_not_take_is_read_and_then_refused(tmp_path, images, labels, message):
    write_folder(tmp_path, images, labels)
    split = load_split(tmp_path, "train")
    assert np.array_equal(split.images, images)
    assert np.array_equal(split.labels, labels)
    with pytest.raises(InputError) as e:
        check_split(split, LENET5)
    assert str(e.value).startswith(message)
    assert "\n" not in str(e.value)
    assert split.input_shape() == split.with_channels().shape[1:]
    assert len(split.classes) == labels.max() + 1


def test_fewer_classes_than_the_network_has(tmp_path):
    write_folder(tmp_path, IMAGES, LABELS % 5)
    split = load_split(tmp_path, "train")
    assert len(split.classes) == 5
    assert check_split(split, LENET5) is split
    many = replace(split, classes=tuple("0123456789a"))
    with pytest.raises(InputError, match="labels of 11 classes; lenet5 tells 10 classes apart"):
        check_split(many, LENET5)


def test_validation_is_the_last_five_thousand():
    labels = (np.arange(12_000) % 10).astype(np.uint8)
    images = np.zeros((12_000, 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(12_000) % 251
    train, validation = split_validation(Split(images, labels))
    assert (len(train.images), len(validation.images)) == (7000, 5000)
    assert np.array_equal(validation.images, images[7000:])
    with pytest.raises(InputError, match="too few"):
        split_validation(Split(images[:6000], labels[:6000]))


@pytest.mark.parametrize("kept", [0, 1, 6000])
def test_how_many_are_kept_for_validation_can_be_chosen(kept):
    images = np.arange(12_000, dtype=np.uint16).view(np.uint8).reshape(12_000, 1, 2)
    train, validation = split_validation(Split(images, images[:, 0, 0]), kept)
    assert len(validation.images) == kept
    assert np.array_equal(np.concatenate([train.images, validation.images]), images)
