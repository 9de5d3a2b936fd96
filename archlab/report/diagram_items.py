"""What a block diagram is made of: boxes of facts, pills, sums, and columns of these with arrows along the middle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archlab import units
from archlab.report.palette import part_variable
from archlab.report.svg import Canvas, width

Json = Mapping[str, Any]

WIDTH, MIDDLE = 266, 129
LEFT, RIGHT = 24, 234
"""The sides of the boxes."""
GAP, ROW, PAD = 13, 15.5, 8
SMALL, HEAD, HINT = 11.5, 12.5, 10.5
"""Sizes of texts: facts, titles, column heads."""
START, ROOM = LEFT + PAD + 4, RIGHT - LEFT - 2 * PAD - 4
"""Where texts of a box begin, and how much room there is for them."""


@dataclass(frozen=True)
class Item:
    """Something of a height that draws itself below y."""

    height: float
    draw: Callable[[Canvas, float], None]
    is_junction: bool = False  # it ends in one: a line runs into it, not an arrow


def column(items: Sequence[Item], gap: float = GAP) -> Item:
    """Items from the top, arrows upwards between them."""

    def draw(canvas: Canvas, y: float) -> None:
        for item in items[:-1]:
            item.draw(canvas, y)
            y += item.height + gap
            if item.is_junction:
                canvas.line(f"M{MIDDLE} {y:g}V{y - gap:g}")
            else:
                canvas.up(MIDDLE, y, y - gap)
        items[-1].draw(canvas, y)

    return Item(sum(item.height for item in items) + gap * (len(items) - 1), draw, items[-1].is_junction)


def box(
    told: Json, is_marked: Callable[[str], bool] = lambda key: False, dash: str = "", title: str = ""
) -> Item:  # fmt: skip
    """A title with the parameters of all layers, then a line a fact. `is_marked` says which keys are called out."""
    rows, columns, name = told["rows"], told["columns"], title or told["title"]
    size = units.show_count(told["params"]) if told["params"] else ""
    if size and width(name, HEAD, True) + width(size, SMALL) + 6 > ROOM:
        rows, size = [["", "parameters", [size]], *rows], ""
    rows = [line for row in rows for line in _told_in_lines(row)]
    top = PAD + 17 + (ROW if columns else 0)
    height = top + ROW * len(rows) + (PAD - 3 if rows or columns else 2)

    def draw(canvas: Canvas, y: float) -> None:
        canvas.box(LEFT, y, RIGHT - LEFT, height, "card", "rule", dash=dash)
        canvas.area(_edge(y, height), part_variable(told["part"]))
        canvas.text(RIGHT - PAD, y + PAD + 10, size, SMALL, "ink3", "end")
        colour = "accent" if is_marked("title") else "ink"
        canvas.text(START, y + PAD + 10, name, HEAD, colour, bold=True, room=ROOM - width(size, SMALL))
        each = _heads(canvas, y + top - PAD + 2, columns, rows)
        for i, row in enumerate(rows):
            _row(canvas, y + top + ROW * i, row, each, is_marked(row[0]))

    return Item(height, draw)


MOST_LINES = 3
"""Lines of a value that is a phrase."""


def _told_in_lines(row: Sequence[Any]) -> list[Sequence[Any]]:
    """The row; where its value is too long to stand beside its label, the label and the value's words below it."""
    key, label, values = row
    if len(values) > 1 or width(values[0], SMALL, True) <= ROOM - width(label, SMALL) - 5 or " " not in values[0]:
        return [row]
    lines = [""]
    for word in values[0].split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and width(longer, SMALL) > ROOM - 6 and len(lines) < MOST_LINES:
            lines.append(word)
        else:
            lines[-1] = longer
    return [[key, label, [""]], *([key, line, [""]] for line in lines)]


def _edge(y: float, height: float) -> str:
    """A stripe along the left side of a box, in the colour of its part."""
    return f"M{LEFT + 6:g} {y:g}q-6 0 -6 6v{height - 12:g}q0 6 6 6h-1.5v-{height:g}z"


MOST_COLUMN = 66
"""Width of a column of values at most, where a box has several."""


def _heads(canvas: Canvas, y: float, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> float:
    """Writes the names of the columns; says how wide each is: as what stands in it needs."""
    values = [width(v, SMALL, True) for _, _, values in rows if len(values) > 1 for v in values]
    each = min(max([width(head, HINT) for head in columns] + values, default=0) + 7, MOST_COLUMN)
    for i, head in enumerate(reversed(columns)):
        canvas.text(RIGHT - PAD - each * i, y, head, HINT, "ink3", "end", room=each - 4)
    return each


def _row(canvas: Canvas, y: float, row: Sequence[Any], each: float, marked: bool) -> None:
    """'KV heads      8': a label, and its value or values at the right."""
    _, label, values = row
    if marked:
        canvas.box(LEFT + 6, y - 2, RIGHT - LEFT - 10, ROW - 1, "wash", radius=3)
    room = each - 4 if len(values) > 1 else ROOM * 0.8
    for i, value in enumerate(reversed(values)):
        canvas.text(RIGHT - PAD - each * i, y + 9, value, SMALL, "accent" if marked else "ink2", "end", marked, room)
    taken = each * (len(values) - 1) + min(width(values[0], SMALL, marked), room) + 5
    canvas.text(START, y + 9, label, SMALL, "ink2", room=ROOM - taken)


def pill(said: str, marked: bool = False) -> Item:
    """A norm, or another step without facts of its own."""

    def draw(canvas: Canvas, y: float) -> None:
        canvas.box(LEFT, y, RIGHT - LEFT, 18, "wash" if marked else "band", radius=9)
        colour = "accent" if marked else "ink2"
        canvas.text(MIDDLE, y + 12.8, said, SMALL, colour, "middle", marked, ROOM)

    return Item(18, draw)


def plus(said: str | None = None) -> Item:
    """Where something is summed to the stream, and what the sum is multiplied by."""

    def draw(canvas: Canvas, y: float) -> None:
        canvas.ring(MIDDLE, y + 8, 7.5)
        canvas.line(f"M{MIDDLE - 4} {y + 8:g}h8M{MIDDLE} {y + 4:g}v8")
        if said:
            canvas.text(MIDDLE - 14, y + 12, said, HINT, "ink3", "end")

    return Item(16, draw)


def dot() -> Item:
    """Where the stream is read and goes on."""
    circle = "a3 3 0 1 0 6 0a3 3 0 1 0 -6 0"
    return Item(3, lambda canvas, y: canvas.area(f"M{MIDDLE - 3} {y + 1.5:g}{circle}", "ink3"), is_junction=True)


def label(said: str) -> Item:
    """A text without a box."""
    return Item(13, lambda canvas, y: canvas.text(MIDDLE, y + 10.5, said, SMALL, "ink2", "middle"))


def either(items: Sequence[Item]) -> Item:
    """One of some items, by layer."""

    def draw(canvas: Canvas, y: float) -> None:
        for item in items[:-1]:
            item.draw(canvas, y)
            y += item.height + 16
            canvas.text(MIDDLE, y - 5, "or", SMALL, "ink3", "middle")
        items[-1].draw(canvas, y)

    return Item(sum(item.height for item in items) + 16 * (len(items) - 1), draw)
