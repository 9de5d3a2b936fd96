"""Lines against context: one a point, fainter beyond the context that the model was trained for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go

from archlab import units
from archlab.report import words
from archlab.report.charts.frame import end_label, hover
from archlab.report.load import Record
from archlab.report.parts import CALCULATED, Cell, Column, Row, Table
from archlab.report.points import Cast, Point
from archlab.report.words import Scale, significant

Say = Callable[[Record], tuple[str, ...]]


def drawn(cast: Cast) -> list[Point]:
    """The points that have a curve."""
    return [p for p in cast.ok if p.name in cast.run.curve_rows]


def traces(cast: Cast, column: str, scale: Scale, say: Say) -> list[Any]:
    """A line for each point; where it leaves the trained context, a fainter one goes on."""
    found = []
    for point in drawn(cast):
        rows = [r for r in cast.run.curve_rows[point.name] if r.get(column)]
        inside = [r for r in rows if not r.get("beyond_trained")]
        beyond = (inside[-1:] + rows[len(inside) :]) if len(inside) < len(rows) else []
        for part, opacity in ((beyond, 0.45), (inside, 1.0)):
            if part:
                found.append(_line(point, part, column, scale, say, opacity))
    return found


def _line(point: Point, rows: list[Record], column: str, scale: Scale, say: Say, opacity: float) -> Any:
    look = point.look
    return go.Scatter(
        x=[r["context"] for r in rows], y=[significant(r[column] / scale.divisor) for r in rows],
        mode="lines+markers", name=point.name, meta=point.index, opacity=opacity,
        line={"color": look.line[0], "dash": look.dash, "width": 3.4 if point.released else 2.2},
        marker={"symbol": look.symbol, "size": 6, "color": look.line[0]},
        hovertext=[hover(point.short, f"{units.show_tokens(r['context'])} tokens", *say(r)) for r in rows],
        hoverinfo="text",
    )  # fmt: skip


def labels(cast: Cast, column: str, scale: Scale) -> list[dict[str, Any]]:
    """A text at the end of each line."""
    ends = [(p, [r for r in cast.run.curve_rows[p.name] if r.get(column)]) for p in drawn(cast)]
    return [end_label(p, significant(rows[-1][column] / scale.divisor)) for p, rows in ends if rows]


def contexts(cast: Cast) -> list[int]:
    """All contexts of the curves."""
    return sorted({r["context"] for p in drawn(cast) for r in cast.run.curve_rows[p.name]})


def span(cast: Cast, column: str) -> list[float]:
    """All values above zero of a column of the curves."""
    return [r[column] for p in drawn(cast) for r in cast.run.curve_rows[p.name] if r.get(column)]


def numbers(cast: Cast, id_: str, column: str, name: str, scale: Scale) -> Table:
    """The lines as a table: a row a point, a column a context."""
    at = contexts(cast)
    by = {p: {r["context"]: r for r in cast.run.curve_rows[p.name]} for p in drawn(cast)}
    return Table(
        id_, f"{name} against context", "Point",
        tuple(Column(f"{column} at {c}", units.show_tokens(c), scale.unit, CALCULATED) for c in at),
        tuple(Row(p.tag, tuple(_cell(rows.get(c), column, scale) for c in at), p) for p, rows in by.items()),
    )  # fmt: skip


def _cell(row: Record | None, column: str, scale: Scale) -> Cell:
    value = row.get(column) if row else None
    return Cell(scale.show(value), value, mark="†" if row and row.get("beyond_trained") else "")


def notes(cast: Cast) -> list[str]:
    """What the fainter lines and the dagger mean, where there are any."""
    beyond = any(r.get("beyond_trained") for p in drawn(cast) for r in cast.run.curve_rows[p.name])
    lacking = [f"{words.sentence(words.some(len(drawn(cast)), 'point'))} of the page {_have(cast)} a curve."]
    lacking *= cast.run.is_thinned and len(drawn(cast)) < len(cast.ok)
    faint = "The fainter part of a line, † in tables, is beyond the context that the model was trained for."
    return [*lacking, *[faint] * beyond]


def _have(cast: Cast) -> str:
    return "has" if len(drawn(cast)) == 1 else "have"


def trained_rule(cast: Cast) -> list[int]:
    """The trained context, where all points share one and it is inside the picture."""
    known = {cast.run.value(p.name, "trained_context") for p in drawn(cast)} - {None}
    return [c for c in known if len(known) == 1 and c < max(contexts(cast))]


def windows(cast: Cast) -> list[int]:
    """The sliding windows of the points, where they are few enough to be marked."""
    known = {cast.run.value(p.name, "window") for p in drawn(cast)} - {None}
    inside = [w for w in sorted(known) if min(contexts(cast)) < w < max(contexts(cast))]
    return inside if len(inside) <= 3 else []


def upright(at: int, text: str, colour: str, top: float = 1.0) -> tuple[dict[str, Any], dict[str, Any]]:
    """A dotted rule at a context, and its label at the foot of the picture."""
    import math

    line = {"type": "line", "xref": "x", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": top, "layer": "below",
            "line": {"color": colour, "width": 1.2, "dash": "dot"}}  # fmt: skip
    note = {"xref": "x", "yref": "paper", "x": math.log10(at), "y": 0, "text": text, "showarrow": False,
            "xanchor": "left", "yanchor": "bottom", "xshift": 4, "font": {"size": 11.5, "color": colour}}  # fmt: skip
    return line, note
