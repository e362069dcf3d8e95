"""Opening the folder of a finished run, with one clear line for whatever is wrong with it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refmiracle.errors import InputError
from refmiracle.fileformat.container import CompressedModel
from refmiracle.fileformat.envelope import (
    UPDATES,
    VERSION,
    base_checksum,
    checksum_of,
    is_update,
    read_bytes,
    unseal,
)
from refmiracle.fileformat.update import CompressedUpdate
from refmiracle.files import flag, printable
from refmiracle.studies.comparison import FinishedRun, open_run, read_file
from refmiracle.training.metrics import read_metrics
from refmiracle.training.run import (
    checkpoint_path,
    metrics_path,
    model_path,
    posterior_path,
    summary_path,
    update_path,
)

# What the page shows of them; a file of another version may hold more.
NUMBERS = ("steps", "train_seconds", "ratio")
SUMMARY_KEYS = {"config", "sha256", "validation_error", *NUMBERS}


@dataclass(frozen=True)
class OpenedRun:
    """All that the folder of a finished run holds.

    Attributes
    ----------
    name : str
        The folder's own name.
    run : FinishedRun
        Settings, figures, posterior and decoded variables.
    model : CompressedModel or CompressedUpdate
    data : bytes
        model.rmc or update.rmc.
    metrics : list of dict
        The lines of metrics.jsonl.
    """

    name: str
    run: FinishedRun
    model: CompressedModel | CompressedUpdate
    data: bytes
    metrics: list[dict[str, Any]]


def open_folder(folder: Path) -> OpenedRun:
    """Read all that `refmiracle train` leaves in a folder.

    Raises
    ------
    InputError
        If the run is not finished, or one of its files is missing, damaged or of another run.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    summary = read_summary(folder)
    if not posterior_path(folder).exists():
        raise InputError(
            f"{posterior_path(folder)} is missing: an older version of refmiracle trained this"
            " run; train it again"
        )
    metrics = read_metrics(metrics_path(folder))
    if metrics[-1]["step"] != summary["steps"]:
        raise InputError(
            f"{metrics_path(folder)}: it ends at step {metrics[-1]['step']}; the run of"
            f" {summary_path(folder)} has {summary['steps']} steps"
        )
    settings = summary["config"]
    base = settings.get("base") if isinstance(settings, dict) else None
    path = update_path(folder) if base else model_path(folder)
    data = read_bytes(path)
    try:
        unseal(data, {VERSION, *UPDATES})
    except InputError as e:
        raise InputError(f"{path}: {e}") from e
    _refuse_foreign(folder, path, data, base)
    if hashlib.sha256(data).hexdigest() != summary["sha256"]:
        raise InputError(f"{path}: it is not the file that {summary_path(folder)} describes")
    try:
        run = open_run(folder, summary)
    except (TypeError, AttributeError) as e:
        raise InputError(f"{summary_path(folder)}: its settings are damaged ({e})") from e
    file = read_file(data, run.settings, run.base)
    return OpenedRun(printable(folder.resolve().name), run, file, data, metrics)


def _refuse_foreign(folder: Path, path: Path, data: bytes, base: Any) -> None:
    """Refuse a file beside that of a run which is neither its base nor an update of it.

    Raises
    ------
    InputError
        If there is one.
    """
    (other,) = {model_path(folder), update_path(folder)} - {path}
    if not other.exists():
        return
    beside = read_bytes(other)
    is_its_update = is_update(beside) and base_checksum(beside) == checksum_of(data)
    if not is_its_update and not (isinstance(base, list) and beside.hex() in base):
        raise InputError(
            f"{other}: it is not of this run, whose file is {path.name}, nor its base; move it away"
        )


def read_summary(folder: Path) -> dict[str, Any]:
    """Return summary.json of a run.

    Raises
    ------
    InputError
        If it is not there because the run is not finished, or it is damaged.
    """
    path = summary_path(folder)
    if not path.exists() and checkpoint_path(folder).exists():
        raise InputError(
            f"{folder}: the run is not finished; go on with it by"
            f" python -m refmiracle.train --resume{flag('out', folder)}"
        )
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise InputError(f"{path}: {e.strerror or e}") from e
    except (ValueError, RecursionError) as e:
        raise InputError(f"{path}: it is no intact JSON ({e})") from e
    if (
        not isinstance(summary, dict)
        or not summary.keys() >= SUMMARY_KEYS
        or not all(isinstance(summary[name], int | float) for name in NUMBERS)
        or not isinstance(summary["validation_error"], int | float | None)
    ):
        raise InputError(f"{path}: it does not hold the figures of a run of this version")
    return summary
