"""Points as marks in the plane of two numbers: those on a front joined, the others faint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from archlab.report import columns, metrics, words
from archlab.report.charts import choices
from archlab.report.charts.frame import drawing, hover, log_axis, safe
from archlab.report.load import Record
from archlab.report.objectives import Aim, best
from archlab.report.palette import CHROME, SYMBOLS, Look, Pair
from archlab.report.parts import Cell, Column, Row, Swatch, Table
from archlab.report.points import Cast, Point

WIDE = 8.0
"""From this ratio of the largest to the least on, an axis is logarithmic."""
MARKS = 4000
"""Marks of all states of a card: so many pictures of so many points are a page that is still small."""

PairOf = tuple[Aim, Aim]


@dataclass(frozen=True)
class Mark:
    """A point at one place, with the two numbers."""

    point: Point
    row: Record
    x: float
    y: float

    @property
    def on_front(self) -> bool:
        """No other of its place beats it in all objectives."""
        return bool(self.row.get("front")) and self.row["status"] == "ok"


def states(cast: Cast, pairs: Sequence[PairOf]) -> dict[str, Any]:
    """State of the switches -> its picture: for each pair at each place, as many as a small page can hold."""
    made: dict[str, Any] = {}
    room = MARKS
    for pair in pairs:
        drawn = choices.variants(cast.run, True, lambda at, pair=pair: marks(cast, pair, at) or None)
        for key, found in drawn.items():
            room -= len(found)
            if made and room < 0:
                return made
            made["/".join(x for x in (_key(pair) if len(pairs) > 1 else "", key) if x)] = picture(cast, pair, found)
    return made


def marks(cast: Cast, pair: PairOf, at: choices.At) -> list[Mark]:
    """The points that have both numbers there, those that do not satisfy a condition among them."""
    found = []
    for point in cast.all:
        for row in cast.run.rows_at(point.name, **at)[:1]:
            x, y = row.get(pair[0].column), row.get(pair[1].column)
            if x is not None and y is not None and row["status"] in ("ok", "excluded"):
                found.append(Mark(point, row, float(x), float(y)))
    return found


def option(pair: PairOf) -> tuple[str, str]:
    """The key and the label of a pair in a switch."""
    return _key(pair), f"{words.sentence(pair[1].of.name)} against {pair[0].of.noun}"


def _key(pair: PairOf) -> str:
    return f"{pair[0].column} {pair[1].column}"


# ---------------------------------------------------------------- one picture


def picture(cast: Cast, pair: PairOf, found: Sequence[Mark]) -> dict[str, Any]:
    """The marks, the joined front, and a ring round the released shape."""
    scales = tuple(aim.of.scale([v for m in found for v in (m.x, m.y)[i : i + 1]]) for i, aim in enumerate(pair))
    on = [m for m in found if m.on_front]
    out = [m for m in found if m.row["status"] == "excluded"]
    rest = [m for m in found if not m.on_front and m.row["status"] == "ok"]
    layout = {
        "xaxis": _axis(pair[0], scales[0], [m.x for m in found]), "yaxis": _axis(pair[1], scales[1], [m.y for m in found]),
        "margin": {"l": 72, "r": 24, "t": 14, "b": 52},
    }  # fmt: skip
    traces = [
        *_dots(cast, pair, scales, out, CHROME["ink3"], opacity=0.45, symbol="x-thin-open", size=7),
        *_dots(cast, pair, scales, rest, CHROME["ink3"], opacity=0.4, size=7),
        *_joined(pair, scales, on), *_dots(cast, pair, scales, on, CHROME["accent"], opacity=1.0, size=10),
        *_rings(scales, [m for m in found if m.point.released]),
    ]  # fmt: skip
    return drawing(traces, layout, height=430)


def _axis(aim: Aim, scale: words.Scale, values: Sequence[float]) -> dict[str, Any]:
    low, high = min(values) / scale.divisor, max(values) / scale.divisor
    better = {"min": ", less is better", "max": ", more is better"}.get(aim.sense or "", "")
    title = ", ".join(x for x in (aim.of.name, scale.unit) if x)
    if low > 0 and high / low > WIDE:
        return log_axis(low / 1.12, high * 1.12, safe(f"{title} (log scale{better})"))
    pad = (high - low) * 0.06 or abs(high) * 0.06 or 1.0
    text = f"{title} ({better.removeprefix(', ')})" if better else title
    return {"range": [low - pad, high + pad], "nticks": 6, "title": {"text": safe(text)}}


def _dots(
    cast: Cast, pair: PairOf, scales: Sequence[words.Scale], found: Sequence[Mark], colour: Pair, **how: Any
) -> list[Any]:
    if not found:
        return []
    several = len(cast.run.distinct("base")) > 1
    own = [symbol_of(cast, m.point) for m in found] if several else symbol_of(cast, found[0].point)
    edge = CHROME["card"][0] if how["opacity"] == 1.0 else colour[0]
    return [go.Scatter(
        x=[scales[0].of(m.x) for m in found], y=[scales[1].of(m.y) for m in found], mode="markers", cliponaxis=False,
        meta=[m.point.index for m in found], hoverinfo="text", hovertext=[_hover(pair, m) for m in found],
        marker={"size": how["size"], "symbol": how.get("symbol") or own, "color": colour[0], "opacity": how["opacity"],
                "line": {"width": 1, "color": edge}},
    )]  # fmt: skip


def _joined(pair: PairOf, scales: Sequence[words.Scale], on: Sequence[Mark]) -> list[Any]:
    """Steps through the points that no other beats in these two: where a pair says which way is better."""
    first, second = pair[0].sense, pair[1].sense
    if first is None or second is None or len(on) < 2:
        return []
    kept = [on[i] for i in best([m.x for m in on], [m.y for m in on], (first, second))]
    return [go.Scatter(
        x=[scales[0].of(m.x) for m in kept], y=[scales[1].of(m.y) for m in kept], mode="lines", hoverinfo="skip",
        meta=[m.point.index for m in kept],
        line={"color": CHROME["accent"][0], "width": 1.8, "shape": "hv" if first == "min" else "vh"},
    )]  # fmt: skip


def _rings(scales: Sequence[words.Scale], found: Sequence[Mark]) -> list[Any]:
    return [go.Scatter(
        x=[scales[0].of(m.x) for m in found], y=[scales[1].of(m.y) for m in found], mode="markers", cliponaxis=False,
        meta=[m.point.index for m in found], hoverinfo="skip",
        marker={"size": 17, "symbol": "circle-open", "color": CHROME["ink"][0], "line": {"width": 1.6}},
    )] if found else []  # fmt: skip


def _hover(pair: PairOf, mark: Mark) -> str:
    said = [f"{safe(aim.of.name)}: {aim.of.say(v)}, {aim.of.tag}" for aim, v in zip(pair, (mark.x, mark.y), strict=True)]
    what = ["on the front"] * mark.on_front + [safe(mark.row.get("reason") or "excluded")] * (
        mark.row["status"] == "excluded"
    )
    return hover(mark.point.short, *said, *what)


def symbol_of(cast: Cast, point: Point) -> str:
    """A shape for each base."""
    return SYMBOLS[cast.run.distinct("base").index(point.base) % len(SYMBOLS)]


def legend(cast: Cast, drawn: Iterable[Mark]) -> tuple[Swatch, ...]:
    """What filled, faint, crossed and ringed marks are, and which shape is whose."""
    found, bases = list(drawn), cast.run.distinct("base")
    accent, grey, ink = CHROME["accent"], CHROME["ink3"], CHROME["ink"]
    made = [Swatch("on the front", "accent", Look(accent, accent, "solid", "circle"))] * any(m.on_front for m in found)
    faint = "beaten by another" if made else "a point"
    made += [Swatch(faint, "ink3", Look(grey, grey, "none", "circle"))] * any(not m.on_front for m in found)
    made += [Swatch("excluded by a condition", "ink3", Look(grey, grey, "none", "x"))] * any(
        m.row["status"] == "excluded" for m in found
    )
    made += [Swatch("ringed: released", "ink", Look(ink, ink, "none", "circle-open"))] * any(
        m.point.released for m in found
    )
    shapes = [Swatch(b, "ink3", Look(grey, grey, "none", SYMBOLS[i % len(SYMBOLS)])) for i, b in enumerate(bases)]
    return (*made, *(shapes if len(bases) > 1 else []))


# ---------------------------------------------------------------- tables


def table(cast: Cast, id_: str, label: str, aims: Sequence[Aim], rows: Sequence[tuple[Point, Record]]) -> Table:
    """A row a point at a place: the place where there are several, the axes, the numbers."""
    where = [d for d in choices.options(cast.run, True) if len({r[d] for _, r in rows}) > 1]
    heads = [Column(d, _HEADS[d], number=False) for d in where]
    heads += [Column(a.key, a.label, number=all(isinstance(p.values[a.key], int | float) for p, _ in rows))
              for a in cast.run.axes]  # fmt: skip
    made = [[*_place(cast, where, r), *_axes(cast, p)] for p, r in rows]
    for aim in aims:
        known = [r.get(aim.column) for _, r in rows]
        scale = aim.of.scale(known)
        heads.append(Column(aim.column, words.sentence(aim.of.name), scale.unit, aim.of.tag))
        for cells, value in zip(made, known, strict=True):
            cells.append(Cell(scale.show(value), value))
    return Table(id_, label, "Point", tuple(heads), tuple(
        Row(p.tag, tuple(cells), p, p.note) for (p, _), cells in zip(rows, made, strict=True)
    ))  # fmt: skip


_HEADS = {"workload": "Workload", "hardware": "Device", "precision": "Precision", "engine": "Engine"}


def _place(cast: Cast, where: Sequence[str], row: Record) -> list[Cell]:
    said: Mapping[str, Any] = {
        "workload": lambda w: metrics.work_words(cast.run, w),
        "hardware": lambda h: metrics.device_title(cast.run, h),
    }
    return [Cell(said.get(d, str)(row[d]), row[d]) for d in where]


def _axes(cast: Cast, point: Point) -> list[Cell]:
    several = [(a, point.values[a.key]) for a in cast.run.axes]
    return [Cell(words.axis_value(v), v) for _, v in several]


def tags(pairs: Iterable[PairOf]) -> tuple[str, ...]:
    """How the numbers of some pairs came to be."""
    return columns.tags([aim.of for pair in pairs for aim in pair])
