"""What formulas did, written down: atoms, each once, and what is known of their values.

A value is a polynomial over atoms. An atom is an input, or what no polynomial says: a minimum, a quotient rounded down,
a comparison. Equal values have equal polynomials, so nothing is computed twice; and each atom knows its range, so that
a minimum of which one side is always the smaller is that side, as are most of the many maxima of a memory peak.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from archlab.columns.polynomial import Key, Monomial, Poly, common_divisor, key, over

INF = float("inf")
Range = tuple[float, float]
ANYTHING: Range = (-INF, INF)


@dataclass(frozen=True, slots=True)
class Atom:
    """What is computed by `op` from polynomials; its axes as bits; its range; whether it is a whole number."""

    op: str
    args: tuple[Poly, ...]
    axes: int
    low: float = -INF
    high: float = INF
    whole: bool = False
    sought: Sought | None = None


@dataclass(frozen=True, slots=True)
class Sought:
    """A largest number: the probe (an atom), from `least` to `most`, at which no margin is below 0; else it is 0.

    Where `far` is not below `bends` it is the answer, unless `most` is less. Both are None where nothing is known.
    """

    margins: tuple[Poly, ...]
    probe: int
    least: Poly
    most: float
    far: Poly | None = None
    bends: Poly | None = None


class Graph:
    """The atoms of one run of the formulas, over so many axes."""

    def __init__(self, n_axes: int = 1) -> None:
        self.atoms: list[Atom] = []
        self.arrays: dict[int, np.ndarray] = {}  # of the inputs, on an open mesh
        self.n_axes = n_axes
        self.slots: list[Poly] = []  # values that sentences speak of
        self._next_axis = n_axes  # a probe is an axis of its own
        self._known: dict[tuple[str, tuple[Key, ...]], int] = {}
        self._ranges: dict[Monomial, Range] = {(): (1.0, 1.0)}
        self.extremes: dict[tuple[str, Key, Key], Poly] = {}  # maxima and minima that were asked for
        self.by_op: defaultdict[str, set[int]] = defaultdict(set)
        self._signed: set[int] = set()  # atoms that may be below 0

    # ------------------------------------------------------------ atoms

    def input(self, array: np.ndarray, axes: int) -> Poly:
        """Given numbers: float64, on an open mesh. Where some are no numbers, nothing is known of them."""
        ends = (float(array.min()), float(array.max())) if np.isfinite(array).all() else ANYTHING
        whole = ends != ANYTHING and bool((np.floor(array) == array).all())
        self.arrays[len(self.atoms)] = array
        return self.add(Atom("input", (), axes, *ends, whole))

    def probe(self, low: float, high: float) -> Poly:
        """A whole number that is searched for."""
        self._next_axis += 1
        return self.add(Atom("probe", (), 1 << (self._next_axis - 1), low, high, True))

    def add(self, atom: Atom) -> Poly:
        """A new atom."""
        number = len(self.atoms)
        self.atoms.append(atom)
        self.by_op[atom.op].add(number)
        if not atom.low >= 0:
            self._signed.add(number)
        return {(number,): 1}

    def atom(self, op: str, polys: Sequence[Poly], ends: Range = ANYTHING, whole: bool = False) -> Poly:
        """The atom of an operation on polynomials."""
        known = op, tuple(map(key, polys))
        if known not in self._known:
            self._known[known] = len(self.atoms)
            self.add(Atom(op, tuple(polys), self.axes(*polys), *ends, whole))
        return {(self._known[known],): 1}

    # ------------------------------------------------------------ what is known of a value

    def axes(self, *polys: Poly) -> int:
        """The axes that they depend on."""
        bits = 0
        for p in polys:
            for m in p:
                bits |= self.axes_of(m)
        return bits

    def axes_of(self, m: Monomial) -> int:
        """The axes that a monomial depends on."""
        bits = 0
        for a in m:
            bits |= self.atoms[a].axes
        return bits

    def range(self, p: Poly) -> Range:
        """Between which numbers it is, no tighter than its terms one by one."""
        low = high = 0.0
        for m, c in p.items():
            least, most = self._ranges[m] if m in self._ranges else self._monomial(m)
            if c > 0:
                low, high = low + c * least, high + c * most
            else:
                low, high = low + c * most, high + c * least
        return low, high

    def _monomial(self, m: Monomial) -> Range:
        found: Range = 1.0, 1.0
        for a in m:
            found = times(found, (self.atoms[a].low, self.atoms[a].high))
        self._ranges[m] = found
        return found

    def finite(self, p: Poly) -> bool:
        """Whether it is a number everywhere, as far as is known."""
        return all(abs(c) < INF for c in p.values()) and all(abs(end) < INF for end in self.range(p))

    def whole(self, p: Poly) -> bool:
        """Whether it is a whole number everywhere."""
        return all(abs(c) < INF and c == c // 1 for c in p.values()) and all(self.atoms[a].whole for m in p for a in m)

    def positive(self, m: Monomial) -> bool:
        """Whether none of its atoms is ever below 0."""
        return self._signed.isdisjoint(m)

    def sign(self, p: Poly) -> int | None:
        """1: nowhere below 0; -1: nowhere above; None: not known."""
        signs = {c > 0 for c in p.values()}
        if len(signs) < 2 and all(map(self.positive, p)):
            return -1 if signs == {False} else 1
        low, high = self.range(over(p, tuple(a for a in common_divisor(p) if a not in self._signed)))
        return 1 if low >= 0 else -1 if high <= 0 else None

    def strict_divisor(self, p: Poly) -> Monomial:
        """The atoms above 0 that divide it: p / them has p's sign."""
        return tuple(a for a in common_divisor(p) if self.atoms[a].low > 0)


def times(a: Range, b: Range) -> Range:
    """The range of a product."""
    ends = [0.0 if x == 0 or y == 0 else x * y for x in a for y in b]
    return min(ends), max(ends)


def quotients(a: Range, b: Range) -> Range:
    """The range of a quotient: each end divided as it will be, so that it is met exactly."""
    if b[0] <= 0:
        return ANYTHING
    ends = [0.0 if abs(y) == INF else x / y for x in a for y in b]
    return min(ends), max(ends)


def hull(a: Range, b: Range) -> Range:
    """The range of two ranges."""
    return min(a[0], b[0]), max(a[1], b[1])
