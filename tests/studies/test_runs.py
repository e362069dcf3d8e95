from __future__ import annotations

import io
import json
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace

import pytest
from tiny import TINY

from refmiracle.errors import InputError
from refmiracle.files import write_atomically
from refmiracle.studies import runs
from refmiracle.studies.runs import finished_run, keep_run, run_tasks, train_all, train_one
from refmiracle.training.data import default_folder, load_split
from refmiracle.training.lock import locked
from refmiracle.training.settings import fingerprint

ALL_SETTINGS = {f"seed{seed}": replace(TINY, seed=seed) for seed in (1, 2, 3)}


def double(x):
    if x < 0:
        raise ValueError(f"{x} is\nbelow zero")
    return 2 * x


class Now:
    """An executor that does the work at once: the least that the interface asks for."""

    def submit(self, function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except BaseException as e:
            future.set_exception(e)
        return future


@pytest.mark.parametrize("executor", [Now(), ThreadPoolExecutor(2)])
def test_a_failure_is_one_line_and_does_not_lose_the_others(executor):
    kept = {}
    tasks = {"a": (1,), "b": (-1,), "c": (3,)}
    failures = run_tasks(executor, double, tasks, kept.__setitem__)
    assert kept == {"a": 2, "c": 6}
    assert failures == {"b": "ValueError: -1 is below zero"}


def test_a_result_that_cannot_be_kept_is_a_failure_too():
    def keep(name, result):
        raise InputError("the disk is full")

    assert run_tasks(Now(), double, {"a": (1,)}, keep) == {"a": "the disk is full"}


@pytest.mark.parametrize("at_once", [1, None])
def test_a_task_that_cannot_be_handed_over_is_a_failure_too(at_once):
    class Refusing(Now):
        def submit(self, function, x):
            if x < 3:
                raise OSError("no process can be started")
            return super().submit(function, x)

    kept, tasks = {}, {"a": (1,), "b": (2,), "c": (3,)}
    failures = run_tasks(Refusing(), double, tasks, kept.__setitem__, at_once)
    assert kept == {"c": 6}
    assert failures == dict.fromkeys("ab", "OSError: no process can be started")


TOLD = "refmiracle: b failed: ValueError: -1 is below zero\n"


def test_a_failure_is_told_when_it_comes(capsys):
    heard = {}

    def keep(name, result):
        heard[name] = capsys.readouterr().err

    run_tasks(Now(), double, {"a": (1,), "b": (-1,), "c": (3,)}, keep, 1)
    assert TOLD not in heard["a"]
    assert heard["c"].count(TOLD) == 1
    assert "failed: " not in capsys.readouterr().err


def test_a_failure_stands_above_the_bar_of_a_terminal(monkeypatch):
    pytest.importorskip("tqdm", reason="tqdm is not installed")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    run_tasks(Now(), double, {"a": (1,), "b": (-1,)}, lambda name, result: None)
    shown = sys.stderr.getvalue()
    assert shown.count(TOLD) == 1
    before, after = shown.split(TOLD)
    assert before.rpartition("\r")[2] == ""  # the bar of before is wiped
    assert "runs: " in after


def test_one_that_fails_here_is_told_too(capsys):
    runs.attempt(double, {"a": (1,), "b": (-1,)})
    assert capsys.readouterr().err == TOLD


class Counting:
    """An executor that knows how much was handed to it and has not come back.

    It does the last task that it was given when somebody waits for one.
    """

    def __init__(self):
        self.open, self.most = [], 0

    def submit(self, function, *arguments):
        future = Future()
        self.open.append((future, function, arguments))
        self.most = max(self.most, len(self.open))
        return future

    def wait(self, futures, seconds, return_when):
        future, function, arguments = self.open.pop()
        future.set_result(function(*arguments))
        return wait(futures, return_when=return_when)


@pytest.mark.parametrize(("at_once", "most"), [(1, 1), (2, 2), (None, 9)])
def test_no_more_than_wanted_are_handed_over(monkeypatch, at_once, most):
    kept, executor = {}, Counting()
    monkeypatch.setattr(runs, "wait", executor.wait)
    tasks = {str(n): (n,) for n in range(9)}
    assert run_tasks(executor, double, tasks, kept.__setitem__, at_once) == {}
    assert kept == {str(n): 2 * n for n in range(9)}
    assert executor.most == most


def test_an_interrupt_cancels_what_has_not_begun():
    handed = []

    class Interrupted(Now):
        def submit(self, function, *arguments):
            future = Future()
            if handed:
                future.set_exception(KeyboardInterrupt())
            handed.append(future)
            return future

    with pytest.raises(KeyboardInterrupt):
        run_tasks(Interrupted(), double, {"a": (1,), "b": (2,)}, lambda name, result: None)
    assert handed[0].cancelled()


def test_finished_runs_are_not_trained_again(tmp_path, monkeypatch):
    trained = []

    def counted(settings, data, folder):
        trained.append(settings.seed)
        if settings.seed == 2:
            raise RuntimeError("lost")
        return train_one(settings, data, folder)

    monkeypatch.setattr(runs, "train_one", counted)
    summaries, failures = train_all(ALL_SETTINGS, default_folder(), tmp_path, Now())
    assert list(summaries) == ["seed1", "seed3"]
    assert failures == {"seed2": "RuntimeError: lost"}
    assert trained == [1, 2, 3]

    monkeypatch.setattr(runs, "train_one", train_one)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.glob("seed[13]/*")}
    again, failures = train_all(ALL_SETTINGS, default_folder(), tmp_path, Now())
    assert not failures
    assert list(again) == ["seed1", "seed2", "seed3"]
    assert {name: again[name] for name in summaries} == summaries
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("seed[13]/*")} == files


