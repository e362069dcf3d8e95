from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY

from refmiracle import __version__
from refmiracle import run as face
from refmiracle.codes.code import Code
from refmiracle.commands import decode, evaluate, report, train
from refmiracle.commands.options import check_out
from refmiracle.errors import InputError
from refmiracle.fileformat.container import parse_model
from refmiracle.files import quoted
from refmiracle.start import main as refmiracle_main
from refmiracle.training import run
from refmiracle.training.choosing import choose_settings
from refmiracle.training.data import default_folder
from refmiracle.training.settings import PRESETS
from refmiracle.training.state import load_checkpoint

SUMMARY = {
    "bytes",
    "bits_total",
    "ratio",
    "test_error",
    "validation_error",
    "train_seconds",
    "steps",
    "seed",
    "engine",
    "parameterization",
    "code",
    "bits_per_block",
    "block_size",
    "sha256",
}


@pytest.fixture
def tiny(monkeypatch):
    """The smoke preset, made tiny."""
    monkeypatch.setitem(PRESETS, "smoke", replace(TINY, preset="smoke"))


@pytest.fixture(scope="module")
def finished(tiny_run, tmp_path_factory):
    """A finished tiny run of these tests' own."""
    return shutil.copytree(tiny_run, tmp_path_factory.mktemp("finished") / "run")


