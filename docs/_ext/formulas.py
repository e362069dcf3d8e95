"""Formulas as MathML, by docutils' own converter: readable offline, and without a script.

A displayed formula with the tag N gets the anchor ``equation-N``, to which other pages can point.
"""

from __future__ import annotations

import html
import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

TAG = re.compile(r"\\tag\{([^}]*)\}")
# Commands that docutils' converter lacks, by what it has.
KNOWN = (
    (re.compile(r"\\iff(?![a-zA-Z])"), r"\\;\\Longleftrightarrow\\;"),
    (re.compile(r"\\dots(?![a-zA-Z])"), r"\\ldots"),
    (re.compile(r"\\(big|Big|bigg|Bigg)(?=[\[(|])"), r"\\\1l"),
    (re.compile(r"\\(big|Big|bigg|Bigg)(?=[\])])"), r"\\\1r"),
    (re.compile(r"\\boxed(?![a-zA-Z])"), ""),
    # TeX takes one digit where the converter takes a number: \tfrac12 is a half.
    (re.compile(r"(\\[td]?frac|\\sqrt|[\^_])\s*(\d)(?=\d)"), r"\1{\2}"),
    (re.compile(r"(\\[td]?frac\{\d\})(\d)"), r"\1{\2}"),
)
# TeX sets a function's name apart from what stands before and behind it: log s, r tanh t.
SPACE = '<mspace width="0.1667em"></mspace>'
BEHIND = re.compile(r"<mo>&ApplyFunction;</mo>(?!\s*(<mo[^>]*>[(\[]|<msu[bp]))")
BEFORE = re.compile(r"(?<=</m[in]>)(\s*)(?=<mi>\w+</mi>\s*<mo>&ApplyFunction;)")


def to_mathml(tex: str, as_block: bool) -> str:
    """Return a formula as MathML.

    Raises
    ------
    docutils.utils.math.MathError
        If the converter does not know a command.
    """
    for pattern, known in KNOWN:
        tex = pattern.sub(known, tex)
    mathml = str(latex2mathml.tex2mathml(tex, as_block=as_block))
    return BEFORE.sub(SPACE, BEHIND.sub(SPACE, mathml))


def _convert(node: nodes.Element, tex: str, as_block: bool) -> str:
    try:
        return to_mathml(tex, as_block)
    except MathError as e:
        logging.getLogger(__name__).warning("formula %r: %s", tex, e, location=node)
        return f"<code>{html.escape(tex)}</code>"


def visit_inline(self: Any, node: nodes.math) -> None:
    """Write a formula within a line."""
    self.body.append(_convert(node, node.astext(), as_block=False))
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.math_block) -> None:
    """Write a displayed formula, with the number of its tag at the right."""
    tex = node.astext()
    tag = TAG.search(tex)
    boxed = " boxed" if r"\boxed" in tex else ""
    anchor = f' id="equation-{tag[1]}"' if tag else ""
    self.body.append(f'<div class="formula{boxed}"{anchor}>')
    for name in node.get("ids", []):
        self.body.append(f'<span id="{name}"></span>')
    self.body.append(_convert(node, TAG.sub("", tex), as_block=True))
    if tag:
        link = f'<a class="tag" href="#equation-{tag[1]}">({tag[1]})</a>'
        self.body.append(link)
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer of formulas, and choose it."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
