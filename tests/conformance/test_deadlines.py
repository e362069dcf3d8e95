"""Backends that never answer, or in part, or what nobody asked: one verdict each, and no hang.

No test waits for time to pass: the clock of a test goes on by a deadline each time that a backend
begins not to answer.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
import sys
import textwrap
import threading
from xml.etree import ElementTree

import numpy as np
import pytest
from oracles import run_python

from refmiracle.commands.conformance import main
from refmiracle.conformance import programs
from refmiracle.conformance.backends import PythonBackend, load_python_backend
from refmiracle.conformance.patience import LateError, Patience
from refmiracle.conformance.programs import CommandBackend, encode_value
from refmiracle.conformance.report import to_json, to_junit, to_markdown, to_text
from refmiracle.conformance.runner import FAILED, KNOWN, PASSED, run_suite
from refmiracle.conformance.vectors import Case, VectorFile
from refmiracle.errors import InputError

DEADLINE = 60.0
LATE = "no answer within 60 s"
NOT_POSED = "not posed: 3 questions had no answer within 60 s"


def relu_files(*names, size=3):
    """Vectors of the ReLU of zeros, a case for each name."""
    zeros, bounds = np.zeros(size), {"y": {"any": {"exact": 0}}}
    cases = tuple(
        Case(f"layers/relu/{n}", "1.0", ("float64",), {"x": zeros}, {"y": zeros}, bounds, None,
             None, (), "")
        for n in names
    )  # fmt: skip
    return [VectorFile("relu", "layers", "by hand", "none", {}, cases, None)]


def found(report):
    return [(r.status, r.message) for r in report.results]


# --- the mechanism


@pytest.fixture
def stuck():
    """A question that never returns, before the test ends."""
    end = threading.Event()

    class Stuck:
        asked = 0

        def __call__(self):
            self.asked += 1
            end.wait()

        def clock(self):
            return DEADLINE * self.asked

    yield Stuck()
    end.set()


@pytest.mark.parametrize("deadline", [math.inf, 1000.0])
def test_an_answer_and_an_exception_are_passed_on(deadline):
    patience = Patience(deadline)
    assert patience.ask(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        patience.ask(lambda: 1 / 0)
    with pytest.raises(SystemExit):
        patience.ask(lambda: sys.exit(3))
    assert patience.missed == 0
    patience.close()


@pytest.mark.parametrize(("deadline", "ours"), [(math.inf, True), (1000.0, False)])
def test_all_is_asked_on_one_thread_which_is_ours_without_a_deadline(deadline, ours):
    patience = Patience(deadline)
    threads = {patience.ask(threading.get_ident) for _ in range(5)}
    assert len(threads) == 1
    assert (threads == {threading.get_ident()}) is ours
    patience.close()


def test_three_missed_deadlines_and_nothing_is_asked_any_more(stuck):
    patience = Patience(DEADLINE, stuck.clock)
    for missed in (1, 2, 3):
        assert patience.ask(lambda: 7) == 7  # by a new thread
        with pytest.raises(LateError, match=LATE):
            patience.ask(stuck)
        assert patience.missed == missed
    with pytest.raises(LateError, match=NOT_POSED):
        patience.ask(stuck)
    assert stuck.asked == 3


def test_an_answer_that_comes_too_late_is_tidied_up():
    end, tidied, hours = threading.Event(), threading.Event(), iter([0.0, 0.0, 100.0])
    patience = Patience(DEADLINE, lambda: next(hours))
    with pytest.raises(LateError):
        patience.ask(end.wait, tidied.set)
    assert not tidied.is_set()
    end.set()
    assert tidied.wait(60)


def test_an_interrupt_is_not_kept_waiting(stuck):
    def interrupted():
        if stuck.asked:
            raise KeyboardInterrupt
        return 0.0

    patience = Patience(DEADLINE, interrupted)
    with pytest.raises(KeyboardInterrupt):
        patience.ask(stuck)
    assert patience.missed == 0


def test_an_interrupt_without_a_deadline_is_tidied_up_behind():
    def interrupted():
        raise KeyboardInterrupt

    tidied = []
    with pytest.raises(KeyboardInterrupt):
        Patience().ask(interrupted, lambda: tidied.append(True))
    assert tidied == [True]


@pytest.mark.parametrize("deadline", [0.0, -1.0, math.nan])
def test_a_deadline_that_is_none(deadline):
    with pytest.raises(InputError, match="expected more than 0"):
        Patience(deadline)


# --- Python backends


class Hangs:
    """Answers but for some of its cases."""

    name, version, dtypes = "hangs", "1", ("float64",)

    def __init__(self, stuck, *at):
        self.stuck, self.at, self.calls = stuck, at, -1

    def relu(self, x):
        self.calls += 1
        return self.stuck() if self.calls in self.at else np.maximum(x, 0)


def test_a_call_that_never_returns_fails_its_case_alone(stuck):
    backend = PythonBackend(Hangs(stuck, 1), Patience(DEADLINE, stuck.clock))
    report = run_suite(backend, relu_files("a", "b", "c"))
    assert found(report) == [(PASSED, ""), (FAILED, LATE), (PASSED, "")]


def test_after_three_calls_the_rest_is_not_posed(stuck):
    target = Hangs(stuck, 1, 2, 4)
    report = run_suite(
        PythonBackend(target, Patience(DEADLINE, stuck.clock)), relu_files(*"abcdefg")
    )
    assert [m for _, m in found(report)] == ["", LATE, LATE, "", LATE, NOT_POSED, NOT_POSED]
    assert target.calls == 4
    assert not report.ok()


def test_a_call_that_is_known_not_to_return(stuck):
    target = Hangs(stuck, 0)
    target.known_failures = {"layers/relu/a": "loops"}
    report = run_suite(PythonBackend(target, Patience(DEADLINE, stuck.clock)), relu_files("a"))
    assert found(report) == [(KNOWN, "loops")]


@pytest.mark.parametrize("deadline", [math.inf, 1000.0])
def test_numpy_warns_of_nothing_on_the_thread_of_the_backend(recwarn, deadline):
    class Divides(Hangs):
        def relu(self, x):
            return x / np.zeros(3) * 0

    run_suite(PythonBackend(Divides(None), Patience(deadline)), relu_files("a"))
    assert not recwarn.list


def test_a_backend_that_ends_the_program_ends_one_case(stuck):
    class Ends(Hangs):
        def relu(self, x):
            sys.exit(0)

    report = run_suite(PythonBackend(Ends(stuck)), relu_files("a"))
    assert found(report) == [(FAILED, "broken: SystemExit: 0")]


def test_a_module_that_is_never_imported(stuck, tmp_path, monkeypatch):
    (tmp_path / "slow_module.py").write_text("import stuck_here\nstuck_here.wait()\n")
    module = type(sys)("stuck_here")
    module.wait = stuck
    monkeypatch.setitem(sys.modules, "stuck_here", module)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"^--backend slow_module:X: {LATE}$"):
        load_python_backend("slow_module:X", Patience(DEADLINE, stuck.clock))
    assert str(tmp_path) not in sys.path


# --- programs


PROGRAM = textwrap.dedent(
    """
    import json, os, subprocess, sys, time
    GOOD = json.dumps(ANSWER)
    number = 0

    def say(text):
        sys.stdout.write(text)
        sys.stdout.flush()

    def stop():
        fd, _ = __import__("tempfile").mkstemp(dir=MARKS)  # the clock of the test goes on
        os.close(fd)
        while True:
            time.sleep(1000)

    while line := sys.stdin.readline():
        if json.loads(line)["operation"] == "hello":
            say(json.dumps({"name": "p", "version": "1", "operations": ["relu"],
                            "dtypes": ["float64"]}) + "\\n")
            AT_HELLO
            continue
        AT_CASE
        say(GOOD + "\\n")
    AT_END
    """
)
ANSWER = {"outputs": {"y": encode_value(np.zeros(3))}}


@pytest.fixture
def open_program(tmp_path, monkeypatch):
    """Start a program that does something at hello, at a case, or at the end of its input."""
    monkeypatch.setattr(programs, "LAST_WORDS", 0.2)
    marks = tmp_path / "marks"
    marks.mkdir()
    opened = []

    def command(at_case="pass", at_hello="pass", at_end="pass"):
        text = PROGRAM.replace("ANSWER", repr(ANSWER)).replace("MARKS", repr(str(marks)))
        for name, does in (("CASE", at_case), ("HELLO", at_hello), ("END", at_end)):
            text = text.replace(f"AT_{name}", does)
        path = tmp_path / "program.py"
        path.write_text(text, encoding="utf-8")
        words = [sys.executable, str(path)]
        return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)

    def start(**does):
        patience = Patience(DEADLINE, lambda: DEADLINE * len(list(marks.iterdir())))
        opened.append(CommandBackend(command(**does), patience))
        return opened[-1]

    start.command, start.marks = command, marks
    yield start
    for backend in opened:
        backend.close()
        backend.program.process.wait(60)


def at_first(does):
    """A statement for the first case that any start of the program meets."""
    return f"if not os.path.exists('met'): open('met', 'w').close(); {does}"


FIRST_ALONE = {
    "says nothing": ("stop()", LATE),
    "half a line": ("say(GOOD[:9]); stop()", LATE),
    "a line without its end": ("say(GOOD); stop()", LATE),
    "half a line, then dies": ("say(GOOD[:9]); sys.exit(0)", "broken: the answer is no JSON: b'"),
    "dies": ("sys.exit(3)", "broken: the program ended with exit code 3"),
    "closes its output, but lives": (
        "os.close(1); time.sleep(1000)",
        "broken: the program has closed its standard input or output",
    ),
    "no JSON": (r"say('debug\n')", r"broken: the answer is no JSON: b'debug\n'"),
    "no object": (r"say('[]\n')", r"broken: the answer is no JSON object: b'[]\n'"),
    "deep": (r"say('[' * 100_000 + '\n')", "broken: the answer is no JSON: b'[[["),
    "floods in one line": (
        """exec('while 1: say("x" * 65536)')""",
        "broken: the answer is longer than 1000000 bytes",
    ),
    "floods in lines": (
        r"""exec('while 1: say("x\\n")')""",
        r"broken: the answer is no JSON: b'x\n'",
    ),
}


@pytest.mark.parametrize(("does", "message"), FIRST_ALONE.values(), ids=FIRST_ALONE)
def test_what_a_program_does_fails_one_case(open_program, tmp_path, monkeypatch, does, message):
    """It is started anew for the next, which it answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(programs, "LONGEST_ANSWER", 1_000_000)
    report = run_suite(open_program(at_case=at_first(does)), relu_files("a", "b", "c"))
    assert [s for s, _ in found(report)] == [FAILED, PASSED, PASSED]
    assert report.results[0].message.startswith(message)


