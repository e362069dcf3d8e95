"""What an update is trained on and measured by: images after a drift, or digits of new classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from refmiracle.numerics.arrays import read_only_view
from refmiracle.numerics.philox import Stream, stream_permutation
from refmiracle.studies.drift import drifted, find_drift
from refmiracle.training.data import Data, Split, load_split, split_validation

NOTHING = "nothing new"
TRAIN_SEED, TEST_SEED = 0, 1  # of drifts that draw at random
MIX_SEED = 0


@dataclass(frozen=True)
class Scene:
    """What is new, and how much of what is old is trained on with it.

    Attributes
    ----------
    drift : str
        One of `drift.DRIFTS`, or `NOTHING`.
    strength : float
    share : float
        Of the images to train on, those that are as they were.
    digits : tuple of int
        The classes that are new, of which alone the images are; none: all of them.
    """

    drift: str = NOTHING
    strength: float = 0.0
    share: float = 0.0
    digits: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The scene in words, as a folder may be called."""
        words = self.drift.replace(" ", "-")
        words += f"-{self.strength:g}" if self.drift != NOTHING else ""
        words += f"-digits{''.join(map(str, self.digits))}" if self.digits else ""
        return f"{words}-old{self.share:g}" if self.share else words


@dataclass(frozen=True)
class Views:
    """The images of a scene.

    Attributes
    ----------
    everything : Split
        To train on, and behind them those for validation, which are all new.
    validation : int
        How many those are.
    new, old : Split
        Test images as they are now, and as they were; of new classes, those and the others.
    """

    everything: Split
    validation: int
    new: Split
    old: Split


@lru_cache(maxsize=1)
def loaded(data: Data) -> tuple[Split, Split]:
    """Return the training and the test images; the last are kept."""
    return load_split(data, "train"), load_split(data, "t10k")


@lru_cache(maxsize=2)
def views(scene: Scene, data: Data, kept: int) -> Views:
    """Return the images of a scene.

    The last are kept: a process has tasks of the same scene one after the other.

    Parameters
    ----------
    scene : Scene
    data : Path or DataSet
    kept : int
        Images for validation, before those of other classes are left out.

    Raises
    ------
    InputError
        If the images cannot be loaded, are too few, or there is no such drift.
    """
    if scene.drift != NOTHING:
        find_drift(scene.drift)
    before, test = loaded(data)
    after = _changed(before, scene, TRAIN_SEED)
    changed_test = _changed(test, scene, TEST_SEED)
    old, _ = split_validation(before, kept)
    train, validation = split_validation(after, kept)
    if scene.digits:
        is_new, of_test = (np.isin(s.labels, scene.digits) for s in (train, test))
        validation = _chosen(validation, np.isin(validation.labels, scene.digits))
        more = round(scene.share / (1 - scene.share) * np.count_nonzero(is_new))
        train = _joined(_chosen(train, is_new), _chosen(old, ~is_new).part(slice(more)))
        tested = _chosen(changed_test, of_test), _chosen(test, ~of_test)
    else:
        train = _mixed(train, old, scene.share)
        tested = changed_test, test
    parts = (_joined(train, validation), *tested)
    everything, test, old_test = (_unchangeable(part) for part in parts)
    return Views(everything, len(validation.images), test, old_test)


def _changed(split: Split, scene: Scene, seed: int) -> Split:
    if scene.drift == NOTHING:
        return split
    return replace(split, images=drifted(split.images, scene.drift, scene.strength, seed))


def _unchangeable(split: Split) -> Split:
    images, labels = read_only_view(split.images), read_only_view(split.labels)
    return replace(split, images=images, labels=labels)


def _chosen(split: Split, which: NDArray[np.bool_]) -> Split:
    return replace(split, images=split.images[which], labels=split.labels[which])


def _joined(first: Split, second: Split) -> Split:
    images = np.concatenate([first.images, second.images])
    labels = np.concatenate([first.labels, second.labels])
    return replace(first, images=images, labels=labels)


def _mixed(train: Split, old: Split, share: float) -> Split:
    """Return images of which a share, drawn at random, is as it was."""
    count = len(train.images)
    order = stream_permutation(MIX_SEED, Stream.BATCHES, 0, count)
    kept = order[: round(share * count)]
    images = train.images.copy()
    images[kept] = old.images[kept]
    return replace(train, images=images)
