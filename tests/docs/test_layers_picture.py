"""docs/layers.svg is what its tool draws of the source as it is."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET

from docs.blocks import ROOT
from import_graph import LAYERS

sys.path.append(str(ROOT / "tools" / "figures"))
import draw_layers

PICTURE = (ROOT / "docs" / "layers.svg").read_bytes()


def test_the_picture_is_that_of_the_source():
    """Where it is not: python tools/figures/draw_layers.py"""
    assert draw_layers.draw().encode() == PICTURE


def test_every_part_is_in_the_picture_once():
    texts = [
        e.text for e in ET.fromstring(PICTURE) if e.tag.endswith("text") and not e.get("class")
    ]
    assert sorted(" ".join(texts).split()) == sorted(filter(None, LAYERS))


def test_an_import_that_follows_has_no_arrow():
    graph = {("a",): {("b",), ("c",)}, ("b",): {("c",)}, ("c",): set()}
    needed = draw_layers.needed(graph)
    assert needed == {("a",): {("b",)}, ("b",): {("c",)}, ("c",): set()}