def test_a_program_that_never_answers_is_given_up(open_program):
    backend = open_program(at_case="stop()")
    report = run_suite(backend, relu_files(*"abcdef"))
    assert [m for _, m in found(report)] == [LATE] * 3 + [NOT_POSED] * 3
    assert len(list(open_program.marks.iterdir())) == 3


def test_a_program_that_does_not_read(open_program):
    """But for a byte: the question is larger than a pipe, so writing it takes for ever."""
    backend = open_program(at_hello="os.read(0, 1); stop()")
    assert [m for _, m in found(run_suite(backend, relu_files("a", size=100_000)))] == [LATE]


def test_a_program_may_write_what_it_likes_to_standard_error(open_program):
    backend = open_program(at_case="os.write(2, b' ' * 3_000_000)")
    with open(os.devnull, "wb") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            backend.program.close()  # and is started anew, with this standard error
            assert run_suite(backend, relu_files("a")).ok()
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def test_a_program_that_goes_on_behind_its_input_is_ended(open_program, monkeypatch):
    monkeypatch.setattr(programs, "FAREWELL", 0.2)
    backend = open_program(at_end="time.sleep(1000)")
    assert run_suite(backend, relu_files("a")).ok()
    backend.close()
    assert backend.program.process.wait(60) != 0


