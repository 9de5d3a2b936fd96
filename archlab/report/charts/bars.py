"""Stacked bars, a row a point, the total at the end of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from archlab.report import palette
from archlab.report.charts.frame import drawing, hover, safe, short
from archlab.report.palette import CHROME
from archlab.report.parts import Cell, Column, Row, Swatch, Table
from archlab.report.points import Point
from archlab.report.words import Scale, percent

ROW = 30
CELLS = 1500
"""A table of more cells than this has totals alone: the parts are in the whole run's download."""
VISIBLE = 0.004
"""A part below this share of every bar is in the table and not in the picture, where nobody could see it."""


@dataclass(frozen=True)
class Stack:
    """Point -> part -> value, in base units; `total` where it is not the sum, `end` what stands behind a bar."""

    values: Mapping[Point, Mapping[str, float]]
    scale: Scale
    title: str
    tag: str
    end: Callable[[Point, float], str]
    reach: Mapping[Point, float] = field(default_factory=dict)  # how far marks go that lie over the bars

    def total(self, point: Point) -> float:
        """The length of a bar."""
        return sum(self.values[point].values())

    def length(self, point: Point) -> float:
        """Where the bar and its marks end."""
        return max(self.total(point), self.reach.get(point, 0))

    def parts(self) -> list[str]:
        """Every part that some bar has, in their order."""
        return list(dict.fromkeys(part for parts in self.values.values() for part, v in parts.items() if v))

    def seen(self) -> list[str]:
        """Those that can be seen."""
        return [x for x in self.parts() if any(v.get(x, 0) > VISIBLE * self.total(p) for p, v in self.values.items())]


def stacked(stack: Stack, rules: Sequence[tuple[str, float]] = (), marks: Sequence[Any] = ()) -> dict[str, Any]:
    """The picture. `rules` are upright dotted lines: (label, value); totals then stand clear of them, at the right.

    `marks` are traces that lie over the bars, within the stack's `reach`.
    """
    points = list(stack.values)
    ends = [safe(stack.end(p, stack.total(p))) for p in points]
    most = max([*(stack.length(p) for p in points), *(v for _, v in rules)]) / stack.scale.divisor
    shapes, notes = _rules(stack.scale, rules)
    layout = {
        "barmode": "stack", "bargap": 0.34, "shapes": shapes, "annotations": notes,
        "margin": {"l": 0, "r": 0, "t": 22 if rules else 6, "b": 46},
        "xaxis": {"range": [0, most * 1.02], "title": {"text": safe(stack.title)}, "showline": False, "ticks": ""},
        "yaxis": row_axis(points),
    }  # fmt: skip
    bars = [_bar(stack, part, points) for part in stack.seen()]
    texts = _ends(stack, points, ends, most * 1.02 if rules else None)
    return drawing([*bars, *marks, texts], layout, row=ROW, ticks=row_names(points))


def row_axis(points: Sequence[Point]) -> dict[str, Any]:
    """Rows from the top, in the order of the run."""
    keys = [p.key for p in points]
    return {"type": "category", "categoryorder": "array", "categoryarray": keys, "range": [len(keys) - 0.5, -0.5],
            "showgrid": False, "tickvals": keys,
            "ticks": "outside", "ticklen": 6, "tickcolor": "rgba(0,0,0,0)"}  # fmt: skip


def row_names(points: Sequence[Point]) -> dict[str, tuple[str, bool]]:
    """Key of a row -> (what stands before it, bold); the released shape is bold."""
    return {p.key: (p.tag, p.released) for p in points}


def spoken(part: str) -> str:
    """A part as a reader says it: 'per-layer', 'cross-attention'."""
    return _BESIDE.get(part, part.replace("_", "-"))


_BESIDE = {"rest": "rest, of no part", "step": "step, beside its kernels"}
"""Of a predicted time, what no part of the model has."""


def legend(names: Sequence[str], said: Mapping[str, str] | None = None) -> tuple[Swatch, ...]:
    """Filled squares for parts."""
    return tuple(Swatch((said or {}).get(name, spoken(name)), palette.part_variable(name)) for name in names)


def _bar(stack: Stack, part: str, points: Sequence[Point]) -> Any:
    values = [stack.values[p].get(part, 0) for p in points]
    return go.Bar(
        x=[stack.scale.of(v) for v in values], y=[p.key for p in points], orientation="h", name=part,
        meta=[p.index for p in points], marker={"color": palette.part(part)[0], "line": {"width": 0}},
        hovertext=[_said(stack, part, p) for p in points], hoverinfo="text",
    )  # fmt: skip


def _said(stack: Stack, part: str, point: Point) -> str:
    value, total = stack.values[point].get(part, 0), stack.total(point)
    share = [f"{percent(value / total)} of {stack.scale.full(total)}"] * (stack.scale.unit != "%")
    return hover(point.short, f"{safe(spoken(part))} {stack.scale.full(value)}", *share, stack.tag)


def _ends(stack: Stack, points: Sequence[Point], ends: list[str], at: float | None) -> Any:
    return go.Scatter(
        x=[stack.scale.of(stack.length(p)) if at is None else at for p in points], y=[p.key for p in points],
        text=[f"\u2002{end}" for end in ends], mode="text", meta=[p.index for p in points],
        textposition="middle right", cliponaxis=False, hoverinfo="skip",
        textfont={"size": 12.5, "color": CHROME["ink2"][0]},
    )  # fmt: skip


def _rules(scale: Scale, rules: Sequence[tuple[str, float]]) -> tuple[list[Any], list[Any]]:
    colour = CHROME["limit"][0]
    shapes = [
        {"type": "line", "x0": scale.of(v), "x1": scale.of(v), "yref": "paper", "y0": 0, "y1": 1,
         "line": {"color": colour, "width": 1.2, "dash": "dot"}} for _, v in rules
    ]  # fmt: skip
    notes = [
        {"x": scale.of(v), "yref": "paper", "y": 1, "text": safe(short(text)), "showarrow": False, "yanchor": "bottom",
         "xanchor": "right", "xshift": 3, "font": {"size": 11.5, "color": colour}} for text, v in rules
    ]  # fmt: skip
    return shapes, notes


def numbers(id_: str, label: str, columns: Mapping[str, Stack]) -> Table:
    """Stacks as one table: for each its total, and its parts while they are few. The keys name what a stack is for."""
    points = list(dict.fromkeys(p for stack in columns.values() for p in stack.values))
    heads, cells = [], {p: list[Cell]() for p in points}
    whole = sum(len(stack.parts()) + 1 for stack in columns.values()) * len(points) > CELLS
    for name, stack in columns.items():
        for part in [*([] if whole else stack.parts()), "total"]:
            heads.append(Column(f"{name} {part}".strip(), spoken(part), stack.scale.unit, stack.tag, group=name))
            for p in points:
                cells[p].append(_cell(stack, p, part))
    return Table(id_, label, "Point", tuple(heads), tuple(Row(p.tag, tuple(cells[p]), p) for p in points))


def _cell(stack: Stack, point: Point, part: str) -> Cell:
    """Nothing where the point has no number, or no such part."""
    parts = stack.values.get(point, {})
    value = stack.total(point) if parts and part == "total" else parts.get(part)
    return Cell(stack.scale.show(value), value) if value else Cell("–")