def test_files_of_a_run(finished):
    data = (finished / "model.rmc").read_bytes()
    summary = json.loads((finished / "summary.json").read_text())
    assert summary.keys() >= SUMMARY
    assert summary["bytes"] == len(data)
    assert summary["bits_total"] == 8 * len(data)
    assert summary["index_bits"] == 886 * TINY.bits_per_block
    assert summary["ratio"] == 431_080 * 4 / len(data)
    lines = (finished / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["step"] == TINY.total_steps()
    assert last["sent_bits"] == 886 * TINY.bits_per_block


def test_a_run_on_all_images_has_no_validation_error(tmp_path, tiny, capsys):
    out = tmp_path / "run"
    flags = ["--validation", "0", "--shift", "2", "--selection", "best", "--steps", "4"]
    flags += ["--batch-size", "32", "--rate", "0.02", "--variance-rate", "2"]
    flags += ["--encoding-rate", "0.004", "--final-rate", "0.001"]
    flags += ["--late-scale-rate", "0.1", "--antithetic", "1"]
    assert train.main(["--preset", "smoke", *flags, "--out", str(out)]) == 0
    assert "no validation images, trained for" in capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert summary["validation_error"] is None
    assert 0 < summary["test_error"] < 1
    expected = {"validation": 0, "shift": 2, "selection": "best", "steps": 4, "batch_size": 32}
    expected |= {"rate": 0.02, "variance_rate": 2, "encoding_rate": 0.004, "final_rate": 0.001}
    expected |= {"late_scale_rate": 0.1, "antithetic": 1}
    assert {name: summary["config"][name] for name in expected} == expected
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(line["validation_error"] is None for line in lines)


def test_evaluate_prints_what_train_measured(finished, capsys):
    summary = json.loads((finished / "summary.json").read_text())
    assert evaluate.main([str(finished / "model.rmc"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert all(summary[name] == value for name, value in figures.items())
    assert evaluate.main([str(finished / "model.rmc")]) == 0
    printed = capsys.readouterr().out
    assert f"{summary['bytes']} bytes" in printed
    assert f"test error {summary['test_error']:.2%}" in printed


def test_decode_writes_the_same_bytes_from_both_engines(finished, tmp_path):
    files = []
    for engine in ("numba", "numpy"):
        path = tmp_path / f"{engine}.npz"
        arguments = [str(finished / "model.rmc"), "--out", str(path), "--engine", engine]
        assert decode.main(arguments) == 0
        files.append(path.read_bytes())
    assert files[0] == files[1]
    with np.load(path) as f:
        assert sum(f[name].size for name in f.files) == 431_080
        assert {f[name].dtype for name in f.files} == {np.dtype(np.float32)}


def stop_at(monkeypatch, step, action):
    """Run `action` before the training step of that number."""
    whole = run.Trainer.train_step

    def train_step(trainer):
        if trainer.state.step == step:
            action(trainer)
        return whole(trainer)

    monkeypatch.setattr(run.Trainer, "train_step", train_step)


def own_lines(error):
    """Return what was said on standard error beside the progress."""
    lines = error.replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("smoke: ")]


@pytest.mark.parametrize("code", ["orc", "gprs-s"])
def test_a_run_with_another_code(tmp_path, few, monkeypatch, code):
    """Train, decode with both engines; stop while it encodes, resume: the same bytes."""
    out = tmp_path / "run"
    flags = ["--preset", "smoke", "--code", code]
    assert train.main([*flags, "--out", str(out)]) == 0
    data = (out / "model.rmc").read_bytes()
    model = parse_model(data)
    assert model.code == code
    summary = json.loads((out / "summary.json").read_text())
    assert summary["code"] == summary["config"]["code"] == code
    assert summary["index_bits"] == 8 * len(model.payload())
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 <= summary["index_bits"] - last["sent_bits"] <= 34

    weights = []
    for engine in ("numba", "numpy"):
        path = tmp_path / f"{engine}.npz"
        arguments = [str(out / "model.rmc"), "--out", str(path), "--engine", engine]
        assert decode.main(arguments) == 0
        weights.append(path.read_bytes())
    assert weights[0] == weights[1]

    stopped = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        stop_at(patch, 8, lambda trainer: signal.raise_signal(signal.SIGINT))
        assert train.main([*flags, "--out", str(stopped)]) == 130
    assert train.main(["--out", str(stopped), "--resume"]) == 0
    assert (stopped / "model.rmc").read_bytes() == data


def test_what_a_code_cannot_send_is_one_line_and_keeps_the_checkpoint(
    tmp_path, few, monkeypatch, capsys
):
    encode, groups = Code.encode_blocks, []

    def encode_blocks(*arguments):
        groups.append(arguments)
        if len(groups) == 2:
            raise InputError("a target's mean is too far")
        return encode(*arguments)

    monkeypatch.setattr(Code, "encode_blocks", encode_blocks)
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", 0.0)
    saved = []
    save = run.save_checkpoint

    def save_checkpoint(path, settings, state):
        save(path, settings, state)
        saved.append(path.read_bytes())

    monkeypatch.setattr(run, "save_checkpoint", save_checkpoint)
    out = tmp_path / "run"
    assert train.main(["--preset", "smoke", "--code", "gprs-s", "--out", str(out)]) == 2
    lines = capsys.readouterr().err.splitlines()
    error = [line for line in lines if not line.startswith("smoke: ")]
    assert len(error) == 1
    assert "--code gprs-s cannot send group 2 of 4: a target's mean is too far" in error[-1]
    assert not (out / "model.rmc").exists()
    assert (out / "checkpoint.npz").read_bytes() == saved[-1]
    _, state = load_checkpoint(out / "checkpoint.npz")
    assert state.step == 7


def test_a_code_chooses_a_selection_that_it_has():
    given = {"preset": "default", "code": "gprs-s"}
    assert choose_settings(given, "", None).selection == "sample"
    assert choose_settings({"preset": "default"}, "", None).selection == "best"


def test_a_finished_run_resumes_to_itself(finished, tiny):
    before = (finished / "model.rmc").read_bytes()
    assert train.main(["--preset", "smoke", "--out", str(finished), "--resume"]) == 0
    assert (finished / "model.rmc").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "it holds a run already"),
        (["--resume", "--seed", "7"], "--seed 7: the run to resume was started with 0"),
        (["--resume", "--preset", "paper"], "--preset paper: the run to resume"),
    ],
)
def test_a_run_is_not_overwritten(finished, tiny, capsys, arguments, message):
    before = {p: p.read_bytes() for p in finished.iterdir()}
    assert train.main([*arguments, "--out", str(finished)]) == 2
    assert message in capsys.readouterr().err
    assert {p: p.read_bytes() for p in finished.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bits-per-block", "25"], "--bits-per-block 25 is out of range; expected 1 to 24"),
        (["--bits-per-block", "0"], "--bits-per-block 0 is out of range"),
        (["--block-size", "0"], "--block-size 0 is out of range; expected 1 to 26580"),
        (["--seed", "-1"], "--seed -1 is out of range; expected 0 to 4294967295"),
        (["--steps", "0"], "--steps 0 is out of range; expected 1 to 2147483647"),
        (["--groups", "0"], "--groups 0 is out of range"),
        (["--group-steps", "-1"], "--group-steps -1 is out of range"),
        (["--shift", "15"], "--shift 15 is out of range; expected 0 to 14"),
        (["--hash-factors", "1,2"], "--hash-factors: 2 numbers; expected 8"),
        (
            ["--hash-factors", "1,21,1,1,1,1,1,1"],
            "--hash-factors 21 for conv1.bias is out of range; expected 1 to 20",
        ),
        (["--validation", "-1"], "--validation -1 is out of range"),
        (["--rate", "0"], "--rate is 0.0; expected a number above 0, to 1000"),
        (["--variance-rate", "-1"], "--variance-rate is -1.0; expected a number from 0 to 1000"),
        (["--encoding-rate", "nan"], "--encoding-rate is nan; expected a number above 0"),
        (["--final-rate", "inf"], "--final-rate is inf; expected a number above 0"),
        (["--batch-size", "0"], "--batch-size 0 is out of range"),
        (["--validation", "30001"], "60000 training images are too few; expected at least 60002"),
        (["--steps", "2147483647"], "at most 2147483647 are possible"),
        (
            ["--code", "orc", "--selection", "best"],
            "--selection best goes with --code mrc only; --code orc needs --selection sample",
        ),
        (
            ["--code", "sp-pfr", "--bits-per-block", "9"],
            "--code sp-pfr with --bits-per-block 9 would search for ever; expected at most 8",
        ),
        (["--data", "nowhere"], "nowhere: there is no such folder"),
    ],
)
def test_bad_flags_are_one_line_and_leave_nothing(tmp_path, capsys, arguments, message):
    out = tmp_path / "run"
    assert train.main([*arguments, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("name", ["model.rmc", "summary.json", "posterior.npz", "update.rmc"])
def test_a_folder_with_a_file_of_a_run_is_not_touched(tmp_path, few, capsys, name):
    (tmp_path / name).write_bytes(b"of an earlier run")
    for more in ([], ["--resume"]):
        assert train.main(["--preset", "smoke", "--out", str(tmp_path), *more]) == 2
        assert f"it holds {name} without its checkpoint; name another" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == b"of an earlier run"


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_weights_behind_a_link_are_not_the_run_itself(tmp_path, few, capsys):
    (tmp_path / "w.npz").symlink_to("run/model.rmc")
    given = ["--preset", "smoke", "--out", str(tmp_path / "run")]
    (tmp_path / "run").mkdir()
    for name in ("w.npz", "run/.lock", "run/.model.rmc.tmp"):
        assert train.main([*given, "--weights", str(tmp_path / name)]) == 2
        assert "the run itself is there; name another file" in capsys.readouterr().err


def test_weights_to_standard_output_are_all_that_goes_there(tmp_path):
    code = textwrap.dedent(
        """
        import sys
        from dataclasses import replace
        from tiny import TINY
        from refmiracle.commands import train
        from refmiracle.training.settings import PRESETS
        PRESETS["smoke"] = replace(TINY, preset="smoke")
        sys.exit(train.main(["--preset", "smoke", "--out", "a\\nb", "--weights", "/dev/stdout"]))
        """
    )
    if not os.path.exists("/dev/stdout"):
        pytest.skip("no such device")
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (tmp_path / "w.npz").write_bytes(done.stdout)
    with np.load(tmp_path / "w.npz") as weights:
        assert len(weights.files) == 8
    (line,) = (n for n in done.stderr.decode().splitlines() if "times smaller" in n)
    assert line.startswith("a\\nb/model.rmc: ")


def test_the_line_after_an_interrupt_has_all_that_goes_on(tmp_path, few, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["--preset", "smoke", "--network", "lenet5", "--out=-run", "--weights", "w.npz"]
    with monkeypatch.context() as patch:
        stop_at(patch, 2, lambda trainer: signal.raise_signal(signal.SIGINT))
        assert train.main(given) == 130
    (line,) = own_lines(capsys.readouterr().err)
    flags = line.partition("go on with ")[2].split()
    assert flags == ["--resume", "--out=-run", "--network", "lenet5", "--weights", "w.npz"]
    assert report.main(["./-run"]) == 2
    assert "python -m refmiracle.train --resume --out=-run" in capsys.readouterr().err
    assert train.main(flags) == 0
    assert (tmp_path / "w.npz").exists()


@pytest.mark.parametrize("command", ["train", "report"])
def test_the_data_are_not_written_over(tmp_path, finished, capsys, command):
    data = tmp_path / "digits.npz"
    images = np.zeros((40, 28, 28), np.uint8)
    np.savez(data, x_train=images, y_train=np.arange(40) % 10, x_test=images[:9], y_test=[0] * 9)
    before = data.read_bytes()
    if command == "train":
        given = ["--preset", "smoke", "--out", str(tmp_path / "run"), "--weights", str(data)]
        assert train.main([*given, "--data", str(data)]) == 2
    else:
        assert report.main([str(finished), "--out", str(data), "--data", str(data)]) == 2
    assert "digits.npz: the data are read from it; name another file" in capsys.readouterr().err
    assert data.read_bytes() == before
    assert not (tmp_path / "run").exists()


def test_what_is_read_of_a_data_set(tmp_path):
    folder = tmp_path / "emnist"
    (folder / "run").mkdir(parents=True)
    names = ("run/report.html", "run/weights.npz", "letters-report.html")
    for name in ("letters-train-images-idx3-ubyte.gz", *names):
        (folder / name).write_bytes(b"")
    images = folder / "letters-train-images-idx3-ubyte.gz"
    for data in (folder, folder / "letters"):
        with pytest.raises(InputError, match="the data are read from it"):
            check_out(images, data=data)
        for other in (*names, "new-ubyte.gz"):
            check_out(folder / other, data=data)
    with pytest.raises(InputError, match="the data are read from it"):
        check_out(next(default_folder().glob("*-ubyte*")))


def test_more_groups_than_blocks_are_those_of_the_run_that_goes_on():
    given = {"preset": "smoke", "groups": 100_000}
    started = choose_settings(given, "", None)
    assert started.groups == started.layout().blocks()
    assert choose_settings(given, "", (started, None)) == started
    with pytest.raises(InputError, match="the run to resume was started with"):
        choose_settings({**given, "groups": 3}, "", (started, None))
    fewer = choose_settings({**given, "groups": 3}, "", None)
    with pytest.raises(InputError, match="100000: the run to resume was started with 3"):
        choose_settings(given, "", (fewer, None))


def test_bad_flags_leave_nothing_where_there_is_nothing_to_resume(tmp_path, capsys):
    out = tmp_path / "run"
    assert train.main(["--resume", "--bits-per-block", "25", "--out", str(out)]) == 2
    assert len(own_lines(capsys.readouterr().err)) == 1
    assert not out.exists()


def test_nothing_to_resume_is_said_and_a_run_begins(tmp_path, few, capsys):
    out = tmp_path / "run"
    assert train.main(["--preset", "smoke", "--resume", "--out", str(out)]) == 0
    lines = own_lines(capsys.readouterr().err)
    assert lines[0] == f"refmiracle: there is nothing to resume in {out}: a new run begins"
    assert train.main(["--resume", "--out", str(out)]) == 0
    assert "nothing to resume" not in capsys.readouterr().err


@pytest.mark.parametrize("better", [False, True])
def test_a_network_no_better_than_chance_says_so(tmp_path, few, monkeypatch, capsys, better):
    measure = face.finish

    def finish(*arguments):
        model, summary = measure(*arguments)
        return model, {**summary, "test_error": 0.5 if better else 0.86}

    monkeypatch.setattr(face, "finish", finish)
    assert train.main(["--preset", "smoke", "--out", str(tmp_path / "run")]) == 0
    lines = own_lines(capsys.readouterr().err)
    assert [line for line in lines if "is no better than chance" in line] == lines
    assert len(lines) == 1 - better


def spoil(trainer):
    trainer.state.parameters["tau"][0, 0] = np.nan


def swell(trainer):
    trainer.state.moments["phi"][1][0, 0] = np.inf


@pytest.mark.parametrize(
    ("damage", "message", "hidden"),
    [
        (spoil, "of tau are not finite", False),
        (spoil, "of tau are not finite", True),
        (swell, "of Adam's variance of phi are not finite", False),
        (swell, "of Adam's variance of phi are not finite", True),
        (None, "the loss is inf", False),
    ],
)
def test_training_that_goes_wrong_is_one_line_and_keeps_the_checkpoint(
    tmp_path, few, monkeypatch, capsys, damage, message, hidden
):
    """The loss tells of no parameter; with `hidden` checkpoints are rare too: encoding finds it."""
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", 1e9 if hidden else -1.0)
    step = run.Trainer.train_step

    def train_step(trainer):
        if trainer.state.step == 3 and damage:
            damage(trainer)
        step(trainer)
        wrong = trainer.state.step == 4 and damage is None
        return float("inf") if wrong else 2.0

    monkeypatch.setattr(run.Trainer, "train_step", train_step)
    out = tmp_path / "run"
    assert train.main(["--preset", "smoke", "--out", str(out)]) == 1
    (line,) = own_lines(capsys.readouterr().err)
    assert line.startswith("refmiracle: error: the training has gone wrong by step ")
    assert message in line
    assert not (out / "model.rmc").exists()
    monkeypatch.setattr(run.Trainer, "train_step", step)
    assert load_checkpoint(out / "checkpoint.npz")[1].step == (0 if hidden else 3)
    assert train.main(["--resume", "--out", str(out)]) == 0


def test_a_checkpoint_of_training_that_went_wrong_is_one_line(tmp_path, few, monkeypatch, capsys):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(run, "check_finite", lambda trainer: None)
        patch.setattr(run, "check_loss", lambda trainer, loss: None)
        stop_at(patch, 2, lambda trainer: (spoil(trainer), signal.raise_signal(signal.SIGINT)))
        assert train.main(["--preset", "smoke", "--out", str(out)]) == 130
    capsys.readouterr()
    before = (out / "checkpoint.npz").read_bytes()
    assert train.main(["--resume", "--out", str(out)]) == 1
    (line,) = own_lines(capsys.readouterr().err)
    assert "has gone wrong by step 3 of 11" in line
    assert (out / "checkpoint.npz").read_bytes() == before


def test_an_interrupt_while_the_file_is_measured(tmp_path, few, monkeypatch, capsys):
    measure = face.figures_of

    def figures_of(*arguments):
        signal.raise_signal(signal.SIGINT)
        return measure(*arguments)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(face, "figures_of", figures_of)
        assert train.main(["--preset", "smoke", "--out", str(out)]) == 130
    (line,) = own_lines(capsys.readouterr().err)
    assert line.endswith(f"after 11 of 11 steps; go on with --resume --out {out}")
    assert not (out / "summary.json").exists()
    assert train.main(["--resume", "--out", str(out)]) == 0
    assert json.loads((out / "summary.json").read_text())["steps"] == 11


TWICE = textwrap.dedent(
    """
    import os, signal, sys
    sys.path.append(sys.argv[1])
    import drive
    from pathlib import Path
    from refmiracle import run as face
    from refmiracle.training import run
    from refmiracle.training.stopping import answer_interrupts, end_at_once

    class Deaf:
        def __del__(self):  # what is raised here is printed and lost
            signal.raise_signal(signal.SIGINT)

    def twice(function):
        def call(*arguments):
            signal.raise_signal(signal.SIGINT)
            Deaf()
            return function(*arguments)
        return call

    answer_interrupts(end_at_once)  # as a program does
    drive.make_tiny(drive.SMALL)
    target, name = {
        "step": (run.Trainer, "train_step"),
        "checkpoint": (run, "save_checkpoint"),
        "end": (face, "figures_of"),
    }[sys.argv[3]]
    setattr(target, name, twice(getattr(target, name)))
    folder = Path(sys.argv[2])
    sys.exit(drive.train_in(folder, folder / "out"))
    """
)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="os.kill is no Ctrl-C there")
@pytest.mark.parametrize("where", ["step", "checkpoint", "end"])
def test_a_second_interrupt_ends_at_once_with_one_line(tmp_path, where):
    drive = Path(__file__).parents[1] / "reliability"
    images = "import sys; sys.path.append(sys.argv[1]); import drive, pathlib;"
    images += "drive.write_images(pathlib.Path(sys.argv[2]) / 'data')"
    subprocess.run([sys.executable, "-c", images, str(drive), str(tmp_path)], check=True)
    command = [sys.executable, "-c", TWICE, str(drive), str(tmp_path), where]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert own_lines(done.stderr) == ["refmiracle: interrupted"]


def test_out_that_cannot_be_made(tmp_path, tiny, capsys):
    (tmp_path / "file").write_text("in the way")
    assert train.main(["--preset", "smoke", "--out", str(tmp_path / "file" / "run")]) == 2
    assert "cannot be made" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--preset", "huge"],
        ["--engine", "cuda"],
        ["--what"],
        ["--code", "x"],
        ["--hash-factors", "1,x"],
    ],
)
def test_usage_errors_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as e:
        train.main(arguments)
    assert e.value.code == 2


