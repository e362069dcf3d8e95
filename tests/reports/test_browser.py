"""The page in a browser: it is complete without a network, and anyone can read it."""

from __future__ import annotations

import re

import pytest
from browsing import launched, watched_page

from refmiracle.reports.page import build_page

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
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
    with launched() as browser:
        yield browser


@pytest.fixture
def open_page(browser, address):
    """Opens the page without a network; at the end nothing may have gone wrong."""
    contexts, problems = [], []

    def open_it(**settings):
        context = browser.new_context(**settings)
        contexts.append(context)
        page = watched_page(context, problems)
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
