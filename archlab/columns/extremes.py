"""Maxima and minima of polynomials: sides that never decide are left out, what the others share stands in front."""

from __future__ import annotations

from archlab.columns.graph import Graph
from archlab.columns.operations import ordered
from archlab.columns.polynomial import Monomial, Poly, common_divisor, common_terms, key, over, plus, product, without

MOST_SIDES = 12
"""A minimum or a maximum of more sides is one of two again."""


def maximum(graph: Graph, p: Poly, q: Poly) -> Poly:
    """The larger."""
    return _extreme("maximum", graph, p, q)


def minimum(graph: Graph, p: Poly, q: Poly) -> Poly:
    """The smaller."""
    return _extreme("minimum", graph, p, q)


def _extreme(op: str, graph: Graph, p: Poly, q: Poly) -> Poly:
    """What was asked before is known: formulas ask the same again, layer by layer and step by step."""
    known = op, key(p), key(q)
    if known not in graph.extremes:
        graph.extremes[known] = _new(op, graph, p, q)
    return graph.extremes[known]


def _new(op: str, graph: Graph, p: Poly, q: Poly) -> Poly:
    sides = _deciding(op, graph, [*_sides_of(op, graph, p), *_sides_of(op, graph, q)])
    if len(sides) > MOST_SIDES:
        sides = [p, q]
    if len(sides) == 1:
        return sides[0]
    shared = common_terms(sides)
    if shared:
        sides = [plus(side, shared, -1) for side in sides]
    factor = tuple(a for a in common_divisor(*sides) if graph.positive((a,)))
    sides = [over(side, factor) for side in sides]
    ends = [graph.range(side) for side in sides]
    choose = max if op == "maximum" else min
    within = choose(low for low, _ in ends), choose(high for _, high in ends)
    found = graph.atom(op, ordered(sides), within, all(map(graph.whole, sides)))
    return plus(shared, product(found, {factor: 1}))


def _deciding(op: str, graph: Graph, sides: list[Poly]) -> list[Poly]:
    """The sides that may decide, as far as is known."""
    sign = 1 if op == "maximum" else -1
    kept: list[Poly] = []
    for side in sides:
        signs = [graph.sign(plus(other, side, -1)) for other in kept]  # of what it lacks to each
        if sign not in signs:
            kept = [other for other, its in zip(kept, signs, strict=True) if its != -sign]
            kept.append(side)
    return kept


def _sides_of(op: str, graph: Graph, p: Poly) -> list[Poly]:
    """The polynomials of which p is the maximum (or the minimum): where one of its terms has such an atom as a factor,
    and no other, that atom's sides in its place.
    """
    if not graph.by_op[op]:
        return [p]
    inside = [(m, a) for m in p for a in m if a in graph.by_op[op]]
    if len(inside) != 1:
        return [p]
    m, a = inside[0]
    rest = without(m, (a,))
    if p[m] < 0 or not graph.positive(rest):
        return [p]
    return replaced(p, m, rest, graph.atoms[a].args)


def replaced(p: Poly, m: Monomial, rest: Monomial, sides: tuple[Poly, ...]) -> list[Poly]:
    """p with each of the sides in place of what rest lacks to the monomial m."""
    others = {n: c for n, c in p.items() if n != m}
    return [plus(others, product(side, {rest: p[m]})) for side in sides]
