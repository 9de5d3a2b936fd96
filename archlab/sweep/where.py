"""Conditions on points, as people write them: `memory_bytes <= 24 GiB and decode_bound_s < 20 ms`.

A condition is made of columns, numbers, text in quotes, `+ - * / // %`, min(), max() and abs(), comparisons (chained
ones too), `in [..]`, and, or, not. A small tokeniser puts a placeholder in the place of each name and literal; what is
left is parsed by Python's `ast` and read by a list of what is allowed. Nothing is ever evaluated as Python.

Units    KB MB GB TB KiB MiB GiB TiB of bytes, s ms us ns of time, k M B T of counts.
         k is 1024, B 10^9, T 10^12. M is 10^6, but 2^20 where all columns of the comparison count tokens (context,
         window ...), as `--context 1M` reads it; where only some do, M is refused.
         Beside a bare column the unit must be the column's own: `decode_bound_s < 24 GiB` is refused.
Missing  NaN and None satisfy no comparison and no negation of one: `not decode_s < 1` leaves a refused point out, as
         SQL does. A division by zero is missing.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from archlab.errors import SpecError, nearest
from archlab.units import BYTES, COUNTS, SECONDS, TOKENS

if TYPE_CHECKING:
    import pandas

MOST_TEXT = 2000  # characters of a condition
MOST_DEPTH = 60  # operations inside one another; `or` and `and` of many parts are one

Lookup = Callable[[str], Any]
"""name -> an array, a pandas Series or one value; what it raises for an unknown name is passed on."""

# ---------------------------------------------------------------- units

_UNITS: dict[str, Mapping[str, int | Fraction]] = {
    "bytes": BYTES, "seconds": SECONDS, "a count": COUNTS, "tokens": TOKENS,
}  # fmt: skip
_EXAMPLE = {"bytes": "24 GiB", "seconds": "20 ms", "a count": "9B", "tokens": "32k or 1M"}
_OF_TOKENS = {"context", "window", "max_context", "trained_context", "source", "prefix", "new"}


def measured_in(name: str) -> str:
    """What a column is in, by its name: bytes, seconds, tokens, a count, or a rate (any unit may stand beside it)."""
    last = name.rpartition(".")[2]
    words = last.split("_")
    if "per" in words:
        return "a rate"
    if last in _OF_TOKENS:
        return "tokens"
    return "bytes" if "bytes" in words else "seconds" if words[-1] == "s" else "a count"


# ---------------------------------------------------------------- values


@dataclass(frozen=True)
class Value:
    """A column or a literal as it is compared: its kind (a number, text, yes or no, nothing), and where it is there."""

    kind: str
    data: Any
    present: Any = True


def unrepeated(array: np.ndarray) -> np.ndarray:
    """The array with a size of 1 wherever it only repeats itself (a stride of 0), as a broadcast view does."""
    repeats = (n > 1 and step == 0 for n, step in zip(array.shape, array.strides, strict=True))
    return array[tuple(slice(0, 1) if again else slice(None) for again in repeats)]


def _array(raw: Any) -> np.ndarray:
    """An array of whatever a lookup returned. pandas' own types come as numbers with NaN, or as objects with None."""
    if not hasattr(raw, "to_numpy"):
        return np.asarray(raw)
    if isinstance(raw.dtype, np.dtype):
        return np.asarray(raw.to_numpy())
    numeric = getattr(raw.dtype, "kind", "O") in "iuf"
    return np.asarray(raw.to_numpy(dtype=float, na_value=np.nan) if numeric else raw.to_numpy(dtype=object))


def _value(name: str, array: np.ndarray) -> Value:
    """A column's value. Raises SpecError for one that holds neither numbers, text nor yes and no, or a mixture."""
    kind = {"b": "yes or no", "i": "a number", "u": "a number", "f": "a number", "U": "text", "T": "text"}
    if array.dtype.kind in kind:
        return Value(kind[array.dtype.kind], array)
    present = np.array([not _missing(x) for x in array.flat], dtype=bool).reshape(array.shape)
    inside = array[present]
    if not inside.size:
        return Value("nothing", np.full(array.shape, np.nan), present)
    for words, types, dtype, blank in (
        ("yes or no", bool | np.bool_, bool, False),
        ("a number", int | float | np.number, float, np.nan),
        ("text", str, str, ""),
    ):
        if all(isinstance(x, types) for x in inside):
            return Value(words, np.where(present, array, blank).astype(dtype), present)
    raise SpecError(f"{name} cannot be compared: it holds values of several kinds, or neither numbers nor text")


