"""What the bytes of a .rmc file are, as a piece of HTML that notebooks show."""

from __future__ import annotations

from html import escape
from itertools import groupby

from refmiracle.fileformat.anatomy import find_fields, kinds
from refmiracle.fileformat.container import CompressedModel
from refmiracle.fileformat.update import CompressedUpdate

# Readable on white and on black, and the letter stands with each.
COLOURS = {
    **{"M": "#8c8c8c", "N": "#3a78b5", "B": "#b5762f", "S": "#6b4fa3", "F": "#3d8b56"},
    **{"R": "#b0457a", "I": "#2f8f96", "C": "#8c8c8c", "U": "#3a78b5", "L": "#b0457a"},
}
# Values of a field that stand in a table's line.
LONGEST = 60
CELL = "text-align:left;vertical-align:top;padding:1px 8px"


def to_html(model: CompressedModel | CompressedUpdate, title: str) -> str:
    """Return a bar of the file's bytes by what they are for, and a table of its fields.

    Everything is within: no script, no style sheet, nothing to load.

    Parameters
    ----------
    model : CompressedModel or CompressedUpdate
    title : str
        What stands above, as plain text.
    """
    words = kinds(model)
    colours = {kind: COLOURS[kind] for kind in words}
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
