"""The API pages as the source has it: types by their names, and what docstrings name as links."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

PACKAGE = "refmiracle."
NAME = re.compile(r"(?<![\w.])[A-Z]\w*")
PAGE = re.compile(r"\bdocs/(\w+)\.md\b")
# "equation (9) of docs/derivations.md", "equations (33) and (35) of", "Equations (4) to (7) of"
CITED = re.compile(r"\b[Ee]quations? ([^.:;]*?) of docs/derivations\.md")
NUMBER = re.compile(r"\((\d+[a-z]?)\)")
EQUATION = r"`(\1) <../derivations.html#equation-\1>`__"


def link(text: str) -> str:
    """Return a docstring with its links."""
    text = CITED.sub(lambda found: NUMBER.sub(EQUATION, found[0]), text)
    return PAGE.sub(r":doc:`\1 </\1>`", text)


def link_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Rewrite the lines of a docstring, but for those that are indented: code is as it is."""
    parts = re.split(r"(?m)^( {4,}.*)$", "\n".join(lines))
    parts[::2] = [link(part) for part in parts[::2]]
    lines[:] = "".join(parts).split("\n")


def name_classes(annotation: Any, names: Mapping[str, Any]) -> Any:
    """Return an annotation with the package's classes by their full names, so that links find them.

    Sphinx shows the last part of a name only.
    """

    def full(found: re.Match[str]) -> str:
        value = names.get(found[0])
        own = isinstance(value, type) and value.__module__.startswith(PACKAGE)
        return f"{value.__module__}.{found[0]}" if own else found[0]

    return NAME.sub(full, annotation) if isinstance(annotation, str) else annotation


def write_signature(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Return a signature whose types are as in the source: Array, not what it stands for.

    A default that a factory makes is written as three dots, which Sphinx can parse.
    """
    if what not in ("function", "method") and not is_dataclass(obj):
        return signature, returns
    found = inspect.signature(obj)
    names = vars(sys.modules[obj.__module__])
    kept = [
        p.replace(
            annotation=name_classes(p.annotation, names),
            default=... if repr(p.default) == "<factory>" else p.default,
        )
        for p in found.parameters.values()
        if p.name != "self"
    ]
    written = stringify_signature(
        found.replace(parameters=kept), show_return_annotation=False, unqualified_typehints=True
    )
    return written, returns and str(name_classes(found.return_annotation, names))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register both, the links after numpydoc's rewriting."""
    app.connect("autodoc-process-signature", write_signature)
    app.connect("autodoc-process-docstring", link_docstring, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
