"""Placeholders that formulas run on in place of numbers: what is done to them is written down in a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from archlab.columns import extremes, operations
from archlab.columns.graph import Atom, Graph, Sought
from archlab.columns.polynomial import ONE, Poly, constant, plus, scaled
from archlab.columns.straight import solved

Operation = Callable[[Graph, Poly, Poly], Poly]


def poly_of(x: Any) -> Poly:
    """A number's polynomial, or a placeholder's own. Raises TypeError for anything else."""
    if type(x) is Traced:
        return x.poly
    if type(x) is int or type(x) is float:
        return {(): x} if x else {}
    value = x.item() if isinstance(x, np.generic) else x
    if not isinstance(value, int | float):
        raise TypeError(f"a placeholder meets {type(x).__name__}")
    return {(): value} if value else {}


def value_of(graph: Graph, p: Poly) -> Any:
    """A number where it is one, else a placeholder."""
    if not p:
        return 0
    return p[()] if len(p) == 1 and () in p else Traced(graph, p)


def truth_of(graph: Graph, p: Poly) -> Any:
    """A bool where it is known, else a placeholder."""
    return bool(p) if constant(p) else Traced(graph, p)


Wrap = Callable[[Graph, Poly], Any]


def _binary(make: Operation, wrap: Wrap = value_of) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The method of an operator, and that of its mirror image."""

    def method(self: Traced, other: Any) -> Any:
        return wrap(self.graph, make(self.graph, self.poly, poly_of(other)))

    def mirrored(self: Traced, other: Any) -> Any:
        return wrap(self.graph, make(self.graph, poly_of(other), self.poly))

    return method, mirrored


def _less(graph: Graph, p: Poly, q: Poly) -> Poly:
    return operations.greater(graph, q, p)


def _less_equal(graph: Graph, p: Poly, q: Poly) -> Poly:
    return operations.greater_equal(graph, q, p)


def _unequal(graph: Graph, p: Poly, q: Poly) -> Poly:
    return operations.negate(graph, operations.equal(graph, p, q))


class Traced:
    """A value that is not known yet. Stands for a column where `algebra` asks."""

    __slots__ = ("graph", "poly")
    __hash__ = object.__hash__
    ndim = 1

    def __init__(self, graph: Graph, poly: Poly) -> None:
        self.graph = graph
        self.poly = poly

    __add__, __radd__ = _binary(operations.add)
    __sub__, __rsub__ = _binary(operations.subtract)
    __mul__, __rmul__ = _binary(operations.multiply)
    __truediv__, __rtruediv__ = _binary(operations.divide)
    __floordiv__, __rfloordiv__ = _binary(operations.floor_divide)
    __mod__, __rmod__ = _binary(operations.remainder)
    __pow__, __rpow__ = _binary(operations.power)
    __gt__, __lt__ = _binary(operations.greater, truth_of)
    __ge__, __le__ = _binary(operations.greater_equal, truth_of)
    __eq__ = _binary(operations.equal, truth_of)[0]
    __ne__ = _binary(_unequal, truth_of)[0]
    __and__, __rand__ = _binary(operations.both, truth_of)
    __or__, __ror__ = _binary(operations.either, truth_of)

    def __neg__(self) -> Any:
        return value_of(self.graph, scaled(self.poly, -1))

    def __invert__(self) -> Any:
        return truth_of(self.graph, operations.negate(self.graph, self.poly))

    def __bool__(self) -> bool:
        raise TypeError("a placeholder has no truth: a formula asks `if` of a size")

    def __str__(self) -> str:
        """In a sentence: a slot, in which its number can stand once it is known."""
        self.graph.slots.append(self.poly)
        return f"{{{len(self.graph.slots) - 1}}}"

    def __deepcopy__(self, memo: Any) -> Traced:
        return self

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> Any:
        if ufunc.__name__ not in UFUNCS or method != "__call__" or len(inputs) != 2:
            raise TypeError(f"numpy.{ufunc.__name__} is not among what a formula may use")
        make, wrap = UFUNCS[ufunc.__name__]
        return wrap(self.graph, make(self.graph, *map(poly_of, inputs)))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is not np.where:
            raise TypeError(f"numpy.{function.__name__} is not among what a formula may use")
        return value_of(self.graph, operations.where(self.graph, *map(poly_of, args)))

    def values(self) -> np.ndarray:
        """What it is of the inputs, on an open mesh."""
        from archlab.columns.program import Program

        return Program(self.graph, {"it": self}).run()["it"]

    def all(self) -> bool:
        """Whether it is true at every point: a formula that groups layers by their sizes asks."""
        return bool(self.values().all())

    def any(self) -> bool:
        """Whether it is true at a point."""
        return bool(self.values().any())


