"""Which axis moves a number most: its mean along each axis, over all others, in a band from least to largest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import plotly.graph_objects as go

from archlab.report import columns, metrics, words
from archlab.report.charts.frame import drawing, hover, log_axis, safe
from archlab.report.columns import Quantity
from archlab.report.effects import PLACE, Effect, Effects, effects, sentence
from archlab.report.palette import CHROME, Look
from archlab.report.parts import Card, Cell, Column, Figure, Row, Swatch, Switch, Table
from archlab.report.points import Cast
from archlab.report.thin import evenly

AXES = 6
"""So many axes are drawn."""
LINE = 60
"""So many values of an axis are drawn."""
FEW = 12
"""So many values of an axis stand at equal distances, with a mark each."""
ROWS = 8
"""So many values of an axis are in the table."""
STATES = 36
"""Choices of a number and a place that have a picture."""
WIDE = 10.0
"""From this ratio of the largest to the least on, upright axes are logarithmic."""

Place = tuple[Any, ...]


def card(cast: Cast) -> Card | None:
    """The card, or None where the run is no grid of two axes or more."""
    found = effects(cast.run)
    if found is None:
        return None
    places = found.places[:STATES]
    shown = found.quantities[: max(1, STATES // len(places))]
    return Card(
        "The mean over all other axes", columns.tags(shown), _caption(cast, found),
        figures=tuple(_figures(found, shown, places)), small=True, switches=_switches(cast, shown, places),
        legend=_legend(), facts=tuple((q.name, sentence(q, found.at(q.column, places[0])), False) for q in shown),
        numbers=_numbers(found, shown, places[0]), notes=tuple(_notes(cast, found, places[0])),
    )  # fmt: skip


def _caption(cast: Cast, found: Effects) -> str:
    counts = sorted({max(_counts(found, place)) for place in found.places})
    several = f" in each of {len(found.places)} places" if len(found.places) > 1 else ""
    each = " to ".join(f"{n:,}" for n in dict.fromkeys((counts[0], counts[-1])))
    return f"Over {each} points{several}. The axis that moves the number most comes first; upright axes are the same."


def _counts(found: Effects, place: Place) -> list[int]:
    """Points of a place, as each axis counts them."""
    return [sum(e.points) for q in found.quantities for e in found.at(q.column, place)] or [0]


def _legend() -> tuple[Swatch, ...]:
    line = Look(CHROME["accent"], CHROME["accent"], "solid", "circle")
    return Swatch("mean", "accent", line), Swatch("from the least to the largest", "band")


def _notes(cast: Cast, found: Effects, place: Place) -> list[str]:
    uneven = any(not e.is_even for q in found.quantities for e in found.at(q.column, place))
    some = "Some points have no numbers: the means of different values are then over different points."
    whole = "These are over all points: the filter above does not change them."
    several = len(found.places) > 1
    first = [f"The sentences and the table are of {_place_words(cast, found.places, place)}."] * several
    return [*first, *[some] * uneven, whole]


# ---------------------------------------------------------------- the choice


def _dimensions(places: Sequence[Place]) -> list[int]:
    """Which of base, workload, device, precision and engine differ."""
    return [i for i in range(len(PLACE)) if len({place[i] for place in places}) > 1]


def _switches(cast: Cast, shown: Sequence[Quantity], places: Sequence[Place]) -> tuple[Switch, ...]:
    made = [Switch("Of", tuple((q.column, q.name) for q in shown), shown[0].column)] * (len(shown) > 1)
    for i in _dimensions(places):
        options = dict.fromkeys(str(place[i]) for place in places)
        said = tuple((key, _say(cast, PLACE[i], key)) for key in options)
        made.append(Switch(_BEFORE[PLACE[i]], said, str(places[0][i]), menu=PLACE[i] == "base"))
    return tuple(made)


_BEFORE = {"base": "From", "workload": "At", "hardware": "On", "precision": "In", "engine": "By"}


def _say(cast: Cast, what: str, key: str) -> str:
    if what == "hardware":
        return metrics.device_title(cast.run, key)
    turned = any(str(a["key"]).startswith("workload.") for a in cast.run.meta["axes"])
    return metrics.work_words(cast.run, key) if what == "workload" and not turned else key


def _place_words(cast: Cast, places: Sequence[Place], place: Place) -> str:
    return ", ".join(_say(cast, PLACE[i], str(place[i])) for i in _dimensions(places))


def _state(shown: Sequence[Quantity], places: Sequence[Place], q: Quantity, place: Place) -> str:
    return "/".join([*[q.column] * (len(shown) > 1), *(str(place[i]) for i in _dimensions(places))])


# ---------------------------------------------------------------- the pictures


def _figures(found: Effects, shown: Sequence[Quantity], places: Sequence[Place]) -> Iterator[Figure]:
    """A picture for the first axis of each choice, for the second of each, and so on."""
    states = {_state(shown, places, q, p): (q, found.at(q.column, p)[:AXES]) for q in shown for p in places}
    made = {state: _drawings(q, axes) for state, (q, axes) in states.items() if axes}
    for i in range(max(map(len, made.values()))):
        about = f"Mean along axis {i + 1} by its effect, in a band from the least to the largest; numbers below."
        yield Figure(f"axes-{i}", "", about, {state: all_[i] for state, all_ in made.items() if i < len(all_)})


def _drawings(of: Quantity, axes: Sequence[Effect]) -> list[dict[str, Any]]:
    low, high = min(min(e.low) for e in axes), max(max(e.high) for e in axes)
    scale = of.scale([low, high])
    upright = _upright(scale, low, high)
    return [_drawing(of, scale, effect, upright) for effect in axes]


def _upright(scale: words.Scale, low: float, high: float) -> dict[str, Any]:
    """One axis for all pictures of a choice."""
    if low > 0 and high / low > WIDE:
        unit = f"{scale.unit} (log scale)".strip()
        return log_axis(low / scale.divisor / 1.15, high / scale.divisor * 1.15, unit)
    ends = [min(0, low / scale.divisor), high / scale.divisor * 1.05]
    return {"range": ends, "nticks": 5, "title": {"text": scale.unit}}


def _drawing(of: Quantity, scale: words.Scale, effect: Effect, upright: dict[str, Any]) -> dict[str, Any]:
    at = evenly(range(len(effect.values)), LINE)
    x, across = _across(effect)
    low, high, mean = ([scale.of(v[i]) for i in at] for v in (effect.low, effect.high, effect.mean))
    there = [x[i] for i in at]
    band = go.Scatter(
        x=[*there, *reversed(there)], y=[*high, *reversed(low)], mode="lines", fill="toself", hoverinfo="skip",
        fillcolor=CHROME["band"][0], line={"width": 0, "color": CHROME["band"][0]},
    )  # fmt: skip
    line = go.Scatter(
        x=there, y=mean, mode="lines+markers" if len(at) <= FEW else "lines", cliponaxis=False, hoverinfo="text",
        line={"color": CHROME["accent"][0], "width": 2.2}, marker={"size": 7, "color": CHROME["accent"][0]},
        hovertext=[_hover(of, effect, i) for i in at],
    )  # fmt: skip
    layout = {"xaxis": across, "yaxis": upright, "margin": {"l": 64, "r": 16, "t": 10, "b": 46}}
    return drawing([band, line], layout, height=230)


def _hover(of: Quantity, effect: Effect, i: int) -> str:
    span = f"{of.say(effect.low[i])} to {of.say(effect.high[i])}"
    head = f"{effect.axis.label} {words.axis_value(effect.values[i])}"
    return hover(head, f"mean {of.say(effect.mean[i])}", f"{span}, {effect.points[i]:,} points", of.tag)


def _across(effect: Effect) -> tuple[list[Any], dict[str, Any]]:
    """Where the values stand, and the axis: of numbers far apart a logarithmic one, of words or few numbers places."""
    title = {"text": safe(f"{effect.axis.label}: {_times(effect)}")}
    values = effect.values
    if len(values) <= FEW or not all(_is_number(v) for v in values):
        ticks = evenly(range(len(values)), 6 if len(values) > 7 else 7)
        axis = {"range": [-0.3, len(values) - 0.7], "tickvals": ticks, "title": title, "showgrid": False}
        return list(range(len(values))), axis | {"ticktext": [safe(_tick(values[i])) for i in ticks]}
    ends = (min(values), max(values))
    if ends[0] > 0 and ends[1] / ends[0] > 20:
        return list(values), {**_doublings(*ends), "title": title}
    return list(values), {"range": list(ends), "nticks": 5, "title": title}


def _doublings(low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis with ticks at a few powers of two."""
    powers = [2.0**n for n in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]
    shown = powers[:: max(1, math.ceil(len(powers) / 6))]
    texts = [words.about(int(t)) if shown[0] >= 1024 else words.axis_value(t) for t in shown]
    return {"type": "log", "range": [math.log10(low), math.log10(high)], "tickvals": shown, "ticktext": texts}


