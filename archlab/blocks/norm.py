"""RMSNorm: x * (mean(x^2) + eps)^-1/2 in fp32, times the gain in fp32, then cast back; and LayerNorm,
for SigLIP and GPT-2.

The gain is 1 + w in Gemma 1, 2, 3, VaultGemma, RecurrentGemma and T5Gemma, w in Gemma 3n and 4 and in Llama.
Llama's own code casts before the gain: equal in fp32, one rounding apart in fewer bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from archlab.algebra import Number
from archlab.fields import choice, flag, real
from archlab.layers import Block
from archlab.rows import Op, Weight, norm, vector


@dataclass(frozen=True)
class NormSection:
    """What a model file says about norms: the `norm` section."""

    eps: float = real("added to the mean square", 1e-6)
    gain: str = choice("one_plus: x * (1 + w), as in Gemma 1 to 3; plain: x * w", ("one_plus", "plain"), "one_plus")
    post: bool = flag("a second norm after each block, before the residual sum (Gemma 2 and 3)", False)
    type: str = choice("rms; layer: LayerNorm with gain and bias (SigLIP, GPT-2)", ("rms", "layer"), "rms")


@dataclass(frozen=True)
class RMSNorm(Block):
    """A norm over the residual stream."""

    part = "norm"
    roles = ("norm",)

    d_model: Number = field(kw_only=True)
    eps: float = field(kw_only=True, default=1e-6)
    plus_one: bool = field(kw_only=True, default=True)

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model}

    def weights(self) -> Iterator[Weight]:
        yield Weight("gain", "D", role="norm", use="vector")

    def ops(self) -> Iterator[Op]:
        yield norm("x BTD, w.gain D -> y BTD")


@dataclass(frozen=True)
class LayerNorm(Block):
    """x less its mean, over its deviation, times a gain, plus a bias."""

    part = "norm"
    roles = ("norm",)

    d_model: Number = field(kw_only=True)
    eps: float = field(kw_only=True, default=1e-6)

    def sizes(self) -> dict[str, Number]:
        return {"D": self.d_model}

    def weights(self) -> Iterator[Weight]:
        yield Weight("gain", "D", role="norm", use="vector")
        yield Weight("bias", "D", role="norm", use="vector")

    def ops(self) -> Iterator[Op]:
        yield vector("x BTD, w.gain D, w.bias D -> y BTD", per=7, saves="x")

    def special(self) -> Iterator[tuple[str, str]]:
        yield "LayerNorm", "norms take the mean away first, and add a bias"
