"""Gated feed-forward: down(act(gate(x)) * up(x)), no biases (GeGLU with the tanh GELU in every Gemma).

d_ff is the width of one branch: the Gemma 1 and 2 report tables print gate and up together, twice this number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archlab.algebra import Number
from archlab.rows import Op, Weight, matmul, vector
from archlab.spec import Block, choice, size

ACTIVATIONS = ("gelu_tanh", "gelu", "silu", "relu")


@dataclass(frozen=True)
class GatedMLP(Block):
    """Sizes of the feed-forward. `d_model` comes from the stack."""

    part = "mlp"

    d_model: Number = field(kw_only=True)
    d_ff: Number = size("width of one branch (gate, up); report tables of Gemma 1 and 2 print their sum")
    activation: str = choice("what the gate goes through", ACTIVATIONS, "gelu_tanh")

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model, "F": self.d_ff}

    def weights(self) -> Iterator[Weight]:
        yield Weight("gate", "FD", role="gate")
        yield Weight("up", "FD", role="up")
        yield Weight("down", "DF", role="down")

    def ops(self) -> Iterator[Op]:
        yield matmul("x BTD, w.gate FD -> g BTF")
        yield matmul("x BTD, w.up FD -> u BTF")
        yield vector("g BTF, u BTF -> h BTF", per=9)  # tanh GELU is 8 operations, the gate one
        yield matmul("h BTF, w.down DF -> y BTD")