def _tick(value: Any) -> str:
    """'8k' from a thousand on, so that ticks stand beside one another."""
    if _is_number(value) and value >= 10_000 and value % 1024 == 0:
        return words.about(int(value))
    return words.axis_tag(int(value) if _is_number(value) and value == int(value) else value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _times(effect: Effect) -> str:
    return f"{words.times(effect.ratio)} times" if effect.moves else "does not move it"


# ---------------------------------------------------------------- the numbers


def _numbers(found: Effects, shown: Sequence[Quantity], place: Place) -> Table:
    """A row a value of each axis: means, least and largest of each number."""
    heads: list[Column] = []
    rows: dict[tuple[str, int], list[Cell]] = {}
    names: dict[tuple[str, int], str] = {}
    for q in shown:
        every = found.at(q.column, place)
        scale = q.scale([v for e in every for v in (*e.low, *e.high)])
        heads += [Column(f"{q.column} {what}", what, scale.unit, q.tag, group=q.name) for what in _WHAT]
        for effect in every:
            for i in evenly(range(len(effect.values)), ROWS):
                at = (effect.axis.key, i)
                names[at] = f"{effect.axis.label} {words.axis_tag(effect.values[i])}"
                numbers = (getattr(effect, name)[i] for name in _WHAT.values())
                rows.setdefault(at, []).extend(Cell(scale.show(v), v) for v in numbers)
    full = {at: cells for at, cells in rows.items() if len(cells) == len(heads)}
    made = tuple(Row(names[at], tuple(cells)) for at, cells in full.items())
    return Table("axes-numbers", "Means along each axis", "Value", tuple(heads), made)


_WHAT = {"mean": "mean", "least": "low", "largest": "high"}
