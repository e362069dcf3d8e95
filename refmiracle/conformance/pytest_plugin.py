"""A pytest plugin: ``pytest --refmiracle-backend module:object`` poses every case as a test.

Without the option it does nothing, and imports nothing of refmiracle.
"""

from __future__ import annotations

from pathlib import Path

import pytest

SUITE = Path(__file__).with_name("pytest_suite.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("refmiracle")
    group.addoption(
        "--refmiracle-backend",
        metavar="MODULE:OBJECT",
        help="hold this backend against refmiracle's golden vectors",
    )
    group.addoption(
        "--refmiracle-golden", metavar="DIR", help="other golden vectors of the same format"
    )
    group.addoption(
        "--refmiracle-deadline",
        type=float,
        metavar="SECONDS",
        help="how long the backend may take for each case, inf: however long (default: 60)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect the suite too, or alone if no paths are given."""
    if not config.getoption("--refmiracle-backend"):
        return
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = []
    config.args.append(str(SUITE))
