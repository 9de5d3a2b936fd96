"""May the prediction be trusted: beside what was measured, on equal axes; and by how much of it it is off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import plotly.graph_objects as go

from archlab import units
from archlab.report import timed, trust, words
from archlab.report.charts import marks
from archlab.report.charts.frame import drawing, hover, log_axis
from archlab.report.charts.time_axis import spread, tick
from archlab.report.palette import CHROME, Look
from archlab.report.parts import MEASURED, PREDICTED, Card, Cell, Column, Figure, Row, Swatch, Switch, Table
from archlab.report.points import Cast
from archlab.report.timed import Timing

BAND = 0.10
"""Half the width of the band: off by so much of what was measured."""
LEAST = 4.0
"""Axes span at least this ratio, so that the band is seen for what it is."""
SYMBOLS = {"decode": "circle", "prefill": "diamond"}
"""Phase -> its shape; the colour is the point's."""

MARGIN = {"l": 66, "r": 18, "t": 14, "b": 52}
MEASURED_AXIS = "Measured (log scale)"


def card(cast: Cast) -> Card | None:
    """The card, or None where nothing was both predicted and measured."""
    found = [t for t in timed.timings(cast) if t.error is not None]
    if not found:
        return None
    setups = timed.places(found)
    by = {s if len(setups) > 1 else "": [t for t in found if t.place == s] for s in setups}
    about = f"measured time, a mark for each of {words.some(len(found), 'time')}; the numbers are in the table below."
    pairs = {state: _pairs(mine) for state, mine in by.items()}
    errors = {state: _errors(mine) for state, mine in by.items()}
    return Card(
        "May the prediction be trusted?", (PREDICTED, MEASURED), _caption(cast, found),
        figures=(Figure("trust", "Predicted against measured", f"Predicted against {about}", pairs),
                 Figure("trust-error", "How far off", f"Error of the prediction against {about}", errors)),
        small=True, pairs=True, switches=(Switch("On", tuple((s, s) for s in setups), setups[0]),) * (len(setups) > 1),
        legend=_legend(found), numbers=_numbers(cast, found), notes=tuple(_notes(cast, found)),
    )  # fmt: skip


def _caption(cast: Cast, found: Sequence[Timing]) -> str:
    return f"{trust.seen(cast, found)} {trust.held_out([t.row for t in found])}"


def _legend(found: Sequence[Timing]) -> tuple[Swatch, ...]:
    ink = CHROME["ink2"]
    shapes = [Swatch(x, "ink2", Look(ink, ink, "none", _symbol(x))) for x in timed.phases(found)]
    return (*shapes, Swatch(f"within {words.percent(BAND)} of what was measured", "band"))


def _symbol(phase: str) -> str:
    return SYMBOLS.get(phase, "square")


def _notes(cast: Cast, found: Sequence[Timing]) -> list[str]:
    rows = [t.row for t in found]
    left = sum(t.tag != MEASURED and bool(t.predicted) for t in timed.timings(cast))
    trusted = "The held-out error is the one to trust: the calibration may have seen what is drawn here."
    are = "is left out: it is" if left == 1 else "are left out: they are"
    return [
        *[trusted] * bool(trust.off(rows)), *trust.how(rows),
        *[words.sentence(f"{words.some(left, 'extrapolated time')} {are} not measured.")] * bool(left),
        "Whiskers run from 5 % to 95 % of the runs. Above the line the prediction is too long.",
    ]  # fmt: skip


# ---------------------------------------------------------------- two pictures


def _pairs(found: Sequence[Timing]) -> dict[str, Any]:
    """Predicted against measured on equal axes, and the line where they are equal."""
    low, high = _ends([x for t in found for x in (t.low, t.high, t.predicted or t.seconds)])
    axis = _axis(low, high, MEASURED_AXIS)
    other = axis | {"title": {"text": "Predicted (log scale)"}}
    band = _band([low, high], [low * (1 + BAND), high * (1 + BAND)], [low * (1 - BAND), high * (1 - BAND)])
    dots = [_dot(t, t.predicted or 0, error_x=_whisker(t, lambda x: x)) for t in found]
    layout = {"xaxis": axis, "yaxis": other, "margin": MARGIN}
    return drawing([band, _line([low, high], [low, high]), *dots], layout, height=420, square=True)


