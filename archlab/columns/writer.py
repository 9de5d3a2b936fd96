"""Polynomials as lines: numpy passes, each over the axes that it depends on, the same one once.

A polynomial is computed by Horner's rule, the terms of the fewest axes first: on a mesh most of the work is then done
on a few numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import frexp, prod
from typing import Any

import numpy as np

from archlab.columns.graph import Atom, Graph, Sought
from archlab.columns.polynomial import ONE, Key, Monomial, Poly, constant, key, plus, scaled, without

Ref = int | float
"""A line of the program, or a number. Numbers are floats, so that an int is a line."""

MASKS = ("greater", "greater_equal", "equal", "logical_and", "logical_or", "logical_not")
"""Lines whose results are true or false."""

PLACES = 2.0**12
"""Numbers that are whole once multiplied by it are exact."""

OWN = ("input", "probe", "where", "largest")
"""Lines that are no functions of numpy's."""

ORDERS = ("greater", "greater_equal")


@dataclass(frozen=True, slots=True)
class Line:
    """One pass: `op` of lines and numbers, over axes (bits). `atom`: which input or probe it is."""

    op: str
    args: tuple[Ref, ...]
    axes: int
    atom: int = -1

    @property
    def dtype(self) -> type:
        """Of what it computes."""
        return bool if self.op in MASKS else np.float64

    @property
    def reads(self) -> Iterator[int]:
        """The lines that it takes."""
        return (a for a in self.args if isinstance(a, int))


def is_line(ref: Any) -> bool:
    """Whether it is a line of the program."""
    return type(ref) is int


