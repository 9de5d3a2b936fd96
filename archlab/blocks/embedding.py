"""The token table at both ends: rows looked up and scaled by sqrt(d_model), and the logits.

The table is stored once where the head is tied (every released Gemma): the lookup reads B x T rows of it, the head
reads it whole, unscaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archlab.algebra import Number
from archlab.rows import Op, Weight, lookup, matmul, vector
from archlab.spec import Block, flag, real

TABLE = "embedding.table"


@dataclass(frozen=True)
class Embedding(Block):
    """Token ids to the residual stream."""

    part = "embedding"

    d_model: Number = field(kw_only=True)
    vocab_size: Number = field(kw_only=True)
    scaled: bool = flag("embeddings are multiplied by sqrt(d_model)", True)

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model, "V": self.vocab_size}

    def weights(self) -> Iterator[Weight]:
        yield Weight("table", "VD", role="embedding", use="lookup")

    def ops(self) -> Iterator[Op]:
        yield lookup("ids BT, w.table VD -> x BTD")
        if self.scaled:
            yield vector("x BTD -> x BTD")


@dataclass(frozen=True)
class Head(Block):
    """The residual stream to logits, on R rows of each sequence: all new tokens, or the last."""

    part = "head"

    d_model: Number = field(kw_only=True)
    vocab_size: Number = field(kw_only=True)
    tied: bool = flag("logits use the token table; false gives the head a table of its own", True)
    softcap: float | None = real(
        "logits are capped to softcap * tanh(logits / softcap); null for no cap", None, none=True
    )

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model, "V": self.vocab_size}

    def weights(self) -> Iterator[Weight]:
        yield Weight("table", "VD", role="head", tied=TABLE if self.tied else None)

    def ops(self) -> Iterator[Op]:
        yield matmul("x BRD, w.table VD -> logits BRV")
        if self.softcap is not None:
            yield vector("logits BRV -> logits BRV", per=3)
