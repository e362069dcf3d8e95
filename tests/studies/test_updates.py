from __future__ import annotations

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from refmiracle.commands import study as command
from refmiracle.errors import InputError
from refmiracle.loading import load
from refmiracle.model import Model
from refmiracle.studies import rivals, scenes, update_jobs, updates
from refmiracle.studies.results import HOLDS, UNDECIDED
from refmiracle.studies.rivals import Tuning
from refmiracle.studies.scenes import NOTHING, Scene, views
from refmiracle.studies.update_claims import make_claims
from refmiracle.studies.update_plan import (
    CHAIN,
    CLASSES,
    DRIFTED,
    MEASURED,
    MIXED,
    NEW,
    OLD,
    UNCHANGED,
    UPDATE,
    UPDATES_PLANS,
    UpdatesPlan,
    plan_tasks,
)
from refmiracle.studies.update_tables import describe_updates, summaries
from refmiracle.training.data import default_folder, load_split
from refmiracle.training.formats import idx_folders
from refmiracle.training.lock import locked

FEW = {"preset": "smoke", "steps": 3, "groups": 2, "group_steps": 1, "bits_per_block": 4}
PLAN = UpdatesPlan(
    "numba",
    FEW,
    (("rotation", 25.0),),
    FEW,
    FEW,
    Tuning(steps=2, sparse_steps=2, rates=(1e-3,), part_rates=(1e-3,)),
    sizes=(36, 51),
    seeds=(0,),
    shares=(0.5,),
    angles=(3.0, 6.0),
    link_bytes=51,
    kept=200,
)


@pytest.fixture(scope="module", autouse=True)
def own_images():
    """What was loaded before is of other images than the few of these tests, and what is loaded
    here of other images than all.
    """

    def forget():
        scenes.loaded.cache_clear()
        scenes.views.cache_clear()

    read = idx_folders.read_idx
    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(idx_folders, "read_idx", lambda path, kind: read(path, kind)[:700])
        yield
    forget()