def test_a_program_that_ends_at_every_case_is_given_up(open_program, monkeypatch):
    monkeypatch.setattr(programs, "MOST_LOST", 2)
    report = run_suite(open_program(at_case="sys.exit(3)"), relu_files(*"abcd"))
    ended = "broken: the program ended with exit code 3"
    given_up = "not posed: 2 questions have ended the program"
    assert [m for _, m in found(report)] == [ended, ended, given_up, given_up]


@pytest.mark.skipif(os.name == "nt", reason="named pipes of POSIX tell when the child is gone")
def test_what_the_program_has_started_ends_with_it(open_program, tmp_path):
    alive, marks = tmp_path / "alive", open_program.marks
    os.mkfifo(alive)
    # The deadline passes once the child is there: only then does the clock go on.
    child = f"f = open({str(alive)!r}, 'w'); open({str(marks / 'm')!r}, 'w'); import time; "
    child += "time.sleep(1000)"
    start = f"subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(1000)"
    backend = open_program(at_case=start)
    # Returns when nobody has the pipe open for writing any more.
    reader = threading.Thread(target=alive.read_bytes, daemon=True)
    reader.start()
    assert found(run_suite(backend, relu_files("a"))) == [(FAILED, LATE)]
    reader.join(60)
    assert not reader.is_alive()


# --- reports and commands


@pytest.fixture
def late_report(stuck):
    target = Hangs(stuck, 0, 1, 2)
    return run_suite(PythonBackend(target, Patience(DEADLINE, stuck.clock)), relu_files(*"abcde"))


def test_every_report_says_the_deadline(late_report):
    text = to_text(late_report, "--backend x:y").splitlines()
    assert text[-1] == "5 failed; hangs 1; deadline of a case: 60 s; 0 posed again in order 1"
    assert f"failed: layers/relu/a (float64): {LATE}" in text
    assert f"failed: layers/relu/d (float64): {NOT_POSED}" in text
    assert "failed: 1 more, not posed for the same reason" in text
    assert not any("layers/relu/e" in line for line in text)
    assert text[-1] in to_markdown(late_report, "--backend x:y")
    written = json.loads(json.dumps(to_json(late_report, "--backend x:y"), allow_nan=False))
    assert written["deadline_seconds"] == 60.0
    assert [r["message"] for r in written["results"]] == [LATE] * 3 + [NOT_POSED] * 2
    suite = ElementTree.fromstring(to_junit(late_report))
    properties = {p.get("name"): p.get("value") for p in suite.findall("properties/property")}
    assert properties == {"deadline_seconds": "60", "order": "1"}
    assert suite.get("failures") == "5"