def _missing(x: Any) -> bool:
    return x is None or type(x).__name__ in ("NAType", "NaTType") or (isinstance(x, float) and x != x)


# ---------------------------------------------------------------- what a condition is made of

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


def _unless_zero(divide: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: np.where(b == 0, np.nan, divide(a, b))


_OPERATIONS: dict[type, tuple[str, Callable[..., Any]]] = {
    ast.Add: ("+", operator.add), ast.Sub: ("-", operator.sub), ast.Mult: ("*", operator.mul),
    ast.Div: ("/", _unless_zero(operator.truediv)), ast.FloorDiv: ("//", _unless_zero(np.floor_divide)),
    ast.Mod: ("%", _unless_zero(np.mod)), ast.USub: ("-", operator.neg), ast.UAdd: ("+", operator.pos),
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": lambda *values: reduce(np.minimum, values),
    "max": lambda *values: reduce(np.maximum, values),
    "abs": np.abs,
}
_COMPARISONS = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.In: "in",
    ast.NotIn: "not in",
}  # fmt: skip

# ---------------------------------------------------------------- from text

_TOKEN = re.compile(
    r"""(?P<number>(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3}(?![0-9]))?)
      | (?P<call>[A-Za-z][A-Za-z0-9_.]*)(?=\s*\()
      | (?P<name>[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)
      | (?P<text>'[^']*'|"[^"]*")
      | (?P<sign><=|>=|==|!=|//|[-+*/%<>()\[\],])""",
    re.VERBOSE,
)
_WORDS = ("and", "or", "not", "in", "True", "False")
_HINTS = {"=": "; write == to compare", "&": "; write and", "|": "; write or", "!": "; write not"}


@dataclass
class _Quantity:
    """A number as it was written, before its unit is read."""

    digits: str
    unit: str = ""

    @property
    def shown(self) -> str:
        return f"{self.digits} {self.unit}" if len(self.unit) > 1 else self.digits + self.unit


Slot = str | _Quantity | Literal
"""What a placeholder stands for: a column's name, a number, or text."""


def _placeholders(text: str) -> tuple[str, dict[str, Slot]]:
    """The condition with _0, _1 ... for names and literals, and what they stand for."""
    slots: dict[str, Slot] = {}
    words: list[str] = []
    last: Slot | None = None
    for kind, word in _tokens(text):
        if kind in ("name", "call") and isinstance(last, _Quantity) and not last.unit and word not in _WORDS:
            last.unit = _unit(text, word, last)
            continue
        if kind == "call" and word not in (*_WORDS, *_FUNCTIONS):
            raise _wrong(text, f"{word}() is unknown{nearest(word, _FUNCTIONS)} (known: {', '.join(_FUNCTIONS)})")
        last = _slot(kind, word)
        words.append(word if last is None else f"_{len(slots)}")
        if last is not None:
            slots[words[-1]] = last
    return " ".join(words), slots


def _slot(kind: str, word: str) -> Slot | None:
    if kind == "number":
        return _Quantity(word)
    if kind == "text":
        return Literal(word, word[1:-1])
    return word if kind == "name" and word not in (*_WORDS, *_FUNCTIONS) else None


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    if len(text) > MOST_TEXT:
        raise SpecError(f"a condition of {len(text):,} characters is longer than {MOST_TEXT:,}: {text[:30]!r} ...")
    at, open_, end = 0, 0, len(text.rstrip())
    while at < end:
        if text[at].isspace():
            at += 1
            continue
        found = _TOKEN.match(text, at)
        if not found:
            raise _wrong(text, f"{text[at]!r} has no meaning there{_HINTS.get(text[at], '')}")
        open_ += (found[0] in "([") - (found[0] in ")]")
        if open_ > MOST_DEPTH:
            raise _wrong(text, f"more than {MOST_DEPTH} brackets are open")
        yield str(found.lastgroup), found[0]
        at = found.end()


