"""IDX files under EMNIST's names, and of more classes and axes than MNIST's."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from data_refusal import both, idx, refusal

from refmiracle.training.data import DataSet, load_split
from refmiracle.training.settings import fingerprint

IMAGES = np.arange(5 * 28 * 28, dtype=np.uint64).astype(np.uint8).reshape(5, 28, 28)
# Classes of each set, the first label, and lines of the mapping: label and codes, as published.
SETS = {
    "balanced": (47, 0, [f"{i} {ord(c)}" for i, c in enumerate("0123456789ABCDEFGHIJ")]),
    "byclass": (62, 0, []),
    "digits": (10, 0, [f"{i} {48 + i}" for i in range(10)]),
    "letters": (26, 1, [f"{i} {64 + i} {96 + i}" for i in range(1, 27)]),
}


def write_set(folder, name, labels, mapping=(), images=IMAGES):
    folder.mkdir(exist_ok=True)
    for part in ("train", "test"):
        stem = f"emnist-{name}-{part}"
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(idx(labels))
    if mapping:
        (folder / f"emnist-{name}-mapping.txt").write_text("\n".join(mapping) + "\n")


def labels_of(name):
    count, first, _ = SETS[name]
    return np.array([first, first + 1, first + count - 1, first, first + 2], np.uint8)


@pytest.mark.parametrize("name", SETS)
def test_each_set_alone_in_a_folder(tmp_path, name):
    count, first, _ = SETS[name]
    write_set(tmp_path, name, labels_of(name))
    for split in both(tmp_path):
        assert np.array_equal(split.images, IMAGES.swapaxes(1, 2))
        assert split.labels.tolist() == [0, 1, count - 1, 0, 2]
        assert split.labels.dtype == np.uint8
        assert split.classes == tuple(map(str, range(first, first + count)))
        assert split.images.flags.c_contiguous
        assert not split.images.flags.writeable
    assert np.array_equal(both(tmp_path, transposed=False)[0].images, IMAGES)


def test_one_of_several_sets_is_named_behind_the_folder(tmp_path):
    folder = tmp_path / "gzip"
    for name, (_, _, mapping) in SETS.items():
        write_set(folder, name, labels_of(name), mapping if name != "balanced" else ())
    told = refusal(folder)
    assert told.startswith("it holds 4 data sets; name one of them behind the folder: /emnist-b")
    train, test = both(folder / "emnist-letters")
    assert train.classes == test.classes == tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert both(folder / "emnist-digits")[0].classes == tuple("0123456789")
    assert refusal(folder / "emnist-bymerge") == "there is no such folder or file"


def test_a_label_that_the_mapping_does_not_name(tmp_path):
    write_set(tmp_path, "balanced", labels_of("balanced"), SETS["balanced"][2])
    assert refusal(tmp_path) == "label 46; the names of the classes end at 19"


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 1), ("0 48\na b", 2), ("0 48\n1 -1", 2), ("0 48\n\n-1 49", 3), ("0 1114112", 1),
     ("0 10", 1), ("0 48\n1 99999999999999999999", 2), ("<html>", 1)],
)  # fmt: skip
def test_a_mapping_that_is_none(tmp_path, text, number):
    write_set(tmp_path, "digits", labels_of("digits"), [text])
    told = refusal(tmp_path)
    assert told.startswith(f"{os.sep}emnist-digits-mapping.txt: line {number} is ")
    assert told.endswith("; expected a label and the code of a character")


def test_a_mapping_that_is_no_text(tmp_path):
    write_set(tmp_path, "digits", labels_of("digits"))
    (tmp_path / "emnist-digits-mapping.txt").write_bytes(b"0 \xff")
    assert "no text in UTF-8" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["train-images-idx3", "test-labels-idx1"])
def test_a_file_that_is_missing(tmp_path, name):
    write_set(tmp_path, "digits", labels_of("digits"))
    for path in tmp_path.glob(f"*{name}*"):
        path.unlink()
    told = refusal(tmp_path, "train" if "train" in name else "t10k")
    assert told.startswith(f"there is no emnist-digits-{name}-ubyte or ")


def test_labels_from_and_transposed_are_options_of_any_data(tmp_path):
    """The letters, as some copies have them: under MNIST's names."""
    write_set(tmp_path, "letters", labels_of("letters"))
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tmp_path.glob("emnist-*"):
        name = path.name.removeprefix("emnist-letters-").replace("test-", "t10k-")
        shutil.copy(path, copy / name)
    plain, _ = both(copy)
    assert len(plain.classes) == 27
    assert np.array_equal(plain.images, IMAGES)
    for again, own in zip(both(copy, transposed=True, labels_from=1), both(tmp_path), strict=True):
        assert fingerprint(again) == fingerprint(own)
        assert again.classes == own.classes
    assert refusal(DataSet(copy, labels_from=2)).startswith("label 1; expected labels from 2 on")
    assert refusal(DataSet(copy, labels_from=-1)).startswith("labels_from -1 is out of range")
    assert len(both(tmp_path, labels_from=0)[0].classes) == 27


