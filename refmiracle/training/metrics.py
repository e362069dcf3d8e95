"""metrics.jsonl: one line of figures at a time, written as the run goes."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from refmiracle.errors import InputError
from refmiracle.files import write_atomically

logger = logging.getLogger(__name__)

UNKNOWN = -1
# What is read of a line again; those of the second kind may be null.
NUMBERS = ("step", "kl_bits", "sent_bits", "rate", "seconds")
MAY_LACK = ("loss_nats", "validation_error")


def append_metrics(path: Path, figures: dict[str, Any]) -> int:
    """Append a line, and see it on the disk: no later checkpoint is there without it.

    Returns
    -------
    int
        How long the file is now, in bytes.

    Raises
    ------
    InputError
        If the file cannot be written to.
    """
    try:
        with open(path, "a", encoding="utf-8", newline="\n") as f:
            f.write(json.dumps(figures) + "\n")
            f.flush()
            os.fsync(f.fileno())
            return os.fstat(f.fileno()).st_size
    except OSError as e:
        raise InputError(f"{path}: cannot be written: {e.strerror or e}") from e


def keep_metrics(path: Path, step: int, length: int = UNKNOWN) -> int:
    """Cut the file to what a checkpoint has seen: a resumed run writes the rest again.

    The step alone does not tell what that was.  A run that stops after its last step has encoded
    its last group, and written the line of that same step, only after its checkpoint.

    Parameters
    ----------
    path : Path
    step : int
        Of the checkpoint.
    length : int
        Bytes of the file when the checkpoint was written.  Where it is unknown, or the file is
        not the one of then (somebody changed or deleted it, a crash has torn it), the lines
        after `step` are dropped, and a torn last line.

    Returns
    -------
    int
        How long the file is now, in bytes; 0 if there is none.

    Raises
    ------
    InputError
        If the file cannot be read, or is damaged before its end: then it stays as it is.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if length > 0:
            logger.warning("%s is missing: the figures until step %d are lost", path, step)
        return 0
    except OSError as e:
        raise InputError(f"{path}: cannot be read: {e.strerror or e}") from e
    kept = data[: max(length, 0)]
    if len(kept) != length or not _is_until(step, kept):
        kept = _kept_by_step(path, data, step)
    write_atomically(path, kept)
    return len(kept)


def _is_until(step: int, data: bytes) -> bool:
    """Tell whether these are whole lines, none of a later step."""
    *lines, rest = data.split(b"\n")
    steps = [_step(line) for line in lines]
    return not rest and all(found is not None and found <= step for found in steps)


def _kept_by_step(path: Path, data: bytes, step: int) -> bytes:
    lines = data.split(b"\n")
    steps = [_step(line) for line in lines]
    whole = [i for i, found in enumerate(steps) if found is not None]
    end = whole[-1] + 1 if whole else 0  # what a crash has torn stands behind
    if None in steps[:end]:
        raise InputError(
            f"{path}: line {steps.index(None) + 1} is no line of metrics; mend or delete the file"
        )
    return b"".join(lines[i] + b"\n" for i in whole if (steps[i] or 0) <= step)


def _step(line: bytes) -> float | None:
    """Return the step of a line of metrics, None for any other line."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl.

    Raises
    ------
    InputError
        If it cannot be read, is empty or is damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as e:
        raise InputError(f"{path}: {e.strerror or e}") from e
    except ValueError as e:
        raise InputError(f"{path}: it is no text ({e})") from e
    metrics = []
    for number, line in enumerate(lines, 1):
        try:
            figures = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise InputError(f"{path}: line {number} is no intact JSON ({e})") from e
        if not _are_figures(figures):
            raise InputError(f"{path}: line {number} does not hold the figures of a step")
        metrics.append(figures)
    if not metrics:
        raise InputError(f"{path}: it is empty")
    return metrics


def _are_figures(line: Any) -> bool:
    """Tell whether a line of metrics has all that is read of it, as numbers."""
    if not isinstance(line, dict) or not line.keys() >= {*NUMBERS, *MAY_LACK, "phase"}:
        return False
    numbers = [line[name] for name in NUMBERS]
    numbers += [line[name] for name in MAY_LACK if line[name] is not None]
    return all(isinstance(value, int | float) for value in numbers)
