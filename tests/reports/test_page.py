from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from refmiracle.commands import train
from refmiracle.fileformat import anatomy
from refmiracle.reports import figures
from refmiracle.reports.opening import open_folder
from refmiracle.reports.page import _results, build_page

SECTIONS = (
    *("run", "training", "bits", "distributions", "filters", "pruning"),
    *("mistakes", "anatomy", "index"),
)
VOID = {"meta", "link", "img"}
LARGEST_PAGE = 2_500_000


class Reader(HTMLParser):
    """All elements of a page; it fails where they are not nested."""

    def __init__(self):
        super().__init__()
        self.open, self.elements = [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()


@pytest.fixture(scope="module")
def page(opened, few_images):
    return build_page(opened, few_images)


@pytest.fixture(scope="module")
def elements(page):
    reader = Reader()
    reader.feed(page.decode())
    assert reader.open == []
    return reader.elements


def test_all_sections_are_there(elements):
    labels = [a.get("aria-labelledby") for tag, a in elements if tag == "section"]
    assert labels == list(SECTIONS)
    assert sum(tag == "h2" for tag, _ in elements) == len(SECTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("code", ["sp-pfr", "gprs-s"])
def test_a_page_about_another_code_follows_no_index(tmp_path, few, few_images, code):
    out = tmp_path / "run"
    assert train.main(["--preset", "smoke", "--code", code, "--out", str(out)]) == 0
    opened = open_folder(out)
    fields = anatomy.find_fields(opened.model)
    assert b"".join(f.data for f in fields) == opened.data
    reader = Reader()
    page = build_page(opened, few_images).decode()
    reader.feed(page)
    labels = [a.get("aria-labelledby") for tag, a in reader.elements if tag == "section"]
    assert labels == list(SECTIONS[:-1])
    assert f"--code {code}" in page
    assert "{{" not in page


def test_the_page_needs_nothing_else(page, elements):
    text = page.decode()
    for tag, attributes in elements:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "action", "data", "srcset"):
                local = value.startswith(("data:", "#"))
                assert local or (tag == "a" and value.startswith("https://arxiv.org/")), (
                    tag,
                    value,
                )
    without_links = re.sub(r'<a href="https://arxiv.org/', "", text)
    assert "http://" not in without_links
    assert "https://" not in without_links
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert len(page) < LARGEST_PAGE


def test_ids_are_unique_and_refer_to_something(page, elements):
    ids = Counter(a["id"] for _, a in elements if "id" in a)
    assert ids.most_common(1)[0][1] == 1
    wanted = re.findall(r'(?:href="#|url\(#|aria-labelledby=")([^")]+)', page.decode())
    assert set(wanted) <= ids.keys()


def test_pictures_have_words(elements):
    pictures = [a.get("alt") for tag, a in elements if tag == "img"]
    drawings = [a.get("aria-label") for tag, a in elements if tag == "svg"]
    assert len(pictures) >= 40
    assert len(drawings) >= 20
    assert all(pictures)
    assert all(drawings)
    tables = sum(tag == "table" for tag, _ in elements)
    assert tables == sum(tag == "caption" for tag, _ in elements)
    assert all("scope" in a for tag, a in elements if tag == "th")


def test_every_byte_of_the_file_is_there(opened, elements):
    titles = [a["title"] for tag, a in elements if tag == "td" and "title" in a]
    assert [re.match(r"byte (\d+) \((..)\)", t).groups() for t in titles] == [
        (str(i), f"{value:02x}") for i, value in enumerate(opened.data)
    ]


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(opened, few_images, page):
    assert build_page(opened, few_images) == page


@pytest.fixture(scope="module")
def other(opened, few_images):
    """A page about a run with a strange name, no validation images and a long file."""
    run = replace(opened.run, summary={**opened.run.summary, "validation_error": None})
    metrics = [{**m, "validation_error": None} for m in opened.metrics]
    changed = replace(opened, name="<b>&'x", run=run, metrics=metrics)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anatomy, "MOST_BYTES", 100)
        return build_page(changed, few_images).decode()


def test_a_training_that_went_on_has_its_own_steps(opened):
    """Mean-Var's trains on until its blocks are within their budgets."""
    planned, whole = opened.run.settings.steps, opened.run.summary["steps"]
    more = {**opened.run.summary, "steps": whole + 4}
    results = _results(replace(opened, run=replace(opened.run, summary=more)), "")
    assert results["trained"] == planned + 4
    shown = {name: value for name, value, _ in results["settings_table"]}
    assert shown["training steps"] == str(planned + 4)
    assert shown["encoding steps"] == str(whole - planned)
    marked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "_mark_phases", lambda axes, *steps: marked.append(steps))
        _results(replace(opened, run=replace(opened.run, summary=more)), "")
    assert set(marked) == {(planned + 4, whole + 4)}


def test_names_are_escaped(other):
    assert "<b>&" not in other
    assert "&lt;b&gt;&amp;" in other


def test_a_run_without_validation_images(other):
    assert "No images were kept for validation" in other


def test_of_a_long_file_the_beginning_is_shown(opened, other):
    assert f"The first 100 bytes of the file; {len(opened.data) - 100} more follow" in other
    assert len(re.findall(r'title="byte \d', other)) == 100


def test_a_network_of_dense_layers_has_a_page_too(dense_run, few_images):
    page = build_page(open_folder(dense_run), few_images).decode()
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert "The network lenet-300-100, a classifier of 28\N{MULTIPLICATION SIGN}28 images" in page
    assert "30 units of the first layer, 28\N{MULTIPLICATION SIGN}28 weights each" in page
