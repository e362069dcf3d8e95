"""A fresh process that takes some steps and says on standard output what they cost.

Its arguments are PROBLEM BATCH STEPS THREADS [PEER]; without a peer's label it is refmiracle that
trains, on the MNIST that it loads itself.  Nothing heavy is imported before the clock runs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from refmiracle.bench.peers import STEP_PEERS, load_peer


def peak_mebibytes() -> float | None:
    """Return the most memory that this process held, or None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux its maximum includes the parent's, from before exec.
        lines = status.read_text().splitlines()
        return next((int(s.split()[1]) / 1024 for s in lines if s.startswith("VmHWM:")), None)
    try:
        import resource  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def import_ours() -> Callable[[str, int], Callable[[], float]]:
    """Import refmiracle and its engine; return what makes a step from nothing."""
    from refmiracle.engines import get_engine  # noqa: PLC0415 (is measured)
    from refmiracle.training.data import (  # noqa: PLC0415
        default_folder,
        load_split,
        split_validation,
    )
    from refmiracle.training.settings import Settings  # noqa: PLC0415
    from refmiracle.training.trainer import Trainer  # noqa: PLC0415

    settings = Settings()
    get_engine(settings.engine)

    def make(problem: str, batch: int) -> Callable[[], float]:
        train, _ = split_validation(load_split(default_folder(), "train"))
        return Trainer(replace(settings, batch_size=batch), train).train_step

    return make


def import_peer(label: str, threads: int) -> Callable[[str, int], Callable[[], float]]:
    """Import a peer's library; return what makes a step from the problem's file."""
    import numpy as np  # noqa: PLC0415 (is measured)

    peer = next(p for p in STEP_PEERS if p.label == label)
    module = load_peer(f"{peer.library}_step")
    module.prepare(threads)

    def make(problem: str, batch: int) -> Callable[[], float]:
        with np.load(problem) as arrays:
            step: Callable[[], float] = module.Step(dict(arrays), batch, **peer.options).step
        return step

    return make


def main() -> int:
    """Import, take steps, print the figures as JSON."""
    problem, batch, steps, threads, *label = sys.argv[1:]
    begin = time.perf_counter()
    make = import_peer(label[0], int(threads)) if label else import_ours()
    imported = time.perf_counter() - begin
    step = make(problem, int(batch))
    step()
    # The clock on the wall is the one that the parent reads too.
    first_step = time.time()
    for _ in range(int(steps) - 1):
        step()
    figures = {"import": imported, "first_step_at": first_step, "peak": peak_mebibytes()}
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
