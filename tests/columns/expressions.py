"""Random formulas, as functions of named values: of Python's numbers, of numpy's columns, of placeholders.

`whole` formulas are exact on whole numbers; `real` ones stay above 0, so that nothing cancels. Each knows a bound of
the size of all that is computed on the way, also when products are multiplied out.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from archlab.algebra import ceil_div, floor_div, maximum, minimum, smooth_maximum, where
from archlab.columns import mesh, program
from archlab.columns.graph import Graph
from archlab.columns.program import Program
from archlab.columns.traced import Traced, column

NAMES = ("x", "y", "z")
MOST = 2.0**50

Values = dict[str, Any]


@dataclass(frozen=True)
class Formula:
    """A formula, a bound of its size for a bound of each name, and its text."""

    of: Callable[[Values], Any]
    size: Callable[[Values], float]
    text: str

    def __repr__(self) -> str:
        return self.text


def name(key: str) -> Formula:
    return Formula(lambda v: v[key], lambda s: s[key], key)


def number(n: float) -> Formula:
    return Formula(lambda v: n, lambda s: abs(n), str(n))


def made(text: str, of: Callable[..., Any], size: Callable[..., float]) -> Callable[..., Formula]:
    def build(*parts: Formula) -> Formula:
        return Formula(
            lambda v: of(*(p.of(v) for p in parts)),
            lambda s: size(*(p.size(s) for p in parts)),
            f"{text}({', '.join(map(repr, parts))})",
        )

    return build


def first(a: float, *_: float) -> float:
    return a


def mul(a: float, b: float) -> float:
    return a * b


def opposite(condition: Any) -> Any:
    """not; Python's own ~True is -2."""
    return not condition if isinstance(condition, bool) else ~condition


BINARY = [
    made("add", lambda a, b: a + b, lambda a, b: a + b),
    made("sub", lambda a, b: a - b, lambda a, b: a + b),
    made("mul", mul, mul),
    made("min", minimum, max),
    made("max", maximum, max),
    made("floor", lambda a, b: floor_div(a, maximum(b, 1)), lambda a, b: max(a, b)),
    made("ceil", lambda a, b: ceil_div(a, maximum(b, 1)), lambda a, b: max(a, b) + 1),
    made("by7", lambda a, b: (a + b) // 7, lambda a, b: a + b),
    made("exact", lambda a, b: floor_div(a * 12 + b * 6, 4), lambda a, b: 12 * a + 6 * b),
    made("share", lambda a, b: floor_div(a * maximum(b, 1) + b, maximum(b, 1)), lambda a, b: (a + 1) * (b + 1)),
    made("mod", lambda a, b: a % maximum(b, 1), lambda a, b: max(a, b)),
    made("even", lambda a, b: where(((a + b) % 2 == 0) & opposite(a > b), a, b), lambda a, b: a + b),
    made("count", lambda a, b: (a > b) * 1 + (b >= 3) + (a != b), lambda a, b: 3 + a + b),
    made("square", lambda a, b: a**2 - b, lambda a, b: a * a + b),
    made("triangle", lambda a, b: a * (a + 1) // 2 + b, lambda a, b: a * (a + 1) + b),
]

CHOICES = [
    made("if", lambda c, a, b: where(c > 2, a, b), lambda c, a, b: a + b + c),
    made("ifelse0", lambda c, a, b: where((c >= b) | (a == b), a, 0), lambda c, a, b: a + b + c),
    made("and", lambda c, a, b: where((c < b) & (a <= b), 1, c - a), lambda c, a, b: a + b + c),
]  # fmt: skip

REAL = [
    made("radd", lambda a, b: a + b, lambda a, b: a + b),
    made("rmul", mul, mul),
    made("over", lambda a, b: a / (b + 1), first),
    made("half", lambda a, b: a / 2 + b / 3, lambda a, b: a + b),
    made("rmin", minimum, max),
    made("rmax", maximum, max),
    made("smooth", lambda a, b: smooth_maximum(a, b + 1), lambda a, b: (a + b + 1) ** 4),
    made("root", lambda a, b: a**0.5 + b, lambda a, b: a + b + 1),
    made("power", lambda a, b: 1 + (a / (a + 1)) ** (b / (b + 1)), lambda a, b: a + b + 2),
]

leaves = st.sampled_from(NAMES).map(name) | st.integers(-5, 40).map(number)


def _grown(inner: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
    two = st.tuples(st.sampled_from(BINARY), inner, inner)
    three = st.tuples(st.sampled_from(CHOICES), inner, inner, inner)
    return two.map(lambda t: t[0](*t[1:])) | three.map(lambda t: t[0](*t[1:]))


whole = st.recursive(leaves, _grown, max_leaves=12)
few = st.recursive(leaves, _grown, max_leaves=3)


def _real(inner: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
    two = st.tuples(st.sampled_from(REAL), inner, inner)
    chosen = st.tuples(few, inner, inner).map(
        lambda t: made("rif", lambda c, a, b: where(c > 1, a, b), lambda c, a, b: a + b + c)(*t)
    )
    return two.map(lambda t: t[0](*t[1:])) | chosen


above = few.map(lambda f: made("above", lambda a: maximum(a, 1), lambda a: a + 1)(f))
real = st.recursive(above, _real, max_leaves=8)


@contextmanager
def small_parts():
    """Every line of more than 4 numbers is computed in parts: of 3 linked points, of 8 of a mesh."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mesh, "CACHED", 3)
        patch.setattr(mesh, "SLAB", 8)
        patch.setattr(program, "SMALL", 4)
        yield


def traced(axes: dict[str, int], values: dict[str, np.ndarray], n_axes: int) -> dict[str, Traced]:
    """A placeholder for each name, along its axis."""
    graph = Graph(n_axes)
    return {key: column(graph, values[key], axis) for key, axis in axes.items()}


def computed(formulas: list[Formula], axes: dict[str, int], values: dict[str, np.ndarray], n_axes: int) -> list[Any]:
    """What a program makes of the formulas, on an open mesh: run twice, with its memory used again."""
    placeholders = traced(axes, values, n_axes)
    graph = next(iter(placeholders.values())).graph
    results = {str(i): f.of(placeholders) for i, f in enumerate(formulas)}
    made = Program(graph, results, reuse=True)
    made.run()
    return [*made.run().values()]


def points(axes: dict[str, int], values: dict[str, np.ndarray], shape: tuple[int, ...]) -> list[Values]:
    """The values of each point of a mesh, as Python's ints."""
    return [{key: int(values[key][at[axis]]) for key, axis in axes.items()} for at in np.ndindex(*shape)]
