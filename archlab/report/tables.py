"""The tables of a report: what differs, every time beside the others, the devices, what was refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from archlab import units
from archlab.report import metrics, words
from archlab.report.charts import measured
from archlab.report.load import Axis, Record
from archlab.report.metrics import Metric
from archlab.report.parts import CALCULATED, MEASURED, Cell, Column, Row, Table
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


# ---------------------------------------------------------------- what differs


def main(cast: Cast) -> Table:
    """Every point: its shape, its parameters, its cache at each workload, its work."""
    shape = _study_shape(cast) if cast.run.is_study else _model_shape(cast)
    measures = [metrics.PARAMS, *metrics.weights(cast.run), *metrics.kv_cache(cast.run), *_work(cast)]
    made = [*shape, *(metric_column(cast, m) for m in measures)]
    label = "All points" if cast.run.is_study else "All models"
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
        cells = [Cell(words.NONE if r is None else f"{r * 100:+.2f}" if r else "0", r) for r in residuals]
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
    return f"{row.get('layers_local') or 0} + {row['layers_global']}"


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
    """A dagger where the workload is longer than what the model was trained for."""
    row = cast.run.row(point.name, **metric.at) if metric.at.get("workload") else None
    trained, context = (row.get("trained_context"), row.get("context")) if row else (None, None)
    return "†" if trained and context and context > trained and metric.of(cast.run, point) is not None else ""


# ---------------------------------------------------------------- times


def times(cast: Cast) -> Table | None:
    """Each bound and each measurement in a column of its own, tagged."""
    by_device = metrics.devices(cast.run)
    bounds = [m for phase in ("decode", "prefill") for m in metrics.bounds(cast.run, phase)]
    bounds.sort(key=lambda m: by_device.index(m.at["hardware"] or ""))
    made = [_bound_column(cast, m) for m in bounds if m.known(cast.run, cast.ok)]
    made += _measured_columns(cast)
    return table("times", "All times", "Point", cast.ok, _only(made, cast)) if made else None


def _bound_column(cast: Cast, metric: Metric) -> Made:
    """A column under the heading of its device."""
    column, cells = metric_column(cast, metric)
    unit = f"{column.unit.split(',')[0]} {metrics.when(cast.run, metric)}"
    return replace(column, unit=unit, group=metrics.device_title(cast.run, metric.at["hardware"])), cells


def _only(made: list[Made], cast: Cast) -> list[Made]:
    """The cells of the points with numbers alone."""
    return [(column, [c for c, p in zip(cells, cast.all, strict=True) if p.ok]) for column, cells in made]


def _measured_columns(cast: Cast) -> list[Made]:
    found = measured.rows(cast)
    keys = dict.fromkeys((r["phase"], r["workload"], measured.place(r)) for _, r in found)
    return [_measured_column(cast, key, found) for key in sorted(keys, key=str)]


def _measured_column(cast: Cast, key: tuple[str, str, str], found: list[tuple[Point, Record]]) -> Made:
    mine = {p: r for p, r in found if (r["phase"], r["workload"], measured.place(r)) == key}
    scale, most = words.seconds(r["median_s"] for r in mine.values()), max(r["median_s"] for r in mine.values())
    first = next(iter(mine.values()))
    name = {"decode": "Decode step", "prefill": "Prefill"}.get(key[0], key[0])
    reach = words.workload(first) if first.get("context") else metrics.work_words(cast.run, key[1])
    cells = [_time_cell(mine.get(p), scale, most) for p in cast.all]
    unit, group = f"{scale.unit} at {reach.removesuffix(' tokens')}", f"{key[2]}: median"
    return Column(f"{key[0]}_median_s {key[1]} {key[2]}", name, unit, MEASURED, group=group), cells


def _time_cell(row: Record | None, scale: words.Scale, most: float) -> Cell:
    return Cell(scale.show(row["median_s"]), row["median_s"], row["median_s"] / most) if row else Cell("not measured")


# ---------------------------------------------------------------- devices, refusals


def hardware(cast: Cast) -> Table | None:
    """The devices and where their numbers come from."""
    known = cast.run.meta["hardware"]
    if not known:
        return None
    columns = (
        Column("memory_bytes", "Memory", "GiB"), Column("bandwidth_bytes_per_s", "Bandwidth", "GB/s"),
        Column("peak_flops", "Peak", "TFLOP/s by format", number=False), Column("status", "Status", number=False),
        Column("source", "Source", number=False),
    )  # fmt: skip
    return Table("devices", "Devices", "Device", columns, tuple(_device(n, d) for n, d in known.items()))


def _device(name: str, device: Record) -> Row:
    memory, rate, peaks = (
        device.get("memory_bytes"),
        device.get("bandwidth_bytes_per_s"),
        device.get("peak_flops") or {},
    )
    peak = ", ".join(f"{form} {value / 1e12:,.4g}" for form, value in peaks.items())
    cells = (
        Cell(words.NONE if memory is None else f"{memory / units.GIB:,.1f}", memory),
        Cell(words.NONE if rate is None else f"{rate / units.GB:,.0f}", rate), Cell(peak, peak),
        Cell(str(device.get("status") or words.NONE), device.get("status")),
        Cell(str(device.get("source") or words.NONE), device.get("source")),
    )  # fmt: skip
    return Row(str(device.get("title") or name), cells)


def refused(cast: Cast) -> Table | None:
    """Every point, and every row of a point, that has no numbers: what it was, where, and the sentence."""
    rows = [row for p in cast.all for row in _refusals(cast, p)] + _failed_measurements(cast)
    columns = tuple(Column(k, k.capitalize(), number=False) for k in ("outcome", "where", "reason"))
    return Table("refused-points", "Refused and failed", "Point", columns, tuple(rows)) if rows else None


def _refusals(cast: Cast, point: Point) -> list[Row]:
    rows = cast.run.rows[point.name]
    lost = [r for r in rows if r["status"] != "ok"]
    kinds = dict.fromkeys((r["status"], r.get("reason")) for r in lost)
    found = []
    for status, reason in kinds:
        mine = [r for r in lost if (r["status"], r.get("reason")) == (status, reason)]
        where = "everywhere" if len(mine) == len(rows) else _places(cast, mine, rows)
        found.append(_lost(point, status, where, reason))
    return found


def _places(cast: Cast, mine: list[Record], rows: list[Record]) -> str:
    """What the refused rows share that the others lack: the devices, workloads and precisions."""
    said = []
    for key, name in (
        ("hardware", lambda h: metrics.device_title(cast.run, h)),
        ("workload", lambda w: metrics.work_words(cast.run, w)),
        ("precision", str),
    ):
        here, all_ = (list(dict.fromkeys(r[key] for r in part)) for part in (mine, rows))
        if len(here) < len(all_):
            said.append(words.listing([name(x) for x in here]))
    return ", ".join(said) or "some rows"


def _failed_measurements(cast: Cast) -> list[Row]:
    known = {p.name: p for p in cast.all}
    lost = [r for r in cast.run.measured_rows if r.get("status") not in ("ok", None) and r["point"] in known]
    return [_lost(known[r["point"]], r["status"], _attempt(r), r.get("reason")) for r in lost]


def _attempt(row: Record) -> str:
    said = [
        f"measuring {row.get('phase') or ''}".strip(),
        words.workload(row) if row.get("context") else str(row.get("workload") or ""),
    ]
    return ", ".join(x for x in (*said, measured.place(row)) if x)


def _lost(point: Point, status: Any, where: str, reason: Any) -> Row:
    reason = str(reason or "no reason was noted")
    return Row(point.tag, (Cell(str(status), status), Cell(where, where), Cell(reason, reason)), point)
