"""The points of a run as a report shows them: what each is called in full and in short, and how it is drawn."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from archlab.report import words
from archlab.report.load import Axis, Record, Run
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
    def note(self) -> str:
        """What a reader should see beside its name: released, refused, failed, or nothing."""
        return "released" if self.released else "" if self.ok else self.status

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
    colour: str  # of the sample, a variable of the style sheet
    note: str = ""


@dataclass(frozen=True)
class Cast:
    """All points of a run, in its order."""

    run: Run
    all: tuple[Point, ...]
    stand_ins: tuple[Point, ...] = ()  # shapes that were measured in place of the run's own, too large for the machine

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
            return tuple(Facet(p.tag, "", p.tag, (p.index,), p.look, f"point-{p.index}", p.note) for p in self.all)
        return tuple(_shared_facets(self))


def cast(run: Run) -> Cast:
    """Names and looks of all points of a run."""
    firsts = {name: rows[0] for name, rows in run.rows.items()}
    ramp = main_axis(run)
    groups = {name: _group(run, row, ramp) for name, row in firsts.items()}
    hues, dashes = (_last_first(key(run, row, ramp) for row in firsts.values()) for key in (_hue, _dash))
    points = []
    for i, (name, row) in enumerate(firsts.items()):
        mates = sorted((n for n in firsts if groups[n] == groups[name]), key=lambda n: _rank(run, n, ramp))
        shade = mates.index(name) / (len(mates) - 1) if len(mates) > 1 else 0.66
        drawn = look(hues[_hue(run, row, ramp)], dashes[_dash(run, row, ramp)], shade)
        points.append(_point(run, i, name, row, groups[name], drawn))
    return Cast(run, tuple(points), tuple(_stand_ins(run, len(points))))


def _stand_ins(run: Run, start: int) -> list[Point]:
    """The measured shapes that are no points of the run; the filter does not reach them."""
    rows = {r["point"]: r for r in run.measured_rows if r["point"] not in run.rows}
    found = []
    for i, (name, row) in enumerate(rows.items()):
        values = {axis.key: row.get(axis.key) for axis in run.axes}
        said = ", ".join(f"{a.label} {words.axis_tag(values[a.key])}" for a in run.axes)
        tag = " · ".join(x for x in (str(row["base"]), said) if x)
        drawn = look(0, 0, i / max(len(rows) - 1, 1))
        found.append(Point(start + i, name, row["base"], tag, tag, False, "ok", None, values, row["base"], drawn))
    return found


def main_axis(run: Run) -> Axis | None:
    """The axis with the most values: lightness shows it, and the effect is drawn against it."""
    return max(run.axes, key=lambda a: len(a.values), default=None)


def _last_first(keys: Iterable[Hashable]) -> dict[Hashable, int]:
    """Key -> its number, the last one 0: the newest family or the last base wears the first look, solid blue."""
    order = list(dict.fromkeys(keys))
    return {key: len(order) - 1 - i for i, key in enumerate(order)}


def _point(run: Run, index: int, name: str, row: Record, group: str, drawn: Look) -> Point:
    rows = run.rows[name]
    ok = any(r["status"] == "ok" for r in rows)
    values = {axis.key: row[axis.key] for axis in run.axes}
    base = [row["base"]] if many_bases(run) else []
    said = [f"{a.label} {words.axis_value(values[a.key])}" for a in run.axes]
    tag = _tag(run, base, list(values.values()), said)
    return Point(
        index, name, row["base"], short=" ".join([*base, ", ".join(said)]) if run.axes else name, tag=tag or name,
        released=run.is_study and bool(row.get("is_base")), status="ok" if ok else row["status"],
        reason=None if ok else row.get("reason"), values=values, group=group, look=drawn,
    )  # fmt: skip


def many_bases(run: Run) -> bool:
    """More than one model stands behind the points."""
    return len({rows[0]["base"] for rows in run.rows.values()}) > 1


def _tag(run: Run, base: list[str], values: list[Any], said: list[str]) -> str:
    """'n_kv_heads 16'; 'gemma-2-9b · 512 · 5:1' where more than one thing varies."""
    if len(values) == 1 and not base:
        return str(values[0]) if isinstance(values[0], str) else said[0]
    return " · ".join([*base, *(words.axis_tag(v) for v in values)]) if run.axes else ""


def _group(run: Run, row: Record, ramp: Axis | None) -> str:
    """Whom a line connects: a family in a comparison; a base, at the same values of all axes but one, in a study."""
    if not run.is_study:
        return str(row.get("family") or row["base"])
    rest = [f"{a.label} {words.axis_value(row[a.key])}" for a in run.axes if a is not ramp]
    return ", ".join([row["base"], *rest])


def _hue(run: Run, row: Record, ramp: Axis | None) -> Hashable:
    """What colour shows: the family, the base, or the other axes where there are any."""
    rest = tuple(words.axis_value(row[a.key]) for a in run.axes if a is not ramp)
    return rest or (row["base"] if run.is_study else _group(run, row, ramp))


def _dash(run: Run, row: Record, ramp: Axis | None) -> Hashable:
    """What the dash shows: the base where there are several, else what colour shows."""
    return row["base"] if run.is_study and len(run.meta["bases"]) > 1 else _hue(run, row, ramp)


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
    run = cast.run
    owners = {p: p.base if run.is_study else p.group for p in cast.all}
    facets = [
        _facet(cast, name, "", [p for p in cast.all if owners[p] == name]) for name in dict.fromkeys(owners.values())
    ]
    facets = facets if len(facets) > 1 else []
    for axis in run.axes:
        values = sorted({p.values[axis.key] for p in cast.all}, key=lambda v: axis_rank(axis.values, v))
        for value in values:
            mates = [p for p in cast.all if p.values[axis.key] == value]
            facets.append(_facet(cast, words.axis_value(value), axis.label, mates))
    return facets


def _facet(cast: Cast, label: str, heading: str, mates: list[Point]) -> Facet:
    """A pill for several points, with a sample of what they have in common: the hue and marker, or the dash."""
    key = f"{heading} {label}".strip()
    looks, everyone = [p.look for p in mates], [p.look for p in cast.all]
    sample, colour = None, f"point-{mates[-1].index}"
    if len({x.symbol for x in looks}) == 1 < len({x.symbol for x in everyone}):
        one_dash = len({x.dash for x in looks}) == 1
        sample = looks[-1] if one_dash else replace(looks[-1], dash="solid")
    elif len({x.dash for x in looks}) == 1 < len({x.dash for x in everyone}):
        sample, colour = replace(looks[-1], symbol="none"), "ink3"
    return Facet(label, heading, key, tuple(p.index for p in mates), sample, colour)
