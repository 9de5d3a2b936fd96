"""The signs and functions that a condition may have, by what Python's parser calls them."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np


def _unless_zero(divide: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: np.where(b == 0, np.nan, divide(a, b))


OPERATIONS: dict[type, tuple[str, Callable[..., Any]]] = {
    ast.Add: ("+", operator.add), ast.Sub: ("-", operator.sub), ast.Mult: ("*", operator.mul),
    ast.Div: ("/", _unless_zero(operator.truediv)), ast.FloorDiv: ("//", _unless_zero(np.floor_divide)),
    ast.Mod: ("%", _unless_zero(np.mod)), ast.USub: ("-", operator.neg), ast.UAdd: ("+", operator.pos),
}  # fmt: skip
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": lambda *values: reduce(np.minimum, values),
    "max": lambda *values: reduce(np.maximum, values),
    "abs": np.abs,
}
COMPARISONS = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.In: "in",
    ast.NotIn: "not in",
}  # fmt: skip
