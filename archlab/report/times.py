"""Every time in one table: bounds, predictions and timings in columns of their own, under the name of their device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from archlab.report import metrics, tables, timed, trust, words
from archlab.report.metrics import Metric
from archlab.report.parts import BOUND, EXTRAPOLATED, MEASURED, PREDICTED, Cell, Column, Table
from archlab.report.points import Cast
from archlab.report.timed import Timing

MOST = 60
"""Columns of bounds and predictions: beyond, a table has the decode steps of the longest workload alone."""


def times(cast: Cast) -> Table | None:
    """Each bound, each prediction and each timing in a column of its own, tagged."""
    by_device = metrics.devices(cast.run)
    known = _known(cast)
    if len(known) > MOST:
        known = [m for m in known if m.column.startswith("decode") and m.at["workload"] == metrics.longest(cast.run)]
    known.sort(key=lambda m: (by_device.index(m.at["hardware"] or ""), m.tag != BOUND))
    made = [_column(cast, m) for m in known]
    made += _timed_columns(cast)
    return tables.table("times", "All times", "Point", cast.ok, _only(made, cast)) if made else None


def left_out(cast: Cast) -> list[str]:
    """Which times a table of many has not."""
    reach = metrics.work_words(cast.run, metrics.longest(cast.run))
    known = _known(cast)
    others = "the other bounds and predictions" if any(m.tag == PREDICTED for m in known) else "the other bounds"
    said = f"Decode steps at {reach} alone; {others} are in the whole run's download."
    return [said] if len(known) > MOST else []


def tags(table: Table) -> tuple[str, ...]:
    """How the numbers of a table came to be."""
    return tuple(t for t in (BOUND, PREDICTED, MEASURED, EXTRAPOLATED) if any(c.tag == t for c in table.columns))


def _known(cast: Cast) -> list[Metric]:
    found = (
        m
        for of in (metrics.bounds, metrics.predictions)
        for phase in ("decode", "prefill")
        for m in of(cast.run, phase)
    )
    return [m for m in found if m.known(cast.run, cast.ok)]


def _column(cast: Cast, metric: Metric) -> tables.Made:
    """A column under the heading of its device; that of predictions says how far off they are."""
    column, cells = tables.metric_column(cast, metric)
    unit = f"{column.unit.split(',')[0]} {metrics.when(cast.run, metric)}"
    group = metrics.device_title(cast.run, metric.at["hardware"])
    if metric.tag == PREDICTED:
        off = trust.off(r for r in trust.predicted_rows(cast) if r["hardware"] == metric.at["hardware"])
        group += f", held-out error {off}" if off else ", held-out error not noted"
    return replace(column, unit=unit, group=group), cells


def _only(made: list[tables.Made], cast: Cast) -> list[tables.Made]:
    """The cells of the points with numbers alone."""
    return [(column, [c for c, p in zip(cells, cast.all, strict=True) if p.ok]) for column, cells in made]


def _timed_columns(cast: Cast) -> list[tables.Made]:
    """A column for each phase, workload and place; what is extrapolated apart from what is measured."""
    groups: dict[tuple[str, str, str, str], list[Timing]] = {}
    for t in timed.timings(cast):
        if t.point in cast.all:
            groups.setdefault((t.place, t.tag, t.phase, t.work[2]), []).append(t)
    order = sorted(groups, key=lambda k: (k[0], k[1] != MEASURED, k[2], groups[k][0].work))
    return [_timed_column(cast, groups[key]) for key in order]


def _timed_column(cast: Cast, found: Sequence[Timing]) -> tables.Made:
    first, mine = found[0], {t.point: t for t in found}
    scale, most = words.seconds(t.seconds for t in found), max(t.seconds for t in found)
    name = {"decode": "Decode step", "prefill": "Prefill"}.get(first.phase, first.phase)
    reach = timed.work_words(cast, first.row).removesuffix(" tokens")
    cells = [_cell(mine.get(p), first.tag, scale, most) for p in cast.all]
    key = " ".join(
        [f"{first.phase}_median_s", first.work[2], first.place, *[EXTRAPOLATED] * (first.tag == EXTRAPOLATED)]
    )
    return Column(key, name, f"{scale.unit} at {reach}", first.tag, group=f"{first.place}: median"), cells


def _cell(t: Timing | None, tag: str, scale: words.Scale, most: float) -> Cell:
    if t is None:
        return Cell(f"not {tag}")
    return Cell(scale.show(t.seconds), t.seconds, t.seconds / most)
