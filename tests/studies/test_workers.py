from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

from refmiracle.studies.workers import THREADS, Processes

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
PATIENCE = 300  # seconds, only so that a test which would fail ends


def test_a_process_that_dies_is_replaced_and_costs_its_task_alone():
    with Processes(1) as executor:
        # All are handed over at once: what dies takes none of them along.
        first, killed, *others = [
            executor.submit(function, *arguments)
            for function, *arguments in ((os.getpid,), (os._exit, 7), (os.getpid,), (os.getpid,))
        ]
        with pytest.raises(BrokenProcessPool):
            killed.result()
        second, third = (future.result() for future in others)
        assert first.result() != second == third
        # One that is killed while it waits for work costs none.
        os.kill(third, KILL)
        assert executor.submit(os.getpid).result() not in (first.result(), third)


def test_a_process_that_cannot_be_started_costs_its_task_alone(monkeypatch):
    begun = ProcessPoolExecutor.submit

    def fails(self, *task):
        raise OSError(11, "Resource temporarily unavailable")

    with Processes(1) as executor:
        monkeypatch.setattr(ProcessPoolExecutor, "submit", fails)
        with pytest.raises(OSError, match="temporarily unavailable"):
            executor.submit(os.getpid).result()
        monkeypatch.setattr(ProcessPoolExecutor, "submit", begun)
        assert executor.submit(abs, -3).result() == 3


@pytest.mark.parametrize("threads", [None, "5"])
def test_processes_have_one_thread_and_this_one_as_many_as_before(monkeypatch, threads):
    if threads is None:
        monkeypatch.delenv(THREADS, raising=False)
    else:
        monkeypatch.setenv(THREADS, threads)
    with Processes(1) as executor:
        assert executor.submit(os.getenv, THREADS).result() == "1"
        assert os.environ.get(THREADS) == threads
        with pytest.raises(TypeError):
            executor.submit(abs, "x").result()
    with Processes(1) as executor:
        monkeypatch.setattr("refmiracle.studies.workers._deaf_at_first", None)
        with pytest.raises(TypeError):
            executor.submit(os.getpid).result()  # refused before it is started
    assert os.environ.get(THREADS) == threads


STUDY = """
import os, socket, sys
from refmiracle.studies.workers import Processes

def work(port):
    with socket.create_connection(("127.0.0.1", port)) as held:
        held.sendall(b"%d\\n" % os.getpid())
        held.recv(1)  # never comes

if __name__ == "__main__":
    with Processes(1) as executor:
        executor.submit(work, int(sys.argv[1])).result()
"""


def test_processes_end_with_the_study_that_is_killed(tmp_path):
    script = tmp_path / "killed_study.py"
    script.write_text(STUDY)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        study = subprocess.Popen([sys.executable, str(script), str(server.getsockname()[1])])
        try:
            held, _ = server.accept()
            held.settimeout(PATIENCE)
            worker = int(held.makefile("rb").readline())
        finally:
            study.kill()
            study.wait()
    with held:
        try:
            assert held.recv(1) == b""  # the kernel closes what it held
        except ConnectionResetError:
            pass
        except TimeoutError:
            os.kill(worker, KILL)
            pytest.fail("the process lives on without its study")
