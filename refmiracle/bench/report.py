"""The results as a table and as JSON, with the machine that they hold for."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import refmiracle
from refmiracle.bench.figures import Figure
from refmiracle.bench.timing import Samples, quartiles, ratio
from refmiracle.processors import usable_processors

# A share of the processors taken by others that is worth a warning.
BUSY = 0.05
SCHEMA = "refmiracle-bench/1"
PACKAGES = ("numpy", "scipy", "numba", "torch", "jax")
HEAD = ("figure", "unit", "refmiracle", "peer", "peer's", "ratio")
ABOUT = (
    "medians (quartiles) over the rounds; ratio: refmiracle / peer, median over the rounds"
    " (95 % bootstrap interval); ~ reckoned from a part, as the notes say"
)


def cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [s.split(":", 1)[1].strip() for s in lines if s.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {"python": platform.python_version(), "refmiracle": refmiracle.__version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe_machine(threads: int) -> dict[str, Any]:
    """Return what the figures depend on beside the code."""
    return {
        "cpu": cpu_model(),
        "cores": usable_processors(),
        "threads": threads,
        "system": platform.platform(),
        "versions": versions(),
    }


def summary_of(samples: Samples) -> dict[str, Any]:
    """Return the median, the quartiles and the number of rounds."""
    low, median, high = quartiles(samples)
    return {"median": median, "quartiles": [low, high], "rounds": len(samples)}


def peer_to_json(figure: Figure, label: str) -> dict[str, Any]:
    """Return a peer's figures and our ratio to it."""
    middle, interval = ratio(figure.ours, figure.peers[label])
    return {
        "name": label,
        **summary_of(figure.peers[label]),
        "ratio": middle,
        "ratio_interval_95": list(interval) if interval else None,
        "estimated_from": figure.estimated or None,
    }


def to_json(
    figures: Sequence[Figure], machine: dict[str, Any], network: str | None = None
) -> dict[str, Any]:
    """Return all results as plain data; `network` names another one than LeNet-5."""
    rows = [
        {
            "name": f.name,
            "unit": f.unit,
            "group": f.group or None,
            "at": f.at,
            "refmiracle": summary_of(f.ours),
            "peers": [peer_to_json(f, label) for label in f.peers],
            "note": f.note or None,
            "others_cpu_share": f.others,
        }
        for f in figures
    ]
    named = {} if network is None else {"network": network}
    return {"schema": SCHEMA, **named, "machine": machine, "figures": rows}


def number(value: float) -> str:
    """Return three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def with_quartiles(samples: Samples) -> str:
    """Return the median with its quartiles."""
    low, median, high = quartiles(samples)
    if len(samples) == 1:
        return number(median)
    return f"{number(median)} ({number(low)}-{number(high)})"


def ratio_text(ours: Samples, peer: Samples) -> str:
    """Return the ratio with its interval."""
    middle, interval = ratio(ours, peer)
    if interval is None:
        return number(middle)
    return f"{number(middle)} ({number(interval[0])}-{number(interval[1])})"


def rows_of(figure: Figure) -> list[tuple[str, ...]]:
    """Return a figure's rows in the table: one for each peer."""
    first = (figure.name, figure.unit, with_quartiles(figure.ours))
    mark = "~" if figure.estimated else ""
    rows = [
        (label, mark + with_quartiles(samples), mark + ratio_text(figure.ours, samples))
        for label, samples in figure.peers.items()
    ]
    if not rows:
        return [(*first, "", "", "")]
    return [(*(first if i == 0 else ("", "", "")), *row) for i, row in enumerate(rows)]


def to_text(figures: Sequence[Figure], machine: dict[str, Any], network: str | None = None) -> str:
    """Return the table with the machine above and the notes below.

    `network` names another one than LeNet-5.
    """
    rows = [HEAD, *(row for f in figures for row in rows_of(f))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * w for w in widths))
    notes = [f"{f.name}: {f.note}" for f in figures if f.note]
    notes += [f"{f.name}: peers reckoned from {f.estimated}" for f in figures if f.estimated]
    notes += [
        f"{f.name}: NOT ALONE, other processes took {f.others:.0%} of the processors"
        for f in figures
        if f.others and f.others > BUSY
    ]
    known = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    head = f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads; {known}"
    of = [] if network is None else [f"{network}, on images of noise"]
    return "\n".join([head, *of, "", *lines, "", ABOUT, *notes])
