"""Folders of PNG and JPEG images, one for each class."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
from data_refusal import both, refusal
from oracles import row_words

from refmiracle.errors import InputError
from refmiracle.training.data import load_split
from refmiracle.training.formats import class_folders, contract

Image = pytest.importorskip("PIL.Image")

RNG = np.random.default_rng(1)


def random_image(shape=(6, 5, 3)):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def encode(image, form="png", **options):
    buffer = io.BytesIO()
    given = image if isinstance(image, Image.Image) else Image.fromarray(image)
    given.save(buffer, form, **options)
    return buffer.getvalue()


def write(folder, files):
    """Write files by their path below the folder; arrays as PNG."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else encode(data))
    return folder


def order(count):
    words = row_words(0, 12, 0, count)
    return sorted(range(count), key=words.__getitem__)


CLASSES = ("a cat", "dog", "z\xe9bre")


@pytest.mark.parametrize("shape", [(6, 5, 3), (6, 5), (1, 1), (1, 7, 3)])
def test_a_folder_divided_into_parts(tmp_path, shape):
    images = {
        f"{part}/{name}/{i}.png": random_image(shape)
        for part, count in (("train", 4), ("test", 2))
        for name in CLASSES
        for i in range(count)
    }
    write(tmp_path, images)
    (tmp_path / "README").write_text("beside them")
    train, test = both(tmp_path)
    assert train.classes == test.classes == CLASSES
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    stacked = np.stack([images[name] for name in sorted(images) if name.startswith("test")])
    assert np.array_equal(test.images, np.moveaxis(stacked, 3, 1) if len(shape) == 3 else stacked)
    stacked = np.stack([images[name] for name in sorted(images) if name.startswith("train")])
    stacked = stacked[order(12)]
    assert np.array_equal(train.images, np.moveaxis(stacked, 3, 1) if len(shape) == 3 else stacked)
    assert train.labels.tolist() == [i // 4 for i in order(12)]


def test_a_folder_without_parts_is_divided(tmp_path):
    images = {f"{name}/{i}.png": random_image((3, 3)) for name in CLASSES for i in range(5)}
    train, test = both(write(tmp_path, images))
    labels = [i // 5 for i in order(15)]
    assert train.labels.tolist() == labels[:13]
    assert test.labels.tolist() == labels[13:]
    stacked = np.stack([images[name] for name in sorted(images)])[order(15)]
    assert np.array_equal(np.concatenate([train.images, test.images]), stacked)
    assert train.classes == CLASSES


def test_classes_may_be_called_train_and_test(tmp_path):
    images = {f"{name}/{i}.png": random_image() for name in ("test", "train") for i in range(3)}
    assert load_split(write(tmp_path, images), "train").classes == ("test", "train")


def test_a_class_without_images_and_one_without_test_images(tmp_path):
    write(tmp_path, {f"{n}.png": random_image() for n in ("train/a/0", "train/b/0", "test/b/0")})
    (tmp_path / "train" / "c").mkdir()
    train, test = both(tmp_path)
    assert train.classes == test.classes == ("a", "b", "c")
    assert test.labels.tolist() == [1]


def test_test_images_alone(tmp_path, caplog):
    write(tmp_path, {f"{n}.png": random_image() for n in ("test/a/0", "test/b/0")})
    assert load_split(tmp_path, "t10k").classes == ("a", "b")
    said = "there is no folder train, so its classes are the folders of test"
    assert [said in message for message in caplog.messages] == [True]
    assert refusal(tmp_path) == "there is no folder train with a folder for each class"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are text")
def test_a_name_that_is_no_text(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write(tmp_path, {f"train/{c}/0.png": random_image() for c in ("a", name)})
    assert load_split(tmp_path, "train").classes == ("a", "caf\\udce9")


def test_what_systems_put_into_folders_is_overlooked(tmp_path):
    write(tmp_path, {f"{n}.PNG": random_image() for n in ("train/a/0", "train/b/0")})
    write(tmp_path, {f"train/{n}": b"x" for n in ("a/.DS_Store", "a/Thumbs.db", "b/desktop.ini")})
    write(tmp_path, {"train/.git/x.png": b"x"})
    assert load_split(tmp_path, "train").classes == ("a", "b")


def palette(image):
    """The same colours, as numbers in a palette."""
    return Image.fromarray(image).quantize(256)


GREY, RGB = random_image((6, 5)), random_image()


@pytest.mark.parametrize(
    ("image", "form", "options", "expected"),
    [
        (GREY, "png", {}, GREY),
        (RGB, "png", {}, RGB),
        (palette(RGB), "png", {}, np.asarray(palette(RGB).convert("RGB"))),
        (Image.fromarray(GREY > 99), "png", {}, np.uint8(255) * (GREY > 99)),
        (RGB, "png", {"optimize": True}, RGB),
        (RGB, "jpeg", {"quality": 100, "subsampling": 0}, RGB),
        (GREY, "jpeg", {"quality": 100}, GREY),
    ],
)
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_modes_and_forms(tmp_path, image, form, options, expected, ending):
    """What a file is its content says, not its name."""
    data = encode(image, form, **options)
    split = load_split(write(tmp_path, {f"train/{c}/0.{ending}": data for c in "ab"}), "train")
    found = split.images[0] if expected.ndim == 2 else np.moveaxis(split.images[0], 0, 2)
    most = 6 if form == "jpeg" else 0
    assert np.abs(found.astype(int) - expected).max() <= most


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, data=b"", kind=0, more=b"", depth=8):
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = more + chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


GOOD = encode(RGB)
TRANSPARENT = palette(RGB)
TRANSPARENT.info["transparency"] = 0
CUT = "it is cut off, or has bytes behind its end"
RGBA = np.concatenate([RGB, RGB[:, :, :1]], axis=2)
FRAMES = {"save_all": True, "append_images": [Image.fromarray(random_image())]}
WRONG = {
    "empty": (b"", "it is empty; expected PNG or JPEG"),
    "text": (b"a cat", "it is no image (it begins with 61 20 63 61 74); expected PNG or JPEG"),
    "page": (b"<html>", "it is an HTML or XML page; expected PNG or JPEG"),
    "gif": (encode(GREY, "gif"), "it is a GIF image; expected PNG or JPEG"),
    "bmp": (encode(GREY, "bmp"), "it is no image (it begins with 42 4d"),
    "tiff": (encode(GREY, "tiff"), "it is a TIFF image; expected PNG or JPEG"),
    "too long": (GOOD + b"x", CUT),
    # Pillow has words of its own for these.
    "no data": (GOOD[:33] + GOOD[-12:], ""),
    "another head": (GOOD[:8] + GOOD[-12:], ""),
    "a changed size": (GOOD[:19] + b"\x09" + GOOD[20:], ""),
    "too few pixels": (png(5, 6, bytes(10), 2), ""),
    "no pixels": (png(0, 6, b"", 2), ""),
    "alpha": (encode(RGBA), "it has pixels of mode RGBA; expected grey or RGB of 8 bits, with"),
    "grey and alpha": (encode(RGBA[:, :, :2]), "it has pixels of mode LA; expected grey or RGB"),
    "a transparent colour": (encode(TRANSPARENT), "it has transparency; expected grey or RGB"),
    "16 bits": (encode(GREY.astype(np.uint16)), "it has pixels of mode I"),
    "16 bits in colour": (png(5, 6, bytes(6 * 31), 2, depth=16), "it has pixels of 16 bits; expec"),
    "four inks": (encode(Image.fromarray(RGB).convert("CMYK"), "jpeg"), "it has pixels of mode CM"),
    "frames": (encode(Image.fromarray(RGB), **FRAMES), "it has several frames; expected one image"),
    "grey": (encode(GREY), "its size is 5x6 grey; "),
    "taller": (encode(random_image((7, 5, 3))), "its size is 5x7 RGB; "),
    "wider": (encode(random_image((6, 6, 3))), "its size is 6x6 RGB; "),
    "a bomb": (
        png(60_000, 60_000, bytes(100)),
        "it claims 60000x60000 pixels; at most 67108864",
    ),
}


def refused(folder, name, data, part="t10k"):
    """What is said of one file among good ones; test images are read in their order."""
    write(folder, {"train/a/0.png": RGB, "train/b/0.png": RGB, f"{name}": data})
    told = refusal(folder, part)
    assert told.startswith(f"{os.sep}{name}: ")
    return told.removeprefix(f"{os.sep}{name}: ")


@pytest.mark.parametrize("kind", WRONG)
def test_images_that_are_not_taken(tmp_path, kind):
    data, message = WRONG[kind]
    write(tmp_path, {"test/a/0.png": RGB})
    assert refused(tmp_path, "test/b/1.png", data).startswith(message)


def test_the_first_image_is_one_that_is_named(tmp_path):
    write(tmp_path, {"test/a/0.png": RGB})
    told = refused(tmp_path, "test/b/1.png", encode(GREY))
    assert told == "its size is 5x6 grey; the first, a/0.png, has 5x6 RGB, and all must have one"


@pytest.mark.slow
def test_cut_off_anywhere(tmp_path):
    jpeg = encode(RGB, "jpeg")
    for name, data in (("test/b/0.png", GOOD), ("test/b/0.jpg", jpeg)):
        folder = tmp_path / name[-3:]
        for length in range(len(data)):
            assert refused(folder, name, data[:length])
        write(folder, {name: data})
        assert len(load_split(folder, "t10k").images) == 1


def test_many_images_are_refused_by_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(contract, "LARGEST_DATA", 179)
    expected = "it claims 180 bytes of data; at most 179 are read"
    assert refused(tmp_path, "train/a/0.png", GOOD, "train") == expected


def test_a_file_that_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(class_folders, "LARGEST_FILE", len(GOOD) - 1)
    assert refused(tmp_path, "test/a/0.png", GOOD) == f"it has more than {len(GOOD) - 1} bytes"


@pytest.mark.parametrize("name", ["train/a/notes.txt", "train/a/0.gif", "train/a/more/0.png"])
def test_other_files_among_images(tmp_path, name):
    write(tmp_path, {"train/a/0.png": RGB, "train/b/0.png": RGB, name: b"x"})
    place = f"/{name.removesuffix('/0.png')}" if "more" in name else f"/{name}"
    expected = ": it is among images; expected .png, .jpg, .jpeg only"
    assert refusal(tmp_path) == place + expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/a/0", "train/b/0", "test/c/0"], "/test/c: there is no such class among the tr"),
        (["train/a/0", "test/a/0"], "classes: 1; expected 2 to 65535"),
        (["a/0", "a/1", "b/0", "b/1", "b/2"], "5 images; expected at least 6, of which one is"),
        (["a/0", "a/1", "a/2", "a/3", "a/4", "a/5"], "classes: 1; expected 2 to 65535"),
    ],
)
def test_classes_that_do_not_fit(tmp_path, names, message):
    write(tmp_path, {f"{name}.png": RGB for name in names})
    assert refusal(tmp_path, "t10k").startswith(message)


