"""A program as the text of a JavaScript function: the same operations, in the same order, on the same float64.

What numpy computes of a point and what a browser computes of it is then the same number, bit for bit, powers apart:
both round each operation once, as IEEE 754 says, and only `pow` is left to a library.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from archlab.columns.program import Program
from archlab.columns.writer import Ref, is_line

INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "greater": ">", "greater_equal": ">=", "equal": "===",
    "logical_and": "&&", "logical_or": "||",
}  # fmt: skip

CALLS = {
    "maximum": "Math.max", "minimum": "Math.min", "floor": "Math.floor", "sqrt": "Math.sqrt", "power": "Math.pow",
    "remainder": "remainder",
}  # fmt: skip

HELPERS = """
function remainder(a, b) { const r = a % b; return r !== 0 && (r < 0) !== (b < 0) ? r + b : r; }
function largest(least, most, margin) {
  if (!(margin(least) >= 0)) return 0;
  let low = least, high = most;
  while (low < high) {
    const middle = low + Math.ceil((high - low) / 2);
    if (margin(middle) >= 0) low = middle; else high = middle - 1;
  }
  return low;
}
""".strip()
"""What a printed function calls: `%` with the sign of the divisor, and the search for a largest whole number."""


def function(program: Program, inputs: Sequence[int]) -> str:
    """The source of a function of an array: the numbers of `inputs` (axes of the graph) in their order.

    It returns an object, result -> number (or true or false). HELPERS must be in its scope.
    """
    printer = _Printer(program, {axis: place for place, axis in enumerate(inputs)})
    lines = printer.block(program.order)
    names = {n: printer.ref(i) for n, i in program.results.items()}
    names |= {n: number(value.item()) for n, value in program.constants.items()}
    returned = ", ".join(f"{_quoted(n)}: {names[n]}" for n in program.names)
    return "x => {\n" + "\n".join([*lines, f"return {{{returned}}};"]) + "\n}"


class _Printer:
    """Lines read once stand where they are read; the others have names."""

    def __init__(self, program: Program, places: dict[int, int]) -> None:
        self.program, self.lines, self.places = program, program.lines, places
        inside = [i for of in program.inner.values() for i in of]
        everyone = [*program.order, *inside]
        reads = Counter(a for i in everyone for a in self.lines[i].reads)
        reads.update(program.results.values())
        crossing = {a for i in inside for a in self.lines[i].reads} - set(inside)  # else computed at each look
        self.named = {i for i in everyone if reads[i] > 1 or i in crossing or self.lines[i].op == "largest"}
        self.named -= {i for i in everyone if self.lines[i].op in ("input", "probe")}

    def block(self, order: Iterable[int]) -> list[str]:
        """Statements for the lines that have names, in order."""
        return [f"const v{i} = {self._expression(i)};" for i in order if i in self.named]

    def ref(self, ref: Ref) -> str:
        """A line by its name or in full, or a number."""
        if not is_line(ref):
            return number(ref)
        return f"v{ref}" if ref in self.named else self._expression(int(ref))

    def _expression(self, i: int) -> str:
        line = self.lines[i]
        if line.op == "input":
            return f"x[{self.places[line.axes.bit_length() - 1]}]"
        if line.op == "probe":
            return f"p{line.atom}"
        if line.op == "largest":
            return self._search(i)
        args = [self.ref(a) for a in line.args]
        if line.op in INFIX:
            return f"({f' {INFIX[line.op]} '.join(args)})"
        if line.op == "where":
            return f"({args[0]} ? {args[1]} : {args[2]})"
        return f"!{args[0]}" if line.op == "logical_not" else f"{CALLS[line.op]}({', '.join(args)})"

    def _search(self, i: int) -> str:
        probe, least, most, _, _, *margins = self.lines[i].args
        body = self.block(self.program.inner[i])
        found = [self.ref(m) for m in margins]
        worst = f"Math.min({', '.join(found)})" if len(found) > 1 else found[0]
        inside = " ".join([*body, f"return {worst};"])
        return f"largest({self.ref(least)}, {self.ref(most)}, {self.ref(probe)} => {{ {inside} }})"


def number(value: float | bool) -> str:
    """A Python number as JavaScript reads it: the same float64."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))
    return f"({text})" if value < 0 else text


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
