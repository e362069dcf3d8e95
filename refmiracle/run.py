"""Layer 5: a training that can be asked: `Run`, and how one is carried out.

The commands and the studies carry out their runs by `carry_out` too, so the same settings give the
same bytes wherever a run is begun.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.errors import InputError
from refmiracle.figures import figures_of, size_of
from refmiracle.fileformat.envelope import read_bytes
from refmiracle.files import write_atomically
from refmiracle.model import Model
from refmiracle.numerics.arrays import read_only
from refmiracle.numerics.whole import truth
from refmiracle.training.batches import check_count
from refmiracle.training.choosing import choose_settings
from refmiracle.training.data import Split, check_split, split_validation
from refmiracle.training.progress import Silence
from refmiracle.training.run import (
    STEPS_PER_LINE,
    Place,
    file_path,
    run_training,
    summary_path,
)
from refmiracle.training.settings import Settings, fingerprint
from refmiracle.training.sizes import foretold, found_longer
from refmiracle.training.state import State
from refmiracle.training.stopping import Stopped, stop_requested
from refmiracle.training.trainer import Trainer

# What a line of metrics holds.
FIGURES = (
    "step",
    "phase",
    "loss_nats",
    "validation_error",
    "kl_bits",
    "sent_bits",
    "rate",
    "seconds",
)
# What a summary says of the settings beside all of them.
FIRST_SETTINGS = (
    "preset",
    "seed",
    "engine",
    "network",
    "parameterization",
    "code",
    "bits_per_block",
    "block_size",
)


def carry_out(
    everything: Split,
    test: Split | None,
    given: Mapping[str, Any],
    place: Place,
    resume: bool = False,
    progress: bool = True,
    steps_per_line: int | None = None,
) -> Run:
    """Train, encode, and measure what was encoded; or go on with that.

    Parameters
    ----------
    everything : Split
        The images to train on, and behind them those for validation.
    test : Split, optional
        Measured at the end; without it the summary has no test error.
    given : mapping of str to object
        Settings, see `choosing.choose_settings`.
    place : Folder or Memory
    resume : bool
    progress : bool
        Whether to show how far it is, and to say what nobody asked for: that there is nothing to
        resume, or that an update is longer than it might be.
    steps_per_line : int, optional
        Steps from one line of metrics to the next; `STEPS_PER_LINE` by default.

    Returns
    -------
    Run
        Not `finished` after Ctrl-C.

    Raises
    ------
    InputError
        If settings, images or the place are not as they must be; a folder is made only where
        settings and images are.
    CheckError
        If the training diverges.
    """
    data, every = fingerprint(everything), steps_per_line or STEPS_PER_LINE
    if not (resume and place.holds_run()):
        divide(everything, test, _choose(given, data, None, everything))
    say = _say if progress else _keep_silent
    with place.opened(resume) as found:
        if resume and found is None:
            say(f"there is nothing to resume in {place.folder}: a new run begins")
        settings = _choose(given, data, found, everything)
        train, validation = divide(everything, test, settings)
        trainer = Trainer(settings, train, found[1] if found else None)
        if not trainer.finished():
            for line in foretold(settings):
                say(line)
        bar = None if progress else Silence()
        model, summary = None, None
        with stop_requested() as stop, contextlib.suppress(Stopped):
            run_training(trainer, validation, place, bar, every, stop)
            model, summary = finish(trainer, validation, test, place, stop)
            for line in found_longer(settings, model.nbytes):
                say(line)
    steps = trainer.state.step, trainer.total_steps()
    return Run(place, everything, settings, steps, every, model, summary)


def _choose(
    given: Mapping[str, Any], data: str, found: tuple[Settings, State] | None, everything: Split
) -> Settings:
    """Return the settings of a run, in batches no larger than its training images, unless told."""
    settings = choose_settings(given, data, found)
    images = len(everything.images) - settings.validation
    if given.get("batch_size") is None and 0 < images < settings.batch_size:
        return replace(settings, batch_size=images)
    return settings


def _say(text: str) -> None:
    print(f"refmiracle: {text}", file=sys.stderr)


def _keep_silent(text: str) -> None:
    """Say nothing."""


def divide(everything: Split, test: Split | None, settings: Settings) -> tuple[Split, Split]:
    """Return the images to train on and those for validation.

    Raises
    ------
    InputError
        If there are too few of them, or the network does not take them or the test images.
    """
    for split in (everything, test):
        if split is not None:
            check_split(split, settings.layout().network, open_choice=not settings.base)
    train, validation = split_validation(everything, settings.validation)
    check_count(len(train.images), settings.batch_size)
    return train, validation


def finish(
    trainer: Trainer,
    validation: Split,
    test: Split | None,
    place: Place,
    stop: threading.Event | None = None,
) -> tuple[Model, dict[str, Any]]:
    """Keep the model, read it back, measure what was read, and keep the figures.

    Without `test` the summary has no test error: a study that chooses must not see it.

    Raises
    ------
    Stopped
        Where `stop` is set: what is left is done by a run that goes on.
    """
    settings = trainer.settings
    written = settings.to_dict()
    model = _keep_model(trainer, place)
    splits = {"test": test, "validation": validation if settings.validation else None}
    measured: dict[str, Any] = {"validation_error": None, **size_of(model)}
    for name, split in splits.items():
        if stop is not None and stop.is_set():
            raise Stopped
        if split is not None:
            measured |= figures_of(model, split, name)
    summary = {
        **measured,
        "classes": list(validation.classes),
        "train_seconds": round(trainer.state.seconds, 3),
        "steps": trainer.state.step,
        "config": written,  # the settings; the key is promised (docs/support.md)
        **{name: written[name] for name in FIRST_SETTINGS},
    }
    if place.folder is not None:
        text = json.dumps(summary, indent=2) + "\n"
        write_atomically(summary_path(place.folder), text.encode())
    return model, summary


def _keep_model(trainer: Trainer, place: Place) -> Model:
    """Return the model as it stands where it is kept."""
    compressed, settings = trainer.compressed(), trainer.settings
    data, base = compressed.to_bytes(), base_of(settings)
    if place.folder is not None:
        path = file_path(place.folder, settings)
        write_atomically(path, data)
        data = read_bytes(path)
    return Model(data, engine=settings.engine, network=settings.network, base=base)


def base_of(settings: Settings) -> Model | None:
    """Return the model that a run makes an update of, if it does."""
    base = None
    for data in settings.base:
        base = Model(data, engine=settings.engine, network=settings.network, base=base)
    return base


class Run:
    """A training, finished or not: its model, its curves, and the way to go on.

    `refmiracle.fit` makes it.

    Attributes
    ----------
    folder : Path or None
        Where it left its files.
    step, steps : int
        Training steps done, and all there are.

    Examples
    --------
    >>> import numpy as np, refmiracle
    >>> from refmiracle.layers import Dense, Flatten
    >>> images, labels = np.zeros((40, 4, 4)), np.arange(40) % 2
    >>> run = refmiracle.fit(
    ...     images, labels, network=[Flatten(), Dense(2)], steps=6, groups=2, group_steps=4,
    ...     batch_size=10, bits_per_block=4, block_size=17, steps_per_point=5, progress=False,
    ... )
    >>> run.finished, run.step
    (True, 10)
    >>> run.curves["step"]
    array([ 5, 10])
    """

    def __init__(
        self,
        place: Place,
        everything: Split,
        settings: Settings,
        steps: tuple[int, int],
        steps_per_line: int,
        model: Model | None,
        summary: dict[str, Any] | None,
    ) -> None:
        self._place, self._everything = place, everything
        self._steps_per_line = steps_per_line
        self._model, self._summary = model, summary
        self.folder = place.folder
        self.step, self.steps = steps
        self._settings = settings

    @property
    def settings(self) -> dict[str, Any]:
        """All that the result depends on, as JSON has it."""
        return self._settings.to_dict()

    @property
    def finished(self) -> bool:
        """Whether all is trained and encoded, so that there is a model."""
        return self._model is not None

    @property
    def model(self) -> Model:
        """The compressed network.

        Raises
        ------
        InputError
            If the run is not finished.
        """
        if self._model is None:
            raise self._unfinished()
        return self._model

    @property
    def summary(self) -> dict[str, Any]:
        """The figures of a finished run: bytes, validation_error, train_seconds, sha256, ...

        Raises
        ------
        InputError
            If the run is not finished.
        """
        if self._summary is None:
            raise self._unfinished()
        return deepcopy(self._summary)

    def _unfinished(self) -> InputError:
        return InputError(
            f"the run was stopped after {self.step} of {self.steps} steps; go on with its resume()"
        )

    @property
    def curves(self) -> dict[str, NDArray[Any]]:
        """The course of the training: a point every so many steps, and one at the end.

        ``step``; ``phase``, ``train`` or ``encode``; ``loss_nats``, the mean loss since the point
        before; ``validation_error`` in [0, 1], of one sample of the posterior (NaN without images
        for it); ``kl_bits``, KL[Q || P] of all blocks; ``sent_bits``; ``rate``, Adam's;
        ``seconds`` of training.  Arrays of one axis, all of one length, read-only.

        Raises
        ------
        InputError
            If the folder's file of them cannot be read.
        """
        lines = self._place.lines()
        kinds = {"step": np.int64, "phase": np.str_}
        return {
            name: read_only(
                np.array(
                    [np.nan if line[name] is None else line[name] for line in lines],
                    dtype=kinds.get(name, np.float64),
                )
            )
            for name in FIGURES
        }

    def resume(self, *, progress: bool = True) -> Run:
        """Go on to the end, or to the next Ctrl-C.

        The bytes are those of a run that was not stopped.  A finished run stays as it is.

        Parameters
        ----------
        progress : bool
            See `refmiracle.fit`.

        Returns
        -------
        Run
            This one.

        Raises
        ------
        InputError
            If the images have been changed since, the folder holds no or another run, or another
            thread or process works in it.
        CheckError
            If the training diverges.

        Examples
        --------
        >>> import numpy as np, refmiracle
        >>> from refmiracle.layers import Dense, Flatten
        >>> images, labels = np.zeros((40, 4, 4)), np.arange(40) % 2
        >>> run = refmiracle.fit(
        ...     images, labels, network=[Flatten(), Dense(2)], steps=6, groups=2, group_steps=4,
        ...     batch_size=10, bits_per_block=4, progress=False,
        ... )
        >>> run.resume() is run
        True
        """
        progress = truth("progress", progress)
        if not self.finished:
            if not self._place.holds_run():
                raise InputError(f"{self.folder}: the run that was stopped there is gone")
            started = {n: v for n, v in self._settings.by_name().items() if n != "data"}
            every = self._steps_per_line
            run = carry_out(self._everything, None, started, self._place, True, progress, every)
            self._model, self._summary = run._model, run._summary
            self.step, self.steps = run.step, run.steps
        return self

    def __repr__(self) -> str:
        where = "" if self.folder is None else f", in {self.folder}"
        if self._summary is None:
            return f"Run(stopped after {self.step} of {self.steps} steps{where})"
        error = self._summary["validation_error"]
        told = "" if error is None else f", validation error {error:.2%}"
        return f"Run({self._summary['bytes']} bytes{told}, {self.step} steps{where})"
