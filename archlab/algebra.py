"""Numbers that may be ints, float64 columns or sympy symbols, and the legend of axis letters.

A formula does not know how many models it computes. It uses `+ - * // %` and the functions below, so
the same line runs on Python ints (exact, any size), on numpy float64 columns (exact below 2**53) and on
sympy symbols (the formula that a report prints). numpy and sympy are imported only when one of their
values comes by: a scalar analysis starts neither.

The legend
    B  batch                     D  d_model                  V  vocabulary rows
    T  new tokens                N  query heads              F  d_ff, width of the feed-forward
    S  context, T included       K  key/value heads          R  rows of logits (T, or 1)
    U  keys seen by a layer      G  query heads a KV head    A  tokens written to a layer's cache
    TU pairs that the mask keeps H  head_dim                 X  experts
    E  tokens of a source        Q  new tokens of a source   Y  experts that a token goes to
A block binds what else it needs (L the width of a recurrence, P that of a per-layer embedding): its `sizes` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

Number = Any
"""int or float, numpy.ndarray of float64, or sympy.Expr."""


PLACEHOLDERS = "archlab.columns.traced"
"""Where the type of placeholders is, named without importing it."""


def is_scalar(x: Number) -> bool:
    """True for a plain Python number: the exact case."""
    return isinstance(x, int | float)


def is_symbol(x: Number) -> bool:
    """True for a sympy expression, without importing sympy to find out."""
    return type(x).__module__.partition(".")[0] == "sympy"


def is_column(x: Number) -> bool:
    """True for a numpy array, without importing numpy to find out, and for a placeholder of one."""
    return type(x).__module__ in ("numpy", PLACEHOLDERS) and getattr(x, "ndim", 0) > 0


def is_placeholder(x: Number) -> bool:
    """True for what stands for a column while formulas are written down (archlab.columns)."""
    return type(x).__module__ == PLACEHOLDERS


def placeholder_in(x: Any) -> Any:
    """The first placeholder among the values of tables, sequences and frozen dataclasses; None where there is none."""
    if is_placeholder(x):
        return x
    if isinstance(x, Mapping):
        inside: Iterable[Any] = x.values()
    elif is_dataclass(x):
        inside = (getattr(x, f.name) for f in fields(x))
    else:
        inside = x if isinstance(x, tuple | list) else ()
    return next((found for value in inside if (found := placeholder_in(value)) is not None), None)


def plain(x: Any) -> Any:
    """numpy's single values as Python's, its columns as float64: int64 would overflow silently in training FLOPs."""
    if type(x).__module__ != "numpy":
        return x
    if getattr(x, "ndim", 0) == 0:
        return x.item() if hasattr(x, "item") else x
    return x.astype("float64") if x.dtype.kind in "iu" else x


def column(values: Iterable[float]) -> Number:
    """A float64 column: int64 would overflow silently in training FLOPs."""
    import numpy

    return numpy.asarray(values, dtype=numpy.float64)


def minimum(a: Number, b: Number) -> Number:
    """The smaller, element by element."""
    if is_scalar(a) and is_scalar(b):
        return a if a <= b else b
    if is_symbol(a) or is_symbol(b):
        import sympy

        return sympy.Min(a, b)
    import numpy

    return numpy.minimum(a, b)


def maximum(a: Number, b: Number) -> Number:
    """The larger, element by element."""
    if is_scalar(a) and is_scalar(b):
        return a if a >= b else b
    if is_symbol(a) or is_symbol(b):
        import sympy

        return sympy.Max(a, b)
    import numpy

    return numpy.maximum(a, b)


def where(condition: Any, yes: Number, no: Number) -> Number:
    """`yes` where the condition holds, else `no`; both are evaluated."""
    if isinstance(condition, bool):
        return yes if condition else no
    if is_symbol(condition):
        import sympy

        return sympy.Piecewise((yes, condition), (no, True))
    import numpy

    return numpy.where(condition, yes, no)


def choose(condition: Any, yes: Callable[[], Number], no: Callable[[], Number]) -> Number:
    """`where`, of which a side that a plain condition leaves out is not computed."""
    if isinstance(condition, bool):
        return yes() if condition else no()
    return where(condition, yes(), no())


def smooth_maximum(a: Number, b: Number) -> Number:
    """(a^4 + b^4)^(1/4): the larger where they are far apart, 1.19 times it where they are equal. Of numbers from 0."""
    total = a * a * a * a + b * b * b * b
    return (total**0.5) ** 0.5  # on columns a root is 20 times as fast as another power


def floor_div(a: Number, b: Number) -> Number:
    """floor(a / b). On columns numpy's `//` costs 18 times as much, and this is exact below 2**52."""
    if (is_column(a) or is_column(b)) and not (is_placeholder(a) or is_placeholder(b)):
        import numpy

        return numpy.floor(a / b)
    return a // b


def ceil_div(a: Number, b: Number) -> Number:
    """ceil(a / b)."""
    return -floor_div(-a, b)


def divides(b: Number, a: Number) -> Any:
    """Whether b divides a: a bool, or a column of them. A symbol is given the benefit of the doubt."""
    return True if is_symbol(a) or is_symbol(b) else a % b == 0


def triangle(n: Number) -> Number:
    """1 + 2 + ... + n, exact on ints."""
    twice = n * (n + 1)
    return twice // 2 if is_scalar(twice) else twice / 2


def octets(bits: Number) -> Number:
    """Bytes that hold so many bits, rounded up; of a symbol the eighth, which reads as a formula should."""
    return bits / 8 if is_symbol(bits) else ceil_div(bits, 8)


def product(numbers: Iterable[Number]) -> Number:
    """The product; 1 of nothing."""
    return math.prod(numbers)
