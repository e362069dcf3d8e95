"""The harness itself: comparisons, verdicts, reports, both adapters, the command and the plugin."""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
import sys
import textwrap
from xml.etree import ElementTree

import numpy as np
import pytest

from refmiracle.commands.conformance import main
from refmiracle.conformance.backends import (
    BrokenError,
    PythonBackend,
    RefusedError,
    load_python_backend,
)
from refmiracle.conformance.bounds import compare
from refmiracle.conformance.engine_backend import numpy_backend
from refmiracle.conformance.operations import OPERATIONS
from refmiracle.conformance.programs import CommandBackend, Program, decode_value, encode_value
from refmiracle.conformance.runner import FAILED, KNOWN, PASSED, SKIPPED, UNEXPECTED, run_suite
from refmiracle.conformance.vectors import load_golden
from refmiracle.errors import InputError

# --- comparisons


@pytest.mark.parametrize(
    ("got", "want", "bound", "ok"),
    [
        ([1, 2], [1, 2], {"exact": 0}, True),
        ([1, 3], [1, 2], {"exact": 0}, False),
        ([0.1], [0.1], {"exact": 0}, True),
        ([np.nextafter(0.1, 1)], [0.1], {"exact": 0}, False),
        ([np.nan], [np.nan], {"exact": 0}, True),
        ([0.0], [np.nan], {"relative": 1e9}, False),
        ([np.nan], [0.0], {"scaled": 1e9}, False),
        ([np.inf], [np.inf], {"relative": 1e-15}, True),
        ([1e308], [np.inf], {"relative": 1.0}, False),
        ([-np.inf], [np.inf], {"absolute": 1e300}, False),
        ([np.nan, 1.0], [1.0, np.nan], {"ulp": 1e300}, False),
        ([np.inf, 1.0], [np.inf, 1.0 + 1e-9], {"scaled": 1e-12}, False),
        ([-0.0], [0.0], {"exact": 0}, True),
        ([0.0], [5e-324], {"exact": 0}, False),
        ([0.0], [5e-324], {"relative": 0.5}, False),
        ([1e-323], [5e-324], {"ulp": 1}, True),
        ([1.0 + 1e-9], [1.0], {"relative": 1e-8}, True),
        ([1.0 + 1e-7], [1.0], {"relative": 1e-8}, False),
        ([1e-300], [0.0], {"relative": 1e-8}, False),
        ([1000.0, 1e-9], [1000.0, 0.0], {"scaled": 1e-11}, True),
        ([1000.0, 1e-7], [1000.0, 0.0], {"scaled": 1e-11}, False),
        ([1e-15], [0.0], {"absolute": 1e-14}, True),
        ([1e-13], [0.0], {"absolute": 1e-14}, False),
        ([np.nextafter(1.0, 2)], [1.0], {"ulp": 1}, True),
        ([1.0 + 1e-12], [1.0], {"ulp": 1}, False),
        ([1.0], [1.0, 1.0], {"exact": 0}, False),
        ([], [], {"exact": 0}, True),
        (["a"], [1.0], {"exact": 0}, False),
    ],
)
def test_compare(got, want, bound, ok):
    found = compare(got, np.array(want), bound, "float64")
    assert found.ok == ok
    assert found.detail or ok


def test_the_unit_in_the_last_place_is_of_the_working_precision():
    got, want = np.float32([1.0 + 1e-7]), np.array([1.0])
    assert compare(got, want, {"ulp": 1}, "float32").ok
    assert not compare(got, want, {"ulp": 1}, "float64").ok


def test_the_worst_element_is_named():
    found = compare(
        [[1.0, 2.0], [3.0, 9.0]], np.array([[1.0, 2.0], [3.0, 4.0]]), {"ulp": 1}, "float64"
    )
    assert "[1, 1]" in found.detail
    assert "9.0" in found.detail


# --- a small set of vectors, made by hand


def array(dtype, *data):
    return {"dtype": dtype, "shape": [len(data)], "data": list(data)}


def scalar(dtype, value):
    return {"dtype": dtype, "shape": [], "data": [value]}


