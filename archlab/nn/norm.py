"""RMSNorm: in fp32, gain included, then cast back (Llama casts before the gain)."""

from __future__ import annotations

import torch
from torch import Tensor

from archlab import blocks
from archlab.nn.declare import Declared


def rms_norm(x: Tensor, gain: Tensor, eps: float, offset: float) -> Tensor:
    """x / rms(x) * (offset + gain) over the last axis."""
    wide = x.float()
    unit = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (unit * (offset + gain.float())).to(x.dtype)


class RMSNorm(Declared):
    """A norm over the residual stream."""

    gain: Tensor  # D

    def __init__(self, block: blocks.RMSNorm, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__(block, device, dtype)
        self.eps, self.gain_offset = block.eps, float(block.plus_one)

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.gain, self.eps, self.gain_offset)