def test_the_test_set_is_not_looked_at(tmp_path):
    files = train_one(TINY, default_folder(), tmp_path / "run")
    summary = json.loads(files["summary.json"])
    assert not [name for name in summary if name.startswith("test")]
    assert 0 < summary["validation_error"] < 1


def test_a_run_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    whole = train_one(TINY, default_folder(), tmp_path / "whole")
    step = runs.Trainer.train_step

    def interrupted(trainer):
        if trainer.state.step == 7:
            raise RuntimeError("the worker is gone")
        return step(trainer)

    monkeypatch.setattr("refmiracle.training.run.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(runs.Trainer, "train_step", interrupted)
    with pytest.raises(RuntimeError):
        train_one(TINY, default_folder(), tmp_path / "run")
    taken = []
    monkeypatch.setattr(runs.Trainer, "train_step", lambda t: taken.append(t.state.step) or step(t))
    assert train_one(TINY, default_folder(), tmp_path / "run")["model.rmc"] == whole["model.rmc"]
    assert taken[0] == 7


def test_runs_with_a_fingerprint_of_before_are_gone_on_with(tmp_path, monkeypatch):
    """It was the SHA-256 alone; a run that stopped, or ended, with it is still the same run."""
    now = replace(TINY, data=fingerprint(load_split(default_folder(), "train")))
    before = replace(now, data=now.data.split()[-1])
    folder = tmp_path / "run"
    monkeypatch.setattr("refmiracle.training.run.CHECKPOINT_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        step = runs.Trainer.train_step
        patch.setattr(runs.Trainer, "train_step", lambda t: 1 / 0 if t.state.step == 7 else step(t))
        with pytest.raises(ZeroDivisionError):
            train_one(before, default_folder(), folder)
    with pytest.raises(InputError, match="other training images than the run is planned with"):
        train_one(replace(now, data=now.data[:-1] + "-"), default_folder(), folder)
    whole = train_one(now, default_folder(), tmp_path / "whole")
    assert train_one(now, default_folder(), folder)["model.rmc"] == whole["model.rmc"]
    for settings in (now, before):
        assert finished_run(settings, folder) is not None
        assert finished_run(settings, tmp_path / "whole") is not None
    for other in (replace(now, seed=3), replace(now, data="|u1(1,28,28) |u1(1) 00")):
        with pytest.raises(InputError, match="holds a run of other settings"):
            finished_run(other, folder)


@pytest.mark.parametrize(
    "settings",
    [None, 3, "x", [], {}, {"seed": 1}, {**TINY.to_dict(), "data": 3, "hash_factors": 1}],
)
def test_settings_that_are_none_are_others(tmp_path, settings):
    files = dict.fromkeys(("model.rmc", "posterior.npz", "metrics.jsonl"), b"")
    keep_run(tmp_path, {**files, "summary.json": json.dumps({"config": settings}).encode()})
    with pytest.raises(InputError, match="holds a run of other settings"):
        finished_run(TINY, tmp_path)


def test_a_folder_of_other_settings_is_refused(tmp_path):
    files = train_one(TINY, default_folder(), tmp_path)
    other = replace(TINY, seed=9)
    with pytest.raises(InputError, match="holds a run of other settings"):
        finished_run(other, tmp_path)
    with pytest.raises(InputError, match="holds a run of other settings"):
        train_one(other, default_folder(), tmp_path)
    assert finished_run(TINY, tmp_path) == json.loads(files["summary.json"])


FILES = dict.fromkeys(("model.rmc", "posterior.npz", "metrics.jsonl", "summary.json"), b"other")


def test_a_run_of_another_machine_is_kept_under_its_lock(tmp_path, monkeypatch):
    locks = []

    def write(path, data):
        with pytest.raises(InputError, match="works there"), locked(tmp_path / "run"):
            pass
        locks.append(path.name)
        write_atomically(path, data)

    monkeypatch.setattr(runs, "write_atomically", write)
    keep_run(tmp_path / "run", FILES)
    assert locks == list(FILES)
    with locked(tmp_path / "run"):
        keep_run(tmp_path / "run", FILES)  # those of a run that was made here are there
        with pytest.raises(InputError, match="works there"):
            keep_run(tmp_path / "run", {**FILES, "metrics.jsonl": b"newer"})
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == FILES
    keep_run(tmp_path / "run", {**FILES, "metrics.jsonl": b"newer"})
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == b"newer"


def test_a_damaged_checkpoint_says_what_to_remove(tmp_path):
    folder = tmp_path / "seed1"
    folder.mkdir()
    (folder / "checkpoint.npz").write_bytes(b"no such thing")
    all_settings = {"seed1": ALL_SETTINGS["seed1"]}
    _, failures = train_all(all_settings, default_folder(), tmp_path, Now())
    assert "checkpoint.npz: it is no intact checkpoint" in failures["seed1"]
    assert failures["seed1"].endswith(f"; remove {folder} to have the run made again")


def test_what_going_on_does_not_make_again_says_what_to_remove(tmp_path):
    folder, all_settings = tmp_path / "seed1", {"seed1": ALL_SETTINGS["seed1"]}
    train_all(all_settings, default_folder(), tmp_path, Now())
    (folder / "summary.json").unlink()
    (folder / "posterior.npz").unlink()
    _, failures = train_all(all_settings, default_folder(), tmp_path, Now())
    assert "posterior.npz" in failures["seed1"]
    assert failures["seed1"].endswith(f"; remove {folder} to have the run made again")


@pytest.mark.parametrize("damage", ["model.rmc", "summary.json"])
def test_a_damaged_run_does_not_count_as_finished(tmp_path, damage):
    settings = TINY
    summary = json.dumps({"config": settings.to_dict(), "sha256": "0"}).encode()
    names = "model.rmc", "posterior.npz", "metrics.jsonl"
    keep_run(tmp_path, {**dict.fromkeys(names, b"no such thing"), "summary.json": summary})
    assert finished_run(settings, tmp_path) is None
    (tmp_path / damage).write_bytes(b"{")
    assert finished_run(settings, tmp_path) is None
