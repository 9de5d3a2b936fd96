"""Learned absolute positions: a row of a table for each place in the sequence, added to the embedding (GPT-2).

A token beyond the last row has no position, so the table limits the context, whatever the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archlab.algebra import Number
from archlab.fields import Rule, at_most, size
from archlab.layers import Block
from archlab.rows import Op, Weight, lookup, vector


@dataclass(frozen=True)
class PositionEmbedding(Block):
    """The table of positions. `d_model` comes from the stack, `context` from the model."""

    part = "embedding"
    roles = ("position",)

    d_model: Number = field(kw_only=True)
    context: Number = field(kw_only=True)
    table_rows: Number | None = size("rows of the table, one a position; null for the trained context", None, none=True)

    @property
    def longest(self) -> Number:
        return self.context if self.table_rows is None else self.table_rows

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model, "Z": self.longest}

    def weights(self) -> Iterator[Weight]:
        yield Weight("table", "ZD", role="position", use="lookup")

    def ops(self) -> Iterator[Op]:
        yield lookup("ids T, w.table ZD -> p TD")  # positions, which all sequences of a batch share
        yield vector("x BTD, p TD -> x BTD")

    def rules(self) -> Iterator[Rule]:
        yield (
            at_most(self.context, self.longest),
            lambda: f"table_rows ({self.table_rows}) must be at least context ({self.context}): a row a position",
        )

    def special(self) -> Iterator[tuple[str, str]]:
        yield "learned positions", f"a row for each of {self.longest:,} places, added to the embedding; none beyond"
