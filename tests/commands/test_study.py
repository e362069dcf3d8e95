from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import TINY

from refmiracle.commands import options, study
from refmiracle.start import main as refmiracle_main
from refmiracle.studies import rate_distortion, runs
from refmiracle.studies.rate_distortion import STUDY, SWEEPS, Sweep
from refmiracle.training.state import load_checkpoint

SWEEP = Sweep(TINY, bits=(3,), block_sizes=(60, 90))


@pytest.fixture(autouse=True)
def of_few_images(small_mnist_folder, monkeypatch):
    """All processes read few images."""
    monkeypatch.setattr(options, "default_folder", lambda: small_mnist_folder)


@pytest.fixture
def tiny(monkeypatch):
    """The smoke sweep, made tiny."""
    monkeypatch.setitem(SWEEPS, "smoke", SWEEP)


def command(out, *arguments):
    return ["rate-distortion", "--preset", "smoke", "--out", str(out), *arguments]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, small_mnist_folder):
    """The folder of a tiny sweep made in two processes, and what it printed."""
    out = tmp_path_factory.mktemp("swept")
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setitem(SWEEPS, "smoke", SWEEP)
        patch.setattr(options, "default_folder", lambda: small_mnist_folder)
        assert refmiracle_main(["study", *command(out, "--workers", "2")]) == 0
    return out, printed.getvalue()


@pytest.mark.slow
def test_sweep_in_processes(swept, tiny):
    out, printed = swept
    results = json.loads((out / STUDY / "results.json").read_text())
    assert {p["block_size"] for p in results["points"]} == {60, 90}
    assert all(name in printed for name in results["frontier"])
    # Again: nothing is trained, and one more point is added to the two.
    before = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/model.rmc")}
    assert study.main(command(out, "--block-sizes", "60", "90", "70", "--workers", "1")) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    results = json.loads((out / STUDY / "results.json").read_text())
    assert [p["block_size"] for p in results["points"]] == [60, 90, 70]


@pytest.mark.slow
def test_sweep_on_a_dask_cluster(tmp_path, tiny, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    )
    with cluster:
        assert study.main(command(tmp_path, "--dask", cluster.scheduler_address)) == 0
        # A point that a worker cannot run is reported, and the next is still run.
        (tmp_path / "runs" / "3bits-70-seed0").write_text("in the way")
        more = command(tmp_path, "--block-sizes", "70", "80", "--dask", cluster.scheduler_address)
        assert study.main(more) == 1
    results = json.loads((tmp_path / STUDY / "results.json").read_text())
    assert [p["block_size"] for p in results["points"]] == [80]
    assert "cannot be made" in results["failures"]["3bits-70-seed0"]


def kill_itself(really):
    if really:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_process_that_is_killed_takes_no_other_along():
    tasks = {"killed": (True,), "other": (False,), "third": (False,)}
    kept = {}
    with study.open_executor(None, 2) as (executor, at_once):
        failures = runs.run_tasks(executor, kill_itself, tasks, kept.__setitem__, at_once)
    assert kept.keys() == {"other", "third"}
    assert failures["killed"].startswith("BrokenProcessPool: ")


def test_the_same_bytes_wherever_a_point_is_trained(swept, tmp_path, small_mnist_folder):
    out, _ = swept
    data = small_mnist_folder
    for name, settings in SWEEP.all_settings(_fingerprint(data)).items():
        model = runs.train_one(settings, data, tmp_path / name)["model.rmc"]
        assert (out / "runs" / name / "model.rmc").read_bytes() == model


def _fingerprint(data):
    return rate_distortion.fingerprint(rate_distortion.load_split(data, "train"))


@pytest.mark.slow
def test_failed_points_are_named_and_the_rest_is_written(tmp_path, tiny, capsys):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "3bits-60-seed0").write_text("in the way")
    assert study.main(command(tmp_path, "--workers", "1")) == 1
    output = capsys.readouterr()
    assert output.err.count("3bits-60-seed0 failed: ") == 1
    assert "Traceback" not in output.err
    assert "3bits-90-seed0" in output.out
    assert json.loads((tmp_path / STUDY / "results.json").read_text())["failures"].keys() == {
        "3bits-60-seed0"
    }


