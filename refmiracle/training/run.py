"""A run's way from its first step to its last: train, encode group by group; stop and go on."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from refmiracle.errors import InputError, named
from refmiracle.nn.evaluation import error_rate
from refmiracle.training.checks import check_finite, check_loss
from refmiracle.training.data import Split, check_split
from refmiracle.training.lock import locked
from refmiracle.training.metrics import append_metrics, keep_metrics, read_metrics
from refmiracle.training.progress import progress_bar
from refmiracle.training.settings import Settings
from refmiracle.training.state import State, load_checkpoint, save_checkpoint
from refmiracle.training.stopping import Stopped, stop_requested
from refmiracle.training.trained_posterior import posterior_of, save_posterior
from refmiracle.training.trainer import Trainer

CHECKPOINT_SECONDS = 30.0
STEPS_PER_LINE = 500


def model_path(out: Path) -> Path:
    """Return where a run writes its compressed model."""
    return out / "model.rmc"


def update_path(out: Path) -> Path:
    """Return where a run around a base writes its update."""
    return out / "update.rmc"


def file_path(out: Path, settings: Settings) -> Path:
    """Return where a run writes its file."""
    return update_path(out) if settings.base else model_path(out)


def checkpoint_path(out: Path) -> Path:
    """Return where a run keeps its checkpoint."""
    return out / "checkpoint.npz"


def posterior_path(out: Path) -> Path:
    """Return where a run keeps the posterior of the end of training."""
    return out / "posterior.npz"


def metrics_path(out: Path) -> Path:
    """Return where a run writes its course."""
    return out / "metrics.jsonl"


def summary_path(out: Path) -> Path:
    """Return where a run writes its figures."""
    return out / "summary.json"


# All that a run may leave in its folder.
ALL_PATHS = (checkpoint_path, metrics_path, model_path, posterior_path, summary_path, update_path)


class Place(Protocol):
    """Where a run keeps what it has: a folder, or memory."""

    folder: Path | None

    def holds_run(self) -> bool:
        """Tell whether there is something to go on with."""

    def opened(self, resume: bool) -> AbstractContextManager[tuple[Settings, State] | None]:
        """Keep others out; give what the run that is to go on has kept, if there is one."""

    def begin(self, state: State) -> None:
        """Drop the lines of metrics that the state has not seen: they are written again."""

    def save(self, settings: Settings, state: State) -> None:
        """Keep a state to go on from."""

    def append(self, state: State, figures: dict[str, Any]) -> None:
        """Keep a line of metrics."""

    def keep_posterior(self, trainer: Trainer) -> None:
        """Keep the posterior of the end of training."""

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of metrics, if there are any yet."""


class Memory:
    """A run that leaves no files; it is gone with this object."""

    folder: Path | None = None

    def __init__(self) -> None:
        self.found: tuple[Settings, State] | None = None
        self._lines: list[dict[str, Any]] = []
        self._at_work = threading.Lock()
        self._whole = True

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the lock: nobody is at work in a copy."""
        return {name: value for name, value in vars(self).items() if name != "_at_work"}

    def __setstate__(self, values: dict[str, Any]) -> None:
        vars(self).update(values, _at_work=threading.Lock())

    def holds_run(self) -> bool:
        """Tell whether a state was saved."""
        return self.found is not None

    @contextmanager
    def opened(self, resume: bool) -> Iterator[tuple[Settings, State] | None]:
        """Give the state that was saved.

        Raises
        ------
        InputError
            If another thread is at work in it, or it has broken off within a step.
        """
        if not self._at_work.acquire(blocking=False):
            raise InputError("this run is at work in another thread; wait for its end")
        try:
            if not self._whole:
                raise InputError("this run has broken off within a step; begin it anew")
            self._whole = False
            try:
                yield self.found
            except InputError:  # raised between two steps, which leaves the state whole
                self._whole = True
                raise
            self._whole = True
        finally:
            self._at_work.release()

    def begin(self, state: State) -> None:
        """Keep all lines: the state is the one that has written them."""

    def save(self, settings: Settings, state: State) -> None:
        """Hold the state itself: between two steps it is whole."""
        self.found = settings, state

    def append(self, state: State, figures: dict[str, Any]) -> None:
        """Keep a line of metrics."""
        self._lines.append(figures)

    def keep_posterior(self, trainer: Trainer) -> None:
        """Keep nothing: a report reads it from a folder."""

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of metrics."""
        return list(self._lines)


