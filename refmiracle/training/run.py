"""A whole run: train, encode group by group, write the file, measure it; stop and resume."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from refmiracle.codec.container import read_model, write_model
from refmiracle.codec.model import decode_model
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.files import write_atomically
from refmiracle.nn.evaluation import error_rate
from refmiracle.nn.network import Network
from refmiracle.rec.codes import MRC
from refmiracle.training.checks import check_finite, check_loss
from refmiracle.training.config import Config
from refmiracle.training.data import Split, check_split
from refmiracle.training.lock import locked
from refmiracle.training.metrics import append_metrics, keep_metrics
from refmiracle.training.posterior import posterior_of, save_posterior
from refmiracle.training.progress import progress_bar
from refmiracle.training.state import State, load_checkpoint, save_checkpoint
from refmiracle.training.stopping import stop_requested
from refmiracle.training.trainer import Trainer

CHECKPOINT_SECONDS = 30.0
STEPS_PER_LINE = 500
BYTES_PER_WEIGHT = 4


def model_path(out: Path) -> Path:
    """Return where a run writes its compressed model."""
    return out / "model.rmc"


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


@contextmanager
def run_folder(out: Path, resume: bool) -> Iterator[tuple[Config, State] | None]:
    """Make the folder of a run and keep others out of it; give its checkpoint if it is to go on.

    Raises
    ------
    InputError
        If the folder cannot be made, another process works in it, or it holds a run that is not
        to be resumed.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        os.listdir(out)
    except OSError as e:
        raise InputError(f"{out}: cannot be made: {e.strerror or e}") from e
    with locked(out):
        yield _find_run(out, resume)


def _find_run(out: Path, resume: bool) -> tuple[Config, State] | None:
    names, checkpoint = os.listdir(out), checkpoint_path(out)
    if checkpoint.name in names:
        if not resume:
            raise InputError(
                f"{out}: it holds a run already; go on with it by --resume, or name another --out"
            )
        return load_checkpoint(checkpoint)
    if model_path(out).name in names:
        raise InputError(f"{out}: it holds a model.rmc without its checkpoint; name another --out")
    return None


def run_training(
    trainer: Trainer,
    validation: Split,
    out: Path,
    bar: Any = None,
    steps_per_line: int = STEPS_PER_LINE,
    stop: threading.Event | None = None,
) -> None:
    """Train and encode to the end, with checkpoints, metrics and a progress bar.

    `bar` stands in for the one on standard error; `steps_per_line` is how often metrics are
    measured; `stop` stands in for Ctrl-C.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C, once the checkpoint is written.
    CheckError
        If the loss or a parameter is not finite; the last checkpoint, before that, stays.
    InputError
        If the code cannot send a block, images or labels are none, or a file cannot be written;
        the last checkpoint stays as it is.
    """
    config, state = trainer.config, trainer.state
    check_finite(trainer)
    if trainer.finished():
        return
    check_split(validation, trainer.layout.network)
    checkpoint, metrics = checkpoint_path(out), metrics_path(out)
    state.metrics_bytes = keep_metrics(metrics, state.step, state.metrics_bytes)
    save_checkpoint(checkpoint, config, state)
    bar = bar or progress_bar(trainer.total_steps(), state.step, config.preset)
    saved = resumed = time.monotonic()
    seconds_before = state.seconds
    with closing(bar), nullcontext(stop) if stop else stop_requested() as wanted:
        while True:
            group = trainer.group_due()
            if group is not None:
                check_finite(trainer)
                if not trainer.encoded():
                    save_posterior(posterior_path(out), posterior_of(trainer))
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
                state.metrics_bytes = append_metrics(metrics, figures)
                bar.set_postfix_str(_postfix(figures))
            if finished or wanted.is_set() or time.monotonic() - saved > CHECKPOINT_SECONDS:
                check_finite(trainer)
                save_checkpoint(checkpoint, config, state)
                saved = time.monotonic()
            if finished or wanted.is_set():
                break
    if not finished:
        raise KeyboardInterrupt


def _postfix(figures: dict[str, Any]) -> str:
    error = figures["validation_error"]
    validation = "" if error is None else f" validation error {error:.2%},"
    return (
        f"loss {figures['loss_nats']:.3f} nats,{validation} KL {figures['kl_bits']:.0f} bits,"
        f" sent {figures['sent_bits']} bits"
    )


def measure(trainer: Trainer, validation: Split) -> dict[str, Any]:
    """Return a line of metrics and begin to gather losses anew.

    The validation error is None where no images are kept for it.
    """
    state, config = trainer.state, trainer.config
    loss = float(np.mean(state.losses)) if state.losses else float("nan")
    state.losses.clear()
    return {
        "step": state.step,
        "phase": trainer.phase(),
        "loss_nats": loss,
        "validation_error": trainer.validation_error(validation) if config.validation else None,
        "kl_bits": trainer.kl_bits(),
        "sent_bits": trainer.sent_bits(),
        "rate": trainer.rate(state.step),
        "seconds": round(state.seconds, 3),
    }


def finish(
    trainer: Trainer,
    validation: Split,
    test: Split | None,
    out: Path,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Write model.rmc, read it back, measure what was read, and write summary.json.

    Without `test` the summary has no test error: a study that chooses must not see it.

    Raises
    ------
    KeyboardInterrupt
        Where `stop` is set: what is left is done by a run that goes on.
    """
    config, settings = trainer.config, trainer.config.to_dict()
    path = model_path(out)
    write_model(path, trainer.compressed())
    splits = {"test": test, "validation": validation if config.validation else None}
    measured: dict[str, Any] = {"validation_error": None}
    for name, split in splits.items():
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt
        if split is not None:
            measured |= evaluate_file(path, config.engine, split, name, config.network)
    summary = {
        **measured,
        "classes": list(validation.classes),
        "train_seconds": round(trainer.state.seconds, 3),
        "steps": trainer.state.step,
        "config": settings,
        **{
            name: settings[name]
            for name in (
                "preset",
                "seed",
                "engine",
                "network",
                "parameterization",
                "code",
                "bits_per_block",
                "block_size",
            )
        },
    }
    write_atomically(summary_path(out), (json.dumps(summary, indent=2) + "\n").encode())
    return summary


def evaluate_file(
    path: Path, engine: str, split: Split, name: str = "test", own: Network | None = None
) -> dict[str, Any]:
    """Return the size, ratio and error of a .rmc file; see `codec.container.parse_model` for `own`.

    Returns
    -------
    dict
        bytes and bits_total: of the whole file; index_bits: of its indices, or of the bytes of
        its entropy-coded integers and theta; ratio: the weights
        as float32 over the bytes; NAME_error in [0, 1]; NAME_images; sha256 of the file.

    Raises
    ------
    InputError
        If the file is not an intact .rmc file, or its network does not take these images.
    """
    model, data = read_model(path, own)
    loaded = get_engine(engine)
    network = model.layout.network
    if model.code == MRC:  # whole bytes would count the padding
        index_bits = model.bits_per_block * model.layout.blocks()
    else:
        index_bits = 8 * len(model.payload())
    check_split(split, network)
    weights = decode_model(model, loaded)
    return {
        "bytes": len(data),
        "bits_total": 8 * len(data),
        "index_bits": index_bits,
        "ratio": network.count() * BYTES_PER_WEIGHT / len(data),
        f"{name}_error": error_rate(network, loaded, weights, split.images, split.labels),
        f"{name}_images": len(split.images),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
