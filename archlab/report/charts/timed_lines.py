"""Times that differ in one thing alone, as lines: against context at one batch, against batch at one context."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from archlab import units
from archlab.report import palette, timed
from archlab.report.charts.frame import end_text
from archlab.report.palette import SYMBOLS, Look
from archlab.report.parts import BOUND, PREDICTED
from archlab.report.points import Point
from archlab.report.timed import Timing


@dataclass(frozen=True)
class Along:
    """What times are drawn against, and what stays as it is along a line: columns of the run's tables."""

    key: str
    held: str


CONTEXT, BATCH = Along("context", "batch"), Along("batch", "context")


def say(key: str, value: int) -> str:
    """'8k tokens', 'batch 4'."""
    return f"{units.show_tokens(value)} tokens" if key == "context" else f"batch {value:,}"


@dataclass(frozen=True, eq=False)
class Line:
    """Times of one phase of one point in one place that differ in one thing alone, in its order.

    `every` holds those too that have a bound or a prediction and were not timed.
    """

    along: Along
    every: tuple[Timing, ...]
    look: Look
    name: str = ""

    @property
    def found(self) -> list[Timing]:
        """Those that were timed."""
        return [t for t in self.every if t.is_timed]

    @property
    def point(self) -> Point:
        """Whose they are."""
        return self.every[0].point

    @property
    def phase(self) -> str:
        """Which step."""
        return self.every[0].phase

    @property
    def place(self) -> str:
        """Where."""
        return self.every[0].place

    @property
    def held(self) -> int:
        """What the line holds."""
        return int(self.every[0].row[self.along.held])

    @property
    def kind(self) -> str:
        """What it is above all: what was timed ('' where of both kinds), else the prediction, else the bound."""
        kinds = timed.tags(self.found)
        untimed = PREDICTED if any(t.predicted for t in self.every) else BOUND
        return untimed if not kinds else kinds[0] if len(kinds) == 1 else ""

    def at(self, t: Timing) -> int:
        """Where on the axis a time stands."""
        return int(t.row[self.along.key])

    def value(self, t: Timing) -> float | None:
        """The time that the line is about."""
        if self.found:
            return t.seconds if t.is_timed else None
        return t.predicted if self.kind == PREDICTED else t.bound

    @property
    def known(self) -> list[tuple[int, float]]:
        """Where it has such a time, and it."""
        return [(self.at(t), v) for t in self.every if (v := self.value(t))]

    @property
    def reached(self) -> list[tuple[int, float]]:
        """Those of them that the device holds."""
        inside = {self.at(t) for t in self.every if t.row.get("fits") is not False}
        return [(at, value) for at, value in self.known if at in inside]


def lines(along: Along, every: Iterable[Timing]) -> list[Line]:
    """Every line with two times or more, named and with its look."""
    groups: dict[tuple[Any, ...], dict[int, Timing]] = {}
    for t in every:
        at, held = t.row.get(along.key), t.row.get(along.held)
        if at and held:
            groups.setdefault((t.place, t.phase, t.point, held), {}).setdefault(int(at), t)
    made = [Line(along, tuple(g[at] for at in sorted(g)), next(iter(g.values())).point.look) for g in groups.values()]
    return _named([line for line in made if len(line.known) > 1])


def _named(made: Sequence[Line]) -> list[Line]:
    """A line is called what sets it apart: its point, what it holds, or both."""
    points, held = list(dict.fromkeys(x.point for x in made)), sorted({x.held for x in made})
    return [replace(x, name=_name(x, points, held), look=_look(x, points, held)) for x in made]


def _name(line: Line, points: Sequence[Point], held: Sequence[int]) -> str:
    own = [line.point.tag if len(held) > 1 else end_text(line.point)] * (len(points) > 1 or len(held) == 1)
    return " · ".join([*own, *[say(line.along.held, line.held)] * (len(held) > 1)])


def _look(line: Line, points: Sequence[Point], held: Sequence[int]) -> Look:
    """The colour is the point's, the marker says what is held; of one point alone the shade says it too."""
    if len(held) == 1:
        return line.point.look
    i = held.index(line.held)
    return palette.step(i, len(held)) if len(points) == 1 else replace(line.point.look, symbol=SYMBOLS[i % 6])
