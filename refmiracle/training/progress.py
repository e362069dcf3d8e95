"""A progress bar where tqdm is installed (extra ``progress``), and silence where it is not."""

from __future__ import annotations

from typing import Any


class Silence:
    """Stands in for a tqdm bar."""

    total = 0

    def update(self, n: int = 1) -> None:
        """Do nothing."""

    def set_postfix_str(self, text: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def progress_bar(total: int, initial: int, description: str, unit: str = "step") -> Any:
    """Return a tqdm bar on standard error, or its silent stand-in."""
    try:
        from tqdm import tqdm  # noqa: PLC0415 (an extra)
    except ImportError:
        return Silence()
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        dynamic_ncols=True,
        mininterval=1.0,
    )
