"""Self-attention of the Gemma text decoders: MHA, GQA or MQA, global or sliding.

head_dim is free of d_model. Query head h reads key/value head h // (n_heads / n_kv_heads). Scores are scaled by
query_scale ** -0.5, soft-capped where the model caps them, masked, and go through a softmax in fp32.
Keys are cached after QK-norm and RoPE, values raw. Gemma, Gemma 2, Gemma 3 reports.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archlab.algebra import Number, divides, floor_div, minimum
from archlab.blocks.masks import causal_pairs, keys_seen
from archlab.rows import Op, State, Weight, append, matmul, vector
from archlab.spec import Block, Rule, Workload, flag, multiple_of, real, size


@dataclass(frozen=True)
class Attention(Block):
    """Sizes and options of one kind of attention layer. `d_model` and `norm_plus_one` come from the stack."""

    part = "attention"

    d_model: Number = field(kw_only=True)
    norm_eps: float = field(kw_only=True, default=1e-6)
    norm_plus_one: bool = field(kw_only=True, default=True)
    n_heads: Number = size("query heads")
    n_kv_heads: Number = size("key/value heads: 1 is MQA, n_heads is MHA, between is GQA")
    head_dim: Number = size("width of a head, free of d_model")
    query_scale: Number = real("scores are scaled by query_scale ** -0.5; null means head_dim", None, none=True)
    softcap: float | None = real(
        "scores are capped to softcap * tanh(scores / softcap); null for no cap", None, none=True
    )
    qk_norm: bool = flag("RMSNorm of queries and keys over head_dim, before RoPE", False)
    window: Number | None = size("tokens that a token sees, itself included; null sees all", None, none=True)
    rope_theta: float = real("base of the rotary frequencies", 10000.0)
    rope_factor: float = real("linear position interpolation: frequencies are divided by it", 1.0)

    def sizes(self) -> dict[str, Number]:
        groups = floor_div(self.n_heads, self.n_kv_heads)
        return {"D": self.d_model, "N": self.n_heads, "K": self.n_kv_heads, "G": groups, "H": self.head_dim}

    def bind(self, work: Workload) -> dict[str, Number]:
        new, context, window = work.new, work.context, self.window
        return super().bind(work) | {
            "U": keys_seen(new, context, window),
            "TU": causal_pairs(new, context, window),
            "A": new if window is None else minimum(new, window),
        }

    def weights(self) -> Iterator[Weight]:
        yield Weight("q", "NHD", role="q")
        yield Weight("k", "KHD", role="k")
        yield Weight("v", "KHD", role="v")
        yield Weight("o", "DNH", role="o")
        if self.qk_norm:
            yield Weight("q_norm", "H", role="norm", part="norm", use="vector")
            yield Weight("k_norm", "H", role="norm", part="norm", use="vector")

    def state(self) -> Iterator[State]:
        capacity, part = ("context", "global") if self.window is None else ("window", "local")
        for name in ("k", "v"):
            yield State(name, "KH", capacity=capacity, part=part, role=name, window=self.window)

    def ops(self) -> Iterator[Op]:
        yield matmul("x BTD, w.q NHD -> q BTNH")
        yield matmul("x BTD, w.k KHD -> k BTKH")
        yield matmul("x BTD, w.v KHD -> v BTKH")
        if self.qk_norm:
            yield vector("q BTNH, w.q_norm H -> q BTNH", per=4)
            yield vector("k BTKH, w.k_norm H -> k BTKH", per=4)
        yield vector("q BTNH -> q BTNH", per=3)  # RoPE: two products and a sum an element
        yield vector("k BTKH -> k BTKH", per=3)
        yield append("k BTKH -> cache.k BAKH")
        yield append("v BTKH -> cache.v BAKH")
        yield matmul("q BTKGH, cache.k BUKH -> ~s BKG(TU)")
        if self.softcap is not None:
            yield vector("~s BKG(TU) -> ~s BKG(TU)", per=3)
        yield vector("~s BKG(TU) -> ~p BKG(TU)", per=5)  # scale, maximum, subtract, exponential, divide
        yield matmul("~p BKG(TU), cache.v BUKH -> a BTKGH")
        yield matmul("a BTNH, w.o DNH -> y BTD")

    def rules(self) -> Iterator[Rule]:
        yield multiple_of("n_heads", self.n_heads, "n_kv_heads", self.n_kv_heads)
        yield (divides(2, self.head_dim), lambda: f"head_dim ({self.head_dim}) must be even, since RoPE rotates pairs")

    @property
    def scale(self) -> Number:
        """What scores are multiplied by."""
        return (self.head_dim if self.query_scale is None else self.query_scale) ** -0.5
