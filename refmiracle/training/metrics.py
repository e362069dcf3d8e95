"""metrics.jsonl: one line of figures at a time, written as the run goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from refmiracle.errors import InputError
from refmiracle.files import write_atomically


def append_metrics(path: Path, figures: dict[str, Any]) -> None:
    """Append a line.

    Raises
    ------
    InputError
        If the file cannot be written to.
    """
    try:
        with open(path, "a", encoding="utf-8", newline="\n") as f:
            f.write(json.dumps(figures) + "\n")
    except OSError as e:
        raise InputError(f"{path}: cannot be written: {e.strerror or e}") from e


def keep_metrics(path: Path, step: int) -> None:
    """Drop the lines after `step`, which a resumed run will write again, and a torn last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            break
    write_atomically(path, "".join(kept).encode())
