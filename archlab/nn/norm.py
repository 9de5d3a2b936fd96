"""RMSNorm: in fp32, gain included, then cast back (Llama casts before the gain). LayerNorm, for SigLIP and
GPT-2."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from archlab import blocks
from archlab.nn.declare import Declared


def unit_rms(x: Tensor, eps: float) -> Tensor:
    """x / rms(x) over the last axis, in fp32."""
    wide = x.float()
    return wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)


def rms_norm(x: Tensor, gain: Tensor, eps: float, offset: float) -> Tensor:
    """x / rms(x) * (offset + gain) over the last axis."""
    return (unit_rms(x, eps) * (offset + gain.float())).to(x.dtype)


class RMSNorm(Declared):
    """A norm over the residual stream."""

    gain: Tensor  # D

    def __init__(self, block: blocks.RMSNorm, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.eps, self.gain_offset = block.eps, float(block.plus_one)

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.gain, self.eps, self.gain_offset)


class LayerNorm(Declared):
    """A norm with a mean and a bias."""

    gain: Tensor  # D
    bias: Tensor  # D
    block: blocks.LayerNorm

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gain.shape, self.gain, self.bias, self.block.eps)
