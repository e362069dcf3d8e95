"""What has passed once is not run again: for `.ci/run`, which starts pytest more than once.

Where the environment variable TESTS_PASSED names a file, the tests whose names are in it are left
out, and those that pass are added to it.  A test that was skipped or failed is in no such file.
"""

from __future__ import annotations

import os
from pathlib import Path


class Passed:
    """Writes down the tests that passed, once all have run.

    Parameters
    ----------
    path : Path
        Of a text file with a name in each line.
    """

    def __init__(self, path):
        self.path, self.passed, self.failed = path, [], set()

    def pytest_runtest_logreport(self, report):
        """A test passes if its body does, and nothing before or after it fails."""
        if report.when == "call" and report.passed:
            self.passed.append(report.nodeid)
        if report.failed:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self):
        with self.path.open("a", encoding="utf-8") as f:
            f.writelines(f"{name}\n" for name in self.passed if name not in self.failed)


def path_of_passed():
    """Return the file that the environment names, or None."""
    name = os.environ.get("TESTS_PASSED")
    return Path(name) if name else None


def write_passed(config):
    """Have one process, none of the workers of pytest-xdist, write what passes."""
    path = path_of_passed()
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Passed(path))


def leave_out_passed(config, items):
    """Leave out what the file names."""
    path = path_of_passed()
    if path and path.exists():
        passed = set(path.read_text(encoding="utf-8").splitlines())
        config.hook.pytest_deselected(items=[i for i in items if i.nodeid in passed])
        items[:] = [i for i in items if i.nodeid not in passed]
