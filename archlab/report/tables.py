"""The main table of a report, and what its tables share: columns of numbers over bars, a row a point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from archlab import units
from archlab.report import metrics, words
from archlab.report.load import Axis, Record
from archlab.report.metrics import Metric
from archlab.report.parts import CALCULATED, Cell, Column, Row, Table
from archlab.report.points import Cast, Point, many_bases

DIFFERENT = 1.1
"""Bars of one length say nothing: below this ratio a column has none."""

Made = tuple[Column, list[Cell]]
"""A column and its cells, one a point."""


def table(id_: str, label: str, head: str, points: Sequence[Point], columns: Sequence[Made]) -> Table:
    """Columns side by side, a row a point; those without numbers last."""
    order = sorted(range(len(points)), key=lambda i: not points[i].ok)
    rows = [
        Row(points[i].tag, tuple(cells[i] for _, cells in columns), points[i], points[i].note) for i in order
    ]  # fmt: skip
    return Table(id_, label, head, tuple(c for c, _ in columns), tuple(rows))


def main(cast: Cast) -> Table:
    """Every point: its shape, its parameters, its cache at each workload, its work."""
    shape = _study_shape(cast) if cast.run.is_study else _model_shape(cast)
    measures = [metrics.PARAMS, *metrics.weights(cast.run), *metrics.kv_cache(cast.run), *_work(cast)]
    made = [*shape, *(metric_column(cast, m) for m in measures)]
    label = "Points of the page" if cast.run.is_thinned else "All points" if cast.run.is_study else "All models"
    return table("points", label, "Point" if cast.run.is_study else "Model", cast.all, _filled(made))


def _work(cast: Cast) -> list[Metric]:
    shown = {w for w in (*metrics.by_reach(cast.run)[:1], metrics.longest(cast.run)) if w}
    return [m for m in metrics.flops(cast.run, "decode") if m.at["workload"] in shown]


def _filled(made: list[Made]) -> list[Made]:
    return [(column, cells) for column, cells in made if any(c.value is not None for c in cells)]


def _study_shape(cast: Cast) -> list[Made]:
    """The axes where there are several, the d_ff that paid for them, and how well the held quantity was held."""
    several = len(cast.run.axes) > 1 or many_bases(cast.run)
    made = [_axis_column(cast, axis) for axis in cast.run.axes] if several else []
    if any(metrics.varies(cast.run, metrics.D_FF, mates) for mates in cast.groups.values()):
        made.append(plain(cast, "d_ff", "d_ff", "", lambda r: r.get("d_ff")))
    if cast.run.meta.get("hold"):
        residuals = [cast.run.value(p.name, "hold_residual") for p in cast.all]
        cells = [
            Cell(words.NONE if r is None else f"{r * 100:+.2f}" if round(r * 100, 2) else "0", r) for r in residuals
        ]
        made.append((Column("hold_residual", "Deviation", f"% of {cast.run.meta['hold']}", CALCULATED), cells))
    return made


def _axis_column(cast: Cast, axis: Axis) -> Made:
    values = [p.values[axis.key] for p in cast.all]
    number = all(isinstance(v, int | float | None) for v in values)
    return Column(axis.key, axis.label, number=number), [Cell(words.axis_value(v), v) for v in values]


def _model_shape(cast: Cast) -> list[Made]:
    return [
        plain(cast, "layers", "Layers", "local + global", _layers),
        plain(cast, "window", "Window", "tokens", lambda r: r.get("window")),
        plain(cast, "d_model", "d_model", "", lambda r: r.get("d_model")),
        plain(cast, "heads", "Heads", "query / KV × dim", _heads),
        plain(cast, "trained_context", "Trained for", "tokens", lambda r: r.get("trained_context"), units.show_tokens),
    ]


def _layers(row: Record) -> str | None:
    if row.get("layers_global") is None:
        return words.axis_value(row["n_layers"]) if row.get("n_layers") else None
    recurrent = f"{row['layers_recurrent']} recurrent + " if row.get("layers_recurrent") else ""
    return f"{recurrent}{row.get('layers_local') or 0} + {row['layers_global']}"


def _heads(row: Record) -> str | None:
    if row.get("n_heads") is None:
        return None
    return f"{row['n_heads']} / {row.get('n_kv_heads', '?')} × {row.get('head_dim', '?')}"


def plain(
    cast: Cast,
    key: str,
    head: str,
    unit: str,
    read: Callable[[Record], Any],
    show: Callable[[Any], str] = words.axis_value,
) -> Made:
    """A column of facts, without bars."""
    values = [read(cast.run.rows[p.name][0]) for p in cast.all]
    return Column(key, head, unit), [Cell(words.NONE if v is None else show(v), v) for v in values]


def metric_column(cast: Cast, metric: Metric) -> Made:
    """A column of numbers, over bars that run from zero to the largest where the numbers differ enough to be seen."""
    values = [metric.of(cast.run, p) for p in cast.all]
    known = [v for v in values if v is not None]
    scale, most = metric.scale(known), max(known, default=0)
    drawn = most > min(known, default=0) * DIFFERENT
    unit = ", ".join(x for x in (scale.unit, metric.where.removeprefix("at ").removeprefix("in ")) if x)
    cells = [
        Cell(scale.show(v), v, share=v / most if v is not None and drawn else None, mark=_mark(cast, metric, p))
        for p, v in zip(cast.all, values, strict=True)
    ]
    return Column(metric.key, metric.name, unit, metric.tag), cells


def _mark(cast: Cast, metric: Metric, point: Point) -> str:
    """A dagger beyond the trained context; a double one where the device is too small for the bound to be reached."""
    row = cast.run.row(point.name, **metric.at) if metric.at.get("workload") else None
    if row is None or metric.of(cast.run, point) is None:
        return ""
    trained, context = row.get("trained_context"), row.get("context")
    beyond = bool(trained and context and context > trained)
    return "†" * beyond + "‡" * (not metrics.fits(cast.run, point.name, metric.at))
