"""One number a layer that the stream is multiplied by when it leaves: a buffer, not trained (Gemma 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archlab.algebra import Number
from archlab.layers import Block
from archlab.rows import Op, Weight, vector


@dataclass(frozen=True)
class LayerScalar(Block):
    """The scalar. `d_model` comes from the stack."""

    part = "norm"
    roles = ("scalar",)

    d_model: Number = field(kw_only=True)

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model}

    def weights(self) -> Iterator[Weight]:
        yield Weight("scalar", "", role="scalar", use="vector", trainable=False)

    def ops(self) -> Iterator[Op]:
        yield vector("x BTD -> x BTD")

    def special(self) -> Iterator[tuple[str, str]]:
        yield "layer scalar", "the stream that leaves a layer is multiplied by a number of its own, a buffer"
