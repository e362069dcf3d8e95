from __future__ import annotations

import gzip
import hashlib
import struct

import numpy as np
import pytest

from refmiracle.errors import InputError
from refmiracle.training.data import (
    Split,
    default_folder,
    load_split,
    read_idx,
    split_validation,
)


def idx(array, magic=None):
    """An IDX file, written from LeCun's description of the format."""
    magic = magic or bytes([0, 0, 8, array.ndim])
    return magic + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


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


@pytest.mark.parametrize(("pack", "ending"), [(lambda d: d, ""), (gzip.compress, ".gz")])
def test_reads_plain_and_gzip(tmp_path, pack, ending):
    write_folder(tmp_path, IMAGES, LABELS, pack, ending)
    split = load_split(tmp_path, "train")
    assert np.array_equal(split.images, IMAGES)
    assert np.array_equal(split.labels, LABELS)


GOOD = idx(IMAGES)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no IDX file"),
        (GOOD[:9], "no IDX file"),
        (b"\x00\x00\x09\x03" + GOOD[4:], "no IDX file"),
        (b"\x00\x00\x08\x01" + GOOD[4:], "no IDX file"),
        (GOOD[:-1], "claims 2352 bytes of data, but 2351"),
        (GOOD + b"x", "claims 2352 bytes of data, but more"),
        (GOOD[:4] + b"\xff" * 12, "at most"),
    ],
)
def test_damaged_file_is_one_clear_line(tmp_path, data, message):
    path = tmp_path / "images"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as e:
        read_idx(path, axes=3)
    assert str(path) in str(e.value)
    assert "\n" not in str(e.value)


def damaged_gzip():
    packed = bytearray(gzip.compress(GOOD))
    packed[20] ^= 0xFF
    return bytes(packed)


@pytest.mark.parametrize("data", [GOOD, gzip.compress(GOOD)[:-20], damaged_gzip(), b""])
def test_damaged_gzip(tmp_path, data):
    path = tmp_path / "images.gz"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"images\.gz"):
        read_idx(path, axes=3)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no train-images-idx3-ubyte or"):
        load_split(tmp_path, "train")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 27, 28), np.uint8), LABELS, "27x28 pixels; expected 28x28"),
        (IMAGES, LABELS[:2], "3 train images, but 2 labels"),
        (IMAGES, np.array([0, 1, 10], np.uint8), "label 10 is out of range"),
        (IMAGES[:0], LABELS[:0], "0 train images"),
    ],
)
def test_files_that_do_not_fit(tmp_path, images, labels, message):
    write_folder(tmp_path, images, labels)
    with pytest.raises(InputError, match=message):
        load_split(tmp_path, "train")


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
