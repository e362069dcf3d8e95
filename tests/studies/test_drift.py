from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from refmiracle.errors import InputError
from refmiracle.studies import drift
from refmiracle.studies.drift import DRIFTS, FOOTPRINTS, drifted
from refmiracle.studies.scenes import TEST_SEED, TRAIN_SEED
from refmiracle.training.data import load_split

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def images(rng):
    """Bytes that keep away from the edges, as digits do."""
    found = np.zeros((5, 28, 28), np.uint8)
    found[:, 5:23, 6:22] = rng.integers(0, 256, (5, 18, 16))
    return found


def rounded(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def nearly(found, wanted):
    """Alike, but where a value of SciPy's falls on the other side of a half, as ties do."""
    assert found.dtype == np.uint8
    difference = np.abs(found.astype(int) - wanted)
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= 0.003 * difference.size


@pytest.mark.parametrize("degrees", [10, 25, 40, -90])
def test_rotation(images, degrees):
    turned = ndimage.rotate(
        images.astype(float), degrees, axes=(2, 1), reshape=False, order=1, mode="grid-constant"
    )
    nearly(drift.rotate(images, degrees), rounded(turned))


@pytest.mark.parametrize("factor", [0.55, 0.85, 1.3])
def test_scale(images, factor):
    middle = np.array([0, 13.5, 13.5])
    matrix = np.diag([1, 1 / factor, 1 / factor])
    scaled = ndimage.affine_transform(
        images.astype(float), matrix, middle - matrix @ middle, order=1, mode="grid-constant"
    )
    nearly(drift.scale(images, factor), rounded(scaled))


@pytest.mark.parametrize("sigma", [1, 1.5, 2.5])
def test_blur(images, sigma):
    reach = int(np.ceil(3 * sigma))
    blurred = ndimage.gaussian_filter(
        images.astype(float), (0, sigma, sigma), mode="constant", radius=(0, reach, reach)
    )
    nearly(drift.blur(images, sigma), rounded(blurred))


@pytest.mark.parametrize("pixels", FOOTPRINTS)
@pytest.mark.parametrize("name", ["thicken", "thin"])
def test_strokes(images, pixels, name):
    footprint = np.zeros((1, 5, 5), bool)
    for down, right in FOOTPRINTS[pixels]:
        footprint[0, 2 + down, 2 + right] = True
    assert footprint.sum() == pixels
    filtered = {"thicken": ndimage.maximum_filter, "thin": ndimage.minimum_filter}[name]
    wanted = filtered(images, footprint=footprint, mode="constant", cval=0)
    assert np.array_equal(getattr(drift, name)(images, pixels), wanted)


def test_shift():
    image = np.arange(9, dtype=np.uint8).reshape(1, 3, 3)
    assert drift.shift(image, 1)[0].tolist() == [[0, 0, 0], [0, 0, 1], [0, 3, 4]]
    assert not drift.shift(image, 3).any()


def test_contrast():
    image = np.array([[[0, 127, 128, 255]]], np.uint8)
    assert drift.contrast(image, 0.5).tolist() == [[[64, 127, 128, 191]]]
    assert np.array_equal(drift.contrast(image, 1), image)


def test_occlusion(images):
    hidden = drift.occlude(images, 6)
    assert not hidden[:, 11:17, 11:17].any()
    hidden[:, 11:17, 11:17] = images[:, 11:17, 11:17]
    assert np.array_equal(hidden, images)


def test_inversion_of_a_share(rng):
    images = rng.integers(0, 256, (4000, 2, 2), dtype=np.uint8)
    for share in (0.25, 0.5, 1.0):
        found = drifted(images, "inversion", share)
        same = (found == images).all(axis=(1, 2))
        assert (found[~same] == 255 - images[~same]).all()
        assert np.mean(~same) == pytest.approx(share, abs=0.03)
    assert not np.array_equal(found, drifted(images, "inversion", 0.5, seed=1))


def test_noise():
    grey = np.full((3000, 4, 4), 127, np.uint8)
    noise = drifted(grey, "noise", 20).astype(float) - 127
    assert noise.mean() == pytest.approx(0, abs=0.5)
    assert noise.std() == pytest.approx(20, rel=0.02)
    # Each image has its own, in whatever parts they come.
    assert np.array_equal(
        drifted(grey, "noise", 20)[2500:], drift.add_noise(grey[2500:], 20, 0, 2500)
    )
    assert np.abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.9


@pytest.mark.parametrize("kind", DRIFTS)
def test_each_kind_changes_more_with_its_strength(images, kind):
    strengths = DRIFTS[kind].strengths
    assert len(strengths) == 3
    before = images.copy()
    moved = []
    for strength in strengths:
        found = drifted(images, kind, strength, seed=3)
        assert found.shape == images.shape
        assert found.dtype == np.uint8
        assert np.array_equal(found, drifted(images, kind, strength, seed=3))
        moved.append(np.abs(found.astype(int) - images).mean())
    assert np.array_equal(images, before)
    assert moved[-1] > 0
    if kind not in ("shift", "scale", "rotation"):  # of noise, moving far is like moving near
        assert moved == sorted(moved)


def test_colours_drift_alike(images):
    colours = np.stack([images, images[::-1]], axis=1)
    found = drifted(colours, "rotation", 25)
    assert np.array_equal(found[:, 0], drifted(images, "rotation", 25))
    found = drifted(colours, "inversion", 0.5)
    for channel in (0, 1):  # an image is inverted in all its channels or in none
        assert np.array_equal(found[:, channel], drifted(colours[:, channel], "inversion", 0.5))


def test_no_such_drift(images):
    with pytest.raises(InputError, match="drift 'tides' is unknown; expected one of rotation"):
        drifted(images, "tides", 1)


@pytest.mark.parametrize("kind", DRIFTS)
def test_strengths_that_mean_nothing_are_told(kind):
    images = np.zeros((2, 6, 6), np.uint8)
    wrong = [-1001.0, 1e9, np.nan, np.inf]
    for strength in wrong + [0.5] * DRIFTS[kind].whole + [3] * bool(DRIFTS[kind].only):
        with pytest.raises(InputError, match=f"^strength .* of {kind}: expected [^\n]*$"):
            drifted(images, kind, strength)


def test_a_square_larger_than_the_image_covers_it():
    assert not drifted(np.full((1, 6, 6), 9, np.uint8), "occlusion", 20).any()


def test_the_tool_writes_what_an_update_is_trained_on(small_mnist_folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    import drifted_images  # noqa: PLC0415

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["drifted_images.py", *words])
        drifted_images.main()

    call("noise", "32", str(tmp_path / "noisy"), "--data", str(small_mnist_folder))
    for part, seed in (("train", TRAIN_SEED), ("t10k", TEST_SEED)):
        found, was = (load_split(f, part) for f in (tmp_path / "noisy", small_mnist_folder))
        np.testing.assert_array_equal(found.images, drifted(was.images, "noise", 32, seed))
        np.testing.assert_array_equal(found.labels, was.labels)
    source = str(small_mnist_folder)
    before = {path: path.read_bytes() for path in small_mnist_folder.iterdir()}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "train-images-idx4-ubyte.gz").write_bytes(b"of others")
    for words, said in (
        (("shift", "2", source, "--data", source), "the images are read from there"),
        (("shift", "2", str(tmp_path / "other"), "--data", source), "idx4-ubyte.gz is there"),
    ):
        with pytest.raises(SystemExit, match=said):
            call(*words)
    assert {path: path.read_bytes() for path in small_mnist_folder.iterdir()} == before
    for words in (("shift", "0.5", "out"), ("shift", "2", "out", "--data", "nothing")):
        with pytest.raises(SystemExit, match=r"^drifted_images\.py: [^\n]*$"):
            call(*words)
    assert not Path("out").exists()


def test_the_tool_writes_labels_above_255(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    import drifted_images  # noqa: PLC0415

    images, labels = np.zeros((300, 3, 3), np.uint8), np.arange(300)
    np.savez(tmp_path / "many.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    words = ["shift", "1", str(tmp_path / "out"), "--data", str(tmp_path / "many.npz")]
    monkeypatch.setattr(sys, "argv", ["drifted_images.py", *words])
    drifted_images.main()
    for part in ("train", "t10k"):
        assert load_split(tmp_path / "out", part).labels.tolist() == labels.tolist()
