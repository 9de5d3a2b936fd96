"""The operations of formulas, on polynomials: each gives the polynomial of its result.

Whole numbers stay exact: what is rounded is divided as the formula divides it. A comparison that is known is 1 or {}.
"""

from __future__ import annotations

from collections.abc import Iterable

from archlab.columns.graph import ANYTHING, INF, Graph, Range, hull, quotients
from archlab.columns.polynomial import ONE, Poly, common_divisor, constant, divides, over, plus, product, without

MOST_TERMS = 256
"""Beyond it a product is not multiplied out: the larger factor becomes an atom."""

TRUTH: Range = (0.0, 1.0)


def add(_: Graph, p: Poly, q: Poly) -> Poly:
    """p + q."""
    return plus(p, q)


def subtract(_: Graph, p: Poly, q: Poly) -> Poly:
    """p - q."""
    return plus(p, q, -1)


def multiply(graph: Graph, p: Poly, q: Poly) -> Poly:
    """p * q."""
    if len(p) * len(q) > MOST_TERMS:
        p, q = (p, q) if len(p) <= len(q) else (q, p)
        q = graph.atom("value", (q,), graph.range(q), graph.whole(q))
    return product(p, q)


def divide(graph: Graph, p: Poly, q: Poly) -> Poly:
    """p / q: a number or what divides each term divides the terms, anything else is a reciprocal."""
    if not p:
        return {}
    if len(q) == 1:
        ((m, c),) = q.items()
        if divides(m, common_divisor(p)):
            return {n: _quotient(d, c) for n, d in over(p, m).items()}
    return product(p, graph.atom("reciprocal", (q,), quotients((1.0, 1.0), graph.range(q))))


def _quotient(a: float, b: float) -> float:
    return a // b if isinstance(a, int) and isinstance(b, int) and a % b == 0 else a / b


def floor_divide(graph: Graph, p: Poly, q: Poly) -> Poly:
    """floor(p / q): what q divides exactly needs no rounding."""
    if len(q) != 1:
        return _rounded(graph, p, q)
    exact = _multiples(graph, p, q)
    ((m, c),) = q.items()
    quotient = {without(n, m): d // c for n, d in exact.items()}
    return plus(quotient, _rounded(graph, plus(p, exact, -1), q))


def _multiples(graph: Graph, p: Poly, q: Poly) -> Poly:
    """The terms of p that a single term q divides, leaving a whole number."""
    ((m, c),) = q.items()
    return {n: d for n, d in p.items() if divides(m, n) and not d % c and graph.whole({without(n, m): d // c})}


def _rounded(graph: Graph, p: Poly, q: Poly) -> Poly:
    if not p or (q == ONE and graph.whole(p)):
        return p
    if constant(p) and constant(q):
        return _number(p[()] // q[()])
    low, high = quotients(graph.range(p), graph.range(q))
    return graph.atom("floor_divide", (p, q), (_floor(low), _floor(high)), True)


def _floor(x: float) -> float:
    return x if abs(x) == INF else x // 1


def _number(x: float) -> Poly:
    return {(): x} if x else {}


def remainder(graph: Graph, p: Poly, q: Poly) -> Poly:
    """p % q, with the sign of q."""
    if constant(p) and constant(q):
        return _number(p.get((), 0) % q[()])
    if len(q) == 1 and _multiples(graph, p, q) == p:
        return {}
    low, high = graph.range(q)
    within = min(low, 0.0), max(high, 0.0)
    return graph.atom("remainder", (p, q), within, graph.whole(p) and graph.whole(q))


def power(graph: Graph, p: Poly, q: Poly) -> Poly:
    """p ** q."""
    if q == {(): 2}:
        return multiply(graph, p, p)
    if constant(p) and constant(q):
        return _number(p.get((), 0) ** q.get((), 0))
    (low, high), (least, _) = graph.range(p), graph.range(q)
    if low < 0:
        return graph.atom("power", (p, q), ANYTHING)
    return graph.atom("power", (p, q), (0.0, 1.0 if high <= 1 and least >= 0 else INF))


# ---------------------------------------------------------------- comparisons


def greater(graph: Graph, p: Poly, q: Poly) -> Poly:
    """p > q."""
    difference = plus(p, q, -1)
    difference = over(difference, graph.strict_divisor(difference))
    low, high = graph.range(difference)
    return ONE if low > 0 else {} if high <= 0 else _compared(graph, "greater", difference)


def greater_equal(graph: Graph, p: Poly, q: Poly) -> Poly:
    """p >= q."""
    difference = plus(p, q, -1)
    difference = over(difference, graph.strict_divisor(difference))
    low, high = graph.range(difference)
    return ONE if low >= 0 else {} if high < 0 else _compared(graph, "greater_equal", difference)


def equal(graph: Graph, p: Poly, q: Poly) -> Poly:
    """p == q."""
    difference = plus(p, q, -1)
    low, high = graph.range(over(difference, graph.strict_divisor(difference)))
    return ONE if not difference else {} if low > 0 or high < 0 else _compared(graph, "equal", difference)


def _compared(graph: Graph, op: str, difference: Poly) -> Poly:
    """What is added against what is taken away."""
    more = {m: c for m, c in difference.items() if not c < 0}
    less = {m: -c for m, c in difference.items() if c < 0}
    return graph.atom(op, (more, less), TRUTH, True)


def negate(graph: Graph, p: Poly) -> Poly:
    """not p."""
    if constant(p):
        return {} if p else ONE
    return graph.atom("logical_not", (p,), TRUTH, True)


def both(graph: Graph, p: Poly, q: Poly) -> Poly:
    """p and q."""
    if constant(p) or constant(q):
        decides, other = (p, q) if constant(p) else (q, p)
        return other if decides else {}
    return p if p == q else graph.atom("logical_and", ordered((p, q)), TRUTH, True)


def either(graph: Graph, p: Poly, q: Poly) -> Poly:
    """p or q."""
    if constant(p) or constant(q):
        decides, other = (p, q) if constant(p) else (q, p)
        return ONE if decides else other
    return p if p == q else graph.atom("logical_or", ordered((p, q)), TRUTH, True)


def ordered(polys: Iterable[Poly]) -> tuple[Poly, ...]:
    """In one order, whatever theirs: of an operation whose sides may be exchanged."""
    return tuple(sorted(polys, key=lambda p: sorted(p.items())))


def where(graph: Graph, condition: Poly, yes: Poly, no: Poly) -> Poly:
    """yes where the condition holds, else no. Against 0 it is a product, unless that could be 0 * infinity."""
    if constant(condition):
        return yes if condition else no
    if yes == no:
        return yes
    if not no and graph.finite(yes):
        return multiply(graph, condition, yes)
    ends = hull(graph.range(yes), graph.range(no)) if graph.finite(yes) and graph.finite(no) else ANYTHING
    return graph.atom("where", (condition, yes, no), ends, graph.whole(yes) and graph.whole(no))
