"""How many processors this process may use, which may be fewer than the machine has.

A batch system or ``taskset`` allows a process some of them, and a container's quota is time on
all of them that is worth some.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# Where Linux keeps control groups.
GROUPS = "sys/fs/cgroup"


def usable_processors(root: Path = Path("/")) -> int:
    """Return how many processors this process may use, at least 1.

    Parameters
    ----------
    root : Path
        Where the files of the system are looked for; a quota is rounded up to whole processors.
    """
    quota = min(_quotas(root), default=math.inf)
    allowed = _allowed()
    return max(1, allowed if quota >= allowed else math.ceil(quota))


def _allowed() -> int:
    """Return the processors that the scheduler may put this process on."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        return int(os.process_cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in processors, of this process's control groups and those above them.

    Within a container the groups have the names of the host, where the container's own group is
    the topmost that is seen: names that are not there are passed over.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        if line.count(":") < 2:
            continue
        _, controllers, name = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has one tree; version 1 one for each controller, by the name of several.
        trees = {controllers, "cpu"} if controllers else {""}
        group = PurePosixPath(name.lstrip("/"))
        for tree in trees:
            for folder in (group, *group.parents):
                yield from _quota(root / GROUPS / tree / folder)


def _quota(folder: Path) -> Iterator[float]:
    """Yield what a group's own files allow it, in processors."""
    words = _read(folder / "cpu.max").split()
    if not words:
        words = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    try:
        time, period = map(float, words)
    except ValueError:  # "max", or no such file
        return
    if time > 0 and period > 0:  # -1: no limit
        yield time / period


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
