"""What was refused or failed, with its sentence; and the devices, with their sources."""

from __future__ import annotations

from typing import Any

from archlab import units
from archlab.report import metrics, timed, words
from archlab.report.load import Record
from archlab.report.parts import Cell, Column, Row, Table
from archlab.report.points import Cast, Point

MOST = 60
"""Rows beyond which those with the same outcome and reason are one."""


def refused(cast: Cast) -> Table | None:
    """Every point, and every row of a point, that does not stand: what it was, where, and the sentence."""
    rows = [row for p in cast.wide.all for row in _refusals(cast, p)] + _failed_measurements(cast)
    columns = tuple(Column(k, k.capitalize(), number=False) for k in ("outcome", "where", "reason"))
    shown = _together(rows) if len(rows) > MOST else rows
    return Table("refused-points", words.sentence(_listed(cast)), "Point", columns, tuple(shown)) if rows else None


def said(cast: Cast) -> str:
    """Of how many rows, how many were excluded, refused or failed."""
    lost = {k: n for k, n in cast.run.statuses.items() if k != "ok"}
    several = words.listing([f"{n:,} {'is' if n == 1 else 'are'} {status}" for status, n in lost.items()])
    part = " Below are those of the points that are shown." if cast.run.is_thinned else ""
    return f"Of {len(cast.run.every):,} rows {several}.{part}" if lost else ""


def excluded(cast: Cast) -> bool:
    """Some rows have numbers and do not satisfy the run's conditions."""
    return bool(cast.run.statuses.get("excluded"))


def _listed(cast: Cast) -> str:
    return "excluded, refused and failed" if excluded(cast) else "refused and failed"


def _together(rows: list[Row]) -> list[Row]:
    """A row for each outcome and reason, with how many points have it and the first of them."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.cells[0].text, row.cells[2].text), []).append(row)
    return [_group(mine) if len(mine) > 1 else mine[0] for mine in groups.values()]


def _group(mine: list[Row]) -> Row:
    first = f"{mine[0].head} and {len(mine) - 1:,} more"
    where = mine[0].cells[1] if len({r.cells[1].text for r in mine}) == 1 else Cell("here and there", "here and there")
    return Row(first, (mine[0].cells[0], where, mine[0].cells[2]))


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
    known = {p.name: p for p in cast.everyone}
    lost = [r for r in cast.run.measured_rows if r.get("status") not in ("ok", None) and r["point"] in known]
    return [_lost(known[r["point"]], r["status"], _attempt(r), r.get("reason")) for r in lost]


def _attempt(row: Record) -> str:
    said = [
        f"measuring {row.get('phase') or ''}".strip(),
        timed.reach(row) if row.get("context") else str(row.get("workload") or ""),
    ]
    return ", ".join(x for x in (*said, timed.place(row)) if x)


def _lost(point: Point, status: Any, where: str, reason: Any) -> Row:
    reason = str(reason or "no reason was noted")
    return Row(point.tag, (Cell(str(status), status), Cell(where, where), Cell(reason, reason)), point)


def hardware(cast: Cast) -> Table | None:
    """The devices and where their numbers come from."""
    known = cast.run.meta["hardware"]
    if not known:
        return None
    columns = (
        Column("memory_bytes", "Memory", "GiB"), Column("available_bytes", "Usable", "GiB"),
        Column("bandwidth_bytes_per_s", "Bandwidth", "GB/s"),
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
    usable = device.get("available_bytes")
    cells = (
        Cell(words.NONE if memory is None else f"{memory / units.GIB:,.1f}", memory),
        Cell(words.NONE if usable is None else f"{usable / units.GIB:,.1f}", usable),
        Cell(words.NONE if rate is None else f"{rate / units.GB:,.0f}", rate), Cell(peak, peak),
        Cell(str(device.get("status") or words.NONE), device.get("status")),
        Cell(str(device.get("source") or words.NONE), device.get("source")),
    )  # fmt: skip
    return Row(str(device.get("title") or name), cells)
