"""The two ends of a vision tower: pixels to patches, and patches to tokens of the decoder.

Between them stand layers of ordinary blocks. SigLIP (PaliGemma, Gemma 3): learned positions, LayerNorm, biases, a
plain MLP. Gemma 4: positions from a table for each of the two axes, RMSNorm, a gated MLP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archlab.algebra import Number, floor_div
from archlab.rows import Op, Weight, lookup, matmul, vector
from archlab.spec import Block, Rule, choice, flag, multiple_of, size, text


@dataclass(frozen=True)
class Patches(Block):
    """Pixels (3, image_size, image_size) to a row of patches, with their positions. `d_model` comes from the stack."""

    part = "vision"

    d_model: Number = field(kw_only=True)
    image_size: Number = size("pixels of an image's side")
    patch_size: Number = size("pixels of a patch's side")
    bias: bool = flag("the projection of a patch adds a bias", True)
    positions: Number | None = size(
        "rows of a position table for each axis, summed; null for one table with a row a patch", None, none=True
    )

    @property
    def side(self) -> Number:
        """Patches along a side."""
        return floor_div(self.image_size, self.patch_size)

    def sizes(self) -> dict[str, Number]:
        rows = self.side * self.side if self.positions is None else self.positions
        return {"D": self.d_model, "C": 3, "I": self.patch_size, "O": self.patch_size, "Z": rows, "A": 2}

    def weights(self) -> Iterator[Weight]:
        yield Weight("patch", "DCIO", role="patch")
        if self.bias:
            yield Weight("patch_bias", "D", role="patch", use="vector")
        yield Weight("position", "ZD" if self.positions is None else "AZD", role="position", use="lookup")

    def ops(self) -> Iterator[Op]:
        yield matmul("pixels BTCIO, w.patch DCIO -> x BTD")
        yield lookup("ids T, w.position ZD -> p TD")
        yield vector("x BTD, p TD -> x BTD", per=2 if self.bias else 1)

    def rules(self) -> Iterator[Rule]:
        yield multiple_of("image_size", self.image_size, "patch_size", self.patch_size)


@dataclass(frozen=True)
class Projector(Block):
    """Patches pooled over squares, normed, and projected to the decoder's width."""

    part = "projector"
    own_part = True

    d_model: Number = field(kw_only=True)
    d_out: Number = field(kw_only=True, default=None)
    side: Number = field(kw_only=True, default=None)
    norm_eps: float = field(kw_only=True, default=1e-6)
    norm_plus_one: bool = field(kw_only=True, default=True)
    pool: Number = size("patches along the side of a square that is averaged to one token", 1)
    norm: str = choice(
        "RMSNorm after pooling: none, with a gain, or without (plain)", ("none", "gain", "plain"), "none"
    )
    bias: bool = flag("the projection adds a bias", False)

    @property
    def tokens(self) -> Number:
        """Tokens that an image becomes."""
        along = floor_div(self.side, self.pool)
        return along * along

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model, "O": self.d_out, "U": self.tokens}

    def weights(self) -> Iterator[Weight]:
        if self.norm == "gain":
            yield Weight("gain", "D", role="norm", use="vector")
        yield Weight("project", "OD", role="project")
        if self.bias:
            yield Weight("project_bias", "O", role="project", use="vector")

    def ops(self) -> Iterator[Op]:
        if self.pool != 1:
            yield vector("x BTD -> x BTD")
        if self.norm != "none":
            yield vector("x BUD -> x BUD", per=4)
        yield matmul("x BUD, w.project OD -> y BUO")

    def rules(self) -> Iterator[Rule]:
        yield multiple_of("patches along a side", self.side, "pool", self.pool)


@dataclass(frozen=True)
class Counted(Block):
    """A tower known by the number of its parameters: it counts, and cannot be run."""

    part = "vision"

    parameters: Number = size("parameters of the tower")
    projector: Number = size("parameters of what joins it to the decoder")
    tokens: Number = size("tokens of the sequence that one image (or clip) becomes, at most")
    what: str = text("what the tower is")

    def sizes(self) -> dict[str, Number]:
        return {"Z": self.parameters}

    def weights(self) -> Iterator[Weight]:
        yield Weight("tower", "Z", role="tower", use="counted")


@dataclass(frozen=True)
class CountedProjector(Counted):
    """What joins a counted tower to the decoder."""

    part = "projector"
    own_part = True

    def sizes(self) -> dict[str, Number]:
        return {"Z": self.projector}

    def weights(self) -> Iterator[Weight]:
        yield Weight("project", "Z", role="project", use="counted")
