"""Every timing in a table: its spread, what stands beside it, and how it came to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from archlab import units
from archlab.report import timed, words
from archlab.report.charts import marks
from archlab.report.parts import BOUND, EXTRAPOLATED, PREDICTED, Cell, Column, Row, Table
from archlab.report.points import Cast
from archlab.report.timed import Timing


@dataclass(frozen=True)
class _Kind:
    """A column: what it reads of a timing, and how that is shown."""

    key: str
    head: str
    read: Callable[[Timing], Any]
    show: Callable[[Any], str]
    tag: str = ""
    unit: str = ""
    number: bool = True


def numbers(cast: Cast, found: Sequence[Timing]) -> Table:
    """The table. A column that no timing has a value for is left out."""
    kinds = [k for k in _kinds(cast, found) if any(k.read(t) is not None for t in found)]
    columns = tuple(Column(k.key, k.head, k.unit, k.tag, k.number) for k in kinds)
    rows = tuple(Row(t.point.tag, tuple(_cell(k, t) for k in kinds), t.point) for t in found)
    return Table("measured-numbers", f"What was {timed.participle(found)}", "Point", columns, rows)


def _cell(kind: _Kind, t: Timing) -> Cell:
    value = kind.read(t)
    return Cell(words.NONE) if value is None else Cell(kind.show(value), value)


def _kinds(cast: Cast, found: Sequence[Timing]) -> list[_Kind]:
    there = timed.tags(found)
    own = there[0] if len(there) == 1 else ""
    several = len(there) > 1 or there == (EXTRAPOLATED,) or any(t.row.get("sampled") for t in found)
    where = {t: timed.work_words(cast, t.row) for t in found}
    return [
        _Kind("phase", "Phase", lambda t: t.phase, str, number=False),
        _Kind("workload", "Workload", lambda t: where[t], str, number=False),
        *[_Kind("source", "How", lambda t: t.tag, str, number=False)] * several,
        *[_seconds(key, head, own) for key, head in _SPREAD.items()],
        _Kind("bound_s", "Bound", lambda t: t.bound, units.show_seconds, BOUND),
        _Kind("bound_share", "Of the bound", lambda t: t.share, words.percent, unit="bound / median"),
        _Kind("predicted_s", "Predicted", lambda t: t.predicted, units.show_seconds, PREDICTED),
        _Kind("predicted_error", "Off by", lambda t: t.error, marks.signed, unit="predicted / measured - 1"),
        _Kind("residual", "Residual", lambda t: t.row.get("residual"), marks.signed, unit="against all layers"),
        _Kind("n", "n", lambda t: t.row.get("n") or None, words.axis_value, unit="runs"),
        *[_text(key, head) for key, head in _TEXTS.items()],
    ]  # fmt: skip


_SPREAD = {
    "median_s": "Median",
    "p5_s": "5 %",
    "p95_s": "95 %",
    "ci_low_s": "95 % interval, low",
    "ci_high_s": "high",
}
_TEXTS = {
    "device": "Device",
    "dtype": "Format",
    "backend": "Backend",
    "runs": "Runs as",
    "attention": "Attention",
    "sampled": "Layers timed",
    "verified_on": "Checked on",
    "kernels": "Kernels",
    "reason_backend": "Why not wholly fast",
    "warnings": "Warnings",
}


def _seconds(key: str, head: str, tag: str) -> _Kind:
    return _Kind(key, head, lambda t: t.row.get(key), units.show_seconds, tag)


def _text(key: str, head: str) -> _Kind:
    return _Kind(key, head, lambda t: t.row.get(key) or None, str, number=False)
