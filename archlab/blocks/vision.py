"""The two ends of a vision tower: pixels to patches, and patches to tokens of the decoder.

Between them stand layers of ordinary blocks. SigLIP (PaliGemma, Gemma 3, T5Gemma 2): learned positions, LayerNorm,
biases, a plain MLP. Gemma 4: positions from a table for each of the two axes and RoPE along both, RMSNorm, a gated MLP.
Checked against transformers 5.23.0.

Images are squares of one size. Gemma 4 takes any shape of at most 280 tokens; its presets have 768 pixels, of which
patches of 16 and pooling by 3 make the 256 tokens of a square. The towers of Gemma 4 E2B and E4B clip what each linear
layer reads and writes to ranges that the checkpoint keeps in buffers (infinite before): not done here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archlab.algebra import Number, floor_div
from archlab.fields import Rule, choice, flag, multiple_of, size, text
from archlab.layers import Block
from archlab.rows import Op, Weight, lookup, matmul, vector


@dataclass(frozen=True)
class Patches(Block):
    """Pixels (3, image_size, image_size) to a row of patches, with their positions. `d_model` comes from the stack."""

    part = "vision"
    roles = ("patch", "position")

    d_model: Number = field(kw_only=True)
    image_size: Number = size("pixels of an image's side")
    patch_size: Number = size("pixels of a patch's side")
    bias: bool = flag("the projection of a patch adds a bias", True)
    positions: Number | None = size(
        "rows of a position table for each axis, summed; null for one table with a row a patch", None, none=True
    )
    stretch: bool = flag("pixels come as 0 to 1 and are stretched to -1 to 1 here (Gemma 4); else as -1 to 1", False)

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
        if self.stretch:
            yield vector("pixels BTCIO -> pixels BTCIO", per=2)
        yield matmul("pixels BTCIO, w.patch DCIO -> x BTD")
        if self.bias:
            yield vector("x BTD, w.patch_bias D -> x BTD")
        if self.positions is None:
            yield lookup("ids BT, w.position ZD -> p BTD")
            yield vector("x BTD, p BTD -> x BTD")
        else:
            yield lookup("ids BAT, w.position AZD -> p BATD")
            yield vector("x BTD, p BATD -> x BTD")

    def rules(self) -> Iterator[Rule]:
        yield multiple_of("image_size", self.image_size, "patch_size", self.patch_size)
        if self.positions is not None:
            yield (
                self.side <= self.positions,
                lambda: f"positions ({self.positions}) must be at least the {self.side} patches along a side",
            )


@dataclass(frozen=True)
class Projector(Block):
    """Patches pooled over squares, normed, and projected to the decoder's width."""

    part = "projector"
    roles = ("project", "norm")
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
    scaled: bool = flag("pooled patches are multiplied by sqrt(d_model) (Gemma 4)", False)
    standardize: bool = flag(
        "pooled patches less a bias, times a scale, both of them buffers (Gemma 4 26B, 31B)", False
    )

    @property
    def tokens(self) -> Number:
        """Tokens that an image becomes."""
        along = floor_div(self.side, self.pool)
        return along * along

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model, "O": self.d_out, "U": self.tokens, "P": self.pool * self.pool}

    def weights(self) -> Iterator[Weight]:
        if self.standardize:
            for name in ("std_bias", "std_scale"):
                yield Weight(name, "D", role="norm", use="vector", trainable=False)
        if self.norm == "gain":
            yield Weight("gain", "D", role="norm", use="vector")
        yield Weight("project", "OD", role="project")
        if self.bias:
            yield Weight("project_bias", "O", role="project", use="vector")

    def ops(self) -> Iterator[Op]:
        yield vector("x BUPD -> v BUD")
        if self.scaled:
            yield vector("v BUD -> v BUD")
        if self.standardize:
            yield vector("v BUD, w.std_bias D, w.std_scale D -> v BUD", per=2)
        if self.norm == "gain":
            yield vector("v BUD, w.gain D -> v BUD", per=4)
        elif self.norm == "plain":
            yield vector("v BUD -> v BUD", per=3)
        yield matmul("v BUD, w.project OD -> y BUO")
        if self.bias:
            yield vector("y BUO, w.project_bias O -> y BUO")

    def rules(self) -> Iterator[Rule]:
        yield multiple_of("patches along a side", self.side, "pool", self.pool)


@dataclass(frozen=True)
class Counted(Block):
    """A tower known by the number of its parameters: it counts, and cannot be run."""

    part = "vision"
    roles = ("tower",)

    parameters: Number | None = size("parameters of the tower; null where all of it is a projector", None, none=True)
    projector: Number = size("parameters of what joins it to the decoder")
    tokens: Number = size("tokens of the sequence that one image (or clip) becomes, at most")
    what: str = text("what the tower is")

    def sizes(self) -> dict[str, Number]:
        return {"Z": self.parameters}

    def weights(self) -> Iterator[Weight]:
        if self.parameters is not None:
            yield Weight("tower", "Z", role="tower", use="counted")


@dataclass(frozen=True)
class CountedProjector(Counted):
    """What joins a counted tower to the decoder."""

    part = "projector"
    roles = ("project",)
    own_part = True

    def sizes(self) -> dict[str, Number]:
        return {"Z": self.projector}

    def weights(self) -> Iterator[Weight]:
        yield Weight("project", "Z", role="project", use="counted")
