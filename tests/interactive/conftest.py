"""The interactive page in a browser, without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from interactive.browser_backend import BRIDGE

PAGE = Path(__file__).parents[2] / "docs" / "interactive" / "index.html"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("there is no browser")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=BROWSER, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def window(browser):
    """The page without a network, and the list of all that went wrong on it."""
    problems = []

    def allow_local(route):
        url = route.request.url
        if url.startswith(("file:", "data:")):
            route.continue_()
        else:
            problems.append(f"asked for {url}")
            route.abort()

    context = browser.new_context()
    context.route("**/*", allow_local)
    page = context.new_page()
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
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
