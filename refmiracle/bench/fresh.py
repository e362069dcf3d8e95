"""Starts of fresh processes: import, first step, peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from refmiracle.bench.figures import OURS, Bench, Figure
from refmiracle.bench.timing import Samples
from refmiracle.errors import CheckError

BATCH = 256
STEPS = 10
# Seconds; a start that compiles everything takes a minute on a slow machine.
LONGEST_START = 900.0
# Where each library keeps what it has compiled.
CACHES = ("NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")


def start(problem: Path, cache: Path, threads: int, label: str) -> dict[str, Any]:
    """Run a fresh process; return its seconds of import, to its first step, and its memory.

    Raises
    ------
    CheckError
        If it fails, or has not ended in time.
    """
    environment = {
        **os.environ,
        **{name: str(cache / name) for name in CACHES},
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    arguments = [str(problem), str(BATCH), str(STEPS), str(threads)]
    command = [sys.executable, "-m", "refmiracle.bench.first_step", *arguments]
    begin = time.time()
    try:
        done = subprocess.run(
            command + ([label] if label != OURS else []),
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=LONGEST_START,
        )
    except subprocess.TimeoutExpired:
        raise CheckError(
            f"a fresh process of {label} has not ended within {LONGEST_START:g} s"
        ) from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise CheckError(
            f"a fresh process of {label} ended with exit code {done.returncode}: {said[-1]}"
        )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    figures["first_step"] = figures["first_step_at"] - begin
    return figures


def measure_starts(bench: Bench) -> list[Figure]:
    """Measure starts with nothing cached, and then with what the first start has cached.

    The peers load their arrays from one file; refmiracle loads MNIST as it is shipped.
    """
    labels = [OURS, *(p.label for p in bench.step_peers())]
    with tempfile.TemporaryDirectory(prefix="refmiracle-bench-") as folder:
        problem, cache = Path(folder) / "problem.npz", Path(folder) / "cache"
        np.savez(problem, **bench.problem)  # type: ignore[arg-type]
        cold = {label: start(problem, cache, bench.threads, label) for label in labels}
        rounds = [
            {label: start(problem, cache, bench.threads, label) for label in labels}
            for _ in range(bench.sizes.fresh)
        ]

    def figure(name: str, unit: str, key: str, results: list[Any], note: str) -> Figure:
        samples = {label: np.array([r[label][key] for r in results]) for label in labels}
        ours: Samples = samples.pop(OURS)
        return Figure(name, unit, ours, samples, note=note)

    from_start = f"from the start of the process, batch {BATCH}, data loaded"
    figures = [
        figure("import", "s", "import", rounds, "in a fresh process, compiled code cached"),
        figure("first step, nothing cached", "s", "first_step", [cold], from_start),
        figure("first step, code cached", "s", "first_step", rounds, from_start),
    ]
    if all(result["peak"] is not None for result in rounds[0].values()):
        note = f"of a process that takes {STEPS} steps, training set included"
        figures.append(figure(f"peak memory, batch {BATCH}", "MiB", "peak", rounds, note))
    return figures
