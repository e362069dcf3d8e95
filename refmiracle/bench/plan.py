"""Which figures a run measures, and in which sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refmiracle.bench.figures import (
    Bench,
    Figure,
    Sizes,
    measure_codebook,
    measure_decode,
    measure_encode,
    measure_group,
    measure_peak_share,
    measure_predict,
    measure_step,
)
from refmiracle.bench.fresh import measure_starts
from refmiracle.bench.timing import Pace

FULL = Sizes()
QUICK = Sizes(Pace(rounds=3, turn=0.05, limit=2.0), batches=(64,), bits=(14,), images=2000, fresh=0)
PEAK_BATCH = 256

Task = Callable[[], list[Figure]]


def plan(bench: Bench) -> list[tuple[str, Task]]:
    """Return all measurements, with a name for the progress bar."""
    sizes, size, bits = bench.sizes, bench.settings.block_size, bench.settings.bits_per_block
    tasks: list[tuple[str, Task]] = []

    def add(name: str, function: Callable[..., Figure], *arguments: Any) -> None:
        tasks.append((name, lambda: [function(bench, *arguments)]))

    for shared in (True, False):
        for batch in sizes.batches:
            add(f"step, batch {batch}", measure_step, batch, shared)
    for shared in (True, False):
        add("sgemm", measure_peak_share, min(PEAK_BATCH, max(sizes.batches)), shared)
    add("predict", measure_predict)
    for b in sizes.bits:
        add(f"encode, {b} bits", measure_encode, b, size, "encode, by bits", b)
    for s in sizes.block_sizes:
        add(f"encode by {s}", measure_encode, bits, s, "encode, by block size", s)
    add("encode a group", measure_group)
    add("decode", measure_decode)
    add("codebook", measure_codebook)
    if sizes.fresh:
        tasks.append(("starts", lambda: measure_starts(bench)))
    return tasks
