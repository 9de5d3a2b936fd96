"""The marks of a cloud as a table: a row a point at a place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archlab.report import metrics, words
from archlab.report.charts import choices
from archlab.report.load import Record
from archlab.report.objectives import Aim
from archlab.report.parts import Cell, Column, Row, Table
from archlab.report.points import Cast, Point


def table(cast: Cast, id_: str, label: str, aims: Sequence[Aim], rows: Sequence[tuple[Point, Record]]) -> Table:
    """A row a point at a place: the place where there are several, the axes, the numbers."""
    where = [d for d in choices.options(cast.run, True) if len({r[d] for _, r in rows}) > 1]
    heads = [Column(d, _HEADS[d], number=False) for d in where]
    numbers = {a.key: all(isinstance(p.values[a.key], int | float) for p, _ in rows) for a in cast.run.axes}
    heads += [Column(a.key, a.label, number=numbers[a.key]) for a in cast.run.axes]
    made = [[*_place(cast, where, r), *_axes(cast, p)] for p, r in rows]
    for aim in aims:
        known = [r.get(aim.column) for _, r in rows]
        scale = aim.of.scale(known)
        heads.append(Column(aim.column, aim.of.head, scale.unit, aim.of.tag))
        for cells, value in zip(made, known, strict=True):
            cells.append(Cell(scale.show(value), value))
    body = (Row(p.tag, tuple(cells), p, p.note) for (p, _), cells in zip(rows, made, strict=True))
    return Table(id_, label, "Point", tuple(heads), tuple(body))


_HEADS = {"workload": "Workload", "hardware": "Device", "precision": "Precision", "engine": "Engine"}


def _place(cast: Cast, where: Sequence[str], row: Record) -> list[Cell]:
    said: Mapping[str, Callable[[Any], str]] = {
        "workload": lambda w: metrics.work_words(cast.run, w),
        "hardware": lambda h: metrics.device_title(cast.run, h),
    }
    return [Cell(said.get(d, str)(row[d]), row[d]) for d in where]


def _axes(cast: Cast, point: Point) -> list[Cell]:
    return [Cell(words.axis_value(v), v) for v in (point.values[a.key] for a in cast.run.axes)]
