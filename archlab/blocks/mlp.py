"""Feed-forward: down(act(gate(x)) * up(x)) (GeGLU with the tanh GELU in every Gemma), or down(act(up(x))) (SigLIP,
GPT-2).

d_ff is the width of one branch: the Gemma 1 and 2 report tables print gate and up together, twice this number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archlab.algebra import Number
from archlab.fields import Rule, choice, flag, real, size
from archlab.layers import Block
from archlab.rows import Op, Weight, divided, matmul, vector

ACTIVATIONS = ("gelu_tanh", "gelu", "silu", "relu")


@dataclass(frozen=True)
class MLP(Block):
    """Sizes of the feed-forward. `d_model` comes from the stack."""

    part = "mlp"
    roles = ("gate", "up", "down")
    splits = divided(F="even d_ff")

    d_model: Number = field(kw_only=True)
    d_ff: Number = size("width of one branch (gate, up); report tables of Gemma 1 and 2 print their sum")
    d_ff_factor: Number = size("d_ff is multiplied by it: what a span of layers says that are wider (Gemma 4 E2B)", 1)
    activation: str = choice("what the gate goes through", ACTIVATIONS, "gelu_tanh")
    gated: bool = flag("act(gate(x)) * up(x); false leaves act(up(x))", True)
    bias: bool = flag("each projection adds a bias", False)
    sparsity: float | None = real(
        "share of the gate set to zero: relu(gate - mean - deviation * quantile) (Gemma 3n); null for none",
        None,
        none=True,
    )

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model, "F": self.d_ff * self.d_ff_factor}

    def weights(self) -> Iterator[Weight]:
        for name, axes in (("gate", "FD"), ("up", "FD"), ("down", "DF")):
            if name == "gate" and not self.gated:
                continue
            yield Weight(name, axes, role=name)
            if self.bias:
                yield Weight(f"{name}_bias", axes[0], role=name, use="vector")

    def ops(self) -> Iterator[Op]:
        if self.gated:
            yield matmul("x BTD, w.gate FD -> g BTF")
            if self.sparsity is not None:
                # mean, deviation, two subtractions, maximum
                yield vector("g BTF -> g BTF", per=7, holds="own own", saves="g")
        yield matmul("x BTD, w.up FD -> u BTF")
        for name, made in (("gate", "g"), ("up", "u")) if self.bias and self.gated else (("up", "u"),) * self.bias:
            yield vector(f"{made} BTF, w.{name}_bias F -> {made} BTF")
        if self.gated:
            # tanh GELU is 8 operations, the gate one
            yield vector("g BTF, u BTF -> h BTF", per=9, holds="own own", saves="g own u")
        else:
            yield vector("u BTF -> h BTF", per=8, saves="u")
        yield matmul("h BTF, w.down DF -> y BTD")
        if self.bias:
            yield vector("y BTD, w.down_bias D -> y BTD")

    def rules(self) -> Iterator[Rule]:
        if self.sparsity is not None:
            yield self.sparsity < 1, lambda: f"sparsity ({self.sparsity}) is a share, below 1"
            yield self.gated, lambda: "sparsity needs a gate (gated: true)"

    def special(self) -> Iterator[tuple[str, str]]:
        if self.sparsity is not None:
            yield (
                "activation sparsity",
                f"all but the largest {1 - self.sparsity:.0%} of the MLP's gate are set to zero",
            )
        if not self.gated:
            yield "plain MLP", "down(act(up(x))): there is no gate"
        if self.d_ff_factor != 1:
            yield "wider MLP", f"an MLP {self.d_ff_factor} times as wide, d_ff {self.d_ff * self.d_ff_factor:,}"
