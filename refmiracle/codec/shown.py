"""What the bytes of a .rmc file are, as a piece of HTML that notebooks show."""

from __future__ import annotations

from html import escape
from itertools import groupby

from refmiracle.codec.anatomy import find_fields, kinds
from refmiracle.codec.container import CompressedModel

# Of the kinds, in their order: readable on white and on black, and the letter stands with each.
COLOURS = ("#8c8c8c", "#3a78b5", "#b5762f", "#6b4fa3", "#3d8b56", "#b0457a", "#2f8f96", "#8c8c8c")
# Values of a field that stand in a table's line.
LONGEST = 60
CELL = "text-align:left;vertical-align:top;padding:1px 8px"


def to_html(model: CompressedModel, title: str) -> str:
    """Return a bar of the file's bytes by what they are for, and a table of its fields.

    Everything is within: no script, no style sheet, nothing to load.

    Parameters
    ----------
    model : CompressedModel
    title : str
        What stands above, as plain text.
    """
    words = kinds(model)
    colours = dict(zip(words, COLOURS, strict=True))
    sizes = dict.fromkeys(words, 0)
    rows = []
    for kind, group in groupby(find_fields(model), key=lambda field: field.kind):
        for number, field in enumerate(group):
            sizes[kind] += len(field.data)
            value = field.value if len(field.value) <= LONGEST else f"{field.value[:LONGEST]}..."
            cells = (str(field.start), str(len(field.data)), field.name, value, field.meaning)
            mark = f'<b style="color:{colours[kind]}">{kind}</b>' if number == 0 else ""
            plain = "".join(f'<td style="{CELL}">{escape(cell)}</td>' for cell in cells)
            rows.append(f'<tr><td style="{CELL}">{mark}</td>{plain}</tr>')
    heads = ("", "from byte", "bytes", "field", "value", "meaning")
    head = "".join(f'<th style="{CELL}">{escape(name)}</th>' for name in heads)
    legend = "".join(
        f'<div><b style="color:{colours[kind]}">{kind}</b> {size:,} bytes, {escape(words[kind])}'
        "</div>"
        for kind, size in sizes.items()
    )
    return (
        f'<div style="color:inherit"><div><b>{escape(title)}</b></div>{_bar(sizes, colours)}'
        f"{legend}<details><summary>every field</summary>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></details></div>"
    )


def _bar(sizes: dict[str, int], colours: dict[str, str]) -> str:
    """Return a bar whose parts are as wide as their bytes are many."""
    parts = "".join(
        f'<div title="{kind}: {size:,} bytes" style="flex:{size} 0 1px;'
        f'background:{colours[kind]}"></div>'
        for kind, size in sizes.items()
    )
    return f'<div style="display:flex;height:14px;margin:4px 0;max-width:640px">{parts}</div>'
