"""Links to files, written as plain Markdown viewers follow them, made to work in the built site.

- A module of the package leads to its page of source code.
- The changelog leads to the page that includes it.
- The interactive page is copied as it is and linked there.
- Any other file of the repository is copied and offered for download.

The tables of claims, which studies write without a title, get one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

PAGES = Path(__file__).parent.parent
PACKAGE = PAGES.parent / "refmiracle"
CHANGELOG = PAGES.parent / "CHANGELOG.md"
INTERACTIVE = "interactive"
CLAIMS = "claims"


def target_of(file: Path) -> str | None:
    """Return where a link to a file leads in the built site, from its root; None: a download."""
    if file.is_relative_to(PAGES / INTERACTIVE):
        return file.relative_to(PAGES).as_posix()
    if file == CHANGELOG:
        return "changelog.html"
    if file.suffix == ".py" and file.is_relative_to(PACKAGE):
        module = file.relative_to(PACKAGE.parent).with_suffix("").as_posix()
        return f"_modules/{module.removesuffix('/__init__')}.html"
    return None


def point_links(app: Sphinx, tree: nodes.document) -> None:
    """Turn links to files into links to the pages that have them, or into downloads."""
    document = app.env.docname
    folder = (PAGES / document).parent
    for node in list(tree.findall(addnodes.download_reference)):
        _point(node, folder.joinpath(node["reftarget"]).resolve(), document)
    for node in list(tree.findall(addnodes.pending_xref)):
        # MyST takes any .md and .ipynb for a page, and leaves the suffix away.
        name = node["reftarget"]
        if node.get("refdomain") == "doc" and name not in app.env.found_docs:
            found = [f for suffix in (".md", ".ipynb") if (f := PAGES / (name + suffix)).is_file()]
            if found:
                _point(node, found[0], document)


def _point(node: nodes.Element, file: Path, document: str) -> None:
    target = target_of(file)
    if target is not None:
        up = "../" * document.count("/")
        link = nodes.reference("", "", *node.children, refuri=up + target, internal=True)
        node.replace_self(link)
    elif isinstance(node, addnodes.pending_xref):
        name = os.path.relpath(file, (PAGES / document).parent)
        download = addnodes.download_reference(
            "", "", *node.children, reftarget=name, refdoc=document
        )
        node.replace_self(download)


def add_title(app: Sphinx, document: str, source: list[str]) -> None:
    """Give the tables that studies write a title; the files are as the studies wrote them."""
    folder, _, name = document.rpartition("/")
    if name == CLAIMS:
        source[0] = f"# {folder.rpartition('/')[2].capitalize()}: all claims\n\n{source[0]}"


def copy_interactive(app: Sphinx, error: Exception | None) -> None:
    """Copy the interactive page to the site as it is."""
    if error is None and app.builder.format == "html" and (PAGES / INTERACTIVE).is_dir():
        out = Path(app.outdir) / INTERACTIVE
        shutil.copytree(PAGES / INTERACTIVE, out, dirs_exist_ok=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register all three."""
    app.connect("source-read", add_title)
    # Before Sphinx collects what it has to copy for downloads (at the default priority).
    app.connect("doctree-read", point_links, priority=400)
    app.connect("build-finished", copy_interactive)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
