"""The fields of what a file describes, and the rules that they keep.

A field is declared once, with its type and one line of explanation; the loader's type checks, `archlab new`'s
comments and the sweep's key check all read that declaration. A rule is a condition and a sentence: on numbers a
broken rule raises the sentence, on columns it masks the points that break it.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from archlab.algebra import Number, divides, is_column, is_scalar, is_symbol
from archlab.errors import SpecError, nearest

MOST_LAYERS = 100_000

Rule = tuple[Any, Callable[[], str]]
"""(condition, sentence): the condition is a bool, or a column of them."""


@dataclass(frozen=True, slots=True)
class FieldType:
    """A kind of value: what it must be, in words, and the test."""

    words: str
    test: Callable[[Any], bool]
    none: bool = False
    choices: tuple[str, ...] = ()
    of_column: Callable[[Any], Any] | None = None  # the test, of a float64 column

    def mask(self, values: Any) -> Any:
        """Which numbers of a float64 column pass: bools, of its shape."""
        import numpy

        if self.of_column is not None:
            return self.of_column(values)
        distinct, places = numpy.unique(values, return_inverse=True)
        return numpy.array([bool(self.test(int(v) if v == v // 1 else float(v))) for v in distinct])[places]

    def check(self, path: str, value: Any, of: str = "") -> None:
        """Raises SpecError unless the value (or the column, or the symbol) is of this type. `of`: whose it is."""
        if is_column(value) or is_symbol(value) or (self.none and value is None) or self.test(value):
            return
        hint = nearest(value, self.choices) if isinstance(value, str) else ""
        raise SpecError(f"{path}={value!r}{of} must be {self.words}{hint}")


def is_whole(x: Any) -> bool:
    """Whether it is a whole number, and no truth."""
    return isinstance(x, int) and not isinstance(x, bool)


def size(doc: str, default: Any = dataclasses.MISSING, none: bool = False, most: int = 10**15, least: int = 1) -> Any:
    """A field that counts something: an int from `least` to `most` (or null, where `none`)."""
    words = f"a whole number of {least} or more" if most == 10**15 else f"a whole number from {least} to {most:,}"
    kind = FieldType(
        words + (" or null" if none else ""), lambda x: is_whole(x) and least <= x <= most, none,
        of_column=lambda x: (x >= least) & (x <= most) & (x % 1 == 0),
    )  # fmt: skip
    return field(default=default, kw_only=True, metadata={"type": kind, "doc": doc})


def real(doc: str, default: Any = dataclasses.MISSING, none: bool = False, zero: bool = False) -> Any:
    """A field that measures something: a number above 0 (or 0, where `zero`; or null, where `none`)."""
    kind = FieldType(
        ("a number of 0 or more" if zero else "a number above 0") + (" or null" if none else ""),
        lambda x: isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x < float("inf") and (zero or x > 0),
        none,
        of_column=lambda x: (x >= 0 if zero else x > 0) & (x < float("inf")),
    )
    return field(default=default, kw_only=True, metadata={"type": kind, "doc": doc})


def flag(doc: str, default: Any = dataclasses.MISSING) -> Any:
    """A field that is true or false."""
    kind = FieldType("true or false", lambda x: isinstance(x, bool))
    return field(default=default, kw_only=True, metadata={"type": kind, "doc": doc})


def line(doc: str) -> Any:
    """A name: text of one line."""
    kind = FieldType(
        "one line of text, without control characters",
        lambda x: isinstance(x, str) and bool(x.strip()) and _plain(x) and not {*x} & {"\n", "\t"},
    )
    return field(kw_only=True, metadata={"type": kind, "doc": doc})


def text(doc: str, default: Any = dataclasses.MISSING) -> Any:
    """A field for people: a sentence or more. A control character would turn what stands around it, on any screen."""
    kind = FieldType("text, without control characters", lambda x: isinstance(x, str) and bool(x.strip()) and _plain(x))
    return field(default=default, kw_only=True, metadata={"type": kind, "doc": doc})


def _plain(x: str) -> bool:
    return x.isprintable() or all(unicodedata.category(c) not in ("Cc", "Cf") or c in "\n\t" for c in x)


def names(doc: str, default: Any = dataclasses.MISSING) -> Any:
    """A field that is a list of names, not empty."""
    kind = FieldType(
        "a list of names", lambda x: isinstance(x, list | tuple) and bool(x) and all(isinstance(n, str) for n in x)
    )
    return field(default=default, kw_only=True, metadata={"type": kind, "doc": doc})


def choice(doc: str, options: tuple[str, ...], default: Any = dataclasses.MISSING) -> Any:
    """A field that is one of a few words."""
    kind = FieldType("one of " + ", ".join(options), lambda x: x in options, choices=options)
    return field(default=default, kw_only=True, metadata={"type": kind, "doc": doc})


def fields_of(schema: type) -> dict[str, dataclasses.Field]:
    """The fields that a file may set: those declared with a type and a line of explanation."""
    return {f.name: f for f in dataclasses.fields(schema) if "doc" in f.metadata}


def check_fields(schema: type, path: str, values: Mapping[str, Any]) -> None:
    """Raises SpecError for an unknown field, a missing one, or one of the wrong type."""
    known = fields_of(schema)
    prefix = f"{path}." if path else ""
    for name, value in values.items():
        if name not in known:
            raise SpecError(f"unknown key {prefix}{name}{nearest(name, known)} (known: {', '.join(known)})")
        known[name].metadata["type"].check(prefix + name, value)
    for name, f in known.items():
        if f.default is dataclasses.MISSING and name not in values:
            raise SpecError(f"{prefix}{name} is missing: {f.metadata['doc']}")


def multiple_of(a_name: str, a: Number, b_name: str, b: Number) -> Rule:
    """The rule that b divides a."""
    return divides(b, a), lambda: f"{a_name} ({a}) must be a multiple of {b_name} ({b}){_nearest_divisors(a, b)}"


def _nearest_divisors(n: Number, to: Number) -> str:
    """'; 2 or 4 would do' of 4 and 3: the divisors on either side, where there are two; nothing of a letter."""
    if not (is_scalar(n) and is_scalar(to)):
        return ""
    divisors = [d for d in range(1, min(int(n), 4096) + 1) if n % d == 0]
    near = [*[d for d in divisors if d < to][-1:], *[d for d in divisors if d > to][:1]]
    return f"; {' or '.join(map(str, near))} would do"


def same(a: Number, b: Number) -> Any:
    """Whether two sizes are equal: a bool, or a mask; symbols are the same where they are one."""
    return bool(a == b) if is_symbol(a) or is_symbol(b) else a == b


def at_most(a: Number, b: Number) -> Any:
    """Whether a size does not exceed another: a bool, or a mask; a symbol is given the benefit of the doubt."""
    return True if is_symbol(a) or is_symbol(b) else a <= b
