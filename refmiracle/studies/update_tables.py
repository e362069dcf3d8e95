"""The study of updates in Markdown: means over seeds, as docs/UPDATES.md has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from refmiracle.studies.rivals import LARGEST_CHANGES
from refmiracle.studies.update_plan import (
    AT_ONCE,
    CHAIN,
    CLASSES,
    DRIFTED,
    MEASURED,
    MIXED,
    NEW,
    OLD,
    STEP_BY_STEP,
    UNCHANGED,
    UPDATE,
)

Rows = Sequence[Mapping[str, Any]]
KEYS = ("table", "drift", "strength", "share", "method", "limit", "link")
MEANS = ("bytes", "sent_bytes", "validation_error", "test_error", "old_test_error", "seconds")
NONE = "-"


def summaries(tables: Mapping[str, Rows]) -> list[dict[str, Any]]:
    """Return a row for all seeds of each file: means, and the range of the test error."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for table, rows in tables.items():
        for row in rows:
            key = tuple({**row, "table": table}[name] for name in KEYS)
            groups.setdefault(key, []).append(row)
    return [_summary(dict(zip(KEYS, key, strict=True)), some) for key, some in groups.items()]


def _summary(key: dict[str, Any], rows: Rows) -> dict[str, Any]:
    measured = [row for row in rows if row["status"] == MEASURED]
    status = MEASURED if measured else rows[0]["status"]
    errors = [row["test_error"] for row in measured]
    means = {}
    for name in MEANS:
        values = [row[name] for row in measured if row[name] is not None]
        means[name] = round(mean(values), 6) if values else None
    low, high = (min(errors), max(errors)) if errors else (None, None)
    return {**key, "status": status, "seeds": len(measured), **means, "low": low, "high": high}


def describe_updates(results: Mapping[str, Any]) -> str:
    """Return all tables as Markdown."""
    rows = results["summaries"]
    parts = [
        *_of_the_first_drift(rows),
        *_of_all_drifts(rows),
        *_of_shares(rows),
        *_of_nothing(rows),
        *_of_classes(rows),
        *_of_the_chain(rows),
    ]
    return "\n\n".join(parts)


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.2f} %"


def _strength(row: Mapping[str, Any]) -> str:
    return f"{row['drift']} {row['strength']:g}"


def _table(title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    width = lines[0].count("|") - 1
    lines.insert(1, "|" + "---|" * width)
    return [f"### {title}", "\n".join(lines)] if len(lines) > 2 else []


def _select(rows: Rows, **of: Any) -> list[Mapping[str, Any]]:
    return [row for row in rows if all(row[name] == value for name, value in of.items())]


def _limits(rows: Rows) -> list[int]:
    return sorted({row["limit"] for row in rows if row["method"] == UPDATE})


def _of_the_first_drift(rows: Rows) -> list[str]:
    points = _select(rows, table=DRIFTED)
    if not points:
        return []
    first = [row for row in points if _strength(row) == _strength(points[0])]
    lines = []
    for row in sorted(first, key=lambda r: (r["bytes"] is None, r["bytes"] or 0)):
        size = NONE if row["bytes"] is None else f"{row['bytes']:,.0f}"
        limit = f", at most {row['limit']}" if row["limit"] else ""
        interval = (
            "" if row["seeds"] < 2 else f" ({_percent(row['low'])} to {_percent(row['high'])})"
        )
        what = row["method"] + limit
        told = row["status"] if row["bytes"] is None else _percent(row["test_error"]) + interval
        lines.append((what, size, told, _percent(row["old_test_error"])))
    head = ("sent", "bytes", "test error (seeds)", "on the old images")
    return _table(f"What can be sent: {_strength(points[0])}", head, lines)


def _of_all_drifts(rows: Rows) -> list[str]:
    points, parts = _select(rows, table=DRIFTED), []
    limits = _limits(points)
    if not limits:
        return []
    largest = max((row["limit"] or 0 for row in points if row["method"] == NEW), default=0)
    of = {
        "Updates": (UPDATE, limits),
        "New files": (NEW, [*limits, largest]),
        "The largest changes, int8": (LARGEST_CHANGES["int8"], limits),
    }
    for title, (method, sizes) in of.items():
        head = ("drift", "nothing sent", *(f"{size} bytes" for size in dict.fromkeys(sizes)))
        lines = []
        for name in dict.fromkeys(map(_strength, points)):
            own = [row for row in points if _strength(row) == name]
            cells = [_error(_select(own, method=method, limit=s)) for s in dict.fromkeys(sizes)]
            if any(cell != NONE for cell in cells):
                lines.append((name, _error(_select(own, method=UNCHANGED)), *cells))
        parts += _table(f"{title}: test error", head, lines)
    return parts


def _error(found: Rows, of: str = "test_error") -> str:
    return _percent(found[0][of]) if found else NONE


def _of_shares(rows: Rows) -> list[str]:
    """Return the table of what is forgotten, and of what old images among the new ones cost."""
    mixed = _select(rows, table=MIXED)
    points = _select(rows, table=DRIFTED, method=UPDATE)
    if not points:
        return []
    first = [row for row in points if _strength(row) == _strength(points[0])]
    return _of_parts(f"Old images among the new: {_strength(points[0])}", [*first, *mixed])


def _of_parts(title: str, rows: Rows) -> list[str]:
    limits = _limits(rows)
    head = ("old images", "of", *(f"{limit} bytes" for limit in limits))
    lines = []
    for share in dict.fromkeys(row["share"] for row in rows):
        own = _select(rows, share=share, method=UPDATE)
        for what, of in (("new", "test_error"), ("old", "old_test_error")):
            cells = [_error(_select(own, limit=limit), of) for limit in limits]
            lines.append((f"{100 * share:g} %", f"{what} test images", *cells))
    return _table(title, head, lines)


def _of_nothing(rows: Rows) -> list[str]:
    own = _select(rows, table=OLD)
    lines = [
        (row["method"], f"{row['bytes']:.0f}", _percent(row["test_error"]))
        for row in own
        if row["bytes"] is not None
    ]
    return _table("An update with nothing new to say", ("sent", "bytes", "test error"), lines)


def _of_classes(rows: Rows) -> list[str]:
    return _of_parts(
        "Digits that the base has not seen", _select(rows, table=CLASSES, method=UPDATE)
    )


def _of_the_chain(rows: Rows) -> list[str]:
    own = _select(rows, table=CHAIN)
    lines = []
    for angle in dict.fromkeys(row["strength"] for row in own):
        by = {m: _select(own, strength=angle, method=m) for m in (UNCHANGED, STEP_BY_STEP, AT_ONCE)}
        chain = by[STEP_BY_STEP]
        sent = f"{chain[0]['sent_bytes']:.0f}" if chain else NONE
        once = f"{by[AT_ONCE][0]['bytes']:.0f}" if by[AT_ONCE] else NONE
        old = _error(chain, "old_test_error")
        errors = [_error(found) for found in by.values()]
        lines.append((f"{angle:g}", errors[0], sent, errors[1], old, once, errors[2]))
    head = ("degrees", "nothing sent", "bytes of the chain", "its error", "on upright digits")
    return _table("A chain as the angle grows", (*head, "bytes at once", "its error"), lines)