def test_folders_without_images(tmp_path):
    for name in ("train/a", "train/b", "c", "d"):
        (tmp_path / name).mkdir(parents=True)
    assert refusal(tmp_path) == "there are no images in the folders of the classes"
    assert refusal(tmp_path / "c").startswith("there is no train-images-idx3-ubyte or ")


@pytest.mark.skipif(os.name == "nt", reason="Windows has links for administrators only")
def test_links_in_a_circle(tmp_path):
    write(tmp_path, {"train/a/0.png": RGB, "train/b/0.png": RGB})
    (tmp_path / "train" / "b" / "1.png").symlink_to("1.png")
    assert refusal(tmp_path) == (
        "/train/b/1.png: cannot be read: Too many levels of symbolic links"
    )
    (tmp_path / "train" / "b" / "1.png").unlink()
    (tmp_path / "train" / "b" / "up").symlink_to("../..")
    assert refusal(tmp_path).startswith("/train/b/up: it is among images")
    (tmp_path / "train" / "b" / "up").unlink()
    (tmp_path / "train" / "c").symlink_to("c")
    assert refusal(tmp_path) == "/train/c: cannot be read: Too many levels of symbolic links"


def test_without_pillow(tmp_path, monkeypatch):
    write(tmp_path, {"train/a/0.png": RGB, "train/b/0.png": RGB})
    for module in ("PIL", "PIL.PngImagePlugin", "PIL.JpegImagePlugin"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r'PIL.* not .*pip install "refmiracle\[images\]"'):
        load_split(tmp_path, "train")
