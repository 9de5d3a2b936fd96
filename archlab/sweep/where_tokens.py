"""The words of a condition: a placeholder takes the place of each name and literal; Python parses what is left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from archlab.errors import SpecError, nearest
from archlab.sweep.where_conditions import Literal
from archlab.sweep.where_operations import FUNCTIONS
from archlab.sweep.where_units import UNITS

MOST_TEXT = 2000  # characters of a condition
MOST_DEPTH = 60  # operations inside one another; `or` and `and` of many parts are one

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
class Quantity:
    """A number as it was written, before its unit is read."""

    digits: str
    unit: str = ""

    @property
    def shown(self) -> str:
        return f"{self.digits} {self.unit}" if len(self.unit) > 1 else self.digits + self.unit


Slot = str | Quantity | Literal
"""What a placeholder stands for: a column's name, a number, or text."""


def placeholders(text: str) -> tuple[str, dict[str, Slot]]:
    """The condition with _0, _1 ... for names and literals, and what they stand for. Raises SpecError."""
    slots: dict[str, Slot] = {}
    words: list[str] = []
    last: Slot | None = None
    for kind, word in _tokens(text):
        if kind in ("name", "call") and isinstance(last, Quantity) and not last.unit and word not in _WORDS:
            last.unit = _unit(text, word, last)
            continue
        if kind == "call" and word not in (*_WORDS, *FUNCTIONS):
            raise wrong(text, f"{word}() is unknown{nearest(word, FUNCTIONS)} (known: {', '.join(FUNCTIONS)})")
        last = _slot(kind, word)
        words.append(word if last is None else f"_{len(slots)}")
        if last is not None:
            slots[words[-1]] = last
    return " ".join(words), slots


def _slot(kind: str, word: str) -> Slot | None:
    if kind == "number":
        return Quantity(word)
    if kind == "text":
        return Literal(word, word[1:-1])
    return word if kind == "name" and word not in (*_WORDS, *FUNCTIONS) else None


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
            raise wrong(text, f"{text[at]!r} has no meaning there{_HINTS.get(text[at], '')}")
        open_ += (found[0] in "([") - (found[0] in ")]")
        if open_ > MOST_DEPTH:
            raise wrong(text, f"more than {MOST_DEPTH} brackets are open")
        yield str(found.lastgroup), found[0]
        at = found.end()


def _unit(text: str, word: str, number: Quantity) -> str:
    known = {unit for units in UNITS.values() for unit in units}
    if word not in known:
        raise wrong(text, f"{number.digits} {word} has an unknown unit{nearest(word, sorted(known))}")
    return word


def wrong(text: str, why: str) -> SpecError:
    """The sentence for a text that is no condition."""
    shown = text if len(text) <= 200 else f"{text[:200]} ..."
    return SpecError(f"{shown!r} is not a condition: {why}")
