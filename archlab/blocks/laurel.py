"""LAuReL: a low-rank branch beside the attention, h + norm(right(left(h))) on the normed stream h (Gemma 3n).

Learned augmented residual layer (arXiv:2411.07501). With it the sum of stream, attention and branch is divided by
the square root of 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archlab.algebra import Number
from archlab.fields import size
from archlab.layers import Block
from archlab.rows import Op, Weight, divided, matmul, norm


@dataclass(frozen=True)
class Laurel(Block):
    """Sizes of the branch. The fields without an explanation come from the stack."""

    part = "laurel"
    roles = ("left", "right", "norm")
    splits = divided(J="even rank")

    d_model: Number = field(kw_only=True)
    norm_eps: float = field(kw_only=True, default=1e-6)
    norm_plus_one: bool = field(kw_only=True, default=False)
    rank: Number = size("rank of the branch")

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model, "J": self.rank}

    def weights(self) -> Iterator[Weight]:
        yield Weight("left", "JD", role="left")
        yield Weight("right", "DJ", role="right")
        yield Weight("norm", "D", role="norm", use="vector")

    def ops(self) -> Iterator[Op]:
        yield matmul("x BTD, w.left JD -> z BTJ")
        yield matmul("z BTJ, w.right DJ -> y BTD")
        yield norm("x BTD, y BTD, w.norm D -> y BTD", per=5, of="y")

    def special(self) -> Iterator[tuple[str, str]]:
        yield "LAuReL", f"a branch of rank {self.rank} beside the attention"
