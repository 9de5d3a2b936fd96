"""The points of a run as a report shows them: what each is called in full and in short, and how it is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from archlab.report import words
from archlab.report.load import Record, Run
from archlab.report.palette import Look, look

FEW = 10
"""Up to so many points each has a filter pill of its own."""


@dataclass(frozen=True, eq=False)
class Point:
    """One shape. `short` is for tables, `tag` for a label in a picture; `values` are those of the axes."""

    index: int
    name: str
    base: str
    short: str
    tag: str
    released: bool
    status: str
    reason: str | None
    values: Mapping[str, Any]
    group: str
    look: Look

    @property
    def ok(self) -> bool:
        """It has numbers."""
        return self.status == "ok"

    @property
    def key(self) -> str:
        """What names it inside the page."""
        return f"p{self.index}"


@dataclass(frozen=True)
class Facet:
    """A filter pill: what it says, its name in the address bar, the points that it holds, and perhaps one look."""

    label: str
    heading: str
    key: str
    points: tuple[int, ...]
    look: Look | None


@dataclass(frozen=True)
class Cast:
    """All points of a run, in its order."""

    run: Run
    all: tuple[Point, ...]

    @cached_property
    def ok(self) -> tuple[Point, ...]:
        """Those with numbers."""
        return tuple(p for p in self.all if p.ok)

    @cached_property
    def groups(self) -> dict[str, list[Point]]:
        """Group -> its points: one hue, dash and marker each."""
        found: dict[str, list[Point]] = {}
        for point in self.all:
            found.setdefault(point.group, []).append(point)
        return found

    @cached_property
    def facets(self) -> tuple[Facet, ...]:
        """The filter: a pill a point while they are few, else one for each base and each value of an axis."""
        if len(self.all) <= FEW:
            return tuple(Facet(p.short, "", p.short, (p.index,), p.look) for p in self.all)
        return tuple(_shared_facets(self))


def cast(run: Run) -> Cast:
    """Names and looks of all points of a run."""
    firsts = {name: rows[0] for name, rows in run.rows.items()}
    ramp = max(run.axes, key=lambda a: len(a.values), default=None)  # the axis that lightness shows
    groups = {name: _group(run, row, ramp.key if ramp else "") for name, row in firsts.items()}
    order = list(dict.fromkeys(groups.values()))
    shades = {g: sorted((n for n in firsts if groups[n] == g), key=lambda n: _rank(run, n, ramp)) for g in order}
    points = []
    for i, (name, row) in enumerate(firsts.items()):
        mates = shades[groups[name]]
        shade = mates.index(name) / (len(mates) - 1) if len(mates) > 1 else 0.66
        drawn = look(len(order) - 1 - order.index(groups[name]), shade)
        points.append(_point(run, i, name, row, groups[name], drawn))
    return Cast(run, tuple(points))


def _point(run: Run, index: int, name: str, row: Record, group: str, drawn: Look) -> Point:
    rows = run.rows[name]
    ok = any(r["status"] == "ok" for r in rows)
    values = {axis.key: row[axis.key] for axis in run.axes}
    many = len({r[0]["base"] for r in run.rows.values()}) > 1
    base = [row["base"]] if many else []
    said = [f"{a.label} {words.axis_value(values[a.key])}" for a in run.axes]
    bare = [words.axis_value(values[a.key]) for a in run.axes]
    return Point(
        index, name, row["base"],
        short=" ".join([*base, ", ".join(said)]) if run.axes else name,
        tag=" · ".join([*base, *bare]) if many or len(run.axes) > 1 else _lone(said, bare, name),
        released=run.is_study and bool(row.get("is_base")),
        status="ok" if ok else row["status"], reason=None if ok else row.get("reason"),
        values=values, group=group, look=drawn,
    )  # fmt: skip


def _lone(said: list[str], bare: list[str], name: str) -> str:
    """The label of the only axis: its value alone where that is a word."""
    if not said:
        return name
    return bare[0] if not bare[0][:1].isdigit() else said[0]


def _group(run: Run, row: Record, ramp: str) -> str:
    """What hue shows: the family of a comparison; the base and the values of all axes but one of a study."""
    if not run.is_study:
        return str(row.get("family") or row["base"])
    rest = [f"{a.label} {words.axis_value(row[a.key])}" for a in run.axes if a.key != ramp]
    return ", ".join([row["base"], *rest])


def _rank(run: Run, name: str, ramp: Any) -> Any:
    """The place of a point in its group: by the ramp's axis, else by its size."""
    if ramp is None:
        return run.value(name, "params") or 0
    return axis_rank(ramp.values, run.rows[name][0][ramp.key])


def axis_rank(values: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    """Numbers by size; words in the order in which the study names them, others after; none last."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (0, value, "")
    return (1, values.index(value), "") if value in values else (2, 0, str(value))


def _shared_facets(cast: Cast) -> list[Facet]:
    run, heading = cast.run, "" if cast.run.is_study else "family"
    owner = (lambda p: p.base) if run.is_study else (lambda p: p.group)
    facets = []
    for name in dict.fromkeys(owner(p) for p in cast.all):
        mates = [p for p in cast.all if owner(p) == name]
        drawn = mates[-1].look if len({p.group for p in mates}) == 1 else None
        facets.append(Facet(name, heading, name, tuple(p.index for p in mates), drawn))
    facets = facets if len(facets) > 1 else []
    for axis in run.axes:
        values = sorted({p.values[axis.key] for p in cast.all}, key=lambda v: axis_rank(axis.values, v))
        for value in values:
            mates = tuple(p.index for p in cast.all if p.values[axis.key] == value)
            said = words.axis_value(value)
            facets.append(Facet(said, axis.label, f"{axis.label} {said}", mates, None))
    return facets
