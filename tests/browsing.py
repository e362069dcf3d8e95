"""A browser without a network, for the tests of pages; they are skipped where there is none."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
PATIENCE = 300_000  # milliseconds, on a machine that does much else
SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@contextmanager
def launched():
    """The browser, until it is closed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("there is no browser")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=BROWSER, args=SWITCHES, timeout=PATIENCE)
        yield browser
        browser.close()


def watched_page(context, problems):
    """A page without a network; all that goes wrong on it is added to a list."""

    def allow_local(route):
        url = route.request.url
        if url.startswith(("file:", "data:")):
            route.continue_()
        else:
            problems.append(f"asked for {url}")
            route.abort()

    context.set_default_timeout(PATIENCE)
    context.route("**/*", allow_local)
    page = context.new_page()
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    return page