class Folder:
    """A run that leaves its files in a folder.

    Parameters
    ----------
    folder : Path
        Made where the run begins.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.folder: Path | None = folder

    def holds_run(self) -> bool:
        """Tell whether there is a checkpoint."""
        return os.path.lexists(checkpoint_path(self.path))

    @contextmanager
    def opened(self, resume: bool) -> Iterator[tuple[Settings, State] | None]:
        """Make the folder and keep others out of it; give its checkpoint if it is to go on.

        Raises
        ------
        InputError
            If the folder cannot be made, another process works in it, or it holds a run that is
            not to be resumed.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            os.listdir(self.path)
        except OSError as e:
            raise InputError(f"{self.path}: cannot be made: {e.strerror or e}") from e
        with locked(self.path):
            yield self._find(resume)

    def _find(self, resume: bool) -> tuple[Settings, State] | None:
        names, checkpoint = os.listdir(self.path), checkpoint_path(self.path)
        if checkpoint.name in names:
            if not resume:
                raise InputError(
                    f"{self.path}: it holds a run already; go on with it by {named('resume')}, or"
                    f" name another {named('out')}"
                )
            return load_checkpoint(checkpoint)
        # Lines of metrics alone are of a run that was killed before its first checkpoint.
        for path in (p(self.path) for p in ALL_PATHS if p is not metrics_path):
            if path.name in names:
                raise InputError(
                    f"{self.path}: it holds {path.name} without its checkpoint; name another"
                    f" {named('out')}"
                )
        return None

    def begin(self, state: State) -> None:
        """Cut the lines of metrics to those that the state has seen."""
        length = state.metrics_bytes
        state.metrics_bytes = keep_metrics(metrics_path(self.path), state.step, length)

    def save(self, settings: Settings, state: State) -> None:
        """Write a checkpoint."""
        save_checkpoint(checkpoint_path(self.path), settings, state)

    def append(self, state: State, figures: dict[str, Any]) -> None:
        """Write a line of metrics."""
        state.metrics_bytes = append_metrics(metrics_path(self.path), figures)

    def keep_posterior(self, trainer: Trainer) -> None:
        """Write the posterior."""
        save_posterior(posterior_path(self.path), posterior_of(trainer))

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of metrics."""
        path = metrics_path(self.path)
        begun = not path.exists() and not summary_path(self.path).exists()
        return [] if begun or (path.exists() and not path.stat().st_size) else read_metrics(path)


def run_training(
    trainer: Trainer,
    validation: Split,
    place: Place,
    bar: Any = None,
    steps_per_line: int = STEPS_PER_LINE,
    stop: threading.Event | None = None,
) -> None:
    """Train and encode to the end, with checkpoints, metrics and a progress bar.

    All that is kept of it is kept at `place`.  `bar` stands in for the one on standard error;
    `steps_per_line` is how often metrics are measured; `stop` stands in for Ctrl-C.

    Raises
    ------
    Stopped
        After Ctrl-C, once the checkpoint is written.
    CheckError
        If the loss or a parameter is not finite; the last checkpoint, before that, stays.
    InputError
        If the code cannot send a block, images or labels are none, or a file cannot be written;
        the last checkpoint stays as it is.
    """
    settings, state = trainer.settings, trainer.state
    check_finite(trainer)
    if trainer.finished():
        return
    check_split(validation, trainer.layout.network)
    place.begin(state)
    place.save(settings, state)
    bar = bar or progress_bar(trainer.total_steps(), state.step, settings.preset)
    before = base_error(trainer, validation)
    saved = resumed = time.monotonic()
    seconds_before = state.seconds
    with closing(bar), nullcontext(stop) if stop else stop_requested() as wanted:
        while True:
            group = trainer.group_due()
            if group is not None:
                check_finite(trainer)
                if not trainer.encoded():
                    place.keep_posterior(trainer)
                trainer.encode_group(group)
            finished = trainer.finished()
            if not finished:
                check_loss(trainer, trainer.train_step())
                bar.total = trainer.total_steps()
                bar.update()
            state.seconds = seconds_before + time.monotonic() - resumed
            # Before the last group is encoded all steps are taken: its line is still to come.
            last = trainer.phase() == "encode" and state.step == trainer.total_steps()
            if finished or (state.step % steps_per_line == 0 and not last):
                check_finite(trainer)
                figures = measure(trainer, validation)
                place.append(state, figures)
                bar.set_postfix_str(_postfix(figures, before))
            if finished or wanted.is_set() or time.monotonic() - saved > CHECKPOINT_SECONDS:
                check_finite(trainer)
                place.save(settings, state)
                saved = time.monotonic()
            if finished or wanted.is_set():
                break
    if not finished:
        raise Stopped


def base_error(trainer: Trainer, validation: Split) -> float | None:
    """Return the validation error of what a run makes an update of, in [0, 1].

    None where it makes a model, or no images are kept for validation.
    """
    if trainer.base is None or not trainer.settings.validation:
        return None
    network, weights = trainer.layout.network, trainer.base.weights()
    return error_rate(network, trainer.engine, weights, validation.images, validation.labels)


def _postfix(figures: dict[str, Any], before: float | None) -> str:
    error = figures["validation_error"]
    validation = "" if error is None else f" validation error {error:.2%},"
    if before is not None:
        validation = f" validation error {error:.2%} (base {before:.2%}),"
    return (
        f"loss {figures['loss_nats']:.3f} nats,{validation} KL {figures['kl_bits']:.0f} bits,"
        f" sent {figures['sent_bits']} bits"
    )


def measure(trainer: Trainer, validation: Split) -> dict[str, Any]:
    """Return a line of metrics and begin to gather losses anew.

    The validation error is None where no images are kept for it.
    """
    state, settings = trainer.state, trainer.settings
    loss = float(np.mean(state.losses)) if state.losses else float("nan")
    figures = {
        "step": state.step,
        "phase": trainer.phase(),
        "loss_nats": loss,
        "validation_error": trainer.validation_error(validation) if settings.validation else None,
        "kl_bits": trainer.kl_bits(),
        "sent_bits": trainer.sent_bits(),
        "rate": trainer.rate(state.step),
        "seconds": round(state.seconds, 3),
    }
    state.losses.clear()  # at the end: what is refused above may go on
    return figures
