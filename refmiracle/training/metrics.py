"""metrics.jsonl: one line of figures at a time, written as the run goes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from refmiracle.errors import InputError
from refmiracle.files import write_atomically

# What is read of a line again; those of the second kind may be null.
NUMBERS = ("step", "kl_bits", "sent_bits")
MAY_LACK = ("loss_nats", "validation_error")


def append_metrics(path: Path, figures: dict[str, Any]) -> None:
    """Append a line, and see it on the disk: no later checkpoint is there without it.

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
    except OSError as e:
        raise InputError(f"{path}: cannot be written: {e.strerror or e}") from e


def keep_metrics(path: Path, step: int) -> None:
    """Drop the lines after `step`, which a resumed run will write again, and a torn last line.

    Raises
    ------
    InputError
        If the file cannot be read, or is damaged before its end: then it stays as it is.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    except OSError as e:
        raise InputError(f"{path}: cannot be read: {e.strerror or e}") from e
    steps = [_step(line) for line in lines]
    whole = [i for i, found in enumerate(steps) if found is not None]
    end = whole[-1] + 1 if whole else 0  # what a crash has torn stands behind
    if None in steps[:end]:
        raise InputError(
            f"{path}: line {steps.index(None) + 1} is no line of metrics; mend or delete the file"
        )
    kept = [lines[i] + b"\n" for i in whole if (steps[i] or 0) <= step]
    write_atomically(path, b"".join(kept))


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
