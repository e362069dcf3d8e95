"""How many processors a process may use: those it is allowed, and its container's quota."""

from __future__ import annotations

import os
import sys

import pytest
from oracles import run_python

from refmiracle import processors
from refmiracle.processors import usable_processors


@pytest.fixture
def of_eight(monkeypatch):
    """A machine of eight processors, all allowed."""
    monkeypatch.setattr(processors, "_allowed", lambda: 8)


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = "0::/user.slice/job\n"
V1 = "12:pids:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n0::/ignored\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "nonsense\n\x00:\n"}, 8),
        ({"proc/self/cgroup": V2}, 8),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/user.slice/job/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/user.slice/job/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/user.slice/job/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/user.slice/job/cpu.max": "1000 100000\n"}, 1),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/user.slice/job/cpu.max": "9900000 100000\n"}, 8),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/user.slice/job/cpu.max": "0 0\n"}, 8),
        # The least of the group and those above it counts.
        (
            {
                "proc/self/cgroup": V2,
                "sys/fs/cgroup/user.slice/job/cpu.max": "600000 100000\n",
                "sys/fs/cgroup/user.slice/cpu.max": "300000 100000\n",
            },
            3,
        ),
        # A container sees its own group as the topmost, whatever its name outside.
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "350000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)
def test_a_quota_is_rounded_up_to_whole_processors(tmp_path, of_eight, files, expected):
    assert usable_processors(write(tmp_path, files)) == expected


def test_allowed_processors_are_counted_by_what_the_system_has(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)
    assert usable_processors(tmp_path) == 3
    monkeypatch.setattr(os, "process_cpu_count", lambda: None)
    assert usable_processors(tmp_path) == 1
    monkeypatch.delattr(os, "process_cpu_count")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5}, raising=False)
    assert usable_processors(tmp_path) == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert usable_processors(tmp_path) == 7


POOL = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from refmiracle.commands.study import open_executor

if __name__ == "__main__":
    with open_executor(None, None) as (executor, at_once):
        list(executor.map(abs, range(8)))
        print(at_once, len(executor._waiting))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_study_on_one_processor_starts_one_process(tmp_path):
    (tmp_path / "pool.py").write_text(POOL)
    code = f"import runpy; runpy.run_path({str(tmp_path / 'pool.py')!r}, run_name='__main__')"
    assert sys.platform != "win32"
    assert run_python(code).split() == ["1", "1"]
