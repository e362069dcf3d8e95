"""The threads of the numba engine: after a fork, where none can be started, within each other."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from oracles import same_bits

from refmiracle.engines import get_engine
from refmiracle.engines.numba_engine import plan, threads
from refmiracle.engines.numba_engine.threads import parallel_map
from refmiracle.nn.evaluation import error_rate
from refmiracle.nn.gradients import loss_and_grads
from refmiracle.nn.layers import Dense, Flatten
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET5

DEADLINE = 300  # seconds: a child that waits for threads which are not there waits for ever


@pytest.fixture
def several(monkeypatch):
    """Four threads, however many processors there are."""
    monkeypatch.setattr(threads, "THREADS", 4)
    monkeypatch.setattr(threads, "POOL", threads.Pool())
    return threads.POOL


def test_all_threads_take_part(several):
    """Each of four items waits until the others have begun."""
    together = threading.Barrier(4)

    def meet(item):
        together.wait(DEADLINE)
        return item, threading.current_thread().name

    found = parallel_map(meet, range(4))
    assert [item for item, _ in found] == [0, 1, 2, 3]
    assert len({name for _, name in found}) == 4


def test_no_more_threads_than_there_are_to_be(several):
    """Also where all of them call again at a time: nobody shares a core with another."""
    before, together = set(threading.enumerate()), threading.Barrier(4)

    def call_again(_):
        together.wait(DEADLINE)
        return parallel_map(abs, range(4))

    assert parallel_map(call_again, range(4)) == [[0, 1, 2, 3]] * 4
    assert len(set(threading.enumerate()) - before) == 3  # and the caller


def test_a_call_within_a_call_ends(several):
    def inner(item):
        return sum(parallel_map(abs, range(item)))

    assert parallel_map(inner, [10] * 50) == [45] * 50


def test_an_error_comes_out_when_all_are_done(several, monkeypatch):
    begun, leave, over = threading.Event(), threading.Event(), []
    really_wait, caller = threads.wait, threading.get_ident()

    def wait(futures):
        leave.set()
        return really_wait(futures)

    def work(item):
        if threading.get_ident() == caller:
            begun.wait(DEADLINE)
            raise ValueError("seven")
        begun.set()
        leave.wait(DEADLINE)
        over.append(item)

    monkeypatch.setattr(threads, "wait", wait)
    with pytest.raises(ValueError, match="seven"):
        parallel_map(work, range(20))
    done = len(over)
    assert done >= 1
    assert parallel_map(abs, range(20)) == list(range(20))
    assert len(over) == done


def test_where_no_thread_can_be_started_the_caller_does_all(several, monkeypatch):
    """As with a limit on processes in a container, or at the end of the interpreter."""

    def no_thread(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert parallel_map(abs, range(20)) == list(range(20))


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_many_callers_at_a_time_all_get_their_own(several, stages):
    """Also those who call from within the pool, at any depth: nobody waits for ever."""
    together = threading.Barrier(8)

    def spread(item, left):
        if not left:
            return [item]
        parts = parallel_map(lambda i: spread(10 * item + i, left - 1), range(5))
        return [found for part in parts for found in part]

    def call(caller):
        together.wait(DEADLINE)
        return spread(caller, stages)

    with ThreadPoolExecutor(8) as callers:
        found = list(callers.map(call, range(1, 9), timeout=DEADLINE))
    assert found == [spread_alone(caller, stages) for caller in range(1, 9)]


def spread_alone(item, left):
    if not left:
        return [item]
    return [found for i in range(5) for found in spread_alone(10 * item + i, left - 1)]


def test_ctrl_c_comes_out_when_nobody_works_any_more(several, monkeypatch):
    """Or what is computed next would be written to by what was interrupted."""
    begun, leave, over, pressed = threading.Event(), threading.Event(), [], []
    first = threading.Lock()  # is taken by one of the pool's
    really_wait, caller = threads.wait, threading.get_ident()

    def wait(futures):
        if len(pressed) < 2:  # twice, as the impatient do
            pressed.append(True)
            raise KeyboardInterrupt
        leave.set()
        return really_wait(futures)

    def work(item):
        if threading.get_ident() == caller:
            begun.wait(DEADLINE)
        elif first.acquire(blocking=False):
            begun.set()
            leave.wait(DEADLINE)
            over.append(item)

    monkeypatch.setattr(threads, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        parallel_map(work, range(50))
    assert len(pressed) == 2
    assert len(over) == 1


def test_after_an_error_no_more_is_begun(several, monkeypatch):
    """What is still to do would be done for nobody; here each has one item in hand by then."""
    caller, given_up, begun, really_wait = (
        threading.get_ident(),
        threading.Event(),
        [],
        threads.wait,
    )

    def wait(futures):
        given_up.set()
        return really_wait(futures)

    def work(item):
        if threading.get_ident() == caller:
            raise ValueError("the caller's")
        begun.append(item)
        given_up.wait(DEADLINE)

    monkeypatch.setattr(threads, "wait", wait)
    with pytest.raises(ValueError, match="the caller's"):
        parallel_map(work, range(1000))
    assert len(begun) <= 3


def compute():
    """Errors of a network of some weights, by the threads of the engine, and a codebook's rows."""
    rng = np.random.default_rng(1)
    engine = get_engine("numba")
    weights = {t.name: rng.normal(size=t.shape).astype(np.float32) for t in LENET5.tensors()}
    images = rng.integers(0, 256, (200, 28, 28), dtype=np.uint8)
    rows = engine.codebook_rows(3, np.arange(5000), 30)
    return error_rate(LENET5, engine, weights, images, images[:, 0, 0] % 10), rows.sum()


def send(connection):
    connection.send(compute())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_fork_has_threads_of_its_own(several):
    """As in multiprocessing on Linux, a service that forks, or PyTorch's DataLoader."""
    expected = compute()
    assert several.executor is not None
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=send, args=(theirs,))
        child.start()
        try:
            assert ours.poll(DEADLINE), "the child waits for threads that it does not have"
            assert ours.recv() == expected
        finally:
            child.kill()
            child.join()
    assert compute() == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_waits_for_what_is_being_compiled(several):
    """A child that found numba's lock held by a thread which it does not have would hang."""
    lock, held, done = threads.global_compiler_lock, threading.Event(), []

    def compile_for_a_while():
        with lock:
            held.set()
            time.sleep(0.1)
            done.append(True)

    with ThreadPoolExecutor(1) as other:
        other.submit(compile_for_a_while)
        held.wait(DEADLINE)
        child = os.fork()
        if child == 0:
            with lock:
                os._exit(0 if done else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


TINY = Network("tiny", 0, (1, 2, 2), 2, (Flatten(), Dense(2)))


@pytest.mark.parametrize("count", [2, 3, 4, 64])
def test_gradients_of_few_weights_do_not_depend_on_the_threads(rng, monkeypatch, count):
    """Of a column by itself NumPy takes the sum over the shards in another order."""
    weights = {t.name: rng.normal(size=t.shape).astype(np.float32) for t in TINY.tensors()}
    assert isinstance(plan.network_pass(TINY.specs(), (1,), TINY.input), plan.NetworkPass)
    pixels = rng.integers(0, 256, (1000, 2, 2), dtype=np.uint8)
    labels = rng.integers(0, 2, 1000)

    def gradients(threads):
        monkeypatch.setattr(plan, "THREADS", threads)
        return loss_and_grads(TINY, get_engine("numba"), weights, pixels, labels)[1]

    one, many = gradients(1), gradients(count)
    assert all(same_bits(one[name], many[name]) for name in one)