def _unit(text: str, word: str, number: _Quantity) -> str:
    known = {unit for units in _UNITS.values() for unit in units}
    if word not in known:
        raise _wrong(text, f"{number.digits} {word} has an unknown unit{nearest(word, sorted(known))}")
    return word


def _wrong(text: str, why: str) -> SpecError:
    shown = text if len(text) <= 200 else f"{text[:200]} ..."
    return SpecError(f"{shown!r} is not a condition: {why}")


@dataclass
class _Reader:
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
        raise _wrong(self.text, "it has a part that is neither a comparison nor a column of yes and no")

    def _comparison(self, node: ast.Compare) -> Comparison:
        within = {measured_in(self._column(n).shown) for n in ast.walk(node) if self._is_column(n)}
        sides = [self._side(side, within) for side in (node.left, *node.comparators)]
        pairs = []
        for left, op, right in zip(sides[:-1], node.ops, sides[1:], strict=True):
            sign = _COMPARISONS.get(type(op))
            if sign is None:
                raise _wrong(self.text, "'is' does not compare; write ==")
            if isinstance(left, Listing) or isinstance(right, Listing) != (sign in ("in", "not in")):
                raise _wrong(self.text, "a list stands after in, as n_kv_heads in [1, 2], and only there")
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
            raise _wrong(self.text, "a list holds one or more numbers or texts")
        return Listing("the list", tuple(e for e in literals if e is not None))

    def _operand(self, node: ast.expr, within: set[str]) -> Operand:
        if isinstance(node, ast.Name) and node.id in self.slots:
            slot = self.slots[node.id]
            if isinstance(slot, _Quantity):
                return self._number(slot, within)
            return slot if isinstance(slot, Literal) else self._column(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            return Literal(str(node.value), node.value)
        if isinstance(node, ast.BinOp | ast.UnaryOp) and type(node.op) in _OPERATIONS:
            sign, apply = _OPERATIONS[type(node.op)]
            parts = [node.operand] if isinstance(node, ast.UnaryOp) else [node.left, node.right]
            return Arithmetic(sign, apply, tuple(self._operand(part, within) for part in parts))
        if isinstance(node, ast.Call):
            return self._call(node, within)
        raise _wrong(self.text, "a number, a text or a column was expected where it has a condition")

    def _call(self, node: ast.Call, within: set[str]) -> Operand:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in _FUNCTIONS:
            raise _wrong(self.text, "brackets follow something that is no function")
        if not node.args or (name == "abs" and len(node.args) > 1):
            raise _wrong(self.text, f"{name}() takes {'one number' if name == 'abs' else 'one or more numbers'}")
        return Arithmetic(f"{name}()", _FUNCTIONS[name], tuple(self._operand(part, within) for part in node.args))

    def _number(self, written: _Quantity, within: set[str]) -> Literal:
        scales = next((units for units in _UNITS.values() if written.unit in units), {"": 1})
        if written.unit == "M" and "tokens" in within:
            if within != {"tokens"}:
                raise _wrong(self.text, f"{written.shown} may be of tokens (2^20) or of a count (10^6); write it out")
            scales = TOKENS
        exact = Fraction(written.digits.replace("_", "")) * scales[written.unit]
        if abs(exact) > 10**300:
            raise _wrong(self.text, f"{written.digits[:20]} is too large")
        return Literal(written.shown, int(exact) if exact.denominator == 1 and exact < 2**63 else float(exact))

    def _check_unit(self, one: ast.expr, other: ast.expr) -> None:
        """Raises SpecError for a literal of another unit than the bare column that it stands beside."""
        if not self._is_column(one):
            return
        name = self._column(one).shown
        own = _UNITS.get(measured_in(name))
        for part in other.elts if isinstance(other, ast.List | ast.Tuple) else [other]:
            slot = self.slots.get(part.id) if isinstance(part, ast.Name) else None
            if own is not None and isinstance(slot, _Quantity) and slot.unit and slot.unit not in own:
                told = measured_in(name)
                raise _wrong(self.text, f"{name} is in {told}, and {slot.shown} is not; write it as {_EXAMPLE[told]}")

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


# ---------------------------------------------------------------- the public face


@dataclass(frozen=True)
class Where:
    """A condition that was read. `names` are the columns that it uses."""

    text: str
    names: tuple[str, ...]
    _parts: tuple[Condition, ...] = field(repr=False)

    def mask(self, lookup: Lookup | pandas.DataFrame) -> np.ndarray:
        """True where the condition holds, of the shape that the columns broadcast to (a view where they are views).

        Of a DataFrame the names are matched with its columns, as `parse_where` matches them.
        Raises SpecError for a comparison of text with a number, and for a column that stands alone and is no condition.
        """
        arrays = {name: _array(_looked_up(name, lookup)) for name in self.names}
        values = {name: _value(name, unrepeated(array)) for name, array in arrays.items()}
        found = Junction(True, self._parts).holds(values.__getitem__, True)
        return np.broadcast_to(found, np.broadcast_shapes(*(array.shape for array in arrays.values())))


def _looked_up(name: str, lookup: Any) -> Any:
    return lookup[matched(name, list(lookup.columns))] if hasattr(lookup, "columns") else lookup(name)


def parse_where(text: str | Sequence[str], known_names: Iterable[str] | None = None) -> Where:
    """Reads a condition, or several of which all must hold.

    known_names  the columns that there are. A name may then leave out what stands before its last dots
                 (`n_kv_heads`, `attention.n_kv_heads`) where one column ends with it. None: names are taken as written.
    Raises SpecError for what is no condition, and for an unknown column.
    """
    texts = [text] if isinstance(text, str) or not isinstance(text, Sequence) else list(text)
    known = None if known_names is None else list(known_names)
    if not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        raise SpecError(f"where={text!r} must be a condition, such as 'memory_bytes <= 24 GiB', or a list of them")
    read = [_parsed(t, known) for t in texts]
    names = tuple(dict.fromkeys(name for _, used in read for name in used))
    shown = texts[0] if len(texts) == 1 else " and ".join(f"({t})" for t in texts)
    return Where(shown, names, tuple(condition for condition, _ in read))


def _parsed(text: str, known: Sequence[str] | None) -> tuple[Condition, tuple[str, ...]]:
    plain, slots = _placeholders(text)
    try:
        tree = ast.parse(plain, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError):
        raise _wrong(text, "its words do not follow one another; text stands in quotes, a product has a *") from None
    if _depth(tree) > MOST_DEPTH:
        raise _wrong(text, f"it has more than {MOST_DEPTH} operations inside one another")
    written = [slot for slot in slots.values() if isinstance(slot, str)]
    names = {name: name if known is None else matched(name, known) for name in written}
    condition = _Reader(text, slots, names).condition(tree)
    if not names:
        raise _wrong(text, "it names no column")
    return condition, tuple(dict.fromkeys(names.values()))


def _depth(tree: ast.AST) -> int:
    """Nodes on the longest way down, found without recursion."""
    deepest, waiting = 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting += [(child, depth + 1) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    return deepest


def matched(name: str, known: Sequence[str]) -> str:
    """The column that a name means: the one of that name, else the only one that ends with it after a dot.

    `model.` before a name may be there or not. Raises SpecError where there is none, or several.
    """
    if name in known:
        return name
    bare = name.removeprefix("model.")
    found = [k for k in known if k.removeprefix("model.") == bare]
    if not found and bare == name:
        found = [k for k in known if k.endswith(f".{bare}")]
    if len(found) > 1:
        raise SpecError(f"{name} may be {' or '.join(found)}; write which")
    if not found:
        words = [*known, *(k.rpartition(".")[2] for k in known)]
        hint = nearest(name, words) or "; text stands in quotes"
        raise SpecError(f"unknown column {name!r}{hint}")
    return found[0]