class Writer:
    """Writes the lines that compute polynomials."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.lines: list[Line] = []
        self._lines: dict[Any, int] = {}
        self._atoms: dict[int, int] = {}
        self._values: dict[Key, dict[float, Ref]] = {}  # form -> multiple -> line
        self._sums: list[tuple[Poly, int]] = []
        self._lengths = [(1 << i, max(a.shape[i] for a in graph.arrays.values())) for i in range(graph.n_axes)]
        self._sizes: dict[int, int] = {}

    def size(self, axes: int) -> int:
        """Points on such axes."""
        if axes not in self._sizes:
            self._sizes[axes] = prod(n for bit, n in self._lengths if bit & axes)
        return self._sizes[axes]

    def line(self, op: str, *args: Ref, axes: int | None = None, atom: int = -1) -> int:
        """The line of an operation."""
        if op not in (*MASKS, *OWN) and all(is_line(a) and self.lines[int(a)].dtype is bool for a in args):
            args = self.line("add", 0.0, args[0]), *args[1:]  # else numpy computes with truths, or with half precision
        if axes is None:
            axes = 0
            for a in args:
                axes |= self.lines[a].axes if isinstance(a, int) else 0
        known = op, args, tuple(map(type, args)), atom  # line 1 is not the number 1.0
        if known not in self._lines:
            self._lines[known] = len(self.lines)
            self.lines.append(Line(op, args, axes, atom))
        return self._lines[known]

    # ------------------------------------------------------------ polynomials

    def value(self, p: Poly) -> Ref:
        """A polynomial: a number, or its line."""
        if constant(p):
            return float(p.get((), 0))
        size = abs(p[min(p)])  # of one form for all its multiples
        known = self._values.setdefault(_form(p, size), {})
        if size not in known:
            of = next((own for own in known if self._multiple(p, size, own)), None)
            known[size] = self._new(p) if of is None else self.line("multiply", known[of], float(size / of))
        return known[size]

    def _multiple(self, p: Poly, size: float, own: float) -> bool:
        """Whether p may be had of a multiple that is known: one that is exact, of others exactly."""
        if not binary(p):
            return True
        return _exact(size / own) and binary({m: c * own / size for m, c in p.items()})

    def total(self, p: Poly) -> Ref:
        """The same, of a result: one that holds an earlier one whole is that and the rest."""
        held = [(part, ref) for part, ref in self._sums if part.items() <= p.items()]
        if held and len(held[-1][0]) < len(p):
            most, ref = held[-1]  # they come in the order of their lengths
            found = self._added(ref, plus(p, most, -1), self.total)
        else:
            found = self.value(p)
        if len(p) > 2 and isinstance(found, int):
            self._sums.append((p, found))
            size = abs(p[min(p)])
            self._values.setdefault(_form(p, size), {}).setdefault(size, found)
        return found

    def _new(self, p: Poly) -> Ref:
        """Terms of the same axes together, those of the fewest first."""
        if len(p) == 1:
            return self._product(*next(iter(p.items())))
        groups: dict[int, Poly] = {}
        for m, c in p.items():
            groups.setdefault(self.graph.axes_of(m), {})[m] = c
        if len(groups) == 1:
            return self._horner(p)
        order = sorted(groups, key=lambda axes: (self.size(axes), axes))
        if order[0] == 0:  # a constant goes in with the first
            groups[order[1]] |= groups[order.pop(0)]
        first = groups[order[0]]
        found = self.value(first) if len(order) > 1 else self._horner(first)
        for axes in order[1:]:
            found = self._added(found, groups[axes], self.value)
        return found

    def _horner(self, p: Poly) -> Ref:
        """a q + r, where a is the atom that most terms have."""
        sizes = {abs(c) for c in p.values()}
        if len(sizes) == 1 and (size := sizes.pop()) != 1:
            return self.line("multiply", self.value({m: 1 if c > 0 else -1 for m, c in p.items()}), float(size))
        counts = Counter(a for m in p for a in set(m))
        atom = max(counts, key=lambda a: (counts[a], self.size(self.graph.atoms[a].axes), -a))
        if counts[atom] == 1:
            first, *others = p
            return self._added(self.value({first: p[first]}), {m: p[m] for m in others}, self.value)
        quotient = {without(m, (atom,)): c for m, c in p.items() if atom in m}
        rest = {m: c for m, c in p.items() if atom not in m}
        found = self._times(self.value(quotient), self.atom(atom))
        return self._added(found, rest, self.value) if rest else found

    def _added(self, found: Ref, p: Poly, value: Callable[[Poly], Ref]) -> Ref:
        if all(c < 0 for c in p.values()):
            return self.line("subtract", found, value(scaled(p, -1)))
        return self._exchangeable("add", found, value(p))

    def _product(self, m: Monomial, c: float) -> Ref:
        """c times atoms, those of the fewest axes first; c before the first that has more than those before it."""
        order = sorted(m, key=lambda a: (self.size(self.graph.atoms[a].axes), a))
        found: Ref = self.atom(order[0])
        for i, a in enumerate(order[1:], 1):
            if c != 1 and self._grows(order[:i], a):
                found, c = self.line("multiply", found, float(c)), 1
            found = self._times(found, self.atom(a))
        return found if c == 1 else self.line("multiply", found, float(c))

    def _grows(self, m: Sequence[int], a: int) -> bool:
        return self.size(self.graph.axes_of((*m, a))) > self.size(self.graph.axes_of(tuple(m)))

    def _times(self, a: Ref, b: Ref) -> Ref:
        return b if a == 1 and not is_line(a) else self._exchangeable("multiply", a, b)

    def _exchangeable(self, op: str, a: Ref, b: Ref) -> Ref:
        """A sum or a product: lines in the order of their numbers, a number behind them."""
        if isinstance(a, float) and isinstance(b, float):
            return a + b if op == "add" else a * b
        if isinstance(a, float) or (isinstance(b, int) and b < a):
            a, b = b, a
        return self.line(op, a, b)

    # ------------------------------------------------------------ atoms

    def atom(self, number: int) -> int:
        """The line of an atom."""
        if number not in self._atoms:
            atom = self.graph.atoms[number]
            given = atom.op in ("input", "probe")
            self._atoms[number] = self.line(atom.op, axes=atom.axes, atom=number) if given else self._of_atom(atom)
        return self._atoms[number]

    def _of_atom(self, atom: Atom) -> int:
        if atom.sought is not None:
            return self._largest(atom.sought, atom.axes)
        args = [*self._compared(*atom.args)] if atom.op in ORDERS else [self.value(p) for p in atom.args]
        if atom.op == "value":
            return args[0] if isinstance(args[0], int) else self.line("add", 0.0, args[0], axes=0)
        if atom.op == "reciprocal":
            return self.line("divide", 1.0, args[0])
        if atom.op == "floor_divide":
            return self.line("floor", args[0] if atom.args[1] == ONE else self.line("divide", *args))
        if atom.op in ("maximum", "minimum"):
            return self._extreme(atom.op, args)
        if atom.op == "power" and atom.args[1] == {(): 0.5}:
            return self.line("sqrt", args[0])
        return self.line(atom.op, *args)

    def _largest(self, it: Sought, axes: int) -> int:
        """A search: its probe, least, most, far and bends (NaN where they are not known), and its margins."""
        known = [float("nan") if p is None else self.value(p) for p in (it.far, it.bends)]
        margins = map(self.value, it.margins)
        return self.line("largest", self.atom(it.probe), self.value(it.least), it.most, *known, *margins, axes=axes)

    def _compared(self, p: Poly, q: Poly) -> Iterable[Ref]:
        """Two sides: one that is a result but for a constant is that result, and the other has the constant."""
        for part, ref in reversed(self._sums):
            for this, other, sign in ((p, q, 1), (q, p, -1)):
                if len(this) > 2 and set(plus(part, this, -1)) == {()} and constant(other):
                    number = other.get((), 0) + part.get((), 0) - this.get((), 0)
                    return (ref, float(number))[::sign]
        return self.value(p), self.value(q)

    def _extreme(self, op: str, args: Sequence[Ref]) -> int:
        """Of several sides: those of the fewest axes first."""
        first, *rest = sorted(args, key=lambda a: (self.size(self.lines[a].axes) if isinstance(a, int) else 0, a))
        for side in rest:
            first = self.line(op, side, first)
        return int(first)


def _form(p: Poly, size: float) -> Key:
    return key(p if size == 1 else {m: c / size for m, c in p.items()})


def binary(p: Poly) -> bool:
    """Whether its numbers are whole, or of a few binary places: so that it is exact in float64."""
    return all(type(c) is int or (c * PLACES).is_integer() for c in p.values())


def _exact(ratio: float) -> bool:
    """Whether whole numbers stay whole, or halves, when multiplied by it."""
    return ratio == ratio // 1 or frexp(ratio)[0] == 0.5
