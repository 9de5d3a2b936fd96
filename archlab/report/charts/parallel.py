"""Parallel coordinates: each point a line, from the values that the run turned to the numbers that they made."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from archlab.report import columns, words
from archlab.report.charts import choices, cloud_table
from archlab.report.charts.frame import drawing, hover, safe
from archlab.report.load import Axis, Record, Run
from archlab.report.objectives import Aim, aims, listed, numbered
from archlab.report.palette import CHROME, Look
from archlab.report.parts import Card, Figure, Swatch
from archlab.report.points import Cast, Point, axis_rank
from archlab.report.thin import STANDS, evenly

RAILS = 9
"""So many upright axes are drawn."""
FEWEST, MOST = 3, 5
"""Numbers beside the run's own axes: the objectives, filled up with what a page compares first."""
VALUES = 12
"""So many values of an axis have a place each; of more some are named."""
WIDE = 8.0
"""From this ratio of the largest to the least on, a rail of numbers is logarithmic."""
FRONT = 24
"""So many lines of a front are drawn: more are an area."""
LINES = 2000
"""Lines of all states of the card."""
ROWS = 60
"""Rows of the table."""
USUAL = ("kv_cache_bytes", "decode_bound_s", "params", "memory_bytes", "flops_decode")

Line = tuple[Point, Record]


@dataclass(frozen=True)
class Rail:
    """An upright axis: its name, where a value stands (0 to 1), and the values that are named."""

    head: str
    of: Callable[[Line], Any]
    place: Callable[[Any], float]
    ticks: tuple[tuple[float, str], ...]
    better: str = ""


def card(cast: Cast) -> Card | None:
    """The card, or None where the run turns fewer than two axes, or has fewer than two numbers."""
    cast, axes = cast.wide, cast.run.axes[: RAILS - FEWEST]
    numbers = _numbers(cast.run, len(axes))
    if len(axes) < 2 or len(numbers) < 2:
        return None
    found = choices.variants(cast.run, True, lambda at: _lines(cast, numbers, at) or None)
    if not found or sum(map(len, found.values())) > LINES:
        return None
    drawn = {state: _picture(axes, numbers, lines) for state, lines in found.items()}
    switches = choices.switches(cast.run, True, drawn)
    first = found["/".join(s.chosen for s in switches)] if switches else next(iter(found.values()))
    about = "Parallel coordinates: a line a point through its axes and numbers; the numbers are in the table below."
    return Card(
        "From settings to costs", columns.tags([aim.of for aim in numbers]), _caption(cast, first),
        figures=(Figure("parallel", "", about, drawn),), switches=switches, legend=_legend(first),
        numbers=cloud_table.table(cast, "parallel-numbers", "Every line", numbers, _rows(cast, first)),
        notes=tuple(_notes(cast, first)),
    )  # fmt: skip


def _numbers(run: Run, axes: int) -> list[Aim]:
    """The objectives, and what is compared first where they are few."""
    found = aims(run)[: min(MOST, RAILS - axes)]
    known = {aim.column for aim in found}
    return [*found, *[a for a in numbered(run, USUAL) if a.column not in known][: max(FEWEST - len(found), 0)]]


def _lines(cast: Cast, numbers: Sequence[Aim], at: choices.At) -> list[Line]:
    """The points that have all the numbers there."""
    rows = [(p, r) for p in cast.all for r in cast.run.rows_at(p.name, **at)[:1] if r["status"] in STANDS]
    known = [(p, r) for p, r in rows if all(r.get(aim.column) is not None for aim in numbers)]
    kept = {id(r) for _, r in evenly([line for line in known if _is_best(line)], FRONT)}
    return [(p, r) for p, r in known if id(r) in kept or p.released or not _is_best((p, r))]


def _is_best(line: Line) -> bool:
    """It is on the front of its place."""
    return bool(line[1].get("front")) and line[1]["status"] == "ok"


# ---------------------------------------------------------------- rails


def _of_axis(axis: Axis, lines: Sequence[Line]) -> Rail:
    """A rail of an axis: few values stand at equal distances, many numbers where they are."""
    values = sorted({p.values[axis.key] for p, _ in lines}, key=lambda v: axis_rank(axis.values, v))
    if len(values) > VALUES and all(isinstance(v, int | float) for v in values):
        place = _scaled(values)
        named = _near_quarters(values, place)
    else:
        places = {v: i / max(len(values) - 1, 1) for i, v in enumerate(values)}
        place, named = places.__getitem__, evenly(values, VALUES)
    return Rail(
        axis.label, lambda line: line[0].values[axis.key], place, tuple((place(v), words.axis_tag(v)) for v in named)
    )


