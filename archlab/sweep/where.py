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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from archlab.errors import SpecError, nearest
from archlab.sweep.where_conditions import Condition, Junction
from archlab.sweep.where_reader import Reader
from archlab.sweep.where_tokens import MOST_DEPTH, placeholders, wrong
from archlab.sweep.where_values import array_of, unrepeated, value_of

if TYPE_CHECKING:
    import pandas

Lookup = Callable[[str], Any]
"""name -> an array, a pandas Series or one value; what it raises for an unknown name is passed on."""


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
        arrays = {name: array_of(_looked_up(name, lookup)) for name in self.names}
        values = {name: value_of(name, unrepeated(array)) for name, array in arrays.items()}
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
    plain, slots = placeholders(text)
    try:
        tree = ast.parse(plain, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError):
        raise wrong(text, "its words do not follow one another; text stands in quotes, a product has a *") from None
    if _depth(tree) > MOST_DEPTH:
        raise wrong(text, f"it has more than {MOST_DEPTH} operations inside one another")
    written = [slot for slot in slots.values() if isinstance(slot, str)]
    names = {name: name if known is None else matched(name, known) for name in written}
    condition = Reader(text, slots, names).condition(tree)
    if not names:
        raise wrong(text, "it names no column")
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
