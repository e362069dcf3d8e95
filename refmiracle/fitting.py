"""Layer 5: training on arrays of one's own: `fit`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.errors import InputError
from refmiracle.fileformat.envelope import checksum_of
from refmiracle.files import as_path
from refmiracle.given import Channels, Given, as_labels, as_network, as_pixels, known_network
from refmiracle.model import Model
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET5
from refmiracle.numerics.whole import truth, whole_number
from refmiracle.run import Run, carry_out
from refmiracle.training.choosing import GivenSettings, refuse_given
from refmiracle.training.data import VALIDATION_IMAGES, Split
from refmiracle.training.run import STEPS_PER_LINE, Folder, Memory, Place, checkpoint_path
from refmiracle.training.settings import LONGEST, Settings
from refmiracle.training.state import load_checkpoint

# One image in so many is kept for validation, and at most `VALIDATION_IMAGES`.
VALIDATION_SHARE = 10


def fit(
    images: ArrayLike,
    labels: ArrayLike,
    *,
    network: Given | None = None,
    preset: str | None = None,
    validation: int | tuple[ArrayLike, ArrayLike] | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    channels: Channels = "last",
    progress: bool = True,
    steps_per_point: int = STEPS_PER_LINE,
    **settings: Unpack[GivenSettings],
) -> Run:
    """Train a network on images of one's own, and compress it.

    Ctrl-C, or a notebook's stop button, ends it between two steps: what is returned then is not
    `finished`, and goes on by `Run.resume`.  With the images of MNIST and the same settings it
    gives the same bytes as ``python -m refmiracle.train``.

    Parameters
    ----------
    images : array_like, shape (images, height, width), (images, height, width, channels) or flat
        Bytes, or floats in [0, 1], of which each is rounded to the nearest of 256 grey levels.
    labels : array_like of int, shape (images,)
        From 0 on.
    network : str, Network, bytes or sequence of layers, optional
        A name, by default ``lenet5``; a `Network`; a description, as bytes or hexadecimal digits;
        or a list of layers from `refmiracle.layers`, whose last one has an output for each class.
    preset : str, optional
        How long: ``smoke``, ``default`` or ``paper``.
    validation : int or (images, labels), optional
        How many of the images, the last ones, are not trained on but measured by; or others for
        that.  By default a tenth, at most 5,000; 0 trains on all.
    out : str or path-like, optional
        A folder for the run: model.rmc, checkpoint, curves and figures, as the command leaves them.
        By default nothing is written.
    resume : bool
        Whether to go on with the run in `out`, if there is one, to the same bytes as if it had not
        stopped; there must be an `out`.  What is not given is then as it was; what is given must
        be as it was.
    channels : str
        ``last``, as Keras and Pillow have them, or ``first``, as PyTorch has them.
    progress : bool
        Whether to show a bar, in terminals and notebooks, or lines now and then; and what else
        there is to say, as that an update is longer than expected.
    steps_per_point : int
        Training steps from one point of the curves to the next.
    **settings
        Of `refmiracle.training.settings.Settings`: ``seed``, ``steps``, ``bits_per_block``,
        ``block_size``, ``batch_size`` (by default at most all images to train on), ``rate``,
        ``engine``, ...

    Returns
    -------
    Run

    Raises
    ------
    InputError
        If images, labels, network or a setting are not as said, `out` holds a run that is not to be
        resumed, or another one.
    CheckError
        If the training diverges.

    Examples
    --------
    >>> import numpy as np, refmiracle
    >>> from refmiracle.layers import Dense, Flatten, Relu
    >>> images = np.random.default_rng(0).random((200, 6, 6))
    >>> labels = (images.mean(axis=(1, 2)) > 0.5).astype(int)
    >>> run = refmiracle.fit(
    ...     images, labels, network=[Flatten(), Dense(8), Relu(), Dense(2)],
    ...     steps=100, groups=4, group_steps=5, batch_size=20, bits_per_block=8, progress=False,
    ... )
    >>> run.finished, run.model.classes, run.model.nbytes < 100
    (True, 2, True)
    """
    refuse_given(settings, "base", "Model.update makes an update of a model")
    chosen = None if network is None else as_network(network, images, channels)
    place, started = _place(out, resume)
    if started and started.base:
        raise InputError(
            f"{out}: it holds a run that makes an update, of the file with the checksum"
            f" {checksum_of(started.base[-1]):08x}; go on with it by the update of that model"
        )
    known = chosen or (started.network if started else LENET5)
    split, kept = _own_images(images, labels, validation, known, channels, started is not None)
    given: dict[str, Any] = {"preset": preset, "validation": kept, **settings, "network": chosen}
    return _carried_out(split, given, place, resume, progress, steps_per_point)


def fit_update(
    model: Model,
    images: ArrayLike,
    labels: ArrayLike,
    preset: str | None,
    validation: int | tuple[ArrayLike, ArrayLike] | None,
    out: str | os.PathLike[str] | None,
    resume: bool,
    channels: Channels,
    progress: bool,
    steps_per_point: int | None,
    settings: Mapping[str, Any],
) -> Run:
    """Train on from a model; see `refmiracle.Model.update`."""
    refuse_given(settings, "base", "it is the model itself")
    refuse_given(settings, "network", "it is the model's")
    network = known_network(model.network)  # before a checkpoint asks for it by its name
    place, started = _place(out, resume)
    split, kept = _own_images(images, labels, validation, network, channels, started is not None)
    usual = {} if started else {"engine": model.engine}
    given: dict[str, Any] = {"preset": preset, "validation": kept, **usual, **settings}
    given |= {"base": model.chain, "network": network}
    every = STEPS_PER_LINE if steps_per_point is None else steps_per_point
    return _carried_out(split, given, place, resume, progress, every)


def _place(out: Any, resume: bool) -> tuple[Place, Settings | None]:
    """Return where a run is kept, and the settings of the one that is to go on there."""
    resume = truth("resume", resume)
    if out is None:
        if resume:
            raise InputError("resume without out, the folder of the run to go on with")
        return Memory(), None
    folder = as_path("out", out)
    place = Folder(folder)
    goes_on = resume and place.holds_run()
    return place, load_checkpoint(checkpoint_path(folder))[0] if goes_on else None


def _carried_out(
    split: Split, given: dict[str, Any], place: Place, resume: bool, progress: bool, every: int
) -> Run:
    progress = truth("progress", progress)
    every = whole_number("steps_per_point", every, 1, LONGEST + 1)
    return carry_out(split, None, given, place, resume, progress, every)


def _own_images(
    images: ArrayLike,
    labels: ArrayLike,
    validation: Any,
    network: Network,
    channels: Channels,
    started: bool,
) -> tuple[Split, int | None]:
    """Return all images with their labels, and how many of them, the last, are for validation.

    None: as many as when the run was started.
    """
    kept: int | None
    pixels, known = _pair(images, labels, network, channels)
    if isinstance(validation, tuple | list):
        if len(validation) != 2:
            raise InputError("validation: expected a number, or images and labels")
        others = _pair(validation[0], validation[1], network, channels)
        if len(others[0]) > len(pixels):
            raise InputError(
                f"validation: {len(others[0])} images; expected at most as many as there are to"
                f" train on, {len(pixels)}"
            )
        pixels, known = (np.concatenate(both) for both in zip((pixels, known), others, strict=True))
        kept = len(others[0])
    elif validation is not None:
        kept = whole_number("validation", validation, 0, LONGEST + 1)
    else:
        kept = None if started else min(VALIDATION_IMAGES, len(pixels) // VALIDATION_SHARE)
    names = tuple(map(str, range(network.classes)))
    return Split(pixels, known, names), kept


def _pair(
    images: ArrayLike, labels: ArrayLike, network: Network, channels: Channels
) -> tuple[NDArray[np.uint8], NDArray[np.unsignedinteger]]:
    pixels, alone = as_pixels(images, network.input, channels)
    if alone:
        raise InputError(f"one image of shape {np.shape(images)}; expected an axis of images")
    return pixels, as_labels(labels, len(pixels), network.classes)
