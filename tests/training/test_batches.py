from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from tiny import TINY

from refmiracle.errors import InputError
from refmiracle.training.batches import Batches
from refmiracle.training.data import Split


def split(rng, count=200):
    images = rng.integers(1, 256, (count, 28, 28), dtype=np.uint8)
    return Split(images, np.arange(count, dtype=np.uint64).astype(np.uint8))


def moved(image, down, right):
    """An image moved by so many pixels, black where nothing comes in, written pixel by pixel."""
    result = np.zeros_like(image)
    for i in range(28):
        for j in range(28):
            if 0 <= i - down < 28 and 0 <= j - right < 28:
                result[i, j] = image[i - down, j - right]
    return result


def test_each_epoch_sees_each_image_once_in_a_new_order(rng):
    batches = Batches(replace(TINY, batch_size=40), split(rng))
    orders = []
    for epoch in range(2):
        orders.append(np.concatenate([batches.batch(5 * epoch + i)[1].copy() for i in range(5)]))
    assert np.array_equal(np.sort(orders[0]), np.arange(200))
    assert np.array_equal(np.sort(orders[1]), np.arange(200))
    assert not np.array_equal(*orders)


def test_images_belong_to_their_labels(rng):
    train = split(rng)
    images, labels = Batches(TINY, train).batch(3)
    assert np.array_equal(images, train.images[labels])


@pytest.mark.parametrize("shift", [1, 2])
def test_shifted_images_are_moved_by_every_distance_alike(rng, shift):
    train = split(rng)
    batches = Batches(replace(TINY, batch_size=100, shift=shift), train)
    reach = range(-shift, shift + 1)
    counts = dict.fromkeys(((d, r) for d in reach for r in reach), 0)
    every = functools.cache(lambda n: np.array([moved(train.images[n], *by) for by in counts]))
    for step in range(10):
        images, labels = batches.batch(step)
        for image, label in zip(images, labels.tolist(), strict=True):
            (fits,) = np.flatnonzero((every(label) == image).all(axis=(1, 2)))
            counts[list(counts)[fits]] += 1
    # 1000 draws; a count further than 6 standard deviations from its mean is no chance.
    p = 1 / len(counts)
    assert all(abs(n - 1000 * p) < 6 * np.sqrt(1000 * p * (1 - p)) for n in counts.values())


@pytest.mark.parametrize("shift", [0, 2])
def test_mirrored_images_are_those_of_the_step_turned(rng, shift):
    train = split(rng)
    settings = replace(TINY, batch_size=100, shift=shift)
    plain, flipped = Batches(settings, train), Batches(replace(settings, flip=1), train)
    turned = 0
    for step in range(10):
        (images, labels), (found, same_labels) = plain.batch(step), flipped.batch(step)
        assert np.array_equal(labels, same_labels)
        assert found.flags.c_contiguous
        same = (found == images).all(axis=(1, 2))
        mirrored = (found == images[..., ::-1]).all(axis=(1, 2))
        assert (same ^ mirrored).all()
        turned += int(mirrored.sum())
    # 1000 draws; further than 6 standard deviations from the half is no chance.
    assert abs(turned - 500) < 6 * np.sqrt(250)


@pytest.mark.parametrize("shift", [0, 2])
def test_channels_move_together(rng, shift):
    """Of images with channels each is moved as the grey image of the same step is."""
    grey = split(rng, 50)
    three = replace(grey, images=np.stack([grey.images, 255 - grey.images, grey.images], axis=1))
    settings = replace(TINY, shift=shift, flip=1)
    images, labels = Batches(settings, three).batch(1)
    expected, same_labels = Batches(settings, grey).batch(1)
    assert np.array_equal(labels, same_labels)
    assert images.shape == (TINY.batch_size, 3, 28, 28)
    assert images.flags.c_contiguous
    for channel in (0, 2):
        assert np.array_equal(images[:, channel], expected)
    assert np.array_equal(images[:, 1], np.where(expected > 0, 255 - expected, 0))


def test_a_step_has_its_shifts_whatever_came_before(rng):
    train = split(rng)
    settings = replace(TINY, shift=2)
    one, other = Batches(settings, train), Batches(settings, train)
    for step in range(4):
        expected = one.batch(step)[0].copy()
    assert np.array_equal(other.batch(3)[0], expected)
    assert not np.array_equal(other.batch(4)[0], expected)
    assert not np.array_equal(Batches(replace(settings, seed=1), train).batch(3)[0], expected)


def test_too_few_images_for_a_batch(rng):
    with pytest.raises(InputError, match="10 training images are too few for batches of 32"):
        Batches(TINY, split(rng, 10))