def test_a_report_without_a_deadline(stuck):
    report = run_suite(PythonBackend(Hangs(stuck)), relu_files("a"))
    assert to_text(report, "").endswith("; deadline of a case: none; 1 posed again in order 1")
    assert to_json(report, "")["deadline_seconds"] is None
    assert 'value="inf"' in to_junit(report)


def test_a_report_of_cases_that_are_posed_once(stuck):
    backend = PythonBackend(Hangs(stuck))
    backend.known_failures = {"layers/relu/no-such": "nobody knows"}
    report = run_suite(backend, relu_files("a"), order=None)
    assert to_text(report, "").splitlines()[-1].endswith("; none posed again")
    assert to_json(report, "")["order"] is None
    suite = ElementTree.fromstring(to_junit(report))
    assert {p.get("name") for p in suite.findall("properties/property")} == {"deadline_seconds"}
    assert suite.get("tests") == str(len(suite.findall("testcase"))) == "2"
    assert suite.get("errors") == "1"


def test_every_report_can_hold_what_a_backend_says(stuck):
    class Strange(Hangs):
        name = "new\nline\0"

        def relu(self, x):
            raise ValueError("a\nb\0\ud800" + "x" * 10_000)

    report = run_suite(PythonBackend(Strange(stuck)), relu_files("a"))
    (result,) = report.results
    assert result.message.startswith(r"refused: ValueError: a\nb\x00\ud800xxx")
    assert len(result.message) < 400
    assert report.backend == r"new\nline\x00"
    ElementTree.fromstring(to_junit(report).encode())
    to_markdown(report, "").encode()


def test_command_of_a_program_that_never_says_hello(capsys):
    command = shlex.join([sys.executable, "-c", "import time; time.sleep(1000)"])
    if os.name == "nt":
        command = subprocess.list2cmdline(shlex.split(command))
    assert main(["--command", command, "--deadline", "0.2"]) == 2
    error = capsys.readouterr().err
    assert error == f"refmiracle: error: --command {command}: no hello: no answer within 0.2 s\n"


HANGING_MODULE = """
import threading
from refmiracle.conformance.patience import Patience

asked = 0

class Backend:
    name, version, dtypes = "hanging", "1", ("float64",)
    def relu(self, x):
        global asked
        asked += 1
        threading.Event().wait()

# The clock goes on by a deadline with each call.
Patience.__init__.__defaults__ = (float("inf"), lambda: 50.0 * asked)
"""


@pytest.fixture
def hanging(tmp_path):
    """A folder with a backend that never answers, and brings a clock of its own."""
    (tmp_path / "hanging.py").write_text(HANGING_MODULE)
    return tmp_path


def test_command_of_a_backend_that_never_answers_comes_to_its_end(hanging):
    """In a process of its own: what hangs in its threads must not keep it either."""
    code = f"""
import os, sys
os.chdir({str(hanging)!r})
sys.path.insert(0, ".")
import hanging
from refmiracle.commands.conformance import main
print(main(["--backend", "hanging:Backend", "--case", "layers/relu", "--deadline", "50"]))
"""
    out = run_python(code).splitlines()
    assert out[-1] == "1"
    assert "hanging 1; deadline of a case: 50 s; 0 posed again" in out[-2]
    assert sum("no answer within 50 s" in line for line in out) == 4  # 3, and why no more are posed
    assert "--deadline 50 --case layers/relu/" in "".join(out)


@pytest.mark.parametrize(
    ("deadline", "message"),
    [("0", "a deadline of 0 s; expected more than 0"), ("nan", "a deadline of nan s")],
)
def test_command_of_a_wrong_deadline(deadline, message, capsys):
    assert main(["--backend", "any:thing", "--deadline", deadline]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_plugin_has_the_deadline_too(hanging):
    # Without pytest's summary, which says each again where the variable CI is set.
    command = [sys.executable, "-m", "pytest", "-r", "N", "-p", "no:cacheprovider", "-p", "hanging"]
    command += ["--refmiracle-backend=hanging:Backend", "--refmiracle-deadline=50", "-k", "relu"]
    done = subprocess.run(command, cwd=hanging, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("float64: no answer within 50 s") == 3
    assert "float64: not posed: 3 questions had no answer within 50 s" in done.stdout