@pytest.mark.parametrize("command", [evaluate.main, lambda a: decode.main([*a, "--out", "w.npz"])])
@pytest.mark.parametrize("content", [None, b"", b"not a model", b"RMC\x01" + bytes(100)])
def test_bad_models_are_one_line(tmp_path, monkeypatch, capsys, command, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.rmc"
    if content is not None:
        path.write_bytes(content)
    assert command([str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error
    assert not (tmp_path / "w.npz").exists()


def test_decode_to_a_folder_that_is_not_there(finished, tmp_path, capsys):
    out = tmp_path / "absent" / "w.npz"
    assert decode.main([str(finished / "model.rmc"), "--out", str(out)]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_interrupt_writes_a_checkpoint_and_exits_with_130(tmp_path, tiny, monkeypatch, capsys):
    step = run.Trainer.train_step

    def interrupted(trainer):
        if trainer.state.step == 3:
            signal.raise_signal(signal.SIGINT)
        return step(trainer)

    out, data = tmp_path / "a run", ["--data", str(default_folder())]
    monkeypatch.setattr(run.Trainer, "train_step", interrupted)
    assert train.main(["--preset", "smoke", "--out", str(out), *data]) == 130
    again = f"--resume --out {quoted(out)} --data {quoted(default_folder())}"
    assert f"after 4 of 11 steps; go on with {again}\n" in capsys.readouterr().err
    assert not (out / "model.rmc").exists()
    monkeypatch.setattr(run.Trainer, "train_step", step)
    assert train.main(["--out", str(out), "--resume"]) == 0
    whole = tmp_path / "whole"
    assert train.main(["--preset", "smoke", "--out", str(whole)]) == 0
    assert (out / "model.rmc").read_bytes() == (whole / "model.rmc").read_bytes()


CHILD = textwrap.dedent(
    """
    import sys
    from dataclasses import replace
    from refmiracle import run as face
    from refmiracle.commands import train
    from refmiracle.training import settings, run
    run.CHECKPOINT_SECONDS = 0.0
    face.STEPS_PER_LINE = 10
    settings.PRESETS["smoke"] = replace(
        settings.PRESETS["smoke"],
        bits_per_block=4,
        steps=200,
        batch_size=32,
        groups=20,
        group_steps=4,
        validation=500,
    )
    sys.exit(train.main(["--preset", "smoke", *sys.argv[1:]]))
    """
)


def child(out, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, "--out", str(out), *arguments],
        env={**os.environ, **environment},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.slow
@pytest.mark.minutes
def test_killed_at_random_and_resumed_by_more_threads_gives_the_same_bytes(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert child(whole, NUMBA_NUM_THREADS="1").wait() == 0
    rng = np.random.default_rng(0)
    kills = 0
    while kills < 3:
        process = child(killed, "--resume", NUMBA_NUM_THREADS="2")
        while process.poll() is None and not (killed / "checkpoint.npz").exists():
            time.sleep(0.01)
        time.sleep(rng.uniform(0.1, 1.2))
        process.kill()
        kills += process.wait() != 0
        if (killed / "model.rmc").exists():
            break
    assert kills, "the run ended before it was killed once"
    assert child(killed, "--resume", NUMBA_NUM_THREADS="2").wait() == 0
    assert (killed / "model.rmc").read_bytes() == (whole / "model.rmc").read_bytes()
    strip = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]
        for lines in ((d / "metrics.jsonl").read_text().splitlines() for d in (whole, killed))
    ]
    assert strip[0] == strip[1]


def test_a_reader_that_goes_away_is_no_traceback(finished):
    command = [sys.executable, "-m", "refmiracle.evaluate", str(finished / "model.rmc")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--help"], 0, "evaluate"),
        (["--version"], 0, f"refmiracle {__version__}\n"),
        ([], 2, "no command given"),
        (["fly"], 2, "unknown command 'fly'"),
    ],
)
def test_console_script(arguments, code, says, capsys):
    assert refmiracle_main(arguments) == code
    captured = capsys.readouterr()
    assert says in captured.out + captured.err


def test_console_script_runs_a_command(finished, capsys):
    assert refmiracle_main(["evaluate", str(finished / "model.rmc")]) == 0
    assert "test error" in capsys.readouterr().out
