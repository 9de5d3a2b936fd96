"""The filter of a page: a pill for each point while they are few, else for what points share."""

from __future__ import annotations

from dataclasses import dataclass, replace

from archlab.report import words
from archlab.report.load import Axis
from archlab.report.palette import Look
from archlab.report.points import Cast, Point, axis_rank

FEW = 10
"""Up to so many points each has a filter pill of its own."""
MOST = 16
"""Values of an axis: of more numbers, pills hold ranges; more words have none."""
RANGES = 5


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


def facets(cast: Cast) -> tuple[Facet, ...]:
    """A pill a point while they are few, else one for each base (or family) and each value of an axis."""
    cast = cast.wide
    if len(cast.all) <= FEW:
        return tuple(Facet(p.tag, "", p.tag, (p.index,), p.look, f"point-{p.index}", p.note) for p in cast.all)
    return tuple(_shared(cast))


def _shared(cast: Cast) -> list[Facet]:
    run = cast.run
    owners = {p: p.base if run.is_study else p.group for p in cast.all}
    facets = [
        _facet(cast, name, "", [p for p in cast.all if owners[p] == name]) for name in dict.fromkeys(owners.values())
    ]
    facets = facets if len(facets) > 1 else []
    for axis in run.axes:
        for label, mates in _sets(cast, axis):
            facets.append(_facet(cast, label, axis.label, mates))
    return facets


def _sets(cast: Cast, axis: Axis) -> list[tuple[str, list[Point]]]:
    """(label, points) for each value of an axis, or for ranges of many numbers."""
    values = sorted({p.values[axis.key] for p in cast.all}, key=lambda v: axis_rank(axis.values, v))
    if len(values) <= MOST:
        return [(words.axis_value(v), [p for p in cast.all if p.values[axis.key] == v]) for v in values]
    if not all(isinstance(v, int | float) for v in values):
        return []
    n = len(values)
    parts = [values[i * n // RANGES : (i + 1) * n // RANGES] for i in range(RANGES)]
    return [
        (f"{words.axis_value(part[0])} to {words.axis_value(part[-1])}",
         [p for p in cast.all if part[0] <= p.values[axis.key] <= part[-1]])
        for part in parts
    ]  # fmt: skip


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