def _near_quarters(values: Sequence[float], place: Callable[[float], float]) -> list[float]:
    """The values that are nearest to five even places along a rail."""
    at = {v: place(v) for v in values}
    return list(dict.fromkeys(min(at, key=lambda v: abs(at[v] - i / 4)) for i in range(5)))


def _of_number(aim: Aim, lines: Sequence[Line]) -> Rail:
    """A rail of numbers, with what is better."""
    values = [float(r[aim.column]) for _, r in lines]
    place, scale = _scaled(values), aim.of.scale(values)
    low, high = min(values), max(values)
    steps = [low * (high / low) ** (i / 4) for i in range(5)] if _is_wide(low, high) else _even(low, high)
    better = {"min": "less is better", "max": "more is better"}.get(aim.sense or "", "")
    ticks = dict.fromkeys((place(v), scale.full(v)) for v in steps)
    return Rail(aim.of.name, lambda line: float(line[1][aim.column]), place, tuple(ticks), better)


def _even(low: float, high: float) -> list[float]:
    return [low + (high - low) * i / 4 for i in range(5)] if high > low else [low]


def _is_wide(low: float, high: float) -> bool:
    return low > 0 and high / low > WIDE


def _scaled(values: Sequence[float]) -> Callable[[float], float]:
    """Number -> 0 to 1 between the least and the largest; by ratios where they are far apart."""
    low, high = min(values), max(values)
    if low == high:
        return lambda value: 0.5
    if _is_wide(low, high):
        return lambda value: math.log(value / low) / math.log(high / low)
    return lambda value: (value - low) / (high - low)


# ---------------------------------------------------------------- the picture


def _picture(axes: Sequence[Axis], numbers: Sequence[Aim], lines: Sequence[Line]) -> dict[str, Any]:
    """Faint lines, then the excluded, then the front and the released shape over them. A phone has the rails lying."""
    rails = [*(_of_axis(axis, lines) for axis in axes), *(_of_number(aim, lines) for aim in numbers)]
    groups = _groups(lines)
    traces = [
        _trace(rails, numbers, mine, colour, how) for name, (colour, how) in _STYLES.items() if (mine := groups[name])
    ]
    upright, lying = _layout(rails, turned=False), _layout(rails, turned=True)
    return drawing(traces, upright, height=430, turned=lying)


_STYLES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "excluded": ("ink3", {"width": 1, "dash": "dot", "opacity": 0.35}),
    "beaten": ("ink3", {"width": 1.1, "opacity": 0.45}),
    "front": ("accent", {"width": 2.2, "opacity": 0.95}),
    "released": ("ink", {"width": 2.4, "dash": "dash", "opacity": 1}),
}
"""Sort of line -> colour and how it is drawn, the last on top."""