def document(stage, operation, *cases):
    return {
        "schema": "refmiracle-golden/1",
        "operation": operation,
        "stage": stage,
        "source": "by hand",
        "tool": "none",
        "notes": {},
        "cases": [{"since": "1.0", "dtypes": [], **case} for case in cases],
    }


RELU = document(
    "layers",
    "relu",
    {
        "id": "layers/relu/signs",
        "dtypes": ["float64", "float32"],
        "inputs": {"x": array("float64", -1.0, 0.0, 2.0)},
        "outputs": {"y": array("float64", 0.0, 0.0, 2.0)},
        "bounds": {"y": {"any": {"exact": 0}}},
    },
)
PACK = document(
    "bits",
    "pack_indices",
    {
        "id": "bits/pack_indices/three",
        "inputs": {"indices": array("int64", 1, 2, 3), "bits": scalar("int64", 2)},
        "outputs": {"payload": {"hex": "6c"}},  # 01 10 11 00
        "bounds": {"payload": {"any": {"exact": 0}}},
    },
    {
        "id": "bits/pack_indices/out-of-range",
        "inputs": {"indices": array("int64", 4), "bits": scalar("int64", 2)},
        "fault": "an index does not fit its bits",
    },
)


@pytest.fixture
def golden(tmp_path):
    folder = tmp_path / "golden"
    folder.mkdir()
    (folder / "relu.json").write_text(json.dumps(RELU))
    (folder / "pack.json").write_text(json.dumps(PACK))
    return folder


class Right:
    name, version, dtypes = "right", "1", ("float64", "float32")

    def relu(self, x):
        return np.maximum(x, 0)

    def pack_indices(self, indices, bits):
        if indices.max() >= 2 ** int(bits):
            raise ValueError("does not fit")
        text = "".join(f"{i:0{int(bits)}b}" for i in indices)
        text += "0" * (-len(text) % 8)
        return np.array([int(text[i : i + 8], 2) for i in range(0, len(text), 8)])


def verdicts(target, golden):
    report = run_suite(PythonBackend(target), load_golden(golden))
    return report, {(r.id.rpartition("/")[2], r.dtype): r.status for r in report.results}


def test_a_right_backend_passes_in_stage_order(golden):
    report, found = verdicts(Right(), golden)
    assert report.ok()
    assert list(found.items()) == [
        (("three", ""), PASSED),
        (("out-of-range", ""), PASSED),
        (("signs", "float64"), PASSED),
        (("signs", "float32"), PASSED),
    ]


class ReturnsItsInput(Right):
    def relu(self, x):
        return x


class AcceptsAnything(Right):
    def pack_indices(self, indices, bits):
        return super().pack_indices(np.minimum(indices, 2 ** int(bits) - 1), bits)


class ChangesItsInput(Right):
    def relu(self, x):
        x[:] = 7.0
        return np.array([0.0, 0.0, 2.0])


class TooManyResults(Right):
    def relu(self, x):
        return np.maximum(x, 0), x


class Raises(Right):
    def relu(self, x):
        raise ZeroDivisionError("by zero")


@pytest.mark.parametrize(
    ("target", "case", "message"),
    [
        (ReturnsItsInput, "signs", "y at [0]: got np.float64(-1.0), expected np.float64(0.0)"),
        (AcceptsAnything, "out-of-range", "accepted inputs whose fault is: an index"),
        (TooManyResults, "signs", "2 results, expected 1: y"),
        (Raises, "signs", "refused: ZeroDivisionError: by zero"),
    ],
)
def test_a_wrong_backend_fails(golden, target, case, message):
    report, _ = verdicts(target(), golden)
    assert not report.ok()
    red = [r for r in report.results if r.status == FAILED]
    assert {r.id.rpartition("/")[2] for r in red} == {case}
    assert message in red[0].message


def test_a_backend_cannot_change_the_vectors(golden):
    files = load_golden(golden)
    run_suite(PythonBackend(ChangesItsInput()), files)
    assert run_suite(PythonBackend(Right()), files).ok()


