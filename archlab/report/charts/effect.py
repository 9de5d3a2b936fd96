"""Small multiples: each metric against an axis that the study turned, the released shape ringed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from archlab.report import metrics, trust, words
from archlab.report.charts.frame import drawing, hover, safe
from archlab.report.load import Axis
from archlab.report.metrics import Metric
from archlab.report.palette import CHROME
from archlab.report.parts import BOUND, CALCULATED, PREDICTED, Card, Cell, Column, Figure, Row, Swatch, Switch, Table
from archlab.report.points import Cast, Point, axis_rank, main_axis

MOST = 9
"""Panels beyond this many are left to the tables."""


def card(cast: Cast) -> Card | None:
    """The card, or None in a comparison and where no axis has two values with numbers."""
    axes = [a for a in cast.run.axes if len({p.values[a.key] for p in cast.ok}) > 1]
    axes.sort(key=lambda a: a is not main_axis(cast.run))
    shown = [m for m in chosen(cast) if len(m.known(cast.run, cast.ok)) > 1][:MOST]
    if not axes or not shown:
        return None
    figures = tuple(_figure(cast, axes, metric, i) for i, metric in enumerate(shown))
    switch = Switch("Against", tuple((a.key, a.label) for a in axes), axes[0].key)
    title = f"Against {axes[0].label}" if len(axes) == 1 else "Each axis by itself"
    tags = tuple(t for t in (CALCULATED, BOUND, PREDICTED) if any(m.tag == t for m in shown))
    held = [trust.held_out(trust.predicted_rows(cast))] * (PREDICTED in tags)
    return Card(
        title, tags, _caption(cast), figures=figures, small=True, legend=_legend(cast),
        switches=(switch,) * (len(axes) > 1), numbers=_numbers(cast, shown), notes=(*held, *_too_large(cast, shown)),
    )  # fmt: skip


def chosen(cast: Cast) -> list[Metric]:
    """The cache, decode on two devices, FLOPs, parameters, d_ff where it pays; at both ends of reach."""
    run = cast.run
    ends = {w for w in (*metrics.by_reach(run)[:1], metrics.longest(run)) if w}
    first = metrics.precisions(run)[:1]
    near = [m for m in (*metrics.kv_cache(run), *_two_devices(cast)) if m.at["workload"] in ends]
    near = [m for m in near if m.at["precision"] in first]
    work = [m for m in metrics.flops(run, "decode") if m.at["workload"] == metrics.longest(run)]
    paid = [metrics.D_FF] if any(metrics.varies(run, metrics.D_FF, mates) for mates in cast.groups.values()) else []
    return [*near, *work, metrics.PARAMS, *paid]


def _two_devices(cast: Cast) -> list[Metric]:
    """Decode on two devices: as predicted where one is calibrated, else the bound."""
    bounds, predicted = ([m for m in of(cast.run, "decode") if m.known(cast.run, cast.ok)] for of in _DECODE)
    calibrated = {m.at["hardware"] for m in predicted}
    known = [*predicted, *(m for m in bounds if m.at["hardware"] not in calibrated)]
    devices = list(dict.fromkeys(m.at["hardware"] for m in known))[:2]
    return [m for m in known if m.at["hardware"] in devices]


_DECODE = (metrics.bounds, metrics.predictions)


def _caption(cast: Cast) -> str:
    held = words.HELD.get(cast.run.meta.get("hold") or "")
    axis = main_axis(cast.run)
    said = ["Upright axes start at zero."]
    said += [f"A ring marks the {cast.run.usual} shape."] * any(p.released for p in cast.ok)
    said += ["A cross was refused or failed."] * (len(cast.ok) < len(cast.all))
    said += [f"Darker is further along {axis.label}."] if axis and len(cast.groups) > 1 else []
    return " ".join([*said, *[f"{cast.run.pays} was rescaled to hold the {held}."] * bool(held)])


def _too_large(cast: Cast, shown: Sequence[Metric]) -> tuple[str, ...]:
    """Which times are for shapes that the device cannot hold."""
    times = [m for m in shown if m.tag in (BOUND, PREDICTED)]
    lost = {m: sum(not metrics.fits(cast.run, p.name, m.at) for p in cast.ok) for m in times}
    said = [f"{n} of {len(cast.ok)} {m.where}" for m, n in lost.items() if n]
    what = words.listing(
        list(dict.fromkeys("prediction" if m.tag == PREDICTED else "bound" for m, n in lost.items() if n))
    )
    return (f"Too large for the device, so that the {what} is arithmetic only: {words.listing(said)}.",) if said else ()


def _legend(cast: Cast) -> tuple[Swatch, ...]:
    if not 1 < len(cast.groups) <= 12:
        return ()
    return tuple(Swatch(name, f"point-{mates[-1].index}", mates[-1].look) for name, mates in cast.groups.items())


# ---------------------------------------------------------------- one panel


@dataclass(frozen=True)
class Panel:
    """A metric against an axis; places are the positions of the axis' values."""

    cast: Cast
    axis: Axis
    metric: Metric
    scale: words.Scale
    values: Sequence[Any]

    def place(self, point: Point) -> int:
        """Where a point stands on the axis."""
        return self.values.index(point.values[self.axis.key])

    def height(self, point: Point) -> float | None:
        """Its number, in the unit of the panel."""
        return self.scale.of(self.metric.of(self.cast.run, point))

    def lines(self) -> list[list[Point]]:
        """Points that differ along this axis alone, in its order."""
        found: dict[tuple[Any, ...], list[Point]] = {}
        for point in self.metric.known(self.cast.run, self.cast.ok):
            rest = tuple(words.axis_value(v) for k, v in point.values.items() if k != self.axis.key)
            found.setdefault((point.base, *rest), []).append(point)
        return [sorted(line, key=self.place) for line in found.values()]