def _groups(lines: Sequence[Line]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {name: [] for name in _STYLES}
    for point, row in lines:
        name = "excluded" if row["status"] != "ok" else "front" if _is_best((point, row)) else "beaten"
        found[name].append((point, row))
        if point.released:
            found["released"].append((point, row))
    return found


def _trace(
    rails: Sequence[Rail], numbers: Sequence[Aim], lines: Sequence[Line], colour: str, how: Mapping[str, Any]
) -> Any:
    """All lines of a sort, with a gap between two of them."""
    places = [[*(words.significant(rail.place(rail.of(line)), 4) for rail in rails), None] for line in lines]
    n = len(rails) + 1
    return go.Scatter(
        x=[*range(len(rails)), None] * len(lines), y=[y for line in places for y in line], mode="lines+markers",
        meta=[p.index for p, _ in lines for _ in range(n)], connectgaps=False, cliponaxis=False, hoverinfo="text",
        hovertext=[text for line in lines for text in [_said(numbers, line)] * n], opacity=how["opacity"],
        line={"color": CHROME[colour][0], "width": how["width"], "dash": how.get("dash", "solid")},
        marker={"size": 5 if colour == "accent" else 3.5, "color": CHROME[colour][0]},
    )  # fmt: skip


def _said(numbers: Sequence[Aim], line: Line) -> str:
    point, row = line
    said = [f"{safe(aim.of.name)}: {aim.of.say(float(row[aim.column]))}, {aim.of.tag}" for aim in numbers]
    said += ["on the front"] * _is_best(line)
    said += [safe(row.get("reason") or "excluded")] * (row["status"] != "ok")
    return hover(point.short, *said)


def _layout(rails: Sequence[Rail], turned: bool) -> dict[str, Any]:
    """Rails with their names and values: upright side by side, or lying below one another."""
    across = {"range": [-0.06, len(rails) - 0.94], "visible": False}
    along = {"range": [-0.03, 1.03], "visible": False}
    rail = {"type": "line", "line": {"color": CHROME["rule"][0], "width": 1.2}, "layer": "below"}
    ends = [
        {"y0": i, "y1": i, "x0": 0, "x1": 1} if turned else {"x0": i, "x1": i, "y0": 0, "y1": 1}
        for i in range(len(rails))
    ]
    notes = [note for i, each in enumerate(rails) for note in _names(i, each, turned)]
    if turned:
        across = across | {"range": [len(rails) - 0.4, -0.5]}
    return {
        "xaxis": along if turned else across, "yaxis": across if turned else along, "annotations": notes,
        "shapes": [rail | end for end in ends], "height": 74 * len(rails) + 20 if turned else 430,
        "margin": {"l": 26, "r": 26, "t": 4, "b": 10} if turned else {"l": 78, "r": 64, "t": 62, "b": 14},
    }  # fmt: skip


def _names(nth: int, rail: Rail, turned: bool) -> list[dict[str, Any]]:
    """What a rail is called, and its values beside it (below it, where it lies)."""
    quiet = {"showarrow": False, "bgcolor": CHROME["card"][0], "borderpad": 1}
    small = {"size": 11.5, "color": CHROME["ink2"][0]}
    head = {**quiet, "text": _head(rail, turned), "font": {"size": 12, "color": CHROME["ink"][0]}}
    where: dict[str, Any] = {"x": nth, "y": 1, "yanchor": "bottom", "yshift": 8}
    if turned:
        where = {"x": 0, "y": nth, "xanchor": "left", "yanchor": "bottom", "yshift": 4, "xshift": -22}
    ticks = evenly(rail.ticks, 3 if max(len(text) for _, text in rail.ticks) > 6 else 5) if turned else rail.ticks
    beside = [
        {"x": at, "y": nth, "yanchor": "top", "yshift": -4} if turned
        else {"x": nth, "y": at, "xanchor": "right", "xshift": -6} for at, _ in ticks
    ]  # fmt: skip
    named = [
        {**quiet, **place, "text": safe(text), "font": small} for place, (_, text) in zip(beside, ticks, strict=True)
    ]
    return [{**head, **where}, *named]


def _head(rail: Rail, turned: bool) -> str:
    """The name in bold and which way is better; on one line where the rail lies."""
    lines = [rail.head] if turned else textwrap.wrap(rail.head, 17)[:2]
    bold = "<br>".join(f"<b>{safe(line)}</b>" for line in lines)
    return bold + (f"{', ' if turned else '<br>'}{rail.better}" if rail.better else "")


# ---------------------------------------------------------------- words


def _caption(cast: Cast, lines: Sequence[Line]) -> str:
    wanted = aims(cast.run)
    on = sum(map(_is_best, lines))
    many = ", an even sample of them" if on >= FRONT else ""
    bold = f" Bold: {words.some(on, 'point')} that no other beats in {listed(wanted)}{many}." if on else ""
    sample = " These are a sample of a large run." if cast.run.is_thinned else ""
    return f"A line is a point. Point at one for its numbers.{bold}{sample}"


_NAMES = {
    "front": "on the front", "beaten": "beaten by another", "excluded": "excluded by a condition",
    "released": "as released",
}  # fmt: skip


def _legend(lines: Sequence[Line]) -> tuple[Swatch, ...]:
    groups = {name: mine for name, mine in _groups(lines).items() if mine}
    said = _NAMES | {"beaten": "beaten by another" if "front" in groups else "a point"}
    said |= {"released": words.AS_USUAL[groups["released"][0][0].usual]} if "released" in groups else {}
    dashes = {name: _STYLES[name][1].get("dash", "solid") for name in groups}
    return tuple(
        Swatch(said[name], _STYLES[name][0], Look(CHROME["ink"], CHROME["ink"], dashes[name], "none"))
        for name in _NAMES if name in groups
    )  # fmt: skip


def _rows(cast: Cast, lines: Sequence[Line]) -> list[Line]:
    """The lines that are drawn first, and after them the points that have none."""
    there = {p for p, _ in lines}
    return [*evenly(lines, ROWS), *[(p, cast.run.rows[p.name][0]) for p in cast.all if p not in there and not p.ok]]


def _notes(cast: Cast, lines: Sequence[Line]) -> list[str]:
    lost = [p for p in cast.all if not p.ok and p.status not in STANDS]
    named = words.listing([p.tag for p in lost[:6]]) + (f" and {len(lost) - 6} more" if len(lost) > 6 else "")
    said = f"Without a line, for they have no numbers: {named}; each is in the table, and with its reason further down."
    more = len(lines) - ROWS
    cut = f"The table has {ROWS} of {len(lines)} lines, evenly chosen." if more > 0 else ""
    return [*[said] * bool(lost), *[cut] * bool(cut)]
