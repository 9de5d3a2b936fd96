"""What the sentences of a report compare: the least, the released and the largest of a metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archlab.report import metrics, words
from archlab.report.metrics import Metric
from archlab.report.points import Cast, Point

CLEAR = 1.05
"""Ratios nearer to one than this are not worth a heading."""
TIE = 1.0005
"""Numbers nearer to one another than this are equal."""
ALIKE = 1.25
"""Models within this ratio of parameters are compared as of one size."""


@dataclass(frozen=True)
class Spread:
    """A metric over some points: the least, the largest, and the released shape where it is there."""

    metric: Metric
    values: dict[Point, float]

    @property
    def least(self) -> Point:
        """The smallest; of several as small, the one nearest to the released shape."""
        low = min(self.values.values()) * TIE
        return min((p for p in self.values if self.values[p] <= low), key=self._steps)

    @property
    def most(self) -> Point:
        """The largest; of several as large, the one nearest to the released shape."""
        high = max(self.values.values()) / TIE
        return min((p for p in self.values if self.values[p] >= high), key=self._steps)

    def _steps(self, point: Point) -> int:
        """On how many axes a point differs from the released shape."""
        base = next((p for p in self.values if p.released and p.base == point.base), point)
        return sum(base.values[key] != value for key, value in point.values.items())

    @property
    def released(self) -> Point | None:
        """The released shape, if it has the number."""
        return next((p for p in self.values if p.released), None)

    @property
    def ratio(self) -> float:
        """Largest over least."""
        low = self.values[self.least]
        return self.values[self.most] / low if low else 1.0

    def say(self, point: Point) -> str:
        """The number of a point with its unit."""
        return self.metric.say(self.values[point])


def spread(cast: Cast, metric: Metric | None, points: Sequence[Point] | None = None) -> Spread | None:
    """The metric over the points that have it; None where none has."""
    values = metric.known(cast.run, cast.ok if points is None else points) if metric else {}
    return Spread(metric, values) if metric and values else None


def cache(cast: Cast) -> Metric | None:
    """The cache at the longest workload."""
    reach = metrics.longest(cast.run)
    return next((m for m in metrics.kv_cache(cast.run) if m.at["workload"] == reach), None)


def decode(cast: Cast) -> Metric | None:
    """The decode bound at the longest workload, on the device that holds the most points there."""
    reach, order = metrics.longest(cast.run), metrics.roomiest(cast.run)
    found = [m for m in metrics.bounds(cast.run, "decode") if m.at["workload"] == reach]
    found = [m for m in found if m.known(cast.run, cast.ok)]
    return min(found, key=lambda m: order.index(m.at["hardware"] or ""), default=None)


def candidates(cast: Cast) -> list[Metric]:
    """What a heading may be about: the cache if it changes, else what changes most."""
    work = [m for m in metrics.flops(cast.run, "decode") if m.at["workload"] == metrics.longest(cast.run)]
    known = [m for m in (cache(cast), decode(cast), metrics.PARAMS, *work) if m and m.known(cast.run, cast.ok)]
    ratios = {m.key: max((s.ratio for s in by_base(cast, m) if s), default=1.0) for m in known}
    if known and known[0].column == "kv_cache_bytes" and ratios[known[0].key] >= CLEAR:
        return known
    return sorted(known, key=lambda m: -ratios[m.key])


def by_base(cast: Cast, metric: Metric) -> list[Spread | None]:
    """The spread over the points of each base; a comparison has one spread over all."""
    bases = dict.fromkeys(p.base for p in cast.ok) if cast.run.is_study else [None]
    return [spread(cast, metric, [p for p in cast.ok if b in (p.base, None)]) for b in bases]


def gains(each: Sequence[Spread]) -> list[tuple[Spread, float]]:
    """(spread of a base, released over least), the greatest gain first."""
    found = [(s, s.values[s.released or s.most] / s.values[s.least]) for s in each if s.values[s.least]]
    return sorted(found, key=lambda gain: -gain[1])


def turned(cast: Cast) -> str:
    """The names of the axes: 'window and pattern'."""
    return words.listing([a.label for a in cast.run.axes]) or cast.run.meta["name"]


def axes_of(cast: Cast, point: Point) -> str:
    """'window 512, pattern local*7 global'."""
    return ", ".join(f"{a.label} {words.axis_value(point.values[a.key])}" for a in cast.run.axes)


def alike(cast: Cast, of: Spread) -> tuple[Point, Point, float] | None:
    """Of the models within a quarter of one another's size, the two whose metric differs most."""
    sizes = metrics.PARAMS.known(cast.run, of.values)
    best: tuple[Point, Point, float] | None = None
    for a in sizes:
        for b in sizes:
            near = sizes[a] <= sizes[b] * ALIKE and sizes[b] <= sizes[a] * ALIKE
            ratio = of.values[b] / of.values[a] if of.values[a] else 0
            if near and ratio >= 1.15 and (best is None or ratio > best[2]):
                best = (a, b, ratio)
    return best
