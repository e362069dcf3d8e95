"""docs/UPDATES.md says what the files in docs/study/updates say, which the command wrote."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from pathlib import Path

import pytest

from refmiracle.model import Model
from refmiracle.studies.results import Claim, Interval, claims_table
from refmiracle.studies.update_jobs import identity
from refmiracle.studies.update_plan import UPDATES_PLANS, class_base, class_tasks, plan_tasks
from refmiracle.studies.update_tables import describe_updates
from refmiracle.training.data import default_folder, load_split
from refmiracle.training.settings import fingerprint

DOCS = Path(__file__).resolve().parent.parent / "docs"
FOLDER = DOCS / "study" / "updates"
TEXT = (DOCS / "UPDATES.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def results():
    return json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))


def test_every_file_is_there(results):
    for name in results["files"]:
        assert (FOLDER / name).stat().st_size > 0


def test_the_tables_are_those_of_the_results(results):
    tables = describe_updates(results)
    assert tables.count("###") >= 6
    assert tables in TEXT


def test_the_summary_says_what_the_tables_say(results):
    """The figures of "In short": those of one drift, by what is sent and how long it may be."""
    (short,) = re.findall(r"## In short\n(.*?)```", TEXT, flags=re.DOTALL)
    rows = [r for r in results["summaries"] if (r["table"], r["share"]) == ("points", 0)]
    rows = [r for r in rows if (r["drift"], r["strength"]) == ("rotation", 25.0)]

    def errors(method, digits):
        own = sorted((r for r in rows if r["method"] == method), key=lambda r: r["bytes"])
        return [f"{100 * r['test_error']:.{digits}f}" for r in own]

    updates, files = errors("update", 2), errors("new file", 1)
    assert f"| {', '.join(updates)} % |" in short
    assert [f"{float(e):.0f}" for e in files[:4]] == ["88", "53", "39", "18"]
    assert f"| 88, 53, 39, 18, {files[4]} % |" in short
    assert f"| {', '.join(errors('largest changes, int8', 2))} % |" in short
    assert f"| {errors('new file', 2)[5]} % |" in short
    old = [100 * r["test_error"] for r in results["summaries"] if r["table"] == "nothing"]
    assert round(max(old) - old[-1], 2) == 0.03
    assert "it costs at most 0.03 points" in short


def test_the_summary_of_all_kinds_says_what_the_tables_say(results):
    rows = [r for r in results["summaries"] if r["table"] == "points" and not r["share"]]
    error = {(r["drift"], r["method"], r["limit"]): 100 * r["test_error"] for r in rows}
    updates = {k: error[k, "update", 115] for k, method, limit in error if method == "update"}
    assert len(updates) == 10
    eight = [e for k, e in updates.items() if k not in ("shift", "occlusion")]
    text = " ".join(TEXT.split())
    assert f"bring eight to errors of {min(eight):.1f} to {max(eight):.1f} %" in text
    assert f"by four pixels to {updates['shift']:.1f} %" in text
    assert f"in the middle to {updates['occlusion']:.1f} %" in text


def test_the_claims_are_those_of_the_results(results):
    claims = [Claim(**{**c, "interval": Interval(**c["interval"])}) for c in results["claims"]]
    assert claims_table(claims).strip() in TEXT
    assert len(claims) == 4 + 2 * 5 + 5


def test_they_come_from_the_default_study(results):
    plan = json.loads(json.dumps(UPDATES_PLANS["default"].to_dict()))
    assert results["settings"] == {**plan, "kinds": []}
    assert "`python -m refmiracle.study updates`, on" in TEXT
    assert results["failures"] == {}


def test_the_runs_that_are_kept_are_whole():
    """Each file is the one that was measured, and as long as its row says."""
    with zipfile.ZipFile(FOLDER / "runs.zip") as kept:
        folders = sorted({name.split("/")[0] for name in kept.namelist()})
        sizes = []
        for folder in folders:
            found = json.loads(kept.read(f"{folder}/measures.json"))
            files = {name: kept.read(f"{folder}/{name}") for name in found["sha256"]}
            for name, digest in found["sha256"].items():
                assert hashlib.sha256(files[name]).hexdigest() == digest, folder
            if len(files) == 1:
                (row,), (data,) = found["rows"], files.values()
                assert row["bytes"] == len(data)
                sizes.append(len(data))
    assert {51, 114, 139, 222, 498} <= set(sizes)
    assert len(folders) > 100


def test_the_runs_that_are_kept_are_those_of_the_plan():
    """So that the command still finds them, whatever settings have come since."""
    plan = UPDATES_PLANS["default"]
    tasks, _ = plan_tasks(plan, plan.model())
    known = fingerprint(load_split(default_folder(), "train"))
    with zipfile.ZipFile(FOLDER / "runs.zip") as kept:
        (name,) = class_base(plan, plan.model())
        root = Model(kept.read(f"{name}/model.rmc"), engine=plan.engine)
        tasks |= class_base(plan, plan.model()) | class_tasks(plan, root)[0]
        for name, task in tasks.items():
            found = json.loads(kept.read(f"{name}/measures.json"))
            assert found["job"] == identity(task.job, known), name
