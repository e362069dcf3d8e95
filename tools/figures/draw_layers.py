"""Draw docs/layers.svg: the layers of the package, and which part of it imports which.

    python tools/figures/draw_layers.py

The layers are those of tests/import_graph.py, the imports those of the source.  Modules of one
layer that are in no folder share a box.  An import that follows from others has no arrow of its
own: where a imports b and b imports c, a may import c too.  The same source gives the same bytes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from refmiracle.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests"))
from import_graph import BOTTOM, STACK, imported_parts  # noqa: E402

OUT = ROOT / "docs" / "layers.svg"
WIDTH, LEFT, RIGHT = 860, 190, 60  # of the picture; the captions' column; the lanes' column
ROW, HEIGHT, LINE = 78, 44, 16  # from row to row; of a box; of a line of text in it
CHARACTER, PADDING, GAP = 7.3, 12, 34  # of text in a box; around it; between boxes
LONGEST = 46  # characters in a line of a box
STYLE = """\
text { font: 12px monospace; fill: #1a1a1a; text-anchor: middle }
.caption { font: italic 13px sans-serif; text-anchor: start; fill: #555 }
.box { fill: #eef4fb; stroke: #4a6fa5 }
.arrow { fill: none; stroke: #7a7a7a; stroke-width: 1.3; marker-end: url(#head) }"""
HEAD = (
    '<marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7"'
    ' orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#7a7a7a"/></marker>'
)
Graph = dict[tuple[str, ...], set[tuple[str, ...]]]


@dataclass(frozen=True)
class Box:
    """Parts of one layer, and where they are drawn: the middle of the box, and its width."""

    lines: tuple[str, ...]
    x: float
    y: float
    width: float


def boxes_of(layer: int) -> list[tuple[str, ...]]:
    """Return the boxes of a layer: each folder, then all modules that are in none."""
    parts = [part for part in STACK[layer - BOTTOM][1] if part]
    alone = tuple(part for part in parts if not (ROOT / "refmiracle" / part).is_dir())
    folders = [(part,) for part in parts if part not in alone]
    first = alone and parts[0] in alone  # they stand where the first of them does
    return ([alone] if first else []) + folders + ([alone] if alone and not first else [])


def graph_of_boxes() -> Graph:
    """Return which box imports which; the bottom, which all import, is left out."""
    box_of = {p: box for layer in range(len(STACK) - 1) for box in boxes_of(layer) for p in box}
    graph: Graph = {box: set() for box in box_of.values()}
    for part, imported in imported_parts().items():
        if part in box_of:
            graph[box_of[part]] |= {box_of[i] for i in imported if i in box_of} - {box_of[part]}
    return graph


def reached(graph: Graph, box: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Return all that a box imports, or what it imports does."""
    found: set[tuple[str, ...]] = set()
    waiting = set(graph[box])
    while waiting:
        found |= waiting
        waiting = {i for b in waiting for i in graph[b]} - found
    return found


def needed(graph: Graph) -> Graph:
    """Return the imports that follow from no others."""
    return {
        box: {i for i in imported if not any(i in reached(graph, o) for o in imported - {i})}
        for box, imported in graph.items()
    }


def lines_of(box: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a box in one line or two."""
    text = "  ".join(box)
    if len(text) <= LONGEST:
        return (text,)
    half = (len(box) + 1) // 2
    return "  ".join(box[:half]), "  ".join(box[half:])


def placed() -> dict[tuple[str, ...], Box]:
    """Return where each box stands, the bottom included."""
    found = {}
    for layer in range(BOTTOM, len(STACK) - 1):
        row = [(box, lines_of(box)) for box in boxes_of(layer)]
        widths = [max(map(len, lines)) * CHARACTER + 2 * PADDING for _, lines in row]
        x = (LEFT + WIDTH - RIGHT - sum(widths) - GAP * (len(row) - 1)) / 2
        y = ROW * (len(STACK) - 1.5 - layer)
        for (box, lines), width in zip(row, widths, strict=True):
            found[box] = Box(lines, x + width / 2, y, width)
            x += width + GAP
    return found


def path_of(start: Box, end: Box, lane: int) -> str:
    """Return the path of an arrow: beside, to the next row, or along the right margin."""
    if start.y == end.y:
        side = 1 if end.x > start.x else -1
        ends = start.x + side * start.width / 2, end.x - side * end.width / 2
        return f"M{ends[0]:.1f},{start.y:.1f} L{ends[1]:.1f},{end.y:.1f}"
    if end.y - start.y <= ROW:
        # Aimed at the other box, within the edge.
        reach = end.width / 2 - PADDING
        x = min(max(start.x, end.x - reach), end.x + reach)
        top = min(max(x, start.x - start.width / 2 + PADDING), start.x + start.width / 2 - PADDING)
        return f"M{top:.1f},{start.y + HEIGHT / 2:.1f} L{x:.1f},{end.y - HEIGHT / 2:.1f}"
    right = WIDTH - RIGHT + 14 * lane
    turn = end.y - 6 + 12 * lane
    return (
        f"M{start.x + start.width / 2:.1f},{start.y:.1f} H{right:.1f}"
        f" V{turn:.1f} H{end.x + end.width / 2:.1f}"
    )


def draw() -> str:
    """Return the picture."""
    boxes, graph = placed(), needed(graph_of_boxes())
    height = ROW * len(STACK)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>The layers of refmiracle: each part imports what its arrows reach</title>",
        f"<style>\n{STYLE}\n</style>",
        f"<defs>{HEAD}</defs>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    lane = 0
    for box, imported in graph.items():
        for other in sorted(imported, key=lambda b: boxes[b].x):
            out.append(f'<path class="arrow" d="{path_of(boxes[box], boxes[other], lane)}"/>')
            lane += boxes[other].y - boxes[box].y > ROW
    for layer, (caption, _) in enumerate(STACK, BOTTOM):
        y = boxes[boxes_of(layer)[0]].y
        out.append(f'<text class="caption" x="14" y="{y + 4:.1f}">{caption}</text>')
    for box in boxes.values():
        left, top = box.x - box.width / 2, box.y - HEIGHT / 2
        size = f'width="{box.width:.1f}" height="{HEIGHT}"'
        out.append(f'<rect class="box" x="{left:.1f}" y="{top:.1f}" {size} rx="5"/>')
        for i, line in enumerate(box.lines):
            y = box.y + 4 + LINE * (i - (len(box.lines) - 1) / 2)
            out.append(f'<text x="{box.x:.1f}" y="{y:.1f}" xml:space="preserve">{line}</text>')
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    write_atomically(OUT, draw().encode())