@pytest.fixture(scope="module")
def made(tmp_path_factory, own_images):
    """The folder of a tiny study, and its results."""
    out = tmp_path_factory.mktemp("updates")
    # bsdiff takes seconds for a network; what it gives is looked at below.
    quick = SimpleNamespace(diff=lambda old, new: bytes(len(new) // 8))
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as executor:
        patch.setattr(rivals, "load_bsdiff", lambda: quick)
        return out, updates.updates(PLAN, default_folder(), out, executor)


def table(out, name):
    with open(out / "updates" / f"{name}.csv", newline="") as f:
        return list(csv.DictReader(f))


def test_the_whole_study(made):
    out, results = made
    assert results["failures"] == {}
    points = table(out, DRIFTED)
    methods = {row["method"] for row in points}
    assert methods >= {UPDATE, NEW, UNCHANGED, "biases, float16", "last layer, int8"}
    assert methods >= {"largest changes, int8", "all weights, bsdiff of npz"}
    assert all(0 <= float(r["test_error"]) <= 1 for r in points if r["status"] == MEASURED)
    for row in points:
        if row["status"] == MEASURED and row["limit"] and row["method"] != NEW:
            assert 0 < int(row["bytes"]) <= int(row["limit"])
    assert {row["share"] for row in table(out, MIXED)} == {"0.5"}
    assert {row["method"] for row in table(out, OLD)} == {UPDATE, UNCHANGED}
    assert {row["share"] for row in table(out, CLASSES)} == {"0", "0.5"}
    chain = [row for row in table(out, CHAIN) if row["link"]]
    assert [row["link"] for row in chain] == ["1", "2"]
    assert int(chain[1]["sent_bytes"]) == sum(int(row["bytes"]) for row in chain)
    for name in ("error", "drifts", "forgetting", "classes", "chain"):
        assert f"{name}.png" in results["files"]
    assert json.loads((out / "updates" / "results.json").read_text()) == results


def test_a_file_that_cannot_be_so_short_is_said(made):
    out, _ = made
    missing = [row for row in table(out, DRIFTED) if row["status"] != MEASURED]
    assert {(row["method"], row["limit"]) for row in missing} == {(NEW, "36")}
    assert "the shortest file with these settings has" in missing[0]["status"]


def test_updates_are_of_the_base_and_err_as_the_table_says(made):
    out, _ = made
    base = load(PLAN.base)
    folder = out / "runs" / "updates-rotation-25-update-51-seed0"
    model = Model((folder / "update.rmc").read_bytes(), base=base)
    assert model.nbytes <= 51
    seen = views(Scene("rotation", 25.0), default_folder(), PLAN.kept)
    row = json.loads((folder / "measures.json").read_text())["rows"][0]
    assert row["test_error"] == model.error(seen.new.images, seen.new.labels)
    assert row["old_test_error"] == model.error(seen.old.images, seen.old.labels)
    assert not list(folder.rglob("checkpoint.npz"))


def test_a_chain_is_read_in_order(made):
    out, _ = made
    folder, model = out / "runs" / "updates-chain-51-seed0", load(PLAN.base)
    for number in (1, 2):
        model = Model((folder / f"update{number:02d}.rmc").read_bytes(), base=model)
    seen = views(Scene("rotation", 6.0), default_folder(), PLAN.kept)
    rows = json.loads((folder / "measures.json").read_text())["rows"]
    assert rows[1]["test_error"] == model.error(seen.new.images, seen.new.labels)


def test_again_nothing_is_made(made, monkeypatch):
    out, results = made

    def fail(*arguments):
        raise AssertionError("made again")

    monkeypatch.setattr(update_jobs, "do_job", fail)
    monkeypatch.setattr(updates, "draw", lambda tables: {})
    with ThreadPoolExecutor(1) as executor:
        again = updates.updates(PLAN, default_folder(), out, executor)
    assert again["failures"] == {}
    assert again["summaries"] == results["summaries"]


def test_other_settings_are_not_taken_for_these(made):
    out, _ = made
    other = replace(PLAN, update={**FEW, "steps": 4})
    refused = pytest.raises(InputError, match="holds a run of other settings")
    with refused, ThreadPoolExecutor(1) as executor:
        updates.updates(other, default_folder(), out, executor)


def test_one_that_fails_is_told_and_stops_no_other(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "updates-rotation-25-update-51-seed0").write_text("in the way")
    monkeypatch.setattr(updates, "draw", lambda tables: {})
    plan = replace(PLAN, sizes=(51,), shares=(), angles=())
    plan = replace(plan, tuning=Tuning(rates=()), classes=False)
    with ThreadPoolExecutor(1) as executor:
        results = updates.updates(plan, default_folder(), tmp_path, executor)
    assert list(results["failures"]) == ["updates-rotation-25-update-51-seed0"]
    methods = {row["method"] for row in table(tmp_path, DRIFTED)}
    assert methods == {NEW, UNCHANGED}


def test_tables_in_markdown(made):
    _, results = made
    text = describe_updates(results)
    titles = [line for line in text.splitlines() if line.startswith("### ")]
    assert titles[0] == "### What can be sent: rotation 25"
    assert len(titles) == 8
    for part in text.split("### ")[1:]:
        lines = part.strip().splitlines()[1:]
        assert len({line.count(" | ") for line in lines if "---" not in line and line}) == 1


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(updates, "draw", lambda tables: {})
    plan = replace(PLAN, shares=(), angles=(), classes=False, tuning=Tuning(rates=()))
    monkeypatch.setitem(UPDATES_PLANS, "smoke", plan)
    # In a file, as the process of the worker sees what is there, and not what was patched here.
    data, (train, test) = tmp_path / "few.npz", scenes.loaded(default_folder())
    arrays = {"x_train": train.images, "y_train": train.labels}
    np.savez(data, **arrays, x_test=test.images, y_test=test.labels)
    given = ["updates", "--preset", "smoke", "--out", str(tmp_path), "--workers", "1"]
    given += ["--data", str(data)]
    assert command.main([*given, "--bytes", "51", "--seeds", "3"]) == 0
    assert "### What can be sent: rotation 25" in capsys.readouterr().out
    planned = json.loads((tmp_path / "updates" / "results.json").read_text())["settings"]
    assert (planned["sizes"], planned["seeds"]) == ([51], [3])
    sent = [row for row in table(tmp_path, DRIFTED) if row["method"] == UPDATE]
    assert [(row["limit"], row["seed"], row["status"]) for row in sent] == [("51", "3", "measured")]
    assert command.main([*given, "--drifts", "tides"]) == 2
    assert "drift 'tides' is unknown; expected one of rotation, shift" in capsys.readouterr().err
    assert command.main([*given, "--drifts", "blur", "noise"]) == 2
    error = capsys.readouterr().err
    assert "drifts blur, noise: not planned; expected some of rotation" in error


# --- what is planned


def test_every_preset_can_be_planned():
    base = load("lenet5-1551")
    for name, plan in UPDATES_PLANS.items():
        tasks, missing = plan_tasks(plan, base)
        assert tasks, name
        assert all(row["method"] == NEW for row in missing)
        drifts = {(t.job.scene.drift) for t in tasks.values() if hasattr(t.job, "scene")}
        assert len(drifts) == (11 if name != "smoke" else 2)


def test_new_files_are_of_the_first_drift_unless_all_are_wanted():
    base, drifts = load("lenet5-1551"), (("rotation", 25.0), ("blur", 1.5))
    for everywhere, wanted in ((False, {"rotation"}), (True, {"rotation", "blur"})):
        tasks, _ = plan_tasks(replace(PLAN, drifts=drifts, new_everywhere=everywhere), base)
        rows = [task.key for task in tasks.values() if task.table == DRIFTED]
        assert {key["drift"] for key in rows if key["method"] == NEW} == wanted
        assert {key["drift"] for key in rows if key["method"] == UPDATE} == {"rotation", "blur"}


def test_the_first_drift_is_the_first_of_those_that_are_looked_at():
    base, drifts = load("lenet5-1551"), (("rotation", 25.0), ("blur", 1.5))
    tasks, _ = plan_tasks(replace(PLAN, drifts=drifts, kinds=("blur",), seeds=(0, 1)), base)
    rows = [task.key for task in tasks.values() if task.table == DRIFTED]
    assert {(key["drift"], key["seed"]) for key in rows if key["method"] == NEW} == {("blur", 0)}
    of_updates = {(key["drift"], key["seed"]) for key in rows if key["method"] == UPDATE}
    assert of_updates == {("blur", 0), ("blur", 1)}


def test_where_another_works_nobody_is_told_to_remove_anything(tmp_path):
    tasks, _ = plan_tasks(PLAN, load("lenet5-1551"))
    job = next(task.job for name, task in tasks.items() if "update-51" in name)
    seen = views(job.scene, default_folder(), job.kept)
    with locked(tmp_path), pytest.raises(InputError, match="works there") as e:
        update_jobs.trained(job.settings, seen, tmp_path)
    assert "remove" not in str(e.value)


def test_a_drift_without_new_files_has_no_row_of_them():
    rows = [row(UPDATE, 115, 0, 0.02, drift, bytes=114) for drift in ("rotation", "blur")]
    rows += [row(UNCHANGED, None, None, 0.08, drift, bytes=0) for drift in ("rotation", "blur")]
    rows.append(row(NEW, 115, 0, 0.3, bytes=115))
    for own in rows:
        own["validation_error"] = 0.02
    results = {"summaries": summaries({DRIFTED: rows})}
    parts = {part.splitlines()[0]: part for part in describe_updates(results).split("### ")[1:]}
    assert "| blur 25 | 8.00 % | 2.00 % |" in parts["Updates: test error"]
    assert "| rotation 25 | 8.00 % | 30.00 % |" in parts["New files: test error"]
    assert "blur" not in parts["New files: test error"]


# --- images


def test_old_images_among_the_new():
    data = default_folder()
    train = load_split(data, "train")
    count = len(train.images) - 200
    seen = views(Scene("rotation", 25.0, share=0.25), data, 200)
    same = (seen.everything.images == train.images).all(axis=(1, 2))
    assert np.count_nonzero(same[:count]) == round(0.25 * count)
    assert not same[count:].any()
    assert (seen.everything.labels == train.labels).all()
    assert seen.validation == 200


def test_new_classes():
    data, new = default_folder(), (5, 6, 7, 8, 9)
    alone = views(Scene(digits=new), data, 200)
    assert set(alone.everything.labels) == set(new) == set(alone.new.labels)
    assert set(alone.old.labels) == {0, 1, 2, 3, 4}
    half = views(Scene(digits=new, share=0.5), data, 200)
    labels = half.everything.labels[: -half.validation]
    is_new = np.isin(labels, new)
    assert abs(is_new.sum() - (~is_new).sum()) <= 0.1 * len(labels)
    assert set(half.everything.labels[-half.validation :]) == set(new)


# --- claims


def row(method, limit, seed, error, drift="rotation", strength=25.0, **more):
    key = {"drift": drift, "strength": strength, "share": 0.0, "method": method, "limit": limit}
    measured = {"status": MEASURED, "seed": seed, "test_error": error, "old_test_error": error}
    return {**key, **measured, **dict.fromkeys(("link", "sent_bytes", "seconds")), **more}


def test_claims():
    seeds = range(3)
    points = [row(UPDATE, 115, s, 0.017 + 0.0001 * s) for s in seeds]
    points += [row(NEW, 115, s, 0.3) for s in seeds]
    points += [row("largest changes, int8", 115, s, 0.016 + 0.001 * s) for s in seeds]
    old = [row(UNCHANGED, None, None, 0.0068, NOTHING, 0.0)]
    old += [row(UPDATE, 115, s, 0.0070, NOTHING, 0.0) for s in seeds]
    found = {c.name: c for c in make_claims({DRIFTED: points, OLD: old})}
    assert found["115 bytes"].verdict == HOLDS
    assert found["115 bytes"].interval.estimate == pytest.approx(0.09)
    assert found["less than a new file in 115 bytes"].verdict == HOLDS
    assert found["less than the largest changes in 115 bytes"].verdict == UNDECIDED
    assert found["nothing new in 115 bytes"].verdict == HOLDS


def test_an_error_on_the_bound_is_at_most_that():
    seeds = range(3)
    points = [row(UPDATE, 51, s, 0.03) for s in seeds]
    old = [row(UNCHANGED, None, None, 0.0068, NOTHING, 0.0)]
    old += [row(UPDATE, 115, s, 0.0078, NOTHING, 0.0) for s in seeds]
    found = {c.name: c for c in make_claims({DRIFTED: points, OLD: old})}
    assert found["51 bytes"].verdict == found["nothing new in 115 bytes"].verdict == HOLDS


def test_a_new_file_of_the_bases_size_is_one_task():
    """One method's rows would stand among another's."""
    base = load("lenet5-1551")
    tasks, _ = plan_tasks(replace(PLAN, sizes=(51, len(base.data))), base)
    keys = [task.key for task in tasks.values() if task.key["method"] == NEW]
    assert len(keys) == len({json.dumps(key) for key in keys})


def test_results_on_other_test_images_are_not_taken_for_these(made, tmp_path):
    out, _ = made
    files = {path.name: path.read_bytes() for path in out.glob("runs/*/measures.json")}
    assert files
    plan = replace(PLAN, shares=(), angles=(), classes=False, tuning=Tuning(rates=()))
    train, test = scenes.loaded(default_folder())
    data = tmp_path / "other.npz"
    arrays = {"x_train": train.images, "y_train": train.labels, "x_test": test.images}
    np.savez(data, **arrays, y_test=(test.labels + 1) % 10)
    refused = pytest.raises(InputError, match="holds a run on other test images")
    with refused, ThreadPoolExecutor(1) as executor:
        updates.updates(plan, data, out, executor)


def test_summaries_are_means_over_seeds():
    rows = [
        row(UPDATE, 51, s, e, bytes=51, validation_error=None) for s, e in enumerate((0.1, 0.3))
    ]
    (found,) = summaries({DRIFTED: rows})
    assert (found["seeds"], found["test_error"], found["low"], found["high"]) == (2, 0.2, 0.1, 0.3)