def test_the_classes_are_those_of_both_parts(tmp_path):
    for part, largest in (("train", 2), ("t10k", 6)):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(IMAGES))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.full(5, largest, np.uint8)))
    assert [len(split.classes) for split in both(tmp_path)] == [7, 7]
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert len(load_split(tmp_path, "train").classes) == 3


@pytest.mark.parametrize("name", ["idx4", "idx3"])
@pytest.mark.parametrize(
    ("shape", "expected"),
    [((5, 3, 8, 9), (5, 3, 8, 9)), ((5, 8, 9, 3), (5, 3, 8, 9)), ((5, 1, 8, 9), (5, 8, 9)),
     ((5, 8, 9, 1), (5, 8, 9)), ((5, 6, 8, 9), (5, 6, 8, 9))],
)  # fmt: skip
def test_four_axes(tmp_path, name, shape, expected):
    images = np.arange(np.prod(shape), dtype=np.uint64).astype(np.uint8).reshape(shape)
    labels = np.array([0, 300, 1, 2, 3], ">i2")
    (tmp_path / f"train-images-{name}-ubyte").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels, b"\0\0\x0b\x01"))
    split = load_split(tmp_path, "train")
    assert split.images.shape == expected
    assert split.labels.dtype == "<u2"
    assert len(split.classes) == 301
    last = shape[-1] < shape[1]
    moved = images.transpose(0, 3, 1, 2) if last else images
    assert np.array_equal(split.with_channels(), moved)


def test_channels_that_could_stand_on_two_axes(tmp_path):
    (tmp_path / "train-images-idx4-ubyte").write_bytes(idx(np.zeros((2, 3, 8, 3), np.uint8)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.array([0, 1], np.uint8)))
    assert "which axis has the channels is not clear" in refusal(tmp_path)
    for channels, shape in (("first", (3, 8, 3)), ("last", (3, 3, 8))):
        assert load_split(DataSet(tmp_path, channels=channels), "train").input_shape() == shape


def test_the_tool_writes_pairs_of_digits_in_this_form(tmp_path, monkeypatch, small_mnist_folder):
    """As many images of each class, upright, no two alike; into no folder of other images."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "tools")
    import paired_digits  # noqa: PLC0415

    monkeypatch.setattr(paired_digits, "PARTS", {("train", "train"): 12, ("t10k", "test"): 3})
    monkeypatch.setattr(paired_digits, "default_folder", lambda: small_mnist_folder)
    monkeypatch.setattr(sys, "argv", ["paired_digits.py", str(tmp_path / "pairs")])
    paired_digits.main()
    mnist = load_split(small_mnist_folder, "t10k")
    train, test = both(tmp_path / "pairs")
    assert np.bincount(train.labels).tolist() == [12] * 47
    assert np.bincount(test.labels[:47]).tolist() == [1] * 47
    assert test.classes == tuple(map(str, range(47)))
    assert len({image.tobytes() for image in train.images}) == 12 * 47
    three, six = (mnist.images[mnist.labels == digit] for digit in (3, 6))
    wide = np.hstack([three[241 * 6 % len(three)], six[577 * 3 % len(six)]]).astype(int)
    assert np.array_equal(test.images[36], (wide[:, ::2] + wide[:, 1::2]) // 2)
    before = {path: path.read_bytes() for path in (tmp_path / "pairs").iterdir()}
    paired_digits.main()
    assert {path: path.read_bytes() for path in before} == before
    (tmp_path / "pairs" / "t10k-images-idx3-ubyte").write_bytes(b"of others")
    with pytest.raises(SystemExit, match="t10k-images-idx3-ubyte is there, of other images"):
        paired_digits.main()


def test_a_place_may_be_a_text(tmp_path):
    write_set(tmp_path, "balanced", labels_of("balanced"))
    found, expected = (load_split(place, "train") for place in (str(tmp_path), tmp_path))
    assert np.array_equal(found.images, expected.images)
    assert refusal(str(tmp_path / "none")) == "there is no such folder or file"
