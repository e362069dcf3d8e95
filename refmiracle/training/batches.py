"""Which images a training step sees: a new order for each pass, shifted and mirrored if wanted."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from refmiracle.errors import InputError
from refmiracle.numerics.arrays import read_only
from refmiracle.numerics.philox import Stream, stream_permutation, stream_words
from refmiracle.training.data import Split
from refmiracle.training.settings import Settings


def check_count(images: int, size: int) -> None:
    """Refuse images that are too few for one batch.

    Raises
    ------
    InputError
        If they are.
    """
    if images < size:
        raise InputError(f"{images} training images are too few for batches of {size}")


class Batches:
    """The batches of a run; which one a step sees depends on seed and step alone.

    Parameters
    ----------
    settings : Settings
    train : Split
        The images to train on.

    Raises
    ------
    InputError
        If there are not enough images for one batch.
    """

    def __init__(self, settings: Settings, train: Split) -> None:
        self.train = train
        self.seed, self.size = settings.seed, settings.batch_size
        self.shift, self.flip = settings.shift, settings.flip
        check_count(len(train.images), self.size)
        self.order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, dtype=np.int64))
        shape = train.images.shape[-2:]
        if self.shift:
            # Black comes in from outside; window (n, ..., i, j) is image n moved by (shift - i,
            # shift - j) pixels.
            edge = (self.shift, self.shift)
            still = [(0, 0)] * (train.images.ndim - 2)
            padded = np.pad(train.images, [*still, edge, edge])
            self.windows = sliding_window_view(padded, shape, axis=(-2, -1))

    def batch(self, step: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return images and labels of a step."""
        epoch, number = divmod(step, len(self.train.images) // self.size)
        chosen = self._epoch_order(epoch)[number * self.size : (number + 1) * self.size]
        labels = self.train.labels[chosen].astype(np.int64)
        if self.shift:
            words = stream_words(self.seed, Stream.SHIFTS, [step], 2 * self.size)
            down, right = words.reshape(2, self.size) % np.uint32(2 * self.shift + 1)
            images = np.ascontiguousarray(self.windows[chosen, ..., down, right, :, :])
        else:
            images = np.take(self.train.images, chosen, axis=0, mode="clip")
        if self.flip:
            words = stream_words(self.seed, Stream.FLIPS, [step], self.size)[0]
            mirrored = words >> np.uint32(31) == 1
            images[mirrored] = images[mirrored, ..., ::-1]
        return images, labels

    def _epoch_order(self, epoch: int) -> NDArray[np.int64]:
        known, order = self.order
        if known != epoch:
            count = len(self.train.images)
            order = read_only(stream_permutation(self.seed, Stream.BATCHES, epoch, count))
            self.order = epoch, order  # both at once, whoever else asks
        return order
