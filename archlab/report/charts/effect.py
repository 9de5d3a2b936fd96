"""Small multiples: each metric against the axis that a study turned, the released shape ringed."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from archlab.report import metrics, words
from archlab.report.charts.frame import drawing, hover, safe
from archlab.report.load import Axis
from archlab.report.metrics import Metric
from archlab.report.palette import CHROME
from archlab.report.parts import BOUND, CALCULATED, Card, Cell, Column, Figure, Row, Swatch, Table
from archlab.report.points import Cast, Point, axis_rank

MOST = 9


def card(cast: Cast) -> Card | None:
    """The card, or None in a comparison and where an axis has a single point."""
    axis = max(cast.run.axes, key=lambda a: len(a.values), default=None)
    shown = [m for m in _metrics(cast) if len(m.known(cast.run, cast.ok)) > 1]
    if axis is None or not shown or len({p.values[axis.key] for p in cast.ok}) < 2:
        return None
    figures = tuple(_panel(cast, axis, metric, i) for i, metric in enumerate(shown))
    tags = tuple(t for t in (CALCULATED, BOUND) if any(m.tag == t for m in shown))
    return Card(
        f"Against {axis.label}", tags, _caption(cast), figures=figures, small=True, legend=_legend(cast),
        numbers=_numbers(cast, shown),
    )  # fmt: skip


def _metrics(cast: Cast) -> list[Metric]:
    """The cache at each workload, the decode bound on each device, FLOPs and parameters; the widest apart where too many."""
    run = cast.run
    caches = [m for m in metrics.kv_cache(run) if m.at["precision"] in metrics.precisions(run)[:1]][-3:]
    reach = [w for w in (metrics.longest(run), *metrics.by_reach(run)[:1]) if w]
    bounds = [m for m in metrics.bounds(run, "decode") if m.at["workload"] in reach]
    bounds = [m for m in bounds if m.at["precision"] in metrics.precisions(run)[:1]][:4]
    varied = [m for m in (metrics.PARAMS, metrics.D_FF) if m is metrics.PARAMS or metrics.varies(run, m, cast.ok)]
    work = [m for m in metrics.flops(run, "decode") if m.at["workload"] == metrics.longest(run)]
    return [*caches, *bounds, *work, *varied][:MOST]


def _caption(cast: Cast) -> str:
    held = {"params": "the parameters", "flops": "the FLOPs"}.get(cast.run.meta.get("hold") or "")
    said = ["All upright axes start at zero."]
    said += ["The ring is the released shape."] * any(p.released for p in cast.ok)
    said += ["A cross was refused or failed."] * (len(cast.ok) < len(cast.all))
    return " ".join([*said, *[f"mlp.d_ff was rescaled to hold {held}."] * bool(held)])


def _legend(cast: Cast) -> tuple[Swatch, ...]:
    if len(cast.groups) < 2:
        return ()
    return tuple(Swatch(name, f"point-{mates[-1].index}", mates[-1].look) for name, mates in cast.groups.items())


def _panel(cast: Cast, axis: Axis, metric: Metric, i: int) -> Figure:
    scale = metric.scale(metric.known(cast.run, cast.all).values())
    values = sorted({p.values[axis.key] for p in cast.all}, key=lambda v: axis_rank(axis.values, v))
    traces = []
    for mates in cast.groups.values():
        line = sorted(mates, key=lambda p: values.index(p.values[axis.key]))
        known = [p for p in line if metric.of(cast.run, p) is not None]
        traces += [_line(cast, metric, scale, values, axis, known), _ring(cast, metric, scale, values, axis, known)]
    traces.append(_refused(cast, values, axis))
    layout = {
        "xaxis": {"type": "category", "range": [-0.4, len(values) - 0.6], "categoryorder": "array", "showgrid": False,
                  "categoryarray": list(range(len(values))), "tickvals": list(range(len(values))),
                  "ticktext": [safe(words.axis_value(v)) for v in values], "title": {"text": safe(axis.label)}},
        "yaxis": {"rangemode": "tozero", "nticks": 5}, "margin": {"l": 46, "r": 12, "t": 12, "b": 46},
    }  # fmt: skip
    about = f"{metric.title} against {axis.label}; the numbers are in the table below."
    where = ", ".join(x for x in (scale.unit, metric.where) if x)
    return Figure(f"effect-{i}", metric.name, about, {"": drawing(traces, layout, height=206)}, where, metric.tag)


def _line(cast: Cast, metric: Metric, scale: words.Scale, values: list[Any], axis: Axis, line: list[Point]) -> Any:
    look = line[-1].look if line else None
    return go.Scatter(
        x=[values.index(p.values[axis.key]) for p in line], y=[scale.of(metric.of(cast.run, p)) for p in line],
        mode="lines+markers", meta=[p.index for p in line], name=line[0].group if line else "", cliponaxis=False,
        line={"color": look.line[0] if look and len(cast.groups) > 1 else CHROME["ink3"][0], "width": 1.6,
              "dash": look.dash if look else "solid"},
        marker={"size": 8, "symbol": look.symbol if look else "circle", "color": [p.look.line[0] for p in line]},
        hovertext=[hover(p.short, f"{metric.title}: {metric.say(metric.of(cast.run, p))}", metric.tag) for p in line],
        hoverinfo="text",
    )  # fmt: skip


def _ring(cast: Cast, metric: Metric, scale: words.Scale, values: list[Any], axis: Axis, line: list[Point]) -> Any:
    own = [p for p in line if p.released]
    return go.Scatter(
        x=[values.index(p.values[axis.key]) for p in own], y=[scale.of(metric.of(cast.run, p)) for p in own],
        mode="markers", meta=[p.index for p in own], hoverinfo="skip", cliponaxis=False,
        marker={"size": 16, "symbol": "circle-open", "color": CHROME["ink"][0], "line": {"width": 1.6}},
    )  # fmt: skip


def _refused(cast: Cast, values: list[Any], axis: Axis) -> Any:
    lost = [p for p in cast.all if not p.ok]
    return go.Scatter(
        x=[values.index(p.values[axis.key]) for p in lost], y=[0.0 for _ in lost], mode="markers", cliponaxis=False,
        meta=[p.index for p in lost], marker={"size": 9, "symbol": "x-thin-open", "color": CHROME["no"][0], "line": {"width": 2}},
        hovertext=[hover(p.short, f"{p.status}: {safe(p.reason)}") for p in lost], hoverinfo="text",
    )  # fmt: skip


def _numbers(cast: Cast, shown: list[Metric]) -> Table:
    columns, cells = [], {p: list[Cell]() for p in cast.ok}
    for metric in shown:
        scale = metric.scale(metric.known(cast.run, cast.ok).values())
        columns.append(Column(metric.key, metric.name, f"{scale.unit} {metric.where}".strip(), metric.tag))
        for p in cast.ok:
            value = metric.of(cast.run, p)
            cells[p].append(Cell(scale.show(value), value))
    return Table("effect-numbers", "The effect in numbers", "Point", tuple(columns),
                 tuple(Row(p.short, tuple(cells[p]), p) for p in cast.ok))  # fmt: skip
