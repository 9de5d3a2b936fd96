"""Which model fits which device: a table of verdicts, the devices from the smallest to the largest."""

from __future__ import annotations

import re

from archlab import units
from archlab.report import fits, metrics, words
from archlab.report.charts import choices
from archlab.report.fits import Verdict
from archlab.report.parts import CALCULATED, ESTIMATE, Card, Cell, Column, Matrix, Row, Square, Table
from archlab.report.points import Cast, Point

_VENDORS = re.compile(r"^(NVIDIA|AMD Instinct|AMD|Apple|Intel|Google|GeForce|Radeon|Jetson) (?=\S)")


def card(cast: Cast) -> Card | None:
    """The card, or None where the run does not say what memory a device has."""
    if not fits.known(cast.run):
        return None
    states = choices.variants(cast.run, False, lambda at: _squares(cast, at))
    devices = fits.by_room(cast.run)
    heads = tuple((_brief(metrics.device_title(cast.run, d)), _gib(metrics.room(cast.run, d))) for d in devices)
    switches = choices.switches(cast.run, False, states, first=fits.usual(cast.run))
    chosen = "/".join(s.chosen for s in switches)
    what, rows = "Point" if cast.run.is_study else "Model", tuple(fits.by_size(cast))
    matrix = Matrix("fit", "What fits where", what, heads, rows, states, chosen)
    limits = fits.asked(cast.run)
    return Card(
        f"{what}s on devices", (CALCULATED, ESTIMATE),
        "Under a device: what a program can have of its memory. "
        + ("In a cell: the verdict, and the longest context that fits." if limits else "In a cell: what is needed."),
        switches=switches, matrix=matrix, numbers=_numbers(cast, devices), notes=tuple(_notes(cast, states)),
    )  # fmt: skip


def _brief(title: str) -> str:
    """'RTX 3060 12GB', without the vendor."""
    return _VENDORS.sub("", _VENDORS.sub("", title))


def _gib(room: int | None) -> str:
    return words.NONE if room is None else units.show_gib(room)


def _squares(cast: Cast, at: choices.At) -> dict[Point, tuple[Square, ...]] | None:
    """Point -> its cells, one a device."""
    columns = fits.grid(cast, at)
    rows = {p: tuple(_square(cast, p, d, found.get(p)) for d, found in columns.items()) for p in fits.by_size(cast)}
    return rows if any(found for found in columns.values()) else None


def _square(cast: Cast, point: Point, device: str, found: Verdict | None) -> Square:
    if found is None:
        return Square("", words.NONE, "", f"{point.tag} on {metrics.device_title(cast.run, device)}: no numbers.")
    said = f"{fits.MARKS[found.word]} {found.word}" + "†" * found.beyond
    return Square(found.word, said, found.reach(), fits.detail(cast, point, device, found))


def _notes(cast: Cast, states: dict[str, dict[Point, tuple[Square, ...]]]) -> list[str]:
    """What the marks say, and what the verdict rests on."""
    less = f"{cast.run.meta.get('tight', 0.05) * 100:g} %"
    reach = " 'all' is all of the context that a model was trained for." if fits.asked(cast.run) else ""
    notes = [
        f"✓ fits, ≈ tight: less than {less} is left, ✕ no.{reach}",
        "Weights and cache are calculated. Activations are an estimate, and what a process takes besides is somebody's "
        "measurement or an estimate: a verdict near the edge is not certain.",
    ]
    marks = {s.first[-1:] for rows in states.values() for squares in rows.values() for s in squares}
    beyond = ["† longer than the context that the model was trained for."] * ("†" in marks)
    return [*notes, *beyond]


def _numbers(cast: Cast, devices: list[str]) -> Table:
    """Every verdict in bytes and tokens: a row for each model on each device."""
    states = [*choices.variants(cast.run, False, lambda at: at).values()]
    limits = fits.asked(cast.run)
    columns = [Column("hardware", "Device", number=False), Column("memory_budget_bytes", "Usable", "GiB")]
    columns += [column for at in states for column in _columns(cast, at, limits)]
    rows = [_row(cast, p, d, states, limits) for p in fits.by_size(cast) for d in devices]
    return Table("fit-numbers", "Memory on each device", "Model", tuple(columns), tuple(rows))


def _row(cast: Cast, point: Point, device: str, states: list[choices.At], limits: bool) -> Row:
    title, room = metrics.device_title(cast.run, device), metrics.room(cast.run, device)
    place = Cell(title, device), Cell(_gib(room).removesuffix(" GiB"), room)
    cells = (cell for at in states for cell in _cells(cast, point, {**at, "hardware": device}, limits))
    return Row(point.tag, (*place, *cells), point)


def _columns(cast: Cast, at: choices.At, limits: bool) -> list[Column]:
    where = metrics.work_words(cast.run, at.get("workload")).removesuffix(" tokens")
    said = ", ".join(x for x in (where, at.get("precision")) if x)
    key = " ".join(v for v in at.values() if v)
    found = [Column(f"memory_bytes {key}", "Needed", f"GiB at {said}")]
    return found + [Column(f"max_context {key}", "Longest", f"tokens, {at.get('precision') or ''}")] * _last(
        cast, at, limits
    )


def _last(cast: Cast, at: choices.At, limits: bool) -> bool:
    """The longest context does not depend on the workload's: it stands once a precision, after the last."""
    return limits and at.get("workload") == metrics.by_reach(cast.run)[-1]


def _cells(cast: Cast, point: Point, at: choices.At, limits: bool) -> list[Cell]:
    found = fits.verdict(cast.run, point, at)
    needed = Cell(f"{found.needed / units.GIB:,.2f}", found.needed) if found else Cell(words.NONE)
    most = found.row.get("max_context") if found else None
    tokens = Cell(words.NONE if most is None else f"{most:,}", most)
    return [needed, *([tokens] * _last(cast, at, limits))]