UFUNCS: dict[str, tuple[Operation, Wrap]] = {
    "add": (operations.add, value_of), "subtract": (operations.subtract, value_of),
    "multiply": (operations.multiply, value_of), "divide": (operations.divide, value_of),
    "floor_divide": (operations.floor_divide, value_of), "remainder": (operations.remainder, value_of),
    "power": (operations.power, value_of),
    "maximum": (extremes.maximum, value_of), "minimum": (extremes.minimum, value_of),
    "greater": (operations.greater, truth_of), "greater_equal": (operations.greater_equal, truth_of),
    "less": (_less, truth_of), "less_equal": (_less_equal, truth_of),
    "equal": (operations.equal, truth_of), "not_equal": (_unequal, truth_of),
    "bitwise_and": (operations.both, truth_of), "logical_and": (operations.both, truth_of),
    "bitwise_or": (operations.either, truth_of), "logical_or": (operations.either, truth_of),
}  # fmt: skip
"""What numpy's functions of two arguments do to placeholders."""


# ---------------------------------------------------------------- where placeholders come from


def column(graph: Graph, values: np.ndarray, axis: int) -> Traced:
    """A placeholder of given values along an axis: float64, one dimension."""
    shape = [1] * graph.n_axes
    shape[axis] = len(values)
    return Traced(graph, graph.input(values.reshape(shape), 1 << axis))


def tabled(x: Traced, function: Callable[[np.ndarray], np.ndarray]) -> Traced:
    """What a function of numpy's makes of a value: computed now, given from here on."""
    return Traced(x.graph, x.graph.input(function(x.values()), x.graph.axes(x.poly)))


def largest(holds: Callable[[Any], Any], graph: Graph, least: Any, most: int) -> Any:
    """The largest whole number from `least` to `most` of which `holds` is true; 0 where none is.

    It must be true of all smaller ones.
    """
    start = poly_of(least)
    probe = graph.probe(graph.range(start)[0], most)
    condition = poly_of(holds(Traced(graph, probe)))
    if constant(condition):
        return most if condition else 0
    margins = [*_margins(graph, condition)]
    ((number,),) = probe
    axes = graph.axes(*margins, start) & ~graph.atoms[number].axes
    far, bends = solved(graph, margins, number, start, most) or (None, None)
    if far is not None and bends == start:  # it has none
        enough = operations.greater_equal(graph, far, start)
        return value_of(graph, operations.where(graph, enough, far, {}))
    sought = Sought(tuple(margins), number, start, float(most), far, bends)
    return Traced(graph, graph.add(Atom("largest", (), axes, 0.0, float(most), True, sought)))


def _margins(graph: Graph, condition: Poly) -> Iterator[Poly]:
    """The differences that must not be below 0 where a condition holds."""
    if constant(condition):
        yield {(): 1.0} if condition else {(): -1.0}
        return
    atom = graph.atoms[next(iter(condition))[0]] if len(condition) == 1 and len(next(iter(condition))) == 1 else None
    if atom is not None and atom.op == "logical_and":
        for side in atom.args:
            yield from _margins(graph, side)
    elif atom is not None and atom.op == "greater_equal":
        yield plus(atom.args[0], atom.args[1], -1)
    else:
        yield plus(condition, ONE, -1)  # true or false: 0 or -1
