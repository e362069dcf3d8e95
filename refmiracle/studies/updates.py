"""Updates beside what is sent instead: error against bytes, over kinds of drift.

A shipped model meets images that it was not trained on, and is told of them in some bytes.  Beside
that: what it forgets, what it costs to show it old images too, an update that has nothing to say,
digits that it has never seen, and a chain of updates as a drift grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from refmiracle.model import Model
from refmiracle.studies.results import prepare_study, write_study
from refmiracle.studies.rivals import load_bsdiff
from refmiracle.studies.runs import runs_folder
from refmiracle.studies.update_claims import make_claims
from refmiracle.studies.update_figures import draw
from refmiracle.studies.update_jobs import Rows, do_all
from refmiracle.studies.update_plan import (
    CHAIN,
    CLASSES,
    DRIFTED,
    MEASURED,
    MIXED,
    OLD,
    Task,
    UpdatesPlan,
    class_base,
    class_tasks,
    plan_tasks,
)
from refmiracle.studies.update_tables import summaries
from refmiracle.training.data import Data, check_split, load_split
from refmiracle.training.run import model_path
from refmiracle.training.settings import fingerprint

STUDY = "updates"
TABLES = (DRIFTED, MIXED, OLD, CLASSES, CHAIN)
COLUMNS = (
    *("drift", "strength", "share", "method", "limit", "seed", "status", "link", "bytes"),
    *("sent_bytes", "validation_error", "test_error", "old_test_error", "steps", "seconds"),
)


def updates(
    plan: UpdatesPlan, data: Data, out: Path, executor: Executor, at_once: int | None = None
) -> dict[str, Any]:
    """Make and measure all files; write tables, claims and figures.

    Files that are finished in `out` are not made again.  See `results.write_study`.

    Parameters
    ----------
    plan : UpdatesPlan
    data : Path or DataSet
    out : Path
        Folder of the studies.
    executor, at_once
        See `runs.run_tasks`.

    Raises
    ------
    InputError
        If a setting is out of range, `out` holds results of other settings, or bsdiff4 is missing.
    """
    load_bsdiff()
    base = plan.model()
    known = fingerprint(check_split(load_split(data, "train"), base.network))
    check_split(load_split(data, "t10k"), base.network)
    tasks, missing = plan_tasks(plan, base)
    first = class_base(plan, base) if plan.classes else {}
    prepare_study(out / STUDY)

    def do(some: Mapping[str, Task]) -> Rows:
        jobs = {name: task.job for name, task in some.items()}
        found, failed = do_all(jobs, data, known, runs_folder(out), executor, at_once)
        failures.update(failed)
        return [_row(some[name], row) for name, rows in found.items() for row in rows]

    failures: dict[str, str] = {}
    rows = do({**first, **tasks})
    for name in first.keys() - failures.keys():
        root = (runs_folder(out) / name / model_path(out).name).read_bytes()
        learning, more = class_tasks(plan, Model(root, engine=plan.engine))
        rows += do(learning) + more
    tables = in_tables(rows + missing)
    return write_study(
        out / STUDY,
        STUDY,
        plan.to_dict(),
        make_claims(tables),
        failures,
        tables,
        draw(tables),
        {"summaries": summaries(tables)},
    )


def _row(task: Task, row: Mapping[str, Any]) -> dict[str, Any]:
    return {"table": task.table, "status": MEASURED, **task.key, **row}


def in_tables(rows: Rows) -> dict[str, Rows]:
    """Return rows by table, each with all columns."""
    return {
        table: [{c: row.get(c) for c in COLUMNS} for row in rows if row["table"] == table]
        for table in TABLES
    }
