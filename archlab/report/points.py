"""The points of a run as a report shows them: what each is called in full and in short, and how it is drawn."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from archlab.report import words
from archlab.report.load import Axis, Record, Run
from archlab.report.palette import Look, look
from archlab.report.thin import evenly, scattered

MOST = 40
"""So many points at most have a line, a bar or a row: beyond, a picture of lines says nothing."""
FEWER = 24
"""Of a large run, whose sample no picture of lines can stand for."""
FRONT, CURVES = 10, 8
"""So many of them are on a front, and, of a large run, have curves."""


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
    usual: str = "released"  # what it is called where it is a base's own shape: released, original
    nth: int | None = None  # where one point has several rows of a picture

    @property
    def ok(self) -> bool:
        """It has numbers."""
        return self.status == "ok"

    @property
    def note(self) -> str:
        """What a reader should see beside its name: released or original, refused, failed, or nothing."""
        return self.usual if self.released else "" if self.ok else self.status

    @property
    def key(self) -> str:
        """What names its row inside the page: the index of the point first, by which the filter knows it."""
        return f"p{self.index}" if self.nth is None else f"p{self.index}-{self.nth}"

    @property
    def sample(self) -> str:
        """What names the outline of its line, which other points share."""
        return f"s-{self.look.dash}-{self.look.symbol}"

    def part(self, nth: int, said: str) -> Point:
        """One of several rows of this point in a picture, called what sets it apart from the others."""
        return replace(self, nth=nth, tag=said, short=f"{self.short}, {said}", released=False)


@dataclass(frozen=True)
class Cast:
    """All points of a run, in its order."""

    run: Run
    all: tuple[Point, ...]
    stand_ins: tuple[Point, ...] = ()  # shapes that were measured in place of the run's own, too large for the machine
    others: tuple[Point, ...] = ()  # beyond MOST: a mark of a cloud each, and no line or bar of their own

    @cached_property
    def ok(self) -> tuple[Point, ...]:
        """Those with numbers."""
        return tuple(p for p in self.all if p.ok)

    @cached_property
    def everyone(self) -> tuple[Point, ...]:
        """Every point of the page, by index."""
        return (*self.all, *self.others, *self.stand_ins)

    @cached_property
    def wide(self) -> Cast:
        """The same with the others among all: for clouds of marks and for tables."""
        return replace(self, all=(*self.all, *self.others), others=())

    @cached_property
    def groups(self) -> dict[str, list[Point]]:
        """Group -> its points: one hue, dash and marker each."""
        found: dict[str, list[Point]] = {}
        for point in self.all:
            found.setdefault(point.group, []).append(point)
        return found


def cast(run: Run) -> Cast:
    """Names and looks of the points of a run, of a sample where they are too many."""
    drawn = _sample(run)
    own = set(drawn)
    others = [name for name in run.rows if name not in own]
    made = _points(run, [*drawn, *others])
    return Cast(run, tuple(made[: len(drawn)]), tuple(_stand_ins(run, len(made))), tuple(made[len(drawn) :]))


def _points(run: Run, names: list[str]) -> list[Point]:
    firsts = {name: run.rows[name][0] for name in names}
    ramp = main_axis(run)
    groups = {name: _group(run, row, ramp) for name, row in firsts.items()}
    hues, dashes = (_last_first(key(run, row, ramp) for row in firsts.values()) for key in (_hue, _dash))
    shades = _shades(run, groups, ramp)
    points = []
    for i, (name, row) in enumerate(firsts.items()):
        drawn = look(hues[_hue(run, row, ramp)], dashes[_dash(run, row, ramp)], shades[name])
        points.append(_point(run, i, name, row, groups[name], drawn))
    return points


def _sample(run: Run) -> list[str]:
    """All points while a page can hold them; else the released, the extremes of each base, and an even sample."""
    names, most = list(run.rows), FEWER if run.is_thinned else MOST
    if len(names) <= most:
        return names
    kept = {n for n in names if run.rows[n][0].get("is_base")}
    for column in ("kv_cache_bytes", "decode_bound_s", "params"):
        for base in dict.fromkeys(run.rows[n][0]["base"] for n in names):
            mine = {n: _largest(rows, column) for n, rows in run.rows.items() if rows[0]["base"] == base}
            mine = {n: v for n, v in mine.items() if v}
            kept |= {min(mine, key=lambda n: mine[n]), max(mine, key=lambda n: mine[n])} if mine else set()
    if run.is_thinned:  # few of its points have curves
        kept |= set(evenly((n for n in names if n in run.curve_rows), CURVES))
    kept |= set(evenly((n for n in names if any(r.get("front") for r in run.rows[n])), FRONT))
    rest = [n for n in names if n not in kept]
    room = max(most - len(kept), 0)
    kept |= set(scattered(rest, room)) if run.is_thinned else {rest[i * len(rest) // room] for i in range(room)}
    return [n for n in names if n in kept]


def _largest(rows: list[Record], column: str) -> float:
    return max((r[column] for r in rows if r.get(column) is not None), default=0.0)


def _shades(run: Run, groups: Mapping[str, str], ramp: Axis | None) -> dict[str, float]:
    """Where each point stands in its group, 0 to 1; alone it stands where a line is easily seen."""
    found = {}
    for group in dict.fromkeys(groups.values()):
        mates = sorted((n for n in groups if groups[n] == group), key=lambda n: _rank(run, n, ramp))
        for i, name in enumerate(mates):
            found[name] = i / (len(mates) - 1) if len(mates) > 1 else 0.66
    return found


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
        reason=None if ok else row.get("reason"), values=values, group=group, look=drawn, usual=run.usual,
    )  # fmt: skip


def many_bases(run: Run) -> bool:
    """More than one model stands behind the points."""
    return len(run.distinct("base")) > 1


def _tag(run: Run, base: list[str], values: list[Any], said: list[str]) -> str:
    """'n_kv_heads 16', 'layers -25:'; 'gemma-2-9b · 512 · 5:1' where more than one thing varies; a word alone."""
    if len(values) == 1 and not base:
        return values[0] if isinstance(values[0], str) and values[0][:1].isalpha() else said[0]
    return " · ".join([*base, *(words.axis_tag(v) for v in values)]) if run.axes else ""


def _group(run: Run, row: Record, ramp: Axis | None) -> str:
    """Whom a line connects: a family in a comparison; a base, at the same values of all axes but one, in a study."""
    if not run.is_study:
        return str(row.get("family") or row["base"])
    if run.is_thinned:  # few points of a sample differ in one axis alone
        return str(row["base"])
    rest = [f"{a.label} {words.axis_value(row[a.key])}" for a in run.axes if a is not ramp]
    return ", ".join([row["base"], *rest])


def _hue(run: Run, row: Record, ramp: Axis | None) -> Hashable:
    """What colour shows: the family, the base, or the other axes where there are any."""
    rest = () if run.is_thinned else tuple(words.axis_value(row[a.key]) for a in run.axes if a is not ramp)
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