def test_what_is_not_declared_is_skipped_never_passed(golden):
    class Part:
        name, version, dtypes = "part", "1", ("float32",)
        relu = Right.relu

    report, found = verdicts(Part(), golden)
    assert found == {
        ("three", ""): SKIPPED,
        ("out-of-range", ""): SKIPPED,
        ("signs", "float64"): SKIPPED,
        ("signs", "float32"): PASSED,
    }
    assert "pack_indices is not declared" in report.results[0].message


def test_known_failures_are_strict(golden):
    class Declared(ReturnsItsInput):
        known_failures = {"layers/relu/signs": "negative inputs are not done yet"}  # noqa: RUF012

    report, found = verdicts(Declared(), golden)
    assert report.ok()
    assert found["signs", "float64"] == KNOWN

    class Mended(Right):
        known_failures = Declared.known_failures

    report, found = verdicts(Mended(), golden)
    assert not report.ok()
    assert found["signs", "float64"] == UNEXPECTED

    class Unmatched(Right):
        known_failures = {"layers/relu/no-such": "?"}  # noqa: RUF012

    report, _ = verdicts(Unmatched(), golden)
    assert not report.ok()
    assert report.unmatched == {"layers/relu/no-such": "known failure"}


def test_a_bound_of_the_backends_own_shows(golden):
    class Loose(ReturnsItsInput):
        bounds = {"layers/relu/signs": {"y": {"any": {"scaled": 1.0}}}}  # noqa: RUF012

    report, _ = verdicts(Loose(), golden)
    assert report.ok()
    assert {r.id for r in report.results if r.overridden} == {"layers/relu/signs"}


def test_a_bound_of_the_backends_own_for_one_precision_leaves_the_other(golden):
    class LooseInDouble(ReturnsItsInput):
        bounds = {"layers/relu/signs": {"y": {"float64": {"scaled": 1.0}}}}  # noqa: RUF012

    _, found = verdicts(LooseInDouble(), golden)
    assert found["signs", "float64"] == PASSED
    assert found["signs", "float32"] == FAILED


def test_a_bound_that_is_none_is_refused(golden):
    class Nonsense(ReturnsItsInput):
        bounds = {"layers/relu/signs": {"y": {"float64": {"nearly": 1.0}}}}  # noqa: RUF012

    with pytest.raises(InputError, match="is no bound"):
        verdicts(Nonsense(), golden)


# --- damaged vectors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema="refmiracle-golden/9"), "schema 'refmiracle-golden/9'"),
        (lambda d: d.update(stage="dreams"), "stage 'dreams'"),
        (lambda d: d.pop("cases"), "no golden file"),
        (lambda d: d["cases"][0].pop("id"), "no golden file"),
        (lambda d: d["cases"][0].update(id=3), "the id 3 is no string"),
        (lambda d: d["cases"][0]["inputs"].update(x=3), "an array is an object"),
        (lambda d: d["cases"][0]["inputs"]["x"].update(shape=[4]), "do not fill the shape"),
        (lambda d: d["cases"][0]["inputs"]["x"].update(dtype="float8"), "dtype, shape and data"),
        (lambda d: d["cases"].append(d["cases"][0]), "stands twice"),
        (lambda d: d.update(operation="fly"), "operation 'fly' is unknown"),
        (lambda d: d["cases"][0].update(inputs={}), "the inputs of relu are x"),
        (lambda d: d["cases"][0].update(dtypes=["float16"]), "dtypes may hold float64, float32"),
        (lambda d: d["cases"][0].pop("outputs"), "the outputs of relu are y"),
        (lambda d: d["cases"][0]["outputs"].update(z=d["cases"][0]["inputs"]["x"]), "are y"),
        (lambda d: d["cases"][0].pop("bounds"), "no bound for y in float64"),
        (
            lambda d: d["cases"][0]["bounds"].update(y={"float64": {"exact": 0}}),
            "no bound for y in float32",
        ),
        (lambda d: d["cases"][0]["bounds"].update(y={"any": {"near": 1}}), "is no bound"),
        (lambda d: d["cases"][0]["bounds"].update(y={"any": {}}), "is no bound"),
        (lambda d: d["cases"][0]["bounds"].update(y={"any": {"ulp": math.inf}}), "is no bound"),
        (
            lambda d: d["cases"][0]["inputs"].update(x={"npy": "absent.npy", "sha256": ""}),
            "absent.npy",
        ),
    ],
)
def test_damaged_vectors_are_one_clear_line(golden, capsys, change, message):
    damaged = json.loads(json.dumps(RELU))
    change(damaged)
    (golden / "relu.json").write_text(json.dumps(damaged))
    backend = "refmiracle.conformance.engine_backend:numpy_backend"
    assert main(["--backend", backend, "--golden", str(golden)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("deep.json", "[" * 100_000, "no golden file"), ("x.txt", "", "no golden files"), (None,) * 3],
)
def test_folders_without_vectors(tmp_path, capsys, name, content, message):
    folder = tmp_path / "folder"
    if name:
        folder.mkdir()
        (folder / name).write_text(content)
    assert main(["--backend", "any:thing", "--golden", str(folder)]) == 2
    error = capsys.readouterr().err
    assert (message or "no such folder") in error
    assert error.count("\n") == 1


