"""What a condition is made of, once it is read, and where it holds: columns, literals, arithmetic, comparisons."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from archlab.errors import SpecError
from archlab.sweep.where_values import Value

Read = Callable[[str], Value]


@dataclass(frozen=True)
class Name:
    """A column; where it stands alone as a condition, one of yes and no."""

    shown: str

    def value(self, read: Read) -> Value:
        return read(self.shown)

    def holds(self, read: Read, wanted: bool) -> Any:
        found = read(self.shown)
        if found.kind not in ("yes or no", "nothing"):
            raise SpecError(f"{self.shown} is {found.kind}, not a condition; compare it with something")
        return (found.data == wanted) & found.present


@dataclass(frozen=True)
class Literal:
    """A number, text in quotes, True or False."""

    shown: str
    content: int | float | str | bool

    def value(self, read: Read) -> Value:
        kind = {str: "text", bool: "yes or no"}.get(type(self.content), "a number")
        return Value(kind, self.content)


@dataclass(frozen=True)
class Listing:
    """What stands after `in`."""

    shown: str
    entries: tuple[Literal, ...]


@dataclass(frozen=True)
class Arithmetic:
    """An operation on numbers, in float64."""

    shown: str
    apply: Callable[..., Any]
    operands: tuple[Operand, ...]

    def value(self, read: Read) -> Value:
        with np.errstate(all="ignore"):
            return Value("a number", self.apply(*(self._number(operand, read) for operand in self.operands)))

    def _number(self, operand: Operand, read: Read) -> Any:
        found = operand.value(read)
        if found.kind not in ("a number", "nothing"):
            raise SpecError(f"{operand.shown} is {found.kind}; {self.shown} takes numbers")
        return np.asarray(found.data, dtype=np.float64)


Operand = Name | Literal | Arithmetic


@dataclass(frozen=True)
class Comparison:
    """left OP right, for each neighbouring pair of a chain."""

    pairs: tuple[tuple[str, Operand, Operand | Listing], ...]

    def holds(self, read: Read, wanted: bool) -> Any:
        if wanted:
            return reduce(operator.and_, (_compared(pair, read) for pair in self.pairs))
        opposite = ((_OPPOSITE[sign], left, right) for sign, left, right in self.pairs)
        return reduce(operator.or_, (_compared(pair, read) for pair in opposite))


@dataclass(frozen=True)
class Junction:
    """All of the parts, or any."""

    every: bool
    parts: tuple[Condition, ...]

    def holds(self, read: Read, wanted: bool) -> Any:
        join = operator.and_ if self.every == wanted else operator.or_
        return reduce(join, (part.holds(read, wanted) for part in self.parts))


@dataclass(frozen=True)
class Not:
    """The opposite; it reaches down to the comparisons, so what is missing satisfies neither."""

    part: Condition

    def holds(self, read: Read, wanted: bool) -> Any:
        return self.part.holds(read, not wanted)


Condition = Name | Comparison | Junction | Not

_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "==", "in": "not in", "not in": "in"}


def _compared(pair: tuple[str, Operand, Operand | Listing], read: Read) -> Any:
    sign, left, right = pair
    if isinstance(right, Listing):
        single, join = ("==", operator.or_) if sign == "in" else ("!=", operator.and_)
        return reduce(join, (_compared((single, left, entry), read) for entry in right.entries))
    a, b = left.value(read), right.value(read)
    if "nothing" in (a.kind, b.kind):
        return np.zeros(np.broadcast_shapes(np.shape(a.data), np.shape(b.data)), dtype=bool)
    if a.kind != b.kind:
        raise SpecError(f"{left.shown} is {a.kind} and {right.shown} is {b.kind}; {sign} compares two of a kind")
    if a.kind != "a number" and sign not in ("==", "!="):
        raise SpecError(f"{left.shown} is {a.kind}, which has no order; write ==, != or in, not {sign}")
    found = _SIGNS[sign](a.data, b.data) & a.present & b.present
    return found & (a.data == a.data) & (b.data == b.data) if sign == "!=" and a.kind == "a number" else found
