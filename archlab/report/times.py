"""Every time in one table: each bound and each measurement in a column of its own, under the name of its device."""

from __future__ import annotations

from dataclasses import replace

from archlab.report import metrics, tables, words
from archlab.report.charts import measured
from archlab.report.load import Record
from archlab.report.metrics import Metric
from archlab.report.parts import MEASURED, Cell, Column, Table
from archlab.report.points import Cast, Point

MOST = 60
"""Columns of bounds: beyond, a table has the decode steps of the longest workload alone."""


def times(cast: Cast) -> Table | None:
    """Each bound and each measurement in a column of its own, tagged."""
    by_device = metrics.devices(cast.run)
    bounds = _known(cast)
    if len(bounds) > MOST:
        bounds = [m for m in bounds if m.column == "decode_bound_s" and m.at["workload"] == metrics.longest(cast.run)]
    bounds.sort(key=lambda m: by_device.index(m.at["hardware"] or ""))
    made = [_bound_column(cast, m) for m in bounds]
    made += _measured_columns(cast)
    return tables.table("times", "All times", "Point", cast.ok, _only(made, cast)) if made else None


def left_out(cast: Cast) -> list[str]:
    """Which bounds a table of many has not."""
    reach = metrics.work_words(cast.run, metrics.longest(cast.run))
    said = f"Decode steps at {reach} alone; the other bounds are in the whole run's download."
    return [said] if len(_known(cast)) > MOST else []


def _known(cast: Cast) -> list[Metric]:
    found = (m for phase in ("decode", "prefill") for m in metrics.bounds(cast.run, phase))
    return [m for m in found if m.known(cast.run, cast.ok)]


def _bound_column(cast: Cast, metric: Metric) -> tables.Made:
    """A column under the heading of its device."""
    column, cells = tables.metric_column(cast, metric)
    unit = f"{column.unit.split(',')[0]} {metrics.when(cast.run, metric)}"
    return replace(column, unit=unit, group=metrics.device_title(cast.run, metric.at["hardware"])), cells


def _only(made: list[tables.Made], cast: Cast) -> list[tables.Made]:
    """The cells of the points with numbers alone."""
    return [(column, [c for c, p in zip(cells, cast.all, strict=True) if p.ok]) for column, cells in made]


def _measured_columns(cast: Cast) -> list[tables.Made]:
    found = measured.rows(cast)
    keys = dict.fromkeys((r["phase"], r["workload"], measured.place(r)) for p, r in found if p in cast.all)
    return [_measured_column(cast, key, found) for key in sorted(keys, key=str)]


def _measured_column(cast: Cast, key: tuple[str, str, str], found: list[tuple[Point, Record]]) -> tables.Made:
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
