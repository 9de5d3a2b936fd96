"""The picture of times against context or batch: what was timed as marks, the bound and the prediction as lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from archlab import units
from archlab.report import timed
from archlab.report.charts import marks
from archlab.report.charts.frame import context_axis, drawing, hover
from archlab.report.charts.time_axis import TimeAxis, time_axis
from archlab.report.charts.timed_lines import Line
from archlab.report.palette import CHROME
from archlab.report.parts import BOUND, EXTRAPOLATED, PREDICTED
from archlab.report.timed import Timing

DASHES = {PREDICTED: "dash", BOUND: "dot"}
TICKS = 8
"""So many batches each have a tick."""


def drawn(made: Sequence[Line]) -> dict[str, Any]:
    """The lines of one phase in one place."""
    axis = time_axis(x for line in made for t in line.every for x in t.known)
    layout = {
        "xaxis": _axis(made), "yaxis": axis.layout(room=1.1), "margin": {"l": 74, "r": 24, "t": 14, "b": 52},
    }  # fmt: skip
    traces = [trace for line in made for trace in _traces(axis, line)]
    return drawing(traces, layout, labels=[_label(axis, line) for line in made], height=380)


def _axis(made: Sequence[Line]) -> dict[str, Any]:
    at = sorted({line.at(t) for line in made for t in line.every})
    if made[0].along.key == "context":
        return context_axis(at, "Context (tokens, log scale)", pad=0.05)
    pad = math.log10(at[-1] / at[0]) * 0.05
    ends = [math.log10(at[0]) - pad, math.log10(at[-1]) + pad]
    ticks = {"tickvals": at, "ticktext": [f"{x:,}" for x in at]} if len(at) <= TICKS else {}
    return {"type": "log", "range": ends, "title": {"text": "Batch (sequences, log scale)"}} | ticks


def _traces(axis: TimeAxis, line: Line) -> list[Any]:
    bounds = [(t, t.bound) for t in line.every if t.bound]
    expected = [(t, t.predicted) for t in line.every if t.predicted]
    said = [
        (BOUND, bounds, [_hover(line, t, f"at least {units.show_seconds(x)}", BOUND) for t, x in bounds]),
        (PREDICTED, expected, [_hover(line, t, *marks.expected(t)) for t, _ in expected]),
    ]
    thin = [_thin(axis, line, kind, at, texts) for kind, at, texts in said if at]
    return [*thin, *[_marks(axis, line)] * bool(line.found)]


def _hover(line: Line, t: Timing, *said: str) -> str:
    return hover(line.point.short, timed.spoken(t), *said)


def _thin(axis: TimeAxis, line: Line, kind: str, at: Sequence[tuple[Timing, float]], texts: Sequence[str]) -> Any:
    """A line alone, or with markers where it is the line's own."""
    look, own = line.look, line.kind == kind
    return go.Scatter(
        x=[line.at(t) for t, _ in at], y=[axis.of(x) for _, x in at], mode="lines+markers" if own else "lines",
        meta=line.point.index, hoverinfo="text", hovertext=list(texts), cliponaxis=False,
        line={"color": look.line[0], "width": 1.8, "dash": DASHES[kind]},
        marker={"size": 7, "symbol": look.symbol, "color": look.line[0]},
    )  # fmt: skip


def _marks(axis: TimeAxis, line: Line) -> Any:
    """Medians with their whiskers, joined where no prediction is there to join them."""
    found, colour = line.found, line.look.line[0]
    joined = "markers" if all(t.predicted for t in found) else "lines+markers"
    fills = [CHROME["card"][0] if t.tag == EXTRAPOLATED else colour for t in found]
    up, down = marks.spread(axis.of, found)
    return go.Scatter(
        x=[line.at(t) for t in found], y=[axis.of(t.seconds) for t in found], mode=joined, meta=line.point.index,
        name=line.name, cliponaxis=False, hoverinfo="text", line={"color": colour, "width": 1.8},
        marker={"size": 9, "symbol": line.look.symbol, "color": fills, "line": {"width": 1.8, "color": colour}},
        error_y={"type": "data", "array": up, "arrayminus": down, "color": colour, "thickness": 1.6, "width": 4},
        hovertext=[_hover(line, t, *marks.said(t)) for t in found],
    )  # fmt: skip


def _label(axis: TimeAxis, line: Line) -> dict[str, Any]:
    """Beside the last of a line's times, whichever that is."""
    last = line.every[-1]
    return {
        "point": line.point.index,
        "text": line.name,
        "y": axis.of(next(x for x in (line.value(last), last.predicted, last.bound, line.known[-1][1]) if x)),
        "color": line.look.text[0],
        "bold": line.point.released,
    }
