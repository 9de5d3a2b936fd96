"""The largest number that holds, solved: where a margin is straight beyond the last of its bends.

Windows, chunks and floors bend a margin: min(W, n) is n up to W and W from there on. Beyond all of them it is
A - b n, or the least of several such sides, and meets 0 at A / b: most answers lie there. The others are looked for.
"""

from __future__ import annotations

from collections.abc import Iterator

from archlab.columns.extremes import maximum, minimum, replaced
from archlab.columns.graph import Graph
from archlab.columns.operations import divide, floor_divide, greater_equal, where
from archlab.columns.polynomial import ONE, Key, Monomial, Poly, key, plus, product, scaled, without

MOST_SIDES = 32
"""Sides of the maxima of a margin that are solved: beyond, looking for the number costs less."""

STEEP = 1e-3
"""A slope that may be 0 is divided by no less than this."""


class Bent(Exception):
    """A margin is not straight, or not known to be."""


def solved(graph: Graph, margins: list[Poly], probe: int, least: Poly, most: float) -> tuple[Poly, Poly] | None:
    """(far, bends): `far` is the largest n at which no margin is below 0, or -1 where none is, or `most`, of those that
    are not below `bends`. None where the margins are not straight.
    """
    beyond = Beyond(graph, probe, least)
    try:
        sides = [side for margin in margins for side in beyond.sides(beyond.of(margin))]
        if len(sides) > MOST_SIDES:
            return None
        far: Poly = {(): float(most)}
        for slope, rest in beyond.lines(sides):
            far = minimum(graph, far, _root(graph, rest, slope, most))
    except Bent:
        return None
    return far, beyond.bends


def _root(graph: Graph, rest: Poly, slope: Poly, most: float) -> Poly:
    """The largest n with rest - slope n >= 0: `most` or -1 where nothing changes."""
    if slope and graph.range(slope)[0] > 0:
        return floor_divide(graph, rest, slope)
    flat = where(graph, greater_equal(graph, rest, {}), {(): float(most)}, {(): -1.0})
    if not slope:
        return flat
    steep = floor_divide(graph, rest, maximum(graph, slope, {(): STEEP}))
    return where(graph, greater_equal(graph, {}, slope), flat, steep)


class Beyond:
    """Polynomials as they are where a number (the probe) is beyond all that bends them: `bends`, or more."""

    def __init__(self, graph: Graph, probe: int, least: Poly) -> None:
        self.graph, self.probe, self.bends = graph, probe, least
        self._bit = graph.atoms[probe].axes
        self._atoms: dict[int, Poly] = {}

    def moves(self, p: Poly) -> bool:
        """Whether it depends on the number."""
        return bool(self.graph.axes(p) & self._bit)

    def of(self, p: Poly) -> Poly:
        """A polynomial, straightened. Raises Bent."""
        found: Poly = {}
        for m, c in p.items():
            term: Poly = {(): c}
            for a in m:
                term = product(term, self._atom(a))
            found = plus(found, term)
        return found

    def _atom(self, a: int) -> Poly:
        if a not in self._atoms:
            moves = self.graph.atoms[a].axes & self._bit and a != self.probe
            self._atoms[a] = self._straightened(a) if moves else {(a,): 1}
        return self._atoms[a]

    def _straightened(self, a: int) -> Poly:
        atom = self.graph.atoms[a]
        if atom.op not in ("minimum", "maximum", "value"):
            raise Bent
        sides = [self.of(p) for p in atom.args]
        if atom.op == "minimum":
            return self._least(sides)
        first, *rest = sides
        for side in rest:
            first = maximum(self.graph, first, side)
        return first

    def _least(self, sides: list[Poly]) -> Poly:
        """A minimum: of the sides that stay, once those that grow have passed it. Raises Bent."""
        still = [side for side in sides if not self.moves(side)]
        if not still:
            raise Bent
        least = still[0]
        for side in still[1:]:
            least = minimum(self.graph, least, side)
        for side in sides:
            if self.moves(side):
                rest, slope = self.line(side)
                if slope.keys() != ONE.keys() or slope[()] <= 0:
                    raise Bent
                self.bends = maximum(self.graph, self.bends, divide(self.graph, plus(least, rest, -1), slope))
        return least

    def line(self, p: Poly) -> tuple[Poly, Poly]:
        """(a, b) of a + b n. Raises Bent."""
        rest: Poly = {}
        slope: Poly = {}
        for m, c in p.items():
            if not self.graph.axes_of(m) & self._bit:
                rest[m] = c
            elif m.count(self.probe) == 1 and not self.graph.axes_of(left := without(m, (self.probe,))) & self._bit:
                slope[left] = c
            else:
                raise Bent
        return rest, slope

    def sides(self, margin: Poly) -> Iterator[Poly]:
        """A margin with its maxima that depend on the number taken apart: it is the least of these. Raises Bent."""
        inside = self._maximum_in(margin)
        if inside is None:
            yield margin
            return
        m, a = inside
        rest = without(m, (a,))
        if margin[m] > 0 or not self.graph.positive(rest):
            raise Bent
        for side in replaced(margin, m, rest, self.graph.atoms[a].args):
            yield from self.sides(side)

    def _maximum_in(self, margin: Poly) -> tuple[Monomial, int] | None:
        atoms = self.graph.atoms
        return next(((m, a) for m in margin for a in m if atoms[a].op == "maximum" and atoms[a].axes & self._bit), None)

    def lines(self, sides: list[Poly]) -> Iterator[tuple[Poly, Poly]]:
        """(slope, rest) of each different slope: the least rest of the sides that fall alike. Raises Bent."""
        found: dict[Key, tuple[Poly, Poly]] = {}
        for side in sides:
            rest, slope = self.line(side)
            slope = scaled(slope, -1)
            if self.graph.range(slope)[0] < 0:
                raise Bent
            known = found.get(key(slope))
            found[key(slope)] = slope, rest if known is None else minimum(self.graph, known[1], rest)
        yield from found.values()
