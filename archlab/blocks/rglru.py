"""The recurrent block of Griffin and RecurrentGemma: a gated branch, a short causal convolution, and the RG-LRU.

    y = gelu(Wy x + b);  u = conv4(Wx x + b);  i, r = sigmoid(block-diagonal linear of u)
    log a = -8 r softplus(decay);  h_t = a h_(t-1) + sqrt(1 - a^2) i u;  out = Wo (h y) + b

At the first token of a sequence a = 0 and the square root is 1. Griffin paper (arXiv:2402.19427), section 2.4;
transformers 5.23.0. The state h stays in fp32 whatever the cache's precision; the convolution remembers its last taps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archlab.algebra import Number, floor_div
from archlab.fields import Rule, multiple_of, size
from archlab.layers import Block
from archlab.rows import Op, State, Weight, append, divided, matmul, vector


@dataclass(frozen=True)
class RGLRU(Block):
    """Sizes of the recurrent block. `d_model` comes from the stack."""

    part = "recurrent"
    roles = ("y", "x", "out", "conv", "input_gate", "decay_gate", "decay")
    splits = divided(L="even width", N="even n_heads")

    d_model: Number = field(kw_only=True)
    width: Number = size("width of the recurrence (lru_width)")
    n_heads: Number = size("blocks of the block-diagonal gates")
    conv: Number = size("taps of the causal convolution, the token itself included", 4)

    def sizes(self) -> dict[str, Number]:
        block = floor_div(self.width, self.n_heads)
        taps = {"C": self.conv, "P": self.conv - 1}
        return {"D": self.d_model, "L": self.width, "N": self.n_heads, "H": block, "I": block} | taps

    def weights(self) -> Iterator[Weight]:
        for name, axes in (("y", "LD"), ("x", "LD"), ("out", "DL"), ("conv", "LC")):
            yield Weight(name, axes, role=name)
            yield Weight(f"{name}_bias", axes[0], role=name, use="vector")
        for name in ("input_gate", "decay_gate"):
            yield Weight(name, "NHI", role=name)
            yield Weight(f"{name}_bias", "NI", role=name, use="vector")
        yield Weight("decay", "L", role="decay", use="vector")

    def state(self) -> Iterator[State]:
        yield State("h", "L", capacity="constant", part="recurrent", role="h", bits=32)
        yield State("taps", "PL", capacity="constant", part="recurrent", role="taps")

    def ops(self) -> Iterator[Op]:
        yield matmul("x BTD, w.y LD -> y BTL")
        yield vector("y BTL, w.y_bias L -> y BTL", per=9, holds="own own", saves="own")
        yield matmul("x BTD, w.x LD -> u BTL")
        yield vector("u BTL, w.x_bias L -> u BTL")
        yield vector("cache.taps BPL -> p BPL", per=0)
        yield append("p BPL -> cache.taps BPL")
        yield matmul("u BTL, w.conv LC -> u BTL")
        yield vector("u BTL, w.conv_bias L -> u BTL")
        for gate in ("input", "decay"):
            yield matmul(f"u BTNH, w.{gate}_gate NHI -> g BTNI")
            yield vector(f"g BTNI, w.{gate}_gate_bias NI -> g BTNI", per=5, holds="own fp32", saves="fp32", wide=True)
        yield vector("g BTL, w.decay L -> a BTL", per=4, holds="fp32 fp32", saves="fp32 fp32 fp32 fp32 fp32", wide=True)
        wide = "fp32 fp32 fp32 fp32 fp32 fp32"  # the scan's products, half as long at each of its levels
        yield vector("u BTL, a BTL, cache.h BL -> h BTL, s BL", per=7, holds=wide, saves=wide)
        yield append("s BL -> cache.h BL")
        yield vector("h BTL, y BTL -> h BTL", saves="h y")
        yield matmul("h BTL, w.out DL -> z BTD")
        yield vector("z BTD, w.out_bias D -> z BTD")

    def rules(self) -> Iterator[Rule]:
        yield multiple_of("width", self.width, "n_heads", self.n_heads)
        yield self.conv >= 2, lambda: f"conv ({self.conv}) must be 2 or more: the token itself and one before it"

    def special(self) -> Iterator[tuple[str, str]]:
        yield "RG-LRU", f"a recurrence of width {self.width:,}, whose state does not grow with the context"
