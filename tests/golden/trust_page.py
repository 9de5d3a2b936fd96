"""What docs/trust.md is made of: a number of archlab beside somebody else's, and tables of them in Markdown."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Beside:
    """archlab's number and the other one, in the unit of the section; `told` is the other one as it was printed."""

    what: tuple[str, ...]
    ours: float
    theirs: float
    told: str = ""

    @property
    def error(self) -> float:
        return self.ours / self.theirs - 1 if self.theirs else float(self.ours != 0)

    @property
    def exact(self) -> bool:
        return self.ours == self.theirs


@dataclass(frozen=True)
class Section:
    """A question, what its answer is held against, and the pairs. `rows` are shown in the place of the pairs."""

    title: str
    against: str
    words: str
    heads: tuple[str, ...]
    pairs: Sequence[Beside]
    rows: Sequence[Sequence[str]] | None = None
    after: str = ""
    exact: bool = True

    @property
    def anchor(self) -> str:
        """What a heading's link is called."""
        return "".join(c for c in self.title.lower().replace(" ", "-") if c.isalnum() or c in "-_")

    def summary(self) -> list[str]:
        """Its line of the table at the top."""
        largest = max((abs(pair.error) for pair in self.pairs), default=0.0)
        equal = f"{sum(pair.exact for pair in self.pairs):,}" if self.exact else ""
        return [f"[{self.title}](#{self.anchor})", self.against, f"{len(self.pairs):,}", equal, percent(largest)]

    def text(self) -> str:
        """Heading, words, table."""
        rows = self.rows if self.rows is not None else [shown(pair) for pair in self.pairs]
        parts = [f"## {self.title}", wrapped(self.words), table(self.heads, rows), wrapped(self.after)]
        return "\n\n".join(part for part in parts if part)


def shown(pair: Beside) -> list[str]:
    """A pair as a row: what it is of, the other's number, archlab's, the error."""
    return [*pair.what, pair.told or number(pair.theirs), number(pair.ours), percent(pair.error, signed=True)]


def number(value: float) -> str:
    """Whole numbers in full, others to five significant digits."""
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.5g}" if abs(value) < 1e5 else f"{value:.4e}"


def percent(error: float, signed: bool = False) -> str:
    """0, +0.03 %, -12 %: two significant digits."""
    if abs(error) < 5e-8:
        return "0"
    value = 100 * error
    digits = f"{value:{'+' if signed else ''}.{max(0, 1 - math.floor(math.log10(abs(value))))}f}"
    return f"{digits.rstrip('0').rstrip('.') if '.' in digits else digits} %"


def wrapped(words: str, indent: str = "") -> str:
    """A paragraph in lines of 120 columns."""
    return textwrap.fill(words, 120, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
