from __future__ import annotations

import pytest

from refmiracle.reports.opening import open_folder


@pytest.fixture(scope="session")
def opened(tiny_run):
    return open_folder(tiny_run)