def _errors(found: Sequence[Timing]) -> dict[str, Any]:
    """The error of each in per cent of what was measured."""
    low, high = _ends([x for t in found for x in (t.low, t.high)])
    most = 1.15 * max(BAND * 100, *(abs(_off(t, x)) for t in found for x in (t.low, t.high)))
    dots = [_dot(t, _off(t, t.seconds), error_y=_whisker(t, partial(_off, t))) for t in found]
    layout = {
        "xaxis": _axis(low, high, MEASURED_AXIS), "margin": MARGIN,
        "yaxis": {"range": [-most, most], "title": {"text": "Error of the prediction, % of measured"}, "nticks": 7},
    }  # fmt: skip
    edge = BAND * 100
    band = _band([low, high], [edge, edge], [-edge, -edge])
    return drawing([band, _line([low, high], [0, 0]), *dots], layout, height=420, square=True)


def _ends(known: Sequence[float]) -> tuple[float, float]:
    return spread(min(known), max(known), LEAST)


def _off(t: Timing, measured: float) -> float:
    """Per cent by which the prediction is longer than what was measured."""
    return ((t.predicted or 0) / measured - 1) * 100


def _axis(low: float, high: float, title: str) -> dict[str, Any]:
    axis = log_axis(low, high, title)
    return axis | {"ticktext": [tick(x) for x in axis["tickvals"]]}


def _line(x: list[float], y: list[float]) -> Any:
    return go.Scatter(x=x, y=y, mode="lines", hoverinfo="skip", line={"color": CHROME["ink3"][0], "width": 1.2})


def _band(x: list[float], above: list[float], below: list[float]) -> Any:
    return go.Scatter(
        x=[*x, *reversed(x)], y=[*above, *reversed(below)], mode="lines", fill="toself", hoverinfo="skip",
        fillcolor=CHROME["band"][0], line={"width": 0, "color": CHROME["band"][0]},
    )  # fmt: skip


def _whisker(t: Timing, at: Callable[[float], float]) -> dict[str, Any]:
    """The middle nine tenths of the runs, wherever an axis puts them."""
    low, middle, high = sorted(at(x) for x in (t.low, t.seconds, t.high))
    return {"type": "data", "array": [high - middle], "arrayminus": [middle - low], "color": t.point.look.line[0],
            "thickness": 1.6, "width": 4}  # fmt: skip


def _dot(t: Timing, height: float, **whisker: Any) -> Any:
    look, edge = t.point.look, CHROME["card"][0]
    return go.Scatter(
        x=[words.significant(t.seconds)], y=[words.significant(height)], mode="markers", meta=t.point.index,
        marker={"size": 11, "symbol": _symbol(t.phase), "color": look.line[0], "line": {"width": 1, "color": edge}},
        hoverinfo="text", hovertext=[hover(f"{t.point.short}, {t.phase}", *marks.said(t))], cliponaxis=False, **whisker,
    )  # fmt: skip


# ---------------------------------------------------------------- the numbers


def _numbers(cast: Cast, found: Sequence[Timing]) -> Table:
    columns = (
        Column("phase", "Phase", number=False), Column("workload", "Workload", number=False),
        Column("median_s", "Median", "", MEASURED), Column("predicted_s", "Time", "", PREDICTED),
        Column("predicted_error", "Off by", "% of measured", PREDICTED),
        Column(trust.MEDIAN, "Held out", "% off, median", PREDICTED), Column("place", "On", number=False),
    )  # fmt: skip
    rows = tuple(Row(t.point.tag, tuple(_cells(cast, t)), t.point) for t in found)
    return Table("trust-numbers", "Predicted and measured", "Point", columns, rows)


def _cells(cast: Cast, t: Timing) -> list[Cell]:
    held, work = t.row.get(trust.MEDIAN), timed.work_words(cast, t.row)
    return [
        Cell(t.phase, t.phase), Cell(work, work), Cell(units.show_seconds(t.seconds), t.seconds),
        Cell(units.show_seconds(t.predicted or 0), t.predicted), Cell(marks.signed(t.error), t.error),
        Cell(words.NONE if held is None else words.percent(held), held), Cell(t.place, t.place),
    ]  # fmt: skip
