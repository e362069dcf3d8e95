"""Progress: a bar in a terminal, plain lines elsewhere; the clock is ours."""

from __future__ import annotations

import io
import sys

import pytest

from refmiracle.streams import Output
from refmiracle.training import progress
from refmiracle.training.progress import Lines, duration, progress_bar


class Clock:
    """Stands still until it is moved."""

    now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def said():
    return []


def lines(said, clock, total=100, initial=0):
    return Lines(total, initial, "smoke", "step", said.append, clock)


def test_a_line_comes_at_once(said, clock):
    lines(said, clock, initial=40)
    assert said == ["smoke: 40 of 100 steps\n"]


def test_figures_come_with_the_next_line_but_not_within_ten_seconds(said, clock):
    bar = lines(said, clock)
    for second in range(1, 31):
        clock.now = 1000.0 + second
        bar.update()
        bar.set_postfix_str(f"loss {second}")
    assert said[1:] == [
        "smoke: 10 of 100 steps, loss 10, 10 s, about 1 min 30 s still\n",
        "smoke: 20 of 100 steps, loss 20, 20 s, about 1 min 20 s still\n",
        "smoke: 30 of 100 steps, loss 30, 30 s, about 1 min 10 s still\n",
    ]


def test_without_new_figures_there_is_a_line_a_minute(said, clock):
    bar = lines(said, clock)
    bar.set_postfix_str("loss 1")
    for second in range(1, 181):
        clock.now = 1000.0 + second
        bar.update(0)
    assert said[1:] == [f"smoke: 0 of 100 steps, loss 1, {n} min 0 s\n" for n in (1, 2, 3)]


def test_what_is_left_is_reckoned_from_this_run_alone(said, clock):
    bar = lines(said, clock, initial=50)
    clock.now += 100.0
    bar.update(10)
    assert said[-1] == "smoke: 60 of 100 steps, 1 min 40 s, about 6 min 40 s still\n"


def test_a_total_that_grows_counts(said, clock):
    bar = lines(said, clock)
    bar.total = 200
    clock.now += 60.0
    bar.update(100)
    assert said[-1] == "smoke: 100 of 200 steps, 1 min 0 s, about 1 min 0 s still\n"


def test_the_end_is_said_once(said, clock):
    bar = lines(said, clock)
    clock.now += 3.0
    bar.update(100)
    bar.set_postfix_str("loss 0.1")
    assert len(said) == 1
    bar.close()
    assert said[1:] == ["smoke: 100 of 100 steps, loss 0.1, 3 s\n"]
    bar.close()
    assert len(said) == 2


def test_times_have_two_units():
    assert [duration(s) for s in (0.4, 7, 59.6, 200, 7500)] == [
        *("0 s", "7 s", "1 min 0 s", "3 min 20 s", "2 h 5 min")
    ]


def test_a_terminal_has_a_bar(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = progress_bar(10, 0, "smoke")
    assert type(bar).__name__ == "tqdm"
    bar.close()


@pytest.mark.parametrize("stream", [None, io.StringIO(), object()])
def test_what_is_no_terminal_is_not_watched(stream):
    assert not Output(stream).isatty()


def test_a_closed_stream_takes_nothing_and_ends_nothing(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        progress_bar(10, 0, "smoke").close()


def test_a_file_has_lines(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    progress_bar(10, 0, "smoke", "run")
    assert stream.getvalue() == "smoke: 0 of 10 runs\n"


def test_without_tqdm_a_terminal_has_lines(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    progress_bar(10, 0, "smoke")
    assert terminal.getvalue() == "smoke: 0 of 10 steps\n"


@pytest.mark.parametrize(
    ("code", "reason"),
    [("raise ImportError('of old')", "ImportError: of old"), ("", "tqdm has no tqdm")],
)
def test_a_broken_tqdm_is_said_in_one_line_before_the_lines(monkeypatch, tmp_path, code, reason):
    (tmp_path / "tqdm.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [n for n in sys.modules if n.split(".")[0] == "tqdm"]:
        monkeypatch.delitem(sys.modules, name)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    try:
        assert isinstance(progress_bar(10, 0, "smoke"), progress.Lines)
    finally:
        sys.modules.pop("tqdm", None)
    first, second = terminal.getvalue().splitlines()
    assert first.startswith("refmiracle: no progress bar: tqdm ")
    assert reason in first
    assert second == "smoke: 0 of 10 steps"
