"""Polynomials over numbered atoms: {monomial: coefficient}, where a monomial is a sorted tuple of atoms.

An atom that stands twice is squared; () is 1. No coefficient is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

Monomial = tuple[int, ...]
Poly = dict[Monomial, float]
Key = frozenset[tuple[Monomial, float]]

ONE: Poly = {(): 1}
"""1, and what a comparison is that always holds; {} is 0."""


def constant(p: Poly) -> bool:
    """Whether it is a number."""
    return not p or (len(p) == 1 and () in p)


def plus(p: Poly, q: Poly, times: float = 1) -> Poly:
    """p + times * q."""
    result = dict(p)
    for monomial, c in q.items():
        total = result.get(monomial, 0) + times * c
        if total:
            result[monomial] = total
        else:
            result.pop(monomial, None)
    return result


def product(p: Poly, q: Poly) -> Poly:
    """p * q, multiplied out."""
    if len(q) == 1 and () in q:
        return scaled(p, q[()])
    if len(p) == 1 and () in p:
        return scaled(q, p[()])
    result: Poly = {}
    for m, c in p.items():
        for n, d in q.items():
            both = tuple(sorted(m + n)) if m and n else m or n
            result[both] = result.get(both, 0) + c * d
    return {m: c for m, c in result.items() if c}


def scaled(p: Poly, by: float) -> Poly:
    """by * p."""
    if by == 1:
        return p
    return {m: c * by for m, c in p.items()} if by else {}


def over(p: Poly, divisor: Monomial) -> Poly:
    """p / divisor, which divides each term."""
    if not divisor:
        return p
    return {without(m, divisor): c for m, c in p.items()}


def without(m: Monomial, divisor: Monomial) -> Monomial:
    """m / divisor, which divides it."""
    left = list(m)
    for atom in divisor:
        left.remove(atom)
    return tuple(left)


def divides(divisor: Monomial, m: Monomial) -> bool:
    """Whether m / divisor is a monomial."""
    return all(m.count(atom) >= divisor.count(atom) for atom in divisor)


def common_terms(polys: Sequence[Poly]) -> Poly:
    """The terms that all of them have."""
    first, *others = polys
    return {m: c for m, c in first.items() if all(p.get(m) == c for p in others)}


def common_divisor(*polys: Poly) -> Monomial:
    """The largest monomial that divides each term of each."""
    found: Monomial | None = None
    for p in polys:
        for m in p:
            found = m if found is None else _shared(found, m)
            if not found:
                return ()
    return found or ()


def _shared(m: Monomial, n: Monomial) -> Monomial:
    if m == n:
        return m
    left, kept = list(n), []
    for atom in m:
        if atom in left:
            left.remove(atom)
            kept.append(atom)
    return tuple(kept)


def key(p: Poly) -> Key:
    """What equal polynomials have in common."""
    return frozenset(p.items())