def test_an_npy_file_is_held_to_its_digest(golden):
    np.save(golden / "x.npy", np.zeros(3))
    damaged = json.loads(json.dumps(RELU))
    damaged["cases"][0]["inputs"]["x"] = {"npy": "x.npy", "sha256": "0" * 64}
    (golden / "relu.json").write_text(json.dumps(damaged))
    with pytest.raises(InputError, match="SHA-256 differs"):
        load_golden(golden)


# --- the command


MODULE = textwrap.dedent(
    """
    import numpy as np

    class Mine:
        name, version, dtypes = "mine", "3", ("float64", "float32")
        def relu(self, x):
            return np.maximum(x, 0)

    class Wrong(Mine):
        def relu(self, x):
            return x

    MINE = Mine()
    def refuses():
        raise ZeroDivisionError("by\\nzero")

    def ends():
        raise SystemExit(0)

    class Text(Mine):
        dtypes = "float64"

    class Listed(Mine):
        known_failures = ["layers/relu/signs"]

    class Number(Mine):
        bounds = {"layers/relu/signs": 3}

    class Endless(Mine):
        bounds = {"layers/relu/signs": {"y": {"any": {"scaled": float("inf")}}}}

    class Property(Mine):
        @property
        def name(self):
            raise RuntimeError("nameless")

    EMPTY = type("Empty", (), {"name": "empty", "version": "1", "dtypes": ()})()
    """
)


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_backend.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_backend", raising=False)


