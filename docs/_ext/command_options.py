"""The directive ``{command-options} NAME``: what ``refmiracle NAME --help`` prints."""

from __future__ import annotations

import argparse
import importlib
import os
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def parsers(name: str) -> list[argparse.ArgumentParser]:
    """Return a command's parser, and those of its own commands."""
    parser = importlib.import_module(f"refmiracle.commands.{name}").build_parser()
    own = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return [parser, *(p for action in own for p in action.choices.values())]


class CommandOptions(SphinxDirective):
    """Puts the help of a command on the page."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """Return a block of text for each parser."""
        os.environ["COLUMNS"] = "88"
        blocks: list[nodes.Node] = []
        for parser in parsers(self.arguments[0]):
            text = parser.format_help().rstrip()
            block = nodes.literal_block(text, text)
            block["language"] = "text"
            blocks.append(block)
        return blocks


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("command-options", CommandOptions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