def test_a_figure_that_fails_is_named_and_the_tables_are_written(
    tmp_path, tiny, monkeypatch, capsys
):
    def fails(points):
        raise RuntimeError("no ink")

    monkeypatch.setattr(rate_distortion, "draw_frontier", fails)
    assert study.main(command(tmp_path, "--workers", "1")) == 1
    output = capsys.readouterr()
    assert output.err.count("refmiracle: figure frontier failed: RuntimeError: no ink\n") == 1
    assert "Traceback" not in output.err
    assert "results.json, points.csv\n" in output.out
    assert (tmp_path / STUDY / "points.csv").read_text().count("\n") == 3


def test_no_point_at_all(tmp_path, tiny, capsys):
    (tmp_path / "runs").write_text("in the way")
    assert study.main(command(tmp_path, "--workers", "1")) == 1
    assert capsys.readouterr().out == ""
    assert json.loads((tmp_path / STUDY / "results.json").read_text())["points"] == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="POSIX")
@pytest.mark.parametrize("where", ["training", "second", "starting", "measuring"])
def test_ctrl_c_is_one_line_and_keeps_what_is_done(tmp_path, small_mnist_folder, where):
    """The whole group of processes gets it, as from a terminal."""
    script = Path(__file__).with_name("interrupted_study.py")
    given = [sys.executable, str(script), where, str(tmp_path), str(small_mnist_folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        given, capture_output=True, text=True, start_new_session=True, env=environment, check=False
    )
    lines = done.stderr.replace("\r", "\n").splitlines()
    said = [line for line in lines if line.strip() and not line.startswith("runs: ")]
    assert said == ["refmiracle: interrupted"]
    assert done.returncode == 130
    finished = [p.parent.name for p in tmp_path.glob("runs/*/summary.json")]
    assert finished == ([] if where == "starting" else ["3bits-60-seed0"])
    stopped = tmp_path / "runs" / "3bits-90-seed0" / "checkpoint.npz"
    assert stopped.exists() == (where != "starting")
    if where == "training":
        assert load_checkpoint(stopped)[1].step == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bits", "30"], "--bits-per-block 30 is out of range; expected 1 to 24"),
        (["--block-sizes", "0"], "--block-size 0 is out of range"),
        (["--workers", "0"], "--workers 0 is out of range; expected at least 1"),
        (["--data", "nowhere"], "nowhere: there is no such folder"),
    ],
)
def test_bad_flags_are_one_line(tmp_path, tiny, capsys, arguments, message):
    assert study.main(command(tmp_path, *arguments)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_points_of_other_settings_are_not_overwritten(swept, monkeypatch, capsys):
    out, _ = swept
    monkeypatch.setitem(SWEEPS, "smoke", replace(SWEEP, base=replace(TINY, steps=4)))
    assert study.main(command(out, "--workers", "1")) == 2
    assert "holds a run of other settings; name another --out" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 1])
def test_a_cluster_without_workers_is_told(workers, capsys):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    cluster = distributed.LocalCluster(
        n_workers=workers,
        processes=False,
        protocol="tcp://",
        dashboard_address=None,
        host="127.0.0.1",
    )
    with cluster, study.open_executor(cluster.scheduler_address, None):
        said = capsys.readouterr().err
    assert ("waiting, there are no workers yet" in said) == (workers == 0)


def test_workers_of_this_machine_are_none_of_a_cluster(tmp_path, tiny, capsys):
    pytest.importorskip("distributed", reason="Dask is not installed")
    given = command(tmp_path, "--dask", "tcp://127.0.0.1:9", "--workers", "2")
    assert study.main(given) == 2
    assert "--workers is for this machine" in capsys.readouterr().err


def test_no_scheduler_there(tmp_path, tiny, monkeypatch, capsys):
    pytest.importorskip("distributed", reason="Dask is not installed")
    monkeypatch.setattr(study, "CONNECT_SECONDS", 0.2)
    assert study.main(command(tmp_path, "--dask", "tcp://127.0.0.1:9")) == 2
    assert "no scheduler answers there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("distributed", ["--dask", "tcp://127.0.0.1:9"], 'pip install "refmiracle[dask]"'),
        ("matplotlib", [], 'pip install "refmiracle[plot]"'),
    ],
)
def test_missing_extras_are_named(tmp_path, tiny, monkeypatch, capsys, module, arguments, message):
    monkeypatch.setitem(sys.modules, module, None)
    assert study.main(command(tmp_path, *arguments)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["tides"], ["rate-distortion", "--preset", "huge"]])
def test_usage_errors_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as e:
        study.main(arguments)
    assert e.value.code == 2
