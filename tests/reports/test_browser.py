"""The page in a browser: it is complete without a network, and anyone can read it."""

from __future__ import annotations

import re
import shutil

import pytest

from refmiracle.reports.page import build_page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no browser")

SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# Sizes of what is drawn, and how wide each picture is by itself.
DRAWN = """() => [...document.querySelectorAll("img, svg")].map((e) => {
  const box = e.getBoundingClientRect();
  return [box.width, box.height, e.tagName === "IMG" && e.complete ? e.naturalWidth : -1];
})"""


@pytest.fixture(scope="module")
def address(opened, few_images, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(build_page(opened, few_images))
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=BROWSER, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, address):
    """Opens the page without a network; at the end nothing may have gone wrong."""
    contexts, problems = [], []

    def allow_local(route):
        url = route.request.url
        if url.startswith(("file:", "data:")):
            route.continue_()
        else:
            problems.append(f"asked for {url}")
            route.abort()

    def open_it(**settings):
        context = browser.new_context(**settings)
        contexts.append(context)
        context.route("**/*", allow_local)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_everything_is_drawn_and_accessible(open_page, scheme, width):
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    drawn = page.evaluate(DRAWN)
    assert len(drawn) > 60
    assert all(w > 0 and h > 0 and natural != 0 for w, h, natural in drawn)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    results = axe.Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_print(open_page):
    page = open_page(color_scheme="dark")
    page.emulate_media(media="print")
    assert all(w > 0 and h > 0 for w, h, _ in page.evaluate(DRAWN))
    # Ink is dark on paper, whatever the screen had, and the dump is not cut off.
    ink = page.evaluate("getComputedStyle(document.body).color")
    assert max(map(int, re.findall(r"\d+", ink)[:3])) < 80
    assert page.evaluate(
        "(() => { const d = document.querySelector('.dump');"
        " return d.scrollHeight <= d.clientHeight; })()"
    )
    page.set_viewport_size({"width": 718, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 718, "wider than A4"
    assert page.pdf().startswith(b"%PDF")


def test_a_byte_tells_what_it_is(open_page):
    page = open_page()
    told, cells = page.locator("#told"), page.locator("#bytes td")
    cells.nth(3).hover()
    assert told.inner_text() == "byte 3 (01): version = 1"
    cells.nth(0).focus()
    assert "magic, byte 1 of 3" in told.inner_text()
    for key, byte in (("ArrowRight", 1), ("ArrowDown", 17), ("ArrowLeft", 16), ("ArrowUp", 0)):
        page.keyboard.press(key)
        assert told.inner_text().startswith(f"byte {byte} (")
        assert page.evaluate("document.activeElement.title") == told.inner_text()
    assert page.locator("#bytes td[tabindex='0']").count() == 1


def test_without_javascript_the_bytes_have_titles(open_page, opened):
    page = open_page(java_script_enabled=False)
    assert page.locator("#bytes td[title]").count() == len(opened.data)
