"""The interactive page in a browser, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import launched, watched_page
from interactive.browser_backend import BRIDGE

PAGE = Path(__file__).parents[2] / "docs" / "interactive" / "index.html"


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def window(browser):
    """The page without a network, and the list of all that went wrong on it."""
    problems, context = [], browser.new_context()
    page = watched_page(context, problems)
    page.goto(PAGE.as_uri())
    yield page, problems
    context.close()


@pytest.fixture
def page(window):
    """The page as it opens; at the end nothing may have gone wrong."""
    page, problems = window
    problems.clear()
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")
    page.reload()
    yield page
    assert problems == []


@pytest.fixture(scope="module")
def bridged(window):
    """The page with the bridge."""
    page, problems = window
    page.add_script_tag(path=BRIDGE)
    yield page
    assert problems == []
