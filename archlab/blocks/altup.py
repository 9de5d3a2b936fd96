"""AltUp: several residual streams, of which each layer runs on one and predicts and corrects the others (Gemma 3n).

Alternating updates (arXiv:2301.13310). Before the layers the embedding is projected to each further stream, after them
the streams are projected back and averaged; each projection is rescaled to the RMS of the first stream. Per-layer
embeddings come after a layer: their gate reads the corrected active stream, scaled, and they are added to every
stream but the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from archlab.algebra import Number
from archlab.fields import Rule, flag, size
from archlab.layers import Block
from archlab.rows import Op, Weight, divided, matmul, norm, vector


@dataclass(frozen=True)
class AltUp(Block):
    """Around a layer: modalities m(x) = tanh(router . norm(x) / d_model) mix the streams.

    predict: X_o + sum over i of C[o, i] X_i, with C from m of the active stream
    correct: pred_o + (y - pred_active) * (c(m(y)) + 1)_o, with y what the layer made of the active stream
    """

    part = "altup"
    roles: ClassVar[tuple[str, ...]] = ("router", "norm", "predict", "correct", "scale")

    d_model: Number = field(kw_only=True)
    norm_eps: float = field(kw_only=True, default=1e-6)
    norm_plus_one: bool = field(kw_only=True, default=False)
    streams: Number = size("residual streams")
    active: int = size("the stream that layers run on, from 1", 1)
    scaled: bool = flag("the corrected active stream is scaled before the per-layer gate reads it", True)

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model, "I": self.d_model} | dict.fromkeys("MON", self.streams) | {"Z": self.streams - 1}

    def weights(self) -> Iterator[Weight]:
        yield Weight("router", "MD", role="router")
        yield Weight("router_norm", "D", role="norm", use="vector")
        yield Weight("predict", "ONM", role="predict")
        yield Weight("correct", "OM", role="correct")
        if self.scaled:
            yield Weight("correct_scale", "D", role="scale", use="vector")

    def ops(self) -> Iterator[Op]:
        yield from self._coefficients("predict ONM -> c BTON")
        yield matmul("p NBTD, c BTON -> q OBTD", holds="own(p) own", saves="own(p)")
        yield vector("q OBTD, p OBTD -> q OBTD")
        yield from self._coefficients("correct OM -> d BTO")
        if self.scaled:
            yield vector("x BTD, w.correct_scale D -> x BTD", saves="x")  # what the per-layer gate reads
        yield vector("q OBTD, x BTD, d BTO -> q OBTD", per=2, holds="own own own(x)", saves="own(x) d")

    def _coefficients(self, weight: str) -> Iterator[Op]:
        """From the modalities of the active stream."""
        yield norm("x BTD, w.router_norm D -> z BTD", per=5)
        yield matmul("z BTD, w.router MD -> m BTM")
        yield vector("m BTM -> m BTM")
        yield matmul(f"m BTM, w.{weight}")

    def rules(self) -> Iterator[Rule]:
        yield self.streams >= 2, lambda: f"streams ({self.streams}) must be 2 or more; leave altup away for one"
        yield self.active <= self.streams, lambda: f"active ({self.active}) must be one of the {self.streams} streams"

    def special(self) -> Iterator[tuple[str, str]]:
        yield "AltUp", f"{self.streams} residual streams; a layer runs on one, and predicts and corrects the others"


@dataclass(frozen=True)
class AltUpSplit(AltUp):
    """Before the layers: the embedding projected to each further stream."""

    roles = ("project",)
    splits = divided(I="even d_model")

    def weights(self) -> Iterator[Weight]:
        yield Weight("project", "ZID", role="project")

    def special(self) -> Iterator[tuple[str, str]]:
        yield from ()

    def ops(self) -> Iterator[Op]:
        yield matmul("x BTD, w.project ZID -> p ZBTI")
        yield vector("x BTD, p ZBTI -> p ZBTI", per=4, holds="own own", saves="x p own", lasts=True)


@dataclass(frozen=True)
class AltUpMerge(AltUp):
    """After the layers: the further streams projected back, and the mean of all. On the rows that get logits."""

    roles = ("project",)
    splits = divided(I="even d_model")

    def weights(self) -> Iterator[Weight]:
        yield Weight("project", "ZID", role="project")

    def special(self) -> Iterator[tuple[str, str]]:
        yield from ()

    def ops(self) -> Iterator[Op]:
        yield matmul("p ZBRD, w.project ZID -> p ZBRI", saves="own(p)")
        yield vector("x BRD, p ZBRI -> p ZBRI", per=5, holds="own own", saves="x p own")