def _figure(cast: Cast, axes: Sequence[Axis], metric: Metric, i: int) -> Figure:
    scale = metric.scale(metric.known(cast.run, cast.all).values())
    drawings = {}
    for axis in axes:
        values = sorted({p.values[axis.key] for p in cast.all}, key=lambda v: axis_rank(axis.values, v))
        drawings[axis.key if len(axes) > 1 else ""] = _drawing(Panel(cast, axis, metric, scale, values))
    about = f"{metric.title} against {words.listing([a.label for a in axes])}; the numbers are in the table below."
    where = ", ".join(x for x in (scale.unit, metric.where) if x)
    return Figure(f"effect-{i}", metric.name, about, drawings, where, metric.tag)


def _drawing(panel: Panel) -> dict[str, Any]:
    traces = [trace for line in panel.lines() for trace in (_line(panel, line), _ring(panel, line))]
    places = list(range(len(panel.values)))
    ticks = [safe(words.axis_tag(v)) for v in panel.values]
    layout = {
        "xaxis": {
            "type": "category", "range": [-0.4, len(places) - 0.6], "categoryorder": "array", "showgrid": False,
            "categoryarray": places, "tickvals": places, "ticktext": ticks, "title": {"text": safe(panel.axis.label)},
        },
        "yaxis": {"rangemode": "tozero", "nticks": 5}, "margin": {"l": 54, "r": 12, "t": 12, "b": 46},
    }  # fmt: skip
    return drawing([*traces, _refused(panel)], layout, height=206)


def _line(panel: Panel, line: list[Point]) -> Any:
    look, own = line[-1].look, panel.axis is main_axis(panel.cast.run) and len(panel.cast.groups) > 1
    said = [f"{safe(panel.metric.title)}: {panel.metric.say(panel.metric.of(panel.cast.run, p))}" for p in line]
    return go.Scatter(
        x=[panel.place(p) for p in line], y=[panel.height(p) for p in line], mode="lines+markers",
        meta=[p.index for p in line], name=line[0].group, cliponaxis=False, hoverinfo="text",
        line={"color": look.line[0] if own else CHROME["ink3"][0], "width": 1.6, "dash": look.dash},
        marker={"size": 8, "symbol": [p.look.symbol for p in line], "color": [p.look.line[0] for p in line]},
        hovertext=[hover(p.short, text, panel.metric.tag) for p, text in zip(line, said, strict=True)],
    )  # fmt: skip


def _ring(panel: Panel, line: list[Point]) -> Any:
    own = [p for p in line if p.released]
    return go.Scatter(
        x=[panel.place(p) for p in own], y=[panel.height(p) for p in own], mode="markers", cliponaxis=False,
        meta=[p.index for p in own], hoverinfo="skip",
        marker={"size": 16, "symbol": "circle-open", "color": CHROME["ink"][0], "line": {"width": 1.6}},
    )  # fmt: skip


def _refused(panel: Panel) -> Any:
    lost = [p for p in panel.cast.all if not p.ok]
    return go.Scatter(
        x=[panel.place(p) for p in lost], y=[0.0 for _ in lost], mode="markers", cliponaxis=False,
        meta=[p.index for p in lost], hoverinfo="text",
        marker={"size": 9, "symbol": "x-thin-open", "color": CHROME["no"][0], "line": {"width": 2}},
        hovertext=[hover(p.short, f"{p.status}: {safe(p.reason)}") for p in lost],
    )  # fmt: skip


def _numbers(cast: Cast, shown: list[Metric]) -> Table:
    columns, cells = [], {p: list[Cell]() for p in cast.ok}
    for metric in shown:
        scale = metric.scale(metric.known(cast.run, cast.ok).values())
        columns.append(Column(metric.key, metric.name, f"{scale.unit} {metric.where}".strip(), metric.tag))
        for p in cast.ok:
            value = metric.of(cast.run, p)
            cells[p].append(Cell(scale.show(value), value))
    rows = tuple(Row(p.tag, tuple(cells[p]), p) for p in cast.ok)
    return Table("effect-numbers", "The effect in numbers", "Point", tuple(columns), rows)
