"""What a backend keeps between calls shows: relatives, a second order, and one that is drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest

from refmiracle.commands.conformance import main
from refmiracle.conformance.backends import PythonBackend
from refmiracle.conformance.operations import OPERATIONS
from refmiracle.conformance.order import are_related, differing_inputs, in_another_order
from refmiracle.conformance.report import to_json, to_text
from refmiracle.conformance.runner import FAILED, PASSED, run_suite
from refmiracle.conformance.vectors import default_golden, load_golden

# Inputs that nothing else can be the same for, and why.
NOT_ALONE = {
    ("block_layout", "block_size"): "it shows in neither result",
    ("write_container", "network"): "another network has other numbers of tensors",
    ("compose_file", "network"): "another network has other numbers of tensors",
    ("conv2d_general", "groups"): "the kernel and the map have their shapes",
    ("conv2d_general_backward", "groups"): "the kernel and the map have their shapes",
    ("mean_kl_backward_around", "nu"): "it moves no gradient of Mean-KL",
    ("decode_blocks", "dimension"): "the scales have its shape",
    ("loss_and_grads", "block_size"): "the arrays have its shape",
    ("loss_and_grads_general", "block_size"): "the arrays have its shape",
    ("train_steps", "block_size"): "the arrays have its shape",
    ("encode_model", "block_size"): "the arrays have its shape",
    ("decode_chain", "sizes"): "bytes that are cut elsewhere are no files",
}


@pytest.fixture(scope="module")
def golden():
    return load_golden(default_golden())


def same_answer(one, other):
    return all(
        a.shape == other.outputs[name].shape and a.tobytes() == other.outputs[name].tobytes()
        for name, a in one.outputs.items()
    )


def test_each_input_alone_makes_another_answer(golden):
    """Whatever is kept under all inputs but one would give one of two cases a wrong answer."""
    missing = set()
    for file in golden:
        cases = [c for c in file.cases if c.fault is None]
        alone = set()
        for i, case in enumerate(cases):
            for other in cases[:i]:
                differ = differing_inputs(other, case)
                if len(differ) == 1 and not same_answer(case, other):
                    alone |= set(differ)
        missing |= {(file.operation, name) for name in set(file.cases[0].inputs) - alone}
    assert missing == set(NOT_ALONE)


def test_every_result_is_looked_at(golden):
    for file in golden:
        shown = {name for case in file.cases for name in case.outputs}
        assert shown == set(OPERATIONS[file.operation].outputs), file.operation


def test_families_hold_each_case_once_between_its_relative(golden):
    questions = [(file, case) for file in golden for case in file.cases]
    families = in_another_order(questions, 1)
    posed = [family[len(family) // 2][1].id for family in families]
    assert sorted(posed) == sorted(case.id for _, case in questions)
    for family in families:
        if len(family) == 3:
            assert family[0] == family[2]
            assert are_related(family[0][1], family[1][1])
    assert sum(len(family) == 3 for family in families) > 400


def test_one_seed_gives_one_order(golden):
    questions = [(golden[0], case) for case in golden[0].cases]
    ids = {seed: [f[-1][1].id for f in in_another_order(questions, seed)] for seed in (1, 1, 2, -5)}
    assert ids[1] == [f[-1][1].id for f in in_another_order(questions, 1)]
    assert len({tuple(order) for order in ids.values()}) == 3


def case(name, *x):
    """A question of the slope of s whose answer here is the root."""
    return {
        "id": f"numerics/ds_dx/{name}",
        "since": "1.0",
        "dtypes": ["float64", "float32"],
        "inputs": {"x": {"dtype": "float64", "shape": [2], "data": list(x)}},
        "outputs": {"slope": {"dtype": "float64", "shape": [2], "data": np.sqrt(x).tolist()}},
        "bounds": {"slope": {"float64": {"exact": 0}, "float32": {"relative": 1e-6}}},
    }


@pytest.fixture
def folder(tmp_path):
    document = {
        "schema": "refmiracle-golden/1",
        "operation": "ds_dx",
        "stage": "numerics",
        "source": "by hand",
        "tool": "none",
        "notes": {},
        "cases": [case("a", 0.5, 2.0), case("b", 3.0, 2.0), case("c", 3.0, 5.0)],
    }
    folder = tmp_path / "golden"
    folder.mkdir()
    (folder / "ds_dx.json").write_text(json.dumps(document))
    return folder


class Right:
    name, version, dtypes = "right", "1", ("float64", "float32")

    def ds_dx(self, x):
        return np.sqrt(x)


class UsesItsResultAgain(Right):
    """Writes each answer to the array of the one before."""

    def __init__(self):
        self.out = {}

    def ds_dx(self, x):
        out = self.out.setdefault(x.dtype, np.empty_like(x))
        return np.sqrt(x, out=out)


class KeepsWhatWasAskedBefore(Right):
    """From the seventh question on, gives the answer to one with the same first element."""

    def __init__(self):
        self.asked, self.seen = 0, {}

    def ds_dx(self, x):
        self.asked += 1
        if self.asked <= 6:
            return np.sqrt(x)
        return self.seen.setdefault((x.dtype, x[0]), np.sqrt(x))


class KeepsAnyPrecision(Right):
    """Keeps the last answer under its numbers alone; at first the wider precision is asked."""

    last = None

    def ds_dx(self, x):
        if self.last is None or not np.array_equal(self.last[0], x):
            self.last = x, np.sqrt(x)
        return self.last[1]


def test_a_right_backend_is_asked_again_and_passes(folder):
    report = run_suite(PythonBackend(Right()), load_golden(folder))
    assert report.ok()
    # Each of the three in two precisions, and a relative on both sides of two of them.
    assert report.posed_again == 2 * (1 + 3 + 3)
    assert len(report.results) == 6
    assert "14 posed again in order 1" in to_text(report, "")


@pytest.mark.parametrize("target", [KeepsWhatWasAskedBefore, KeepsAnyPrecision, UsesItsResultAgain])
def test_what_the_first_order_does_not_show(folder, target):
    report = run_suite(PythonBackend(target()), load_golden(folder), ("numerics",), order=7)
    red = [r for r in report.results if r.status == FAILED]
    assert red
    for result in red:
        assert result.behind.startswith("numerics/ds_dx/")
        said = f"posed again behind {result.behind} (order 7): slope at ["
        if target is UsesItsResultAgain:
            said = "its answer changed when numerics/ds_dx/"
        assert result.message.startswith(said)
    text = to_text(report, "--backend x:y --order 7")
    assert "python -m refmiracle.conformance --backend x:y --order 7 --case numerics\n" in text
    written = to_json(report, "--backend x:y --order 7")
    assert written["order"] == 7
    assert {r["behind"] for r in written["results"] if r["status"] == FAILED} == {
        r.behind for r in red
    }


def test_what_was_wrong_or_declared_is_not_posed_again(folder):
    class Wrong(Right):
        known_failures = {"numerics/ds_dx/a": "to be mended"}  # noqa: RUF012
        asked = 0

        def ds_dx(self, x):
            type(self).asked += 1
            return np.sqrt(x) if x[1] == 5.0 else x

    report = run_suite(PythonBackend(Wrong()), load_golden(folder))
    assert [r.status for r in report.results if r.id.endswith("/c")] == [PASSED, PASSED]
    assert report.posed_again == 2
    assert Wrong.asked == 6 + 2


def test_two_runs_are_the_same_and_another_seed_is_said(folder, capsys, monkeypatch, tmp_path):
    (tmp_path / "keeping.py").write_text(
        "import numpy as np\n"
        "class Backend:\n"
        "    name, version, dtypes = 'keeps', '1', ('float64',)\n"
        "    first = {}\n"
        "    def ds_dx(self, x):\n"
        "        return self.first.setdefault(x[0], np.sqrt(x))\n"
    )
    monkeypatch.chdir(tmp_path)
    outs = []
    for arguments in ([], [], ["--order", "3"]):
        command = ["--backend", "keeping:Backend", "--golden", str(folder), *arguments]
        assert main(command) == 1
        outs.append(capsys.readouterr().out)
    assert outs[0] == outs[1]
    assert "posed again in order 3" in outs[2]
