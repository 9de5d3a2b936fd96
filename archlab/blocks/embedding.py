"""The token table at both ends: rows looked up and scaled by sqrt(d_model), and the logits.

The table is stored once where the head is tied (every released Gemma): the lookup reads B x T rows of it, the head
reads it whole, unscaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archlab.algebra import Number
from archlab.fields import Rule, choice, flag, real, size
from archlab.layers import Block
from archlab.rows import Op, Weight, divided, lookup, matmul, vector

TABLE = "embedding.table"


@dataclass(frozen=True)
class Embedding(Block):
    """Token ids to the residual stream. `source_table` is the encoder's embedding, where there is one."""

    part = "embedding"
    roles = ("embedding", "end_of_image")
    splits = divided(V="padded vocab_size")

    d_model: Number = field(kw_only=True)
    vocab_size: Number = field(kw_only=True)
    source_table: Embedding | None = field(kw_only=True, default=None)
    scaled: bool = flag("embeddings are multiplied by sqrt(d_model)", True)
    scale_format: str = choice(
        "number format that sqrt(d_model) is rounded to: that of the weights, or always bf16 (RecurrentGemma)",
        ("weights", "bf16"),
        "weights",
    )
    shared: bool = flag("the table is the encoder's (T5Gemma 2)", False)
    end_of_image: int | None = size(
        "token whose row is a learned vector of its own, unscaled, instead of the table's (T5Gemma 2)", None, none=True
    )

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model, "V": self.vocab_size}

    def weights(self) -> Iterator[Weight]:
        encoder = "encoder.embedding"
        yield Weight("table", "VD", role="embedding", use="lookup", tied=f"{encoder}.table" if self.shared else None)
        if self.end_of_image is not None:
            tied = f"{encoder}.end_of_image" if self.shared else None
            yield Weight("end_of_image", "D", role="end_of_image", use="vector", tied=tied)

    def ops(self) -> Iterator[Op]:
        yield lookup("ids BT, w.table VD -> x BTD")
        if self.scaled:
            yield vector("x BTD -> x BTD")
        if self.end_of_image is not None:
            yield vector("ids BT, w.end_of_image D -> x BTD", per=0)

    def rules(self) -> Iterator[Rule]:
        if self.shared:
            yield self.source_table is not None, lambda: "shared: true needs an encoder section, whose table it takes"
        if self.shared and self.source_table is not None:
            for name in ("d_model", "vocab_size", "end_of_image"):
                yield _same(name, getattr(self.source_table, name), getattr(self, name))
        if self.end_of_image is not None:
            yield (
                self.end_of_image < self.vocab_size,
                lambda: f"end_of_image ({self.end_of_image}) must be a token, below vocab_size ({self.vocab_size})",
            )

    def special(self) -> Iterator[tuple[str, str]]:
        if self.shared:
            yield "shared table", "encoder, decoder and logits have one token table"


def _same(name: str, theirs: Number, ours: Number) -> Rule:
    return theirs == ours, lambda: f"shared: true needs one {name} for encoder and decoder, not {theirs} and {ours}"


@dataclass(frozen=True)
class Head(Block):
    """The residual stream to logits, on R rows of each sequence: all new tokens, or the last."""

    part = "head"
    roles = ("head",)
    splits = divided(V="padded vocab_size")

    d_model: Number = field(kw_only=True)
    vocab_size: Number = field(kw_only=True)
    tied: bool = flag("logits use the token table; false gives the head a table of its own", True)
    softcap: float | None = real(
        "logits are capped to softcap * tanh(logits / softcap); null for no cap", None, none=True
    )
    logits: bool = flag("false: the model has no head and returns hidden states (EmbeddingGemma)", True)

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model, "V": self.vocab_size}

    def weights(self) -> Iterator[Weight]:
        yield Weight("table", "VD", role="head", tied=TABLE if self.tied else None)

    def ops(self) -> Iterator[Op]:
        yield matmul("x BRD, w.table VD -> logits BRV")
        if self.softcap is not None:
            yield vector("logits BRV -> logits BRV", per=3, holds="own own", saves="own")
