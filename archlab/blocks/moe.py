"""A mixture of experts beside the dense MLP (Gemma 4 26B-A4B): both read the residual stream, and are summed.

The router reads the stream normed without a gain, times a learned scale and d_model ** -0.5; a softmax over all
experts in fp32, the top k renormalised to sum 1, times a learned scale of each expert. The experts read the stream
after a norm of their own. A token touches top_k of the experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archlab.algebra import Number
from archlab.blocks.mlp import ACTIVATIONS
from archlab.fields import Rule, choice, size
from archlab.layers import Block
from archlab.rows import Op, Weight, divided, lookup, matmul, norm, vector


@dataclass(frozen=True)
class MoE(Block):
    """Sizes of the mixture. The fields without an explanation come from the stack."""

    part = "moe"
    roles = ("router", "gate", "up", "down", "norm")
    splits = divided(Z="experts experts", F="width d_ff", Y="chosen top_k")

    d_model: Number = field(kw_only=True)
    norm_eps: float = field(kw_only=True, default=1e-6)
    norm_plus_one: bool = field(kw_only=True, default=False)
    experts: Number = size("experts in all")
    top_k: Number = size("experts that a token goes to")
    d_ff: Number = size("width of one branch of an expert")
    activation: str = choice("what an expert's gate goes through", ACTIVATIONS, "gelu_tanh")

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model, "F": self.d_ff, "X": self.experts, "Y": self.top_k, "Z": self.experts}

    def weights(self) -> Iterator[Weight]:
        routed = ("Y", "Z")  # Z: the experts that are stored here; the router scores all X of them
        yield Weight("norm", "D", role="norm", part="norm", use="vector")
        yield Weight("router", "XD", role="router")
        yield Weight("router_scale", "D", role="router", use="vector")
        yield Weight("expert_scale", "X", role="router", use="vector")
        yield Weight("gate", "ZFD", role="gate", routed=routed)
        yield Weight("up", "ZFD", role="up", routed=routed)
        yield Weight("down", "ZDF", role="down", routed=routed)

    def ops(self) -> Iterator[Op]:
        yield vector("x BTD, w.router_scale D -> z BTD", per=5, holds="wide(x) fp32", saves="wide(x) own")
        yield matmul("z BTD, w.router XD -> r BTX")
        yield vector("r BTX -> r BTX", per=4)
        yield lookup("r BTX, w.expert_scale X -> s BTY")
        yield vector("s BTY -> s BTY", per=3)
        yield norm("x BTD, w.norm D -> x BTD")
        yield matmul("x BTD, w.gate YFD -> g BTYF", holds="own own[BTYD]", saves="own[BTYD]")
        yield matmul("x BTD, w.up YFD -> u BTYF")
        yield vector("g BTYF, u BTYF -> h BTYF", per=9, holds="own own", saves="g own u")
        yield matmul("h BTYF, w.down YDF -> y BTYD")
        yield vector("y BTYD, s BTY -> z BTD", per=2, holds="fp32 fp32(y)", saves="y s")

    def rules(self) -> Iterator[Rule]:
        yield (
            self.top_k <= self.experts,
            lambda: f"top_k ({self.top_k}) must not exceed experts ({self.experts})",
        )

    def special(self) -> Iterator[tuple[str, str]]:
        yield (
            "mixture of experts",
            f"beside the dense MLP {self.experts} experts of d_ff {self.d_ff:,}, of which a token goes to {self.top_k}",
        )
