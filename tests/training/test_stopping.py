"""Ctrl-C belongs to who had it before: what answers it, and what is left alone."""

import os
import signal
import threading

import pytest

from refmiracle.training.stopping import (
    answer_interrupts,
    end_at_once,
    interrupted_once,
    stop_requested,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="os.kill is no Ctrl-C there")


def press():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def pressed():
    """A caller's own handler, and how often it was asked."""
    asked = []
    before = signal.signal(signal.SIGINT, lambda *_: asked.append(1))
    yield asked
    signal.signal(signal.SIGINT, before)


def test_a_second_one_is_the_callers(pressed):
    with interrupted_once(), stop_requested() as stop:
        press()
        assert stop.is_set()
        assert not pressed
        press()
        assert len(pressed) == 1


def test_without_a_loop_that_can_stop_the_first_is_an_exception(pressed):
    with pytest.raises(KeyboardInterrupt), interrupted_once():
        press()
    assert not pressed
    press()
    assert len(pressed) == 1


@pytest.mark.parametrize("manager", [interrupted_once, stop_requested])
def test_the_handler_of_before_is_back(manager, pressed):
    before = signal.getsignal(signal.SIGINT)
    with manager():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("before", [signal.SIG_IGN, None], ids=["ignored", "of-a-host-program"])
def test_what_python_does_not_answer_is_left_alone(before, monkeypatch):
    def refuse(*arguments):
        raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or callable")

    monkeypatch.setattr(signal, "getsignal", lambda signum: before)
    monkeypatch.setattr(signal, "signal", refuse)
    answer_interrupts(end_at_once)
    with interrupted_once(), stop_requested() as stop:
        assert not stop.is_set()


def test_in_another_thread_nothing_is_changed(pressed):
    before, found = signal.getsignal(signal.SIGINT), []

    def work():
        answer_interrupts(end_at_once)
        with interrupted_once(), stop_requested():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]
