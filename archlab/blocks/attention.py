"""Self-attention: MHA, GQA or MQA; global or sliding; causal, bidirectional, or causal after a prefix.

head_dim is free of d_model. Query head h reads key/value head h // (n_heads / n_kv_heads). Scores are scaled by
query_scale ** -0.5, soft-capped where the model caps them, masked, and go through a softmax in fp32.
Keys are cached after QK-norm and RoPE, values after their norm. Gemma, Gemma 2, 3, 3n and 4, RecurrentGemma,
T5Gemma 2, SigLIP, Llama 3.1 and GPT-2; every statement checked against transformers 5.23.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from archlab.algebra import Number, divides, floor_div, minimum
from archlab.blocks.masks import causal_pairs, image_pairs, keys_seen, prefix_pairs, two_sided_pairs
from archlab.fields import Rule, choice, flag, multiple_of, real, size
from archlab.layers import Block
from archlab.rows import Op, State, Weight, append, divided, matmul, norm, vector
from archlab.workload import Frame, Workload


@dataclass(frozen=True)
class Attention(Block):
    """Sizes and options of one kind of attention layer. The fields without an explanation come from the stack."""

    part = "attention"
    roles = ("q", "k", "v", "o", "norm")
    splits = divided(N="even n_heads", K="heads n_kv_heads", G="quotient NK")

    d_model: Number = field(kw_only=True)
    norm_eps: float = field(kw_only=True, default=1e-6)
    norm_plus_one: bool = field(kw_only=True, default=True)
    d_source: Number = field(kw_only=True, default=None)
    image_tokens: Number = field(kw_only=True, default=None)
    side: Number = field(kw_only=True, default=None)
    n_heads: Number = size("query heads")
    n_kv_heads: Number = size("key/value heads: 1 is MQA, n_heads is MHA, between is GQA")
    head_dim: Number = size("width of a head, free of d_model")
    query_scale: Number = real("scores are scaled by query_scale ** -0.5; null means head_dim", None, none=True)
    softcap: float | None = real(
        "scores are capped to softcap * tanh(scores / softcap); null for no cap", None, none=True
    )
    qk_norm: bool = flag("RMSNorm of queries and keys over head_dim, before RoPE", False)
    v_norm: bool = flag("RMSNorm of values over head_dim, without a gain (Gemma 3n and 4)", False)
    k_is_v: bool = flag("values are the keys before their norm and RoPE: no v projection (Gemma 4)", False)
    kv: str = choice("shared: no keys or values of its own, reads those of the last layer of its kind that has them",
                     ("own", "shared"), "own")  # fmt: skip
    unread_kv: bool = flag("with kv: shared, the released file still has k and v weights that nothing reads", False)
    bias: str = choice("which projections add a bias", ("none", "output", "all"), "none")
    mask: str = choice("causal; bidirectional: every token sees every other; prefix: causal after a prefix",
                       ("causal", "bidirectional", "prefix"), "causal")  # fmt: skip
    image_blocks: bool = flag("the tokens of one image all see each other", False)
    window: Number | None = size("tokens that a token sees, itself and those before it; null sees all", None, none=True)
    ahead: Number | None = size(
        "with mask: bidirectional and a window, tokens seen after itself; null is window - 1", None, none=True, least=0
    )
    source: str = choice("merged: attends to the encoder's output too, in one softmax (T5Gemma 2)",
                         ("none", "merged"), "none")  # fmt: skip
    rope_theta: float | None = real("base of the rotary frequencies; null for no RoPE", 10000.0, none=True)
    rope_factor: float = real("linear position interpolation: frequencies are divided by it", 1.0)
    rope_original: Number | None = size(
        "tokens in which turns are counted: rope_factor then divides only frequencies of few turns (Llama 3.1); null "
        "for all", None, none=True,
    )  # fmt: skip
    rope_slow: float = real("with rope_original: frequencies of fewer turns than this are divided whole", 1.0)
    rope_fast: float = real("with rope_original: those of more turns stay; between the two, in proportion", 4.0)
    rope_fraction: float = real("share of head_dim that RoPE turns", 1.0)
    rope_spread: str = choice(
        "turned: RoPE as if the head ended with the turned share; head: the whole head's frequencies, the slower still",
        ("turned", "head"), "turned",
    )  # fmt: skip
    rope_axes: int = size(
        "2 in a vision tower: the column of a patch turns the first half of a head, its row the second (Gemma 4)",
        1, most=2,
    )  # fmt: skip

    @property
    def causal(self) -> bool:
        return self.mask != "bidirectional"

    def sizes(self) -> dict[str, Number]:
        groups = floor_div(self.n_heads, self.n_kv_heads)
        return {"D": self.d_model, "N": self.n_heads, "K": self.n_kv_heads, "G": groups, "H": self.head_dim}

    def bind(self, work: Workload | Frame) -> dict[str, Number]:
        new, context, window = work.new, work.context, self.window
        letters = super().bind(work) | {"E": work.source, "Q": work.new_source, "TE": new * work.source}
        if not self.causal:
            behind = None if window is None else window - 1
            return letters | {"U": new, "TU": two_sided_pairs(new, behind, self.looks_ahead)}
        pairs = causal_pairs(new, context, window)
        if self.mask == "prefix":
            pairs = pairs + prefix_pairs(work.new_prefix, window)
        if self.image_blocks:
            pairs = pairs + work.new_images * image_pairs(self.image_tokens)
        written = new if window is None else minimum(new, window)
        return letters | {"U": keys_seen(new, context, window), "TU": pairs, "A": written}

    def weights(self) -> Iterator[Weight]:
        use = "matmul" if self.kv == "own" else "unread"
        yield Weight("q", "NHD", role="q")
        if self.kv == "own" or self.unread_kv:
            yield Weight("k", "KHD", role="k", use=use)
            if not self.k_is_v:
                yield Weight("v", "KHD", role="v", use=use)
        yield Weight("o", "DNH", role="o")
        if self.bias == "all":
            yield Weight("q_bias", "NH", role="q", use="vector")
            yield Weight("k_bias", "KH", role="k", use="vector")
            yield Weight("v_bias", "KH", role="v", use="vector")
        if self.bias != "none":
            yield Weight("o_bias", "D", role="o", use="vector")
        if self.qk_norm:
            yield Weight("q_norm", "H", role="norm", part="norm", use="vector")
            if self.kv == "own" or self.unread_kv:
                use = "vector" if self.kv == "own" else "unread"
                yield Weight("k_norm", "H", role="norm", part="norm", use=use)

    def state(self) -> Iterator[State]:
        capacity, part = ("context", "global") if self.window is None else ("window", "local")
        for name in ("k", "v") if self.causal else ():
            stored = self.kv == "own"
            yield State(name, "KH", capacity=capacity, part=part, role=name, window=self.window, stored=stored)
        for name in ("k", "v") if self.source == "merged" else ():
            yield State(f"source_{name}", "KH", capacity="source", part="source", role=name)

    def ops(self) -> Iterator[Op]:
        yield matmul("x BTD, w.q NHD -> q BTNH")
        if self.bias == "all":
            yield vector("q BTNH, w.q_bias NH -> q BTNH")
        if self.qk_norm:
            yield norm("q BTNH, w.q_norm H -> q BTNH")
        if self.rope_theta is not None:
            yield _rope("q BTNH")
        if self.kv == "own":
            yield from self._keys_and_values()
        if self.source == "merged":
            yield from self._source_keys_and_values()
        place = "cache." if self.causal else ""
        joined = " own[BEKH] own[BEKH] own[BUKH] own[BUKH]" if self.source == "merged" else ""  # source and tokens
        yield matmul(f"q BTKGH, {place}k BUKH -> ~s BKG(TU)", holds=f"own own(q) repeat(k){joined}")
        if self.source == "merged":
            yield matmul("q BTKGH, cache.source_k BEKH -> ~r BKG(TE)")
        for name, pair in (("s", "TU"), ("r", "TE")) if self.source == "merged" else (("s", "TU"),):
            if self.softcap is not None:
                yield vector(f"~{name} BKG({pair}) -> ~{name} BKG({pair})", per=3, holds="own own", saves="own")
            yield self._softmax(name, pair)
        yield matmul(f"~ps BKG(TU), {place}v BUKH -> a BTKGH", holds="own own(ps) repeat(v)")
        if self.source == "merged":
            yield matmul("~pr BKG(TE), cache.source_v BEKH -> a BTKGH")
        yield matmul("a BTNH, w.o DNH -> y BTD", holds="own own(a)")
        if self.bias != "none":
            yield vector("y BTD, w.o_bias D -> y BTD")

    def _softmax(self, name: str, pair: str) -> Op:
        """Scale, max, subtract, exp, divide. The mask turned round, queries and their copy by head stand beside."""
        beside = " wide[BKG(TE)] fp32[BKG(TE)]" if self.source == "merged" and name == "s" else ""  # one softmax
        return vector(
            f"~{name} BKG({pair}) -> ~p{name} BKG({pair})",
            per=5,
            holds=f"wide({name}) fp32 byte[({pair})] own[BTNH] own[BTNH]{beside}",
            saves=f"wide(p{name}) byte[({pair})]",
            shares=f"byte[({pair})]",
        )

    def _keys_and_values(self) -> Iterator[Op]:
        yield matmul("x BTD, w.k KHD -> k BTKH")
        if self.k_is_v:
            yield vector("k BTKH -> v BTKH", per=0)
        else:
            yield matmul("x BTD, w.v KHD -> v BTKH")
        if self.bias == "all":
            yield vector("k BTKH, w.k_bias KH -> k BTKH")
            yield vector("v BTKH, w.v_bias KH -> v BTKH")
        if self.qk_norm:
            yield norm("k BTKH, w.k_norm H -> k BTKH")
        if self.v_norm:
            yield vector("v BTKH -> v BTKH", per=3, holds="wide(v) fp32", saves="wide(v)")
        if self.rope_theta is not None:
            yield _rope("k BTKH")
        if self.causal:
            yield append("k BTKH -> cache.k BAKH")
            yield append("v BTKH -> cache.v BAKH")

    def _source_keys_and_values(self) -> Iterator[Op]:
        """The encoder's output through the same projections: no RoPE, remembered for all steps."""
        yield matmul("e BQD, w.k KHD -> l BQKH")
        yield matmul("e BQD, w.v KHD -> m BQKH")
        if self.qk_norm:
            yield norm("l BQKH, w.k_norm H -> l BQKH")
        yield append("l BQKH -> cache.source_k BQKH")
        yield append("m BQKH -> cache.source_v BQKH")

    def rules(self) -> Iterator[Rule]:
        yield multiple_of("n_heads", self.n_heads, "n_kv_heads", self.n_kv_heads)
        if self.rope_theta is not None:
            yield (
                divides(2 * self.rope_axes, self.head_dim),
                lambda: (
                    f"head_dim ({self.head_dim}) must be even, since RoPE rotates pairs"
                    if self.rope_axes == 1
                    else f"head_dim ({self.head_dim}) must be a multiple of 4, since each axis rotates pairs"
                ),
            )
        yield (
            (self.rope_fraction > 0) & (self.rope_fraction <= 1),
            lambda: f"rope_fraction ({self.rope_fraction}) is a share of head_dim, above 0 and at most 1",
        )
        yield (
            self.rope_slow < self.rope_fast,
            lambda: f"rope_slow ({self.rope_slow}) must be below rope_fast ({self.rope_fast}), both in turns",
        )
        yield (
            (self.rope_original is not None) | ((self.rope_slow == 1.0) & (self.rope_fast == 4.0)),
            lambda: "rope_slow and rope_fast need rope_original, the tokens in which turns are counted",
        )
        if self.source == "merged" and self.d_source is not None:
            yield (
                self.d_source == self.d_model,
                lambda: (
                    f"source: merged needs an encoder as wide as the decoder, not {self.d_source} and {self.d_model}"
                ),
            )
        yield from self._rules_of_words()

    def _rules_of_words(self) -> Iterator[Rule]:
        """What the options that are words need of each other."""
        merged = self.source == "merged"
        for wrong, sentence in (
            (merged and self.d_source is None, "source: merged needs an encoder section"),
            (merged and (self.kv == "shared" or self.k_is_v or self.v_norm or self.bias != "none" or not self.causal),
             "source: merged goes with causal attention that has keys and values of its own, no v_norm and no biases"),
            (self.kv == "shared" and not self.causal, "kv: shared needs a cache; bidirectional attention has none"),
            (self.unread_kv and self.kv == "own", "unread_kv: true needs kv: shared; these weights are read"),
            (self.k_is_v and self.bias == "all", "k_is_v: true has no v projection to give a bias (bias: all)"),
            (self.ahead is not None and (self.causal or self.window is None),
             "ahead needs mask: bidirectional and a window"),
            (self.image_blocks and self.mask != "causal",
             f"image_blocks: true goes with mask: causal; in one that is {self.mask} images see themselves already"),
            (self.image_blocks and self.image_tokens is None, "image_blocks: true needs a vision section"),
            (self.rope_axes == 2 and self.side is None, "rope_axes: 2 is for patches, in a vision tower"),
            (self.rope_axes == 2 and (self.rope_fraction != 1 or self.rope_spread != "turned"),
             "rope_axes: 2 turns the whole head; drop rope_fraction and rope_spread"),
        ):  # fmt: skip
            yield not wrong, partial(str, sentence)

    def special(self) -> Iterator[tuple[str, str]]:
        if self.kv == "shared":
            yield "KV sharing", "keep no keys and values: they read those of the last layer of their kind that does"
        if self.k_is_v:
            yield "K = V", "values are the keys before their norm: there is no v projection"
        if self.source == "merged":
            yield "merged attention", "one softmax over the tokens so far and the encoder's output"
        if self.mask == "prefix":
            yield (
                "prefix mask",
                "the tokens of a prefix (image and question) all see each other; what follows is causal",
            )
        if not self.causal:
            sides = "" if self.window is None else f", {self.window - 1:,} before and {self.looks_ahead:,} after itself"
            yield "bidirectional", f"a token sees those before and after it{sides}"
        if self.image_blocks:
            yield "image blocks", "the tokens of one image all see each other"
        if self.rope_theta is not None and self.rope_fraction < 1:
            part = "the first" if self.rope_spread == "turned" else "the fastest"
            what = "dimensions of a head" if self.rope_spread == "turned" else "frequencies, the others stand still"
            yield "partial RoPE", f"positions turn {part} {self.rope_fraction:.0%} of the {what}"
        if self.rope_theta is not None and self.rope_axes == 2:
            yield "2-D RoPE", "the column of a patch turns the first half of a head, its row the second"
        if self.rope_theta is not None and self.rope_factor != 1:
            yield "interpolated RoPE", self._interpolation()

    def _interpolation(self) -> str:
        if self.rope_original is None:
            return f"positions are divided by {self.rope_factor:g}"
        return (
            f"frequencies are divided by {self.rope_factor:g} where they turn under {self.rope_slow:g}x in "
            f"{self.rope_original:,} tokens, kept where over {self.rope_fast:g}x"
        )

    @property
    def looks_ahead(self) -> Number | None:
        """Tokens seen after itself in a bidirectional window; None for all."""
        return self.ahead if self.ahead is not None or self.window is None else self.window - 1

    @property
    def scale(self) -> Number:
        """What scores are multiplied by."""
        return (self.head_dim if self.query_scale is None else self.query_scale) ** -0.5


def _rope(turned: str) -> Op:
    """RoPE: two products and a sum an element, of half a head each; cosines and sines are made once a pass."""
    return vector(f"{turned} -> {turned}", per=3, holds="own own", shares="own[TH]")
