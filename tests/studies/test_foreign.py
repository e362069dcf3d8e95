from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from refmiracle.errors import InputError
from refmiracle.studies import foreign
from refmiracle.studies.foreign import (
    ANGLES,
    COPIES,
    GLYPHS,
    changed_images,
    foreign_digits,
    outline,
    rotated,
)
from refmiracle.training.data import default_folder, load_split


@pytest.fixture(scope="module")
def digits():
    return foreign_digits()


@pytest.fixture(scope="module")
def test_images():
    return load_split(default_folder(), "t10k").images


def test_all_are_digits_of_other_scripts():
    assert len(set(GLYPHS)) == len(GLYPHS)
    for character in GLYPHS:
        assert unicodedata.category(character) == "Nd"
        assert not character.isascii()
        assert "DIGIT" in unicodedata.name(character)


def test_they_are_images_in_the_manner_of_mnist(digits, test_images):
    assert digits.shape == (COPIES * len(GLYPHS), 28, 28)
    assert digits.dtype == np.uint8
    assert digits.min() == 0
    assert (digits.max(axis=(1, 2)) == 255).all()
    assert abs(digits.mean() - test_images.mean()) < 10
    centres = np.array([center_of_mass(image) for image in digits])
    assert np.abs(centres - 14).max() < 0.1
    usual = np.mean([center_of_mass(image) for image in test_images], axis=0)
    assert np.abs(usual - 14).max() < 0.1
    # Of 20 pixels, and the rims that anti-aliasing gives; none is cut off.
    rows, columns = (digits.max(axis=axis) > 0 for axis in (2, 1))
    sizes = np.maximum(rows.sum(axis=1), columns.sum(axis=1))
    assert sizes.min() >= 20
    assert sizes.max() <= 22


def test_they_are_the_same_each_time_and_all_different(digits):
    assert np.array_equal(foreign_digits(2), digits[: 2 * len(GLYPHS)])
    assert len(np.unique(digits.reshape(len(digits), -1), axis=0)) == len(digits)


def test_a_glyph_stands_upright():
    # N'Ko 5 is a stem with a bar to its right.
    stem, bar = np.split(foreign.draw(outline("\u07c5"), np.eye(2)) > 127, [14], axis=1)
    assert stem.any(axis=1).sum() >= 18
    assert 1 <= bar.any(axis=1).sum() <= 5
    # Arabic-Indic 7 is a V, wide above and narrow below.
    v = foreign.draw(outline("\u0667"), np.eye(2)) > 127
    widths = [np.ptp(np.flatnonzero(row)) for row in v if row.any()]
    assert widths[0] > 2 * widths[-1]


def test_a_missing_glyph_is_one_clear_line():
    with pytest.raises(InputError, match=r"DejaVuSans.ttf: it has no glyph for U\+0966; update"):
        outline("\u0966")


def test_rotations(test_images):
    some = test_images[:20]
    assert np.array_equal(rotated(some, 0), some)
    assert np.array_equal(rotated(some, 180), some[:, ::-1, ::-1])
    assert np.array_equal(rotated(some, 90), np.rot90(some, axes=(1, 2)))
    there_and_back = rotated(rotated(some, 30), -30).astype(float)
    assert np.abs(there_and_back - some).mean() < 0.25 * some.mean()


def test_the_sets(test_images):
    sets = changed_images(test_images)
    assert list(sets) == [f"rotated by {a} degrees" for a in ANGLES] + ["foreign digits"]
    for name, images in sets.items():
        assert images.dtype == np.uint8
        assert images.shape[1:] == (28, 28)
        assert len(images) == (2000 if name.startswith("rotated") else 510)
