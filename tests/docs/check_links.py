"""Every link of a built site leads somewhere: ``python tests/docs/check_links.py FOLDER``.

Files and anchors are looked up in the folder; nothing is fetched.  A page that would load
anything from elsewhere (a script, a style sheet, a picture) is an error too, since the site is to
be readable offline.  The exit code is 0 if all is well, 1 if not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes that name something to load at once, not to follow.
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("link", "href"), ("source", "src")}
FOLLOWED = {("a", "href"), ("area", "href")}
# Links of this kind tell a program about the page, and load nothing.
RELATIONS = {"canonical", "index", "search", "next", "prev", "author", "copyright", "license"}


@dataclass
class Page:
    """What a page offers, and what it asks for."""

    anchors: set[str] = field(default_factory=set)
    followed: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)


class Reader(HTMLParser):
    """Fills a Page."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note anchors and links of a tag."""
        values = {name: value or "" for name, value in attrs}
        self.page.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        for name, value in values.items():
            if (tag, name) in FOLLOWED or (name == "href" and values.get("rel") in RELATIONS):
                self.page.followed.append(value)
            elif (tag, name) in LOADED:
                self.page.loaded.append(value)


def read_page(path: Path) -> Page:
    """Return what a page has."""
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


def check_site(folder: Path) -> Iterator[str]:
    """Yield a line for each link of the pages that leads nowhere or is loaded from afar."""
    folder = folder.resolve()
    found = [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts]
    pages = {path: read_page(path) for path in found}  # in _static the theme has a template
    if not pages:
        yield f"{folder}: there is no page"
    for path, page in pages.items():
        where = path.relative_to(folder)
        for link in page.loaded:
            if urlsplit(link).scheme in ("http", "https") or link.startswith("//"):
                yield f"{where}: loads {link}"
        for link in page.followed + page.loaded:
            problem = check_link(link, path, folder, pages)
            if problem:
                yield f"{where}: {link}: {problem}"


def check_link(link: str, path: Path, folder: Path, pages: dict[Path, Page]) -> str | None:
    """Return what is wrong with a link of a page, if it is one within the site."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = path
    if parts.path:
        # Not resolved: a symbolic link is not followed out of the folder.
        target = Path(os.path.normpath(path.parent / unquote(parts.path)))
    if not target.is_relative_to(folder):
        return "it leads out of the site"
    if target.is_dir():
        target = target / "index.html"
    if not target.exists():
        return "there is no such file"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return "there is no such anchor"
    return None


def main(argv: list[str]) -> int:
    """Check a folder; print what is wrong."""
    if len(argv) != 1:
        print("usage: python tests/docs/check_links.py FOLDER", file=sys.stderr)
        return 2
    problems = list(check_site(Path(argv[0])))
    print(*problems, sep="\n" if problems else "")
    print(f"{len(problems)} links lead nowhere" if problems else "every link leads somewhere")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