def test_command_reports(module, golden, tmp_path, capsys):
    reports = ["--json", "r.json", "--junit", "r.xml", "--markdown", "r.md"]
    assert main(["--backend", "my_backend:MINE", "--golden", str(golden), *reports]) == 0
    assert "2 passed, 2 skipped; mine 3" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["counts"]["passed"] == 2
    suite = ElementTree.parse(tmp_path / "r.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "0", "2")
    assert "| layers | relu | 2 | 0 | 0 |" in (tmp_path / "r.md").read_text(encoding="utf-8")


def test_command_fails_and_says_how_to_repeat(module, golden, capsys):
    assert main(["--backend", "my_backend:Wrong", "--golden", str(golden), "--json", "r.json"]) == 1
    out = capsys.readouterr().out
    assert "failed: layers/relu/signs (float64): y at [0]" in out
    assert "--backend my_backend:Wrong --golden" in out
    assert "--case layers/relu/signs" in out
    assert "look first at the stage layers" in out


def test_command_runs_a_part(module, golden, capsys):
    arguments = ["--backend", "my_backend:MINE", "--golden", str(golden)]
    assert main([*arguments, "--case", "layers/relu"]) == 0
    assert "2 passed; mine 3" in capsys.readouterr().out
    assert main([*arguments, "--case", "layers/rel"]) == 2
    assert "there is no such case" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("my_backend", "expected module:object"),
        (":MINE", "expected module:object"),
        ("my_backend:NOT", "NOT"),
        ("no_such_module:X", "no_such_module"),
        ("my_backend:np", "the backend has no attribute name"),
        ("my_backend:EMPTY", "offers none of the operations"),
        ("my_backend:refuses", "ZeroDivisionError: by"),
        ("my_backend:ends", "SystemExit: 0"),
        ("my_backend:Text", "dtypes are 'float64'; expected a list"),
        ("my_backend:Listed", "expected a mapping of id to reason"),
        ("my_backend:Number", "expected a mapping of output to precision"),
        ("my_backend:Endless", "is no bound"),
        ("my_backend:Property", "RuntimeError: nameless"),
        ("broken:X", "SyntaxError"),
        ("raising:X", "ValueError: while it is imported"),
        ("ending:X", "SystemExit: 0"),
    ],
)
def test_backends_that_are_none(module, golden, tmp_path, capsys, backend, message):
    (tmp_path / "broken.py").write_text("x = (")
    (tmp_path / "raising.py").write_text("raise ValueError('while it is imported')")
    (tmp_path / "ending.py").write_text("import sys; sys.exit(0)")
    assert main(["--backend", backend, "--golden", str(golden)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


# --- programs


PROGRAM = textwrap.dedent(
    """
    import json, sys
    hello = {"name": "program", "version": "2", "operations": ["relu", "pack_indices"],
             "dtypes": ["float64"]}
    for line in sys.stdin:
        question = json.loads(line)
        if question["operation"] == "hello":
            answer = hello
        elif question["operation"] == "relu":
            answer = ANSWER
        else:
            answer = {"error": "no"}
        print(answer if isinstance(answer, str) else json.dumps(answer), flush=True)
    """
)
GOOD = repr({"outputs": {"y": encode_value(np.array([0.0, 0.0, 2.0]))}})


def line(*words):
    """Return a command line as the system takes it."""
    words = list(map(str, words))
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


@pytest.fixture
def program(tmp_path):
    opened = []

    def start(answer):
        path = tmp_path / f"program{len(opened)}.py"
        path.write_text(PROGRAM.replace("ANSWER", answer), encoding="utf-8")
        opened.append(CommandBackend(line(sys.executable, path)))
        return opened[-1]

    yield start
    for backend in opened:
        backend.close()
        assert backend.program.process.poll() is not None


def test_a_program_as_backend(program, golden):
    report = run_suite(program(GOOD), load_golden(golden))
    status = {(r.id.rpartition("/")[2], r.dtype): r.status for r in report.results}
    assert status == {
        ("three", ""): FAILED,
        ("out-of-range", ""): PASSED,
        ("signs", "float64"): PASSED,
        ("signs", "float32"): SKIPPED,
    }


@pytest.mark.parametrize(
    "answer", ["sys.exit(3)", "'no json'", "[]", '{"outputs": {}}', '{"outputs": {"y": 1}}']
)
def test_a_program_that_gives_no_answer(program, answer):
    with pytest.raises(BrokenError):
        program(answer).call("relu", {"x": np.zeros(3)}, "float64")


def test_a_crash_is_no_refusal(program, golden):
    backend = program("sys.exit(3)")
    with pytest.raises(RefusedError):
        backend.call("pack_indices", {}, "")
    backend.program.process.kill()
    backend.program.process.wait()
    negative = run_suite(backend, load_golden(golden), only=("bits/pack_indices/out-of-range",))
    assert [r.status for r in negative.results] == [FAILED]


@pytest.mark.parametrize("command", ["/no/such/program", "", " ", "a 'b"])
def test_programs_that_cannot_be_started(command, golden, capsys):
    assert main(["--command", command, "--golden", str(golden)]) == 2
    error = capsys.readouterr().err
    assert "it cannot be started" in error
    assert error.count("\n") == 1


HELLO = {"name": "p", "version": "1", "dtypes": [], "operations": ["relu"]}


@pytest.mark.parametrize(
    ("hello", "message"),
    [
        (1, "no JSON object: b'1"),
        ({"error": "no"}, "operations are None; expected a list"),
        ({**HELLO, "operations": "relu"}, "operations are 'relu'; expected a list"),
        ({**HELLO, "operations": ["fly"]}, "offers none of the operations"),
        ({"operations": ["relu"]}, "no attribute name, version, dtypes"),
        ({**HELLO, "dtypes": "float64"}, "dtypes are 'float64'; expected a list"),
        ({**HELLO, "bounds": {"x": {"y": {"any": 1}}}}, "1 is no bound"),
    ],
)
def test_programs_that_are_none(hello, message, golden, tmp_path, capsys):
    (tmp_path / "hello.py").write_text(f"print({json.dumps(hello)!r})")
    command = line(sys.executable, tmp_path / "hello.py")
    assert main(["--command", command, "--golden", str(golden)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_program_that_ends_before_it_is_asked_has_answered(tmp_path):
    """Whether it is asked before or after its end is chance; what it has said is not."""
    (tmp_path / "hello.py").write_text("print('{}')")
    program = Program(line(sys.executable, tmp_path / "hello.py"))
    program.process.wait()
    assert program.exchange(b"{}\n").strip() == b"{}"
    program.close()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "uint32", "int64", "float32"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 5), (2, 3)])
def test_values_of_the_protocol(dtype, shape):
    value = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    back = decode_value(json.loads(json.dumps(encode_value(value))))
    assert back.dtype == value.dtype
    assert np.array_equal(back, value)


# --- the plugin


def run_pytest(tmp_path, *arguments):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


def test_pytest_plugin(module, golden, tmp_path):
    golden_option = f"--refmiracle-golden={golden}"
    right = run_pytest(tmp_path, "--refmiracle-backend=my_backend:MINE", golden_option, "-v")
    assert right.returncode == 0, right.stdout + right.stderr
    assert "test_conformance[layers/relu/signs] PASSED" in right.stdout
    assert "test_conformance[bits/pack_indices/three] SKIPPED" in right.stdout
    wrong = run_pytest(tmp_path, "--refmiracle-backend=my_backend:Wrong", golden_option)
    assert wrong.returncode == 1
    assert "y at [0]" in wrong.stdout


def test_pytest_plugin_keeps_out_of_the_way(module, tmp_path):
    (tmp_path / "test_own.py").write_text("def test_own():\n    pass\n")
    own = run_pytest(tmp_path)
    assert own.returncode == 0
    assert "1 passed" in own.stdout


def test_pytest_plugin_refuses_a_deadline_of_0(module, golden, tmp_path):
    options = f"--refmiracle-golden={golden}", "--refmiracle-deadline=0"
    done = run_pytest(tmp_path, "--refmiracle-backend=my_backend:MINE", *options)
    assert done.returncode == pytest.ExitCode.INTERRUPTED  # nothing could be collected
    assert "a deadline of 0 s; expected more than 0" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_module_keeps_the_folders_that_it_looks_in(tmp_path, monkeypatch):
    (tmp_path / "looks.py").write_text(
        f"import sys\nsys.path.insert(0, 'a folder of its own')\n{MODULE}", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "looks", raising=False)
    before = [*sys.path]
    assert load_python_backend("looks:MINE").name == "mine"
    assert sys.path == ["a folder of its own", *before]


@pytest.mark.parametrize(
    ("operation", "bits"),
    [("select_indices", 0), ("best_indices", 0), ("ordered_indices", 27), ("ordered_indices", 2.5),
     ("partition_messages", -1), ("partition_messages", 25)],
)  # fmt: skip
def test_bits_that_no_file_can_say_are_refused_by_our_own_backend(operation, bits):
    target = np.zeros((1, 2))
    inputs = {"seed": 1, "bits": bits, "blocks": np.arange(1), "delta": target, "log_s": target}
    wanted = [np.asarray(inputs[name]) for name in OPERATIONS[operation].inputs]
    with pytest.raises(InputError, match="bits"):
        getattr(numpy_backend(), operation)(*wanted)


def test_a_class_is_called_for_its_backend(module):
    assert load_python_backend("my_backend:Wrong").name == "mine"
