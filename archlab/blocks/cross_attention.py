"""Cross-attention: a decoder's tokens attend to the encoder's output, all of it, without RoPE (T5Gemma).

Keys and values come from the encoder's width, once for each source; queries from the decoder's. Heads, scale and cap
are those of the self-attention unless the section says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archlab.algebra import Number, floor_div
from archlab.fields import Rule, multiple_of, real, size
from archlab.layers import Block
from archlab.rows import Op, State, Weight, append, divided, matmul, vector
from archlab.workload import Frame, Workload


@dataclass(frozen=True)
class CrossAttention(Block):
    """Sizes of the cross-attention. `d_model` comes from the stack, `d_source` from the encoder's."""

    part = "cross_attention"
    roles = ("q", "k", "v", "o")
    splits = divided(N="even n_heads", K="heads n_kv_heads", G="quotient NK")

    d_model: Number = field(kw_only=True)
    d_source: Number = field(kw_only=True, default=None)
    n_heads: Number = size("query heads")
    n_kv_heads: Number = size("key/value heads")
    head_dim: Number = size("width of a head")
    query_scale: Number = real("scores are scaled by query_scale ** -0.5; null means head_dim", None, none=True)
    softcap: float | None = real(
        "scores are capped to softcap * tanh(scores / softcap); null for no cap", None, none=True
    )

    def sizes(self) -> dict[str, Number]:
        groups = floor_div(self.n_heads, self.n_kv_heads)
        letters = {"D": self.d_model, "N": self.n_heads, "K": self.n_kv_heads, "G": groups, "H": self.head_dim}
        return letters | {"I": self.d_source}

    def bind(self, work: Workload | Frame) -> dict[str, Number]:
        return super().bind(work) | {"E": work.source, "Q": work.new_source}

    def weights(self) -> Iterator[Weight]:
        yield Weight("q", "NHD", role="q")
        yield Weight("k", "KHI", role="k")
        yield Weight("v", "KHI", role="v")
        yield Weight("o", "DNH", role="o")

    def state(self) -> Iterator[State]:
        for name in ("k", "v"):
            yield State(name, "KH", capacity="source", part="source", role=name)

    def ops(self) -> Iterator[Op]:
        yield matmul("x BTD, w.q NHD -> q BTNH")
        yield matmul("e BQI, w.k KHI -> k BQKH")
        yield matmul("e BQI, w.v KHI -> v BQKH")
        yield append("k BQKH -> cache.k BQKH")
        yield append("v BQKH -> cache.v BQKH")
        yield matmul("q BTKGH, cache.k BEKH -> ~s BKGTE", holds="own own(q) repeat(k)")
        if self.softcap is not None:
            yield vector("~s BKGTE -> ~s BKGTE", per=3, holds="own own", saves="own")
        yield vector("~s BKGTE -> ~p BKGTE", per=5, holds="wide(s) fp32 byte[TE]", saves="wide(p) byte[TE]")
        yield matmul("~p BKGTE, cache.v BEKH -> a BTKGH", holds="own own(p) repeat(v)")
        yield matmul("a BTNH, w.o DNH -> y BTD", holds="own own(a)")

    def rules(self) -> Iterator[Rule]:
        yield multiple_of("n_heads", self.n_heads, "n_kv_heads", self.n_kv_heads)
        yield self.d_source is not None, lambda: "cross_attention needs an encoder section to attend to"

    @property
    def scale(self) -> Number:
        """What scores are multiplied by."""
        return (self.head_dim if self.query_scale is None else self.query_scale) ** -0.5

    def special(self) -> Iterator[tuple[str, str]]:
        yield "cross-attention", "each layer attends to the encoder's output, whose keys and values it keeps"
