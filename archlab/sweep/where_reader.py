"""From what Python's parser makes of a condition to its parts, by a list of what is allowed."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from archlab.sweep.where_conditions import (
    Arithmetic,
    Comparison,
    Condition,
    Junction,
    Listing,
    Literal,
    Name,
    Not,
    Operand,
)
from archlab.sweep.where_operations import COMPARISONS, FUNCTIONS, OPERATIONS
from archlab.sweep.where_tokens import Quantity, Slot, wrong
from archlab.sweep.where_units import EXAMPLE, UNITS, measured_in
from archlab.units import TOKENS


@dataclass
class Reader:
    """Reads what Python's parser made of a condition; anything that is not listed here is refused."""

    text: str
    slots: Mapping[str, Slot]
    names: dict[str, str]  # as written -> the column

    def condition(self, node: ast.expr) -> Condition:
        """A node that is true or false. Raises SpecError."""
        if isinstance(node, ast.BoolOp):
            return Junction(isinstance(node.op, ast.And), tuple(map(self.condition, node.values)))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Not(self.condition(node.operand))
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if isinstance(node, ast.Name) and isinstance(self.slots.get(node.id), str):
            return self._column(node)
        raise wrong(self.text, "it has a part that is neither a comparison nor a column of yes and no")

    def _comparison(self, node: ast.Compare) -> Comparison:
        within = {measured_in(self._column(n).shown) for n in ast.walk(node) if self._is_column(n)}
        sides = [self._side(side, within) for side in (node.left, *node.comparators)]
        pairs = []
        for left, op, right in zip(sides[:-1], node.ops, sides[1:], strict=True):
            sign = COMPARISONS.get(type(op))
            if sign is None:
                raise wrong(self.text, "'is' does not compare; write ==")
            if isinstance(left, Listing) or isinstance(right, Listing) != (sign in ("in", "not in")):
                raise wrong(self.text, "a list stands after in, as n_kv_heads in [1, 2], and only there")
            pairs.append((sign, left, right))
        for one, other in zip([node.left, *node.comparators][:-1], node.comparators, strict=True):
            self._check_unit(one, other)
            self._check_unit(other, one)
        return Comparison(tuple(pairs))

    def _side(self, node: ast.expr, within: set[str]) -> Operand | Listing:
        if not isinstance(node, ast.List | ast.Tuple):
            return self._operand(node, within)
        entries = tuple(self._operand(entry, within) for entry in node.elts)
        literals = tuple(_folded(e) for e in entries)
        if not literals or None in literals:
            raise wrong(self.text, "a list holds one or more numbers or texts")
        return Listing("the list", tuple(e for e in literals if e is not None))

    def _operand(self, node: ast.expr, within: set[str]) -> Operand:
        if isinstance(node, ast.Name) and node.id in self.slots:
            slot = self.slots[node.id]
            if isinstance(slot, Quantity):
                return self._number(slot, within)
            return slot if isinstance(slot, Literal) else self._column(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            return Literal(str(node.value), node.value)
        if isinstance(node, ast.BinOp | ast.UnaryOp) and type(node.op) in OPERATIONS:
            sign, apply = OPERATIONS[type(node.op)]
            parts = [node.operand] if isinstance(node, ast.UnaryOp) else [node.left, node.right]
            return Arithmetic(sign, apply, tuple(self._operand(part, within) for part in parts))
        if isinstance(node, ast.Call):
            return self._call(node, within)
        raise wrong(self.text, "a number, a text or a column was expected where it has a condition")

    def _call(self, node: ast.Call, within: set[str]) -> Operand:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS:
            raise wrong(self.text, "brackets follow something that is no function")
        if not node.args or (name == "abs" and len(node.args) > 1):
            raise wrong(self.text, f"{name}() takes {'one number' if name == 'abs' else 'one or more numbers'}")
        return Arithmetic(f"{name}()", FUNCTIONS[name], tuple(self._operand(part, within) for part in node.args))

    def _number(self, written: Quantity, within: set[str]) -> Literal:
        scales = next((units for units in UNITS.values() if written.unit in units), {"": 1})
        if written.unit == "M" and "tokens" in within:
            if within != {"tokens"}:
                raise wrong(self.text, f"{written.shown} may be of tokens (2^20) or of a count (10^6); write it out")
            scales = TOKENS
        exact = Fraction(written.digits.replace("_", "")) * scales[written.unit]
        if abs(exact) > 10**300:
            raise wrong(self.text, f"{written.digits[:20]} is too large")
        return Literal(written.shown, int(exact) if exact.denominator == 1 and exact < 2**63 else float(exact))

    def _check_unit(self, one: ast.expr, other: ast.expr) -> None:
        """Raises SpecError for a literal of another unit than the bare column that it stands beside."""
        if not self._is_column(one):
            return
        name = self._column(one).shown
        own = UNITS.get(measured_in(name))
        for part in other.elts if isinstance(other, ast.List | ast.Tuple) else [other]:
            slot = self.slots.get(part.id) if isinstance(part, ast.Name) else None
            if own is not None and isinstance(slot, Quantity) and slot.unit and slot.unit not in own:
                told = measured_in(name)
                raise wrong(self.text, f"{name} is in {told}, and {slot.shown} is not; write it as {EXAMPLE[told]}")

    def _is_column(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and isinstance(self.slots.get(node.id), str)

    def _column(self, node: Any) -> Name:
        return Name(self.names[str(self.slots[node.id])])


def _folded(entry: Operand) -> Literal | None:
    """A list's entry as a literal: -3 is one, a column is not."""
    if isinstance(entry, Arithmetic) and entry.shown in "+-" and len(entry.operands) == 1:
        inner = _folded(entry.operands[0])
        if inner is None or isinstance(inner.content, str | bool):
            return None
        return Literal(entry.shown + inner.shown, -inner.content if entry.shown == "-" else inner.content)
    return entry if isinstance(entry, Literal) else None
