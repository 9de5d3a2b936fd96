"""Points as marks in the plane of two numbers: those on a front joined, the others faint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from archlab.report import columns, words
from archlab.report.charts import choices
from archlab.report.charts.frame import drawing, hover, log_axis, safe
from archlab.report.load import Record
from archlab.report.objectives import Aim, best
from archlab.report.palette import CHROME, SYMBOLS, Look, Pair
from archlab.report.parts import Swatch, Switch
from archlab.report.points import Cast, Point
from archlab.report.thin import evenly

WIDE = 8.0
"""From this ratio of the largest to the least on, an axis is logarithmic."""
MOST = 48
"""Places of which each has a picture: nobody looks through more."""
MARKS = 2000
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
    """State of the switches -> its picture: for each pair at each place, as many pairs as a small page can hold."""
    made: dict[str, Any] = {}
    room = MARKS
    for pair in pairs:
        found = _at_places(cast, pair)
        if len(found) > MOST:
            break
        room -= sum(map(len, found.values()))
        if made and room < 0:
            break
        for key, mine in found.items():
            made["/".join(x for x in (_key(pair) if len(pairs) > 1 else "", key) if x)] = picture(cast, pair, mine)
    return made


def _at_places(cast: Cast, pair: PairOf) -> dict[str, list[Mark]]:
    """State of the place -> its marks: those on the front, and of many others an even sample."""
    found = choices.variants(cast.run, True, lambda at: marks(cast, pair, at) or None)
    most = MARKS // max(len(found), 1)
    return {
        key: [m for m in mine if m.on_front] + evenly([m for m in mine if not m.on_front], most)
        for key, mine in found.items()
    }


def places(states: Iterable[str], pairs: Sequence[PairOf]) -> set[str]:
    """The states of the place alone, where those of a card begin with a pair."""
    return {"/".join(state.split("/")[1:]) if len(pairs) > 1 else state for state in states}


def switch(states: Iterable[str], pairs: Sequence[PairOf]) -> tuple[Switch, ...]:
    """Which two numbers are shown, where more than one pair is drawn."""
    drawn = {state.split("/")[0] for state in states}
    options = tuple(option(pair) for pair in pairs if _key(pair) in drawn)
    return (Switch("Show", options, options[0][0]),) if len(pairs) > 1 else ()


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
    return _key(pair), f"{pair[1].of.head} against {pair[0].of.noun}"


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
        "xaxis": _axis(pair[0], scales[0], [m.x for m in found]),
        "yaxis": _axis(pair[1], scales[1], [m.y for m in found]),
        "margin": {"l": 72, "r": 24, "t": 14, "b": 52},
    }
    traces = [
        *_dots(cast, pair, scales, out, CHROME["ink3"], opacity=0.45, symbol="x-thin-open", size=7),
        *_dots(cast, pair, scales, rest, CHROME["ink3"], opacity=0.4, size=7),
        *_steps(pair, scales, joined(pair, found)),
        *_dots(cast, pair, scales, on, CHROME["accent"], opacity=1.0, size=10),
        *_rings(scales, [m for m in found if m.point.released]),
    ]
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


def joined(pair: PairOf, found: Sequence[Mark]) -> list[Mark]:
    """Of the front, the points that no other beats in these two, where a pair says which way is better."""
    first, second = pair[0].sense, pair[1].sense
    on = [m for m in found if m.on_front]
    if first is None or second is None:
        return []
    return [on[i] for i in best([m.x for m in on], [m.y for m in on], (first, second))]


def _steps(pair: PairOf, scales: Sequence[words.Scale], kept: Sequence[Mark]) -> list[Any]:
    """Between two points of a front there is none: the worse of both is what can be had."""
    if len(kept) < 2:
        return []
    return [go.Scatter(
        x=[scales[0].of(m.x) for m in kept], y=[scales[1].of(m.y) for m in kept], mode="lines", hoverinfo="skip",
        meta=[m.point.index for m in kept],
        line={"color": CHROME["accent"][0], "width": 1.8, "shape": "hv" if pair[0].sense == "min" else "vh"},
    )]  # fmt: skip


def _rings(scales: Sequence[words.Scale], found: Sequence[Mark]) -> list[Any]:
    return [go.Scatter(
        x=[scales[0].of(m.x) for m in found], y=[scales[1].of(m.y) for m in found], mode="markers", cliponaxis=False,
        meta=[m.point.index for m in found], hoverinfo="skip",
        marker={"size": 17, "symbol": "circle-open", "color": CHROME["ink"][0], "line": {"width": 1.6}},
    )] if found else []  # fmt: skip


def _hover(pair: PairOf, mark: Mark) -> str:
    numbers = zip(pair, (mark.x, mark.y), strict=True)
    said = [f"{safe(aim.of.name)}: {aim.of.say(value)}, {aim.of.tag}" for aim, value in numbers]
    if mark.on_front:
        said.append("on the front")
    if mark.row["status"] == "excluded":
        said.append(safe(mark.row.get("reason") or "excluded"))
    return hover(mark.point.short, *said)


def symbol_of(cast: Cast, point: Point) -> str:
    """A shape for each base."""
    return SYMBOLS[cast.run.distinct("base").index(point.base) % len(SYMBOLS)]


def legend(cast: Cast, drawn: Iterable[Mark]) -> tuple[Swatch, ...]:
    """What filled, faint, crossed and ringed marks are, and which shape is whose."""
    found, bases = list(drawn), cast.run.distinct("base")
    on = any(m.on_front for m in found)
    there = {
        "on the front of the objectives": (on, "accent", "solid", "circle"),
        "beaten by another" if on else "a point": (any(not m.on_front for m in found), "ink3", "none", "circle"),
        "excluded by a condition": (any(m.row["status"] == "excluded" for m in found), "ink3", "none", "x"),
        f"ringed: {cast.run.usual}": (any(m.point.released for m in found), "ink", "none", "circle-open"),
    }
    if len(bases) > 1:
        there |= {b: (True, "ink3", "none", SYMBOLS[i % len(SYMBOLS)]) for i, b in enumerate(bases)}
    return tuple(
        Swatch(text, colour, Look(CHROME[colour], CHROME[colour], dash, symbol))
        for text, (drawn_at_all, colour, dash, symbol) in there.items() if drawn_at_all
    )  # fmt: skip


def tags(pairs: Iterable[PairOf]) -> tuple[str, ...]:
    """How the numbers of some pairs came to be."""
    return columns.tags([aim.of for pair in pairs for aim in pair])
